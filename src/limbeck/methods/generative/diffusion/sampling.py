"""Sampling a set of images: the same however it is split, and continued where it stopped."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from limbeck.core import Problem
from limbeck.errors import ConfigError, LimbeckWarning, StorageError
from limbeck.methods.generative.diffusion.prior import DiffusersPrior
from limbeck.runtime import processes
from limbeck.runtime.cache import digest
from limbeck.runtime.files import save_tensors, whole_file, write_text
from limbeck.spaces.preprocess import resize

__all__ = ["Sampling", "sampled"]

CHUNK = 16  # images that are sampled together


@dataclass(frozen=True)
class Sampling:
    """How images are sampled.

    Args:
        steps: of the scheduler.
        guidance: towards the caption; 1 for none.
        candidates: images that are drawn for each that is kept.
        resolution: pixels a side at which they are sampled; `None` for what the prior was made for.
        strength: share of the schedule that is gone through, where there are images to start from.
    """

    steps: int = 30
    guidance: float = 3.0
    candidates: int = 1
    resolution: int | None = None
    strength: float = 1.0


def sampled(
    problem: Problem,
    prior: DiffusersPrior,
    prompts: Sequence[str],
    how: Sampling,
    folder: Path | None = None,
    origins: Callable[[range], Tensor] | None = None,
    agrees: Callable[[Tensor, Sequence[str]], Tensor] | None = None,
) -> Tensor:
    """Images `uint8 [n, 3, R, R]` of prompts, at the resolution of the source.

    The noise of an image follows from the problem's seed, its caption, how often that came before, and which candidate it is.
    Images are made in chunks whose bounds do not depend on how many processes there are, so that a set is the same to the bit
    however it is shared out. A chunk is written when it is done, and not made again.

    Args:
        problem: seed, resolution, progress.
        prior: makes them.
        prompts: one an image.
        how: see `Sampling`.
        folder: where chunks are kept; without one nothing is, and every process makes all of them.
        origins: from a range of images to pictures that they start from.
        agrees: from images and their captions to a number each; the candidate with the largest is kept.

    Raises:
        StorageError: the folder holds samples of other prompts or options.
    """
    if how.candidates > 1 and agrees is None:
        raise ConfigError("candidates above 1 need an agreement to choose by")
    ranges = [range(i, min(i + CHUNK, len(prompts))) for i in range(0, len(prompts), CHUNK)]
    seeds = _names(prompts)
    if folder is not None:
        _claim(folder, digest(list(prompts), asdict(how), problem.seed, prior.name))
    own = ranges if folder is None else processes.share(ranges)
    done: dict[int, Tensor] = {}
    for part in own:
        path = None if folder is None else folder / f"{part.start:06d}.safetensors"
        found = _read(path)
        if found is None:
            start = None if origins is None else origins(part)
            found = _chunk(problem, prior, [prompts[i] for i in part], [seeds[i] for i in part], how, start, agrees)
            _write(path, found)
        done[part.start] = found
        problem.runtime.report("sample", min(part.stop, len(prompts)), len(prompts))
    processes.wait()
    for part in ranges:  # those of other processes
        if part.start not in done:
            found = _read(folder / f"{part.start:06d}.safetensors" if folder else None)
            if found is None:
                raise StorageError(
                    f"{folder} lacks the images from {part.start} on; all processes need to see one file system"
                )
            done[part.start] = found
    return torch.cat([done[part.start] for part in ranges])


def _chunk(
    problem: Problem,
    prior: DiffusersPrior,
    prompts: Sequence[str],
    seeds: Sequence[str],
    how: Sampling,
    start: Tensor | None,
    agrees: Callable[[Tensor, Sequence[str]], Tensor] | None,
) -> Tensor:
    side, own = problem.source.modalities["image"].shape[-1], how.resolution or prior.resolution
    origin = None
    if start is not None:
        with torch.no_grad():
            origin = prior.encode(resize(start.to(prior.device), (own, own)))
    best: Tensor | None = None
    score = torch.full((len(prompts),), -torch.inf)
    for candidate in range(how.candidates):
        generators = [problem.rng(f"sample {name}", candidate) for name in seeds]
        images = prior.sample(prompts, generators, own, how.steps, how.guidance, origin, how.strength)
        images = resize(images, (side, side)).clamp(0, 1).mul(255).round().byte()
        if best is None:
            best = images.cpu()
        if agrees is not None and how.candidates > 1:
            value = agrees(images.to(prior.device).float() / 255, prompts).cpu()
            best = torch.where((value > score)[:, None, None, None], images.cpu(), best)
            score = torch.maximum(score, value)
    assert best is not None
    return best


def _names(prompts: Sequence[str]) -> list[str]:
    """What the noise of each image follows from: its caption, and how often that came before."""
    seen: dict[str, int] = {}
    names = []
    for prompt in prompts:
        names.append(f"{seen.get(prompt, 0)} {prompt}")
        seen[prompt] = seen.get(prompt, 0) + 1
    return names


def _claim(folder: Path, key: str) -> None:
    """Says what the samples in a folder are of."""
    path = folder / "samples.json"
    if processes.is_first() and not path.is_file():
        write_text(path, json.dumps({"key": key}))
    processes.wait()
    try:
        claimed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(
            f"{path} cannot be read: {error}; delete {folder}, and give the same command again"
        ) from error
    if claimed != {"key": key}:
        raise StorageError(
            f"{folder} holds samples of other prompts or options; delete it, and give the same command again"
        )


def _read(path: Path | None) -> Tensor | None:
    """The images of a chunk; `None` where they are not there, or not as they were written."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path is None or not os.path.lexists(path):
        return None
    try:
        held = load_file(path)
        if torch.equal(held["sum"], _sum(held["image"])):
            return held["image"]
    except (SafetensorError, OSError, KeyError):
        pass
    warnings.warn(f"{path} is damaged; its images are made anew", LimbeckWarning, stacklevel=3)
    return None


def _write(path: Path | None, images: Tensor) -> None:
    if path is not None:
        with whole_file(path) as made:
            save_tensors({"image": images, "sum": _sum(images)}, made)


def _sum(images: Tensor) -> Tensor:
    """SHA-256 of images, and of their shape: `uint8 [32]`."""
    found = hashlib.sha256(repr((images.dtype, images.shape)).encode() + images.contiguous().numpy().tobytes())
    return torch.frombuffer(bytearray(found.digest()), dtype=torch.uint8)
