"""A small image-text problem with an answer: one object in each image, five captions that name all of it.

Colour (8), shape (4), position (5), background (3) and size (2) make 960 kinds of image. `Shapes` draws them, `Pretrained` is an
encoder that has seen colour and shape of other images. Read by the slow test of trajectory matching and by its benchmarks.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from limbeck.data import Batch, Captions, Modality, Source
from limbeck.networks.convnet import ConvNet
from limbeck.runtime.cache import digest
from limbeck.runtime.random import stream
from limbeck.spaces import Encoder, Space
from limbeck.spaces.encoders.bag_of_words import BagOfWords
from limbeck.students import Tower

__all__ = ["PLANTED", "Pretrained", "Shapes", "space"]

SIDE = 32
ATTRIBUTES = {
    "colour": ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white"),
    "shape": ("circle", "square", "triangle", "cross"),
    "position": ("centre", "northwest", "northeast", "southwest", "southeast"),
    "background": ("black", "grey", "brown"),
    "size": ("small", "large"),
}
PAINT = torch.tensor(
    [[0.9, 0.1, 0.1], [0.1, 0.7, 0.1], [0.1, 0.2, 0.9], [0.9, 0.9, 0.1], [0.6, 0.1, 0.7], [0.1, 0.8, 0.8],
     [1.0, 0.5, 0.0], [1.0, 1.0, 1.0]]
)  # fmt: skip
GROUND = torch.tensor([[0.05, 0.05, 0.05], [0.45, 0.45, 0.45], [0.35, 0.2, 0.1]])
CENTRE = torch.tensor([[16, 16], [10, 10], [10, 22], [22, 10], [22, 22]])  # row, column
TEMPLATES = (
    "a {size} {colour} {shape} on {background} at the {position}",
    "{background} picture with one {shape} that is {colour} and {size} in the {position}",
    "in the {position} there is a {colour} {shape} of {size} size before {background}",
    "{size} {shape} coloured {colour} placed {position} over a {background} ground",
    "the {position} of this {background} image shows a {size} {colour} {shape}",
)
PLANTED = 10, 4  # kinds of image, and how many of each stand at the beginning of the training split
SIZES = {"train": 1000, "val": 200, "test": 200}


class Shapes(Source):
    """One object an image, `[3, 32, 32]`; five captions; splits train (1,040), val and test (200 each, all of other kinds).

    The training split begins with 4 images each of 10 kinds, one kind after the other: planted false negatives.

    Args:
        here: which split.
    """

    licence = "CC0-1.0"

    def __init__(self, here: str = "train") -> None:
        self.name, self.here = f"shapes[{here}]", here
        self.modalities = {"image": Modality("image", (3, SIDE, SIDE)), "text": Modality("text")}
        self.fingerprint = digest("shapes", here, 1)
        draw = stream(0, f"shapes {here}")
        counts = [len(names) for names in ATTRIBUTES.values()]
        kinds = torch.cartesian_prod(*map(torch.arange, counts))
        if here == "train":
            groups, copies = PLANTED
            planted = torch.randperm(len(kinds), generator=draw)[:groups].repeat_interleave(copies)
            chosen = torch.cat([planted, torch.randint(len(kinds), (SIZES[here],), generator=draw)])
        else:
            chosen = torch.randperm(len(kinds), generator=draw)[: SIZES[here]]
        self.kinds = kinds[chosen]
        self._image = paint(self.kinds, draw)
        self._captions = [_captions(kind) for kind in self.kinds.tolist()]

    def __len__(self) -> int:
        return len(self.kinds)

    def batch(self, index: Any) -> Batch:
        """The samples at `index`."""
        rows = torch.as_tensor(index if isinstance(index, Tensor) else list(index))
        return Batch({"image": self._image, "text": self._captions}).select(rows)

    @property
    def keys(self) -> list[str]:
        """Names of the samples."""
        return [f"{self.here}/{i}" for i in range(len(self))]

    @property
    def captions(self) -> list[Captions]:
        """Five captions a sample."""
        return self._captions

    @property
    def labels(self) -> None:
        """There are none."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The three splits."""
        return tuple(SIZES)

    def split(self, name: str) -> "Source":
        """Another split."""
        return Shapes(name) if name in SIZES else super().split(name)

    def describe(self) -> dict[str, Any]:
        """Name and split."""
        return {"name": "shapes", "split": self.here}


