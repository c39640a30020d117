"""What a student reads of a source: feature rows or pictures, and the sample that each belongs to."""

import torch
from torch import Tensor, nn

from limbeck.data.augment import OPERATIONS
from limbeck.data.source import Source
from limbeck.errors import DataError
from limbeck.runtime.cache import Cache, digest
from limbeck.spaces import Features
from limbeck.spaces.image_like import picture
from limbeck.spaces.preprocess import resize

__all__ = ["crop_flip", "pictures", "resized_pixels", "siamese_augment"]

CHUNK = 256  # images decoded at a time


def pictures(source: Source, modality: str, resolution: int, cache: Cache) -> Features:
    """The images of a source, or its sound or depth as grey ones, at one resolution; kept in the cache.

    Args:
        source: whose values.
        modality: image, audio or depth.
        resolution: pixels a side.
        cache: where they are kept.

    Returns:
        `uint8 [R, C, resolution, resolution]`, a row for each sample that holds the modality, C of 1 where grey.

    Raises:
        DataError: no sample holds the modality.
    """
    found = resized_pixels(source, modality, resolution, cache)
    if not len(found.owner):
        raise DataError(f"{source.name}: no sample has {modality}")
    return found


def resized_pixels(source: Source, modality: str, resolution: int, cache: Cache) -> Features:
    """As `pictures`, also of masks; no rows where no sample holds the modality."""
    if modality in source.embeddings:
        raise DataError(
            f"{source.name}: its {modality} is vectors that were learned, and no network can be trained on them; judge it on frozen "
            "features: --protocol.student frozen"
        )

    def read() -> dict[str, Tensor]:
        values, owners = [], []
        for start in range(0, len(source), CHUNK):
            batch = source.batch(range(start, min(start + CHUNK, len(source))))
            here = batch.mask(modality).nonzero().squeeze(1)
            seen = resize(picture(modality, batch[modality][here]), (resolution, resolution)) if len(here) else None
            if seen is not None:
                values.append(seen.clamp(0, 1).mul(255).round().byte())
                owners.append(start + here)
        if not values:
            nothing = torch.zeros(0, 1, resolution, resolution, dtype=torch.uint8)
            return {"values": nothing, "owner": torch.zeros(0, dtype=torch.long)}
        return {"values": torch.cat(values), "owner": torch.cat(owners)}

    held = cache.tensors("pictures", digest(source.fingerprint, modality, resolution), read)
    return Features(held["values"], held["owner"])


def crop_flip(images: Tensor, generator: torch.Generator, mirror: bool = True) -> Tensor:
    """Light augmentation: each image mirrored with probability 1/2, all moved by up to an eighth of their side.

    Args:
        images: `[B, C, R, R]`, `uint8` or float.
        generator: of the draws.
        mirror: whether to mirror; a spectrogram is not read backwards.
    """
    if mirror:
        mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    size = images.shape[-1]
    reach = size // 8
    top, left = torch.randint(2 * reach + 1, (2,), generator=generator).tolist()
    padded = nn.functional.pad(images.float(), [reach] * 4, mode="replicate")
    return padded[..., top : top + size, left : left + size].to(images.dtype)


def siamese_augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """The literature's augmentation: one operation of `limbeck.data.augment` for all images, each with parameters of its own.

    Matching needs the same parameters for all images (`siamese`); a student that trains on them does not.

    Args:
        images: `[B, 3, R, R]`, `uint8` or float in [0, 1].
        generator: draws operation and parameters; the global random state is left as it was.

    Returns:
        float `[B, 3, R, R]` in [0, 1].
    """
    from kornia import augmentation

    kind, parameters = list(OPERATIONS.values())[int(torch.randint(len(OPERATIONS), (), generator=generator))]
    seed = int(torch.randint(2**31, (), generator=generator))
    values = images.float() / 255 if images.dtype == torch.uint8 else images
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return getattr(augmentation, kind)(**parameters)(values)  # type: ignore[no-any-return]
