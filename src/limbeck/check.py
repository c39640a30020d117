"""Contract suites: what every method, source and encoder must keep. A plug-in's author can run them, too.

Each function returns nothing and raises `AssertionError` naming the clause that is broken.
"""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import torch
from torch import Tensor

from limbeck.core import Budget, DistilledSet, Method, Problem
from limbeck.data.batch import Batch, Captions
from limbeck.data.contract import check_source
from limbeck.data.modality import Modality
from limbeck.data.source import Source
from limbeck.runtime.cache import Cache, digest
from limbeck.spaces import Space
from limbeck.spaces.contract import check_encoder

__all__ = ["check_encoder", "check_method", "check_source", "toy_source"]


class ToySource(Source):
    """A small in-memory source: coloured squares, captions that name colour and place, the colour as label.

    Args:
        n: samples a split.
        split: which of `train`, `val`, `test`.
        modalities: which of image, text, label it holds.
        resolution: pixels a side.
    """

    colours = ("red", "green", "blue", "yellow")
    places = ("top left", "top right", "bottom left", "bottom right")

    def __init__(self, n: int, split: str, modalities: tuple[str, ...], resolution: int) -> None:
        self.options = {"n": n, "modalities": modalities, "resolution": resolution}
        self.name, self.here = f"toy[{split}]", split
        known = {
            "image": Modality("image", (3, resolution, resolution)),
            "text": Modality("text"),
            "label": Modality("label"),
        }
        self.modalities = {m: known[m] for m in modalities}
        self.classes = self.colours if "label" in modalities else ()
        self.licence = "CC0-1.0"
        self.fingerprint = digest("toy", split, self.options)
        noise = torch.Generator().manual_seed(("train", "val", "test").index(split))
        self._colour = torch.arange(n) % 4
        place = torch.randint(4, (n,), generator=noise)
        self._captions: list[Captions] = [
            (f"a {self.colours[c]} square at the {self.places[p]}", f"{self.places[p]}: {self.colours[c]}")
            for c, p in zip(self._colour.tolist(), place.tolist(), strict=True)
        ]
        paint = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.9], [0.9, 0.9, 0.1]])
        image, half = 0.2 * torch.rand(n, 3, resolution, resolution, generator=noise), resolution // 2
        for i, (c, p) in enumerate(zip(self._colour.tolist(), place.tolist(), strict=True)):
            y, x = half * (p // 2), half * (p % 2)
            image[i, :, y : y + half, x : x + half] += 0.8 * paint[c][:, None, None]
        self._image = image.clamp(0, 1)

    def __len__(self) -> int:
        return int(self.options["n"])  # type: ignore[call-overload,no-any-return]

    def batch(self, index: Any) -> Batch:
        """The samples at `index`."""
        rows = torch.as_tensor(list(index), dtype=torch.long)
        whole = {"image": self._image, "text": self._captions, "label": self._colour}
        return Batch({m: whole[m] for m in self.modalities}).select(rows)

    @property
    def keys(self) -> list[str]:
        """Names of the samples."""
        return [f"{self.here}/{i}" for i in range(len(self))]

    @property
    def captions(self) -> list[Captions]:
        """Two captions a sample."""
        return self._captions if "text" in self.modalities else [()] * len(self)

    @property
    def labels(self) -> Tensor | None:
        """The colour of each square."""
        return self._colour if "label" in self.modalities else None

    @property
    def splits(self) -> tuple[str, ...]:
        """The three splits."""
        return ("train", "val", "test")

    def split(self, name: str) -> "ToySource":
        """Another split of the same kind."""
        return ToySource(split=name, **self.options) if name in self.splits else super().split(name)  # type: ignore[arg-type,return-value]

    def describe(self) -> dict[str, Any]:
        """Name and options."""
        return {"name": "toy", "split": self.here, **self.options}


def toy_source(
    n: int = 24,
    split: str = "train",
    modalities: tuple[str, ...] = ("image", "text", "label"),
    resolution: int = 16,
) -> Source:
    """A small labelled image-text source in memory, for tests and examples.

    Example:
        >>> toy_source(4).batch([1])["text"][0][0][:14]
        'a green square'
    """
    return ToySource(n, split, modalities, resolution)


def check_method(method: Method, space: Space, source: Source | None = None, pairs: int = 8) -> None:
    """Tests a method against the contract of `limbeck.Method`.

    Args:
        method: with few steps, as it is run to the end several times.
        space: encoders that it may use.
        source: the training data; a toy one by default.
        pairs: the budget.

    Example:
        >>> import limbeck as lb
        >>> check_method(lb.methods.Random(), lb.space(image="convnet"))
    """
    import tempfile

    from limbeck.engine import distill, steps

    source = source or toy_source()
    with tempfile.TemporaryDirectory() as folder:

        def problem(seed: int = 0) -> Problem:
            return Problem(source, space, Budget(pairs=pairs), seed=seed, cache=Cache(folder))

        _check_fields(method)
        before = torch.get_rng_state()
        first, second, other = (distill(problem(seed), method) for seed in (0, 0, 1))
        assert torch.equal(before, torch.get_rng_state()), "it drew from the global random generator; use problem.rng"
        assert first.pairs == pairs, f"it made {first.pairs} pairs for a budget of {pairs}"
        assert _same(first, second), "the same seed gave another result: all randomness must come from problem.rng"
        if method.steps:
            assert not _same(first, other), "another seed gave the same result although it has random steps"
        assert set(first.batch(range(len(first))).modalities) <= set(source.modalities), (
            "it made a modality that is not in the source"
        )
        moved = False
        for state in steps(problem(), method):
            if state.step == 0:
                start = {k: v.detach().clone() for k, v in state.synthetic.named_parameters()}
            else:
                assert "loss" in state.logs, "step must return the value it improves under the name 'loss'"
                moved |= any(not torch.equal(v, start[k]) for k, v in state.synthetic.named_parameters())
        assert moved == bool(method.steps), (
            "its steps moved nothing" if method.steps else "a one-shot method has no steps"
        )
        folder_a, folder_b = f"{folder}/whole", f"{folder}/parts"
        whole = distill(problem(), method, run=folder_a)
        if method.steps > 1:
            for state in steps(problem(), method, run=folder_b, save_every=1):
                if state.step == method.steps // 2:
                    break
        assert _same(whole, distill(problem(), method, run=folder_b)), "an interrupted and resumed run ended elsewhere"
        assert _same(whole, distill(problem(), method, run=folder_a)), "a finished run was not returned as it was"


def _check_fields(method: Method) -> None:
    names = [f.name for f in fields(method)]
    said = " ".join(base.__doc__ or "" for base in type(method).__mro__)
    assert all(name in said for name in names), f"its docstring must name {names}"
    hash(method)
    try:
        object.__getattribute__(method, "__setattr__")(names[0] if names else "x", None)
    except FrozenInstanceError:
        return
    raise AssertionError("a method is a frozen dataclass")


def _same(a: DistilledSet, b: DistilledSet) -> bool:
    return a.fingerprint == b.fingerprint and list(a.origins) == list(b.origins)