def paint(kinds: Tensor, draw: torch.Generator) -> Tensor:
    """Images `[N, 3, 32, 32]` in [0, 1] of kinds `[N, 5]`; place, radius and every pixel vary a little."""
    colour, shape, position, background, size = kinds.T
    n = len(kinds)
    centre = CENTRE[position] + 3 * torch.rand(n, 2, generator=draw) - 1.5
    radius = torch.tensor([4.0, 7.5])[size] + torch.rand(n, generator=draw) - 0.5
    row, column = ((torch.arange(SIDE) - c[:, None]).abs() for c in centre.T)
    y, x = row[:, :, None] / radius[:, None, None], column[:, None, :] / radius[:, None, None]
    signed = (torch.arange(SIDE) - centre[:, :1])[:, :, None] / radius[:, None, None]
    forms = torch.stack(
        [
            y.square() + x.square() <= 1,
            torch.maximum(y, x) <= 0.85,
            (signed.abs() <= 1) & (x <= (signed + 1) / 2),
            (torch.minimum(y, x) <= 0.35) & (torch.maximum(y, x) <= 1),
        ]
    )
    inside = forms[shape, torch.arange(n)][:, None]
    image = torch.where(inside, PAINT[colour][:, :, None, None], GROUND[background][:, :, None, None])
    return (image + 0.06 * torch.randn(image.shape, generator=draw)).clamp(0, 1)


def _captions(kind: list[int]) -> Captions:
    words = {name: names[i] for (name, names), i in zip(ATTRIBUTES.items(), kind, strict=True)}
    return tuple(template.format(**words) for template in TEMPLATES)


@dataclass(frozen=True)
class Pretrained(Encoder):
    """A ConvNet with a linear layer, trained to tell colour and shape of images that no split holds.

    Args:
        width: channels of the ConvNet.
        outputs: components of a vector.
        steps: of its training, on batches of 64.
    """

    width: int = 16
    outputs: int = 128
    steps: int = 100

    modality = "image"
    licence = "CC0-1.0"

    @property
    def dim(self) -> int:
        """`outputs`."""
        return self.outputs

    def build(self) -> nn.Module:
        """The network, trained anew; the same each time."""
        draw = stream(0, "pretrained shapes")
        network = ConvNet(SIDE, self.width, generator=draw)
        tower = nn.Sequential(network, Tower(network.dim, self.outputs, draw, gain=1.0))
        head = Tower(self.outputs, 12, draw)
        limits = torch.tensor([len(names) for names in ATTRIBUTES.values()])
        optimizer = Adam([*tower.parameters(), *head.parameters()], lr=2e-3)
        with torch.enable_grad():
            for _ in range(self.steps):
                kinds = (torch.rand(64, 5, generator=draw) * limits).long()
                logits = head(tower(paint(kinds, draw)))
                loss = F.cross_entropy(logits[:, :8], kinds[:, 0]) + F.cross_entropy(logits[:, 8:], kinds[:, 1])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return tower

    def encode(self, network: nn.Module, values: Tensor) -> Tensor:
        """Vectors `[B, outputs]` of images `[B, 3, 32, 32]`."""
        return network(F.interpolate(values, (SIDE, SIDE), mode="bilinear") if values.shape[-1] != SIDE else values)


def space() -> Space:
    """The pretrained encoder beside a bag of words of 128 components."""
    return Space({"image": Pretrained(), "text": BagOfWords(width=128)})
