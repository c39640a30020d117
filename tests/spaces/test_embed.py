"""Features of a source: right, jagged, sharded, cached, resumable."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import limbeck as lb
from limbeck.check import ToySource
from limbeck.core import DistilledSet
from limbeck.data import Batch, Cache, Modality, digest
from limbeck.errors import ConfigError, DataError
from limbeck.spaces import Encoder, Features, Space, embed_source


class Jagged(ToySource):
    """A toy source with missing images, and with none, one or several captions a sample."""

    def __init__(self, n: int = 13, gone: tuple[int, ...] = (0, 3, 12)) -> None:
        super().__init__(n, "train", ("image", "text"), 16)
        self.gone, self.reads = gone, [0]
        self.fingerprint = digest("jagged", n, gone)
        self._captions = [tuple(f"{k} of sample {i}" for k in range(i % 4)) for i in range(n)]

    def batch(self, index: Any) -> Batch:
        """The samples, some without an image."""
        rows = list(index)
        self.reads[0] += len(rows)
        values = super().batch(rows).values
        image = values["image"].clone()
        here = torch.tensor([i not in self.gone for i in rows])
        image[~here] = torch.nan  # whoever reads these shows it
        return Batch({**values, "image": image}, {"image": here})


@dataclass(frozen=True)
class Counting(Encoder):
    """Text to (length, number of spaces, 1); counts what it encodes and can be made to fail. Options: calls, fail_after."""

    calls: list[int] = field(default_factory=lambda: [0], compare=False)
    fail_after: int = 10**9
    modality = "text"

    @property
    def dim(self) -> int:
        """Three."""
        return 3

    def identity(self) -> dict[str, Any]:
        """Not the counters."""
        return {"name": "counting"}

    def build(self) -> nn.Module:
        """Nothing to learn."""
        return nn.Identity()

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Three numbers a text."""
        self.calls[0] += len(values)
        if self.calls[0] > self.fail_after:
            raise KeyboardInterrupt
        return torch.tensor([[len(text), text.count(" "), 1.0] for text in values])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_rows_and_owners(cache: Cache) -> None:
    source, space = Jagged(), Space({**lb.space(image="convnet").encoders, "text": Counting()})
    found = embed_source(source, space, cache, batch_size=2, shard=5)
    present = [i for i in range(13) if i not in source.gone]
    assert found["image"].owner.tolist() == present
    assert found["text"].owner.tolist() == [i for i in range(13) for _ in range(i % 4)]
    assert not found["image"].vectors.isnan().any()
    image = space["image"](ToySource.batch(source, present)["image"])
    torch.testing.assert_close(found["image"].vectors, image, rtol=0, atol=1e-6)
    text = space["text"]([caption for sample in source.captions for caption in sample])
    assert torch.equal(found["text"].vectors, text)
    assert found["image"].first(13).tolist() == [-1, 0, 1, -1, *range(2, 10), -1]


def test_a_problem_sees_complete_samples_only(cache: Cache) -> None:
    source = Jagged()
    space = Space({**lb.space(image="convnet").encoders, "text": Counting()})
    problem = lb.Problem(source, space, lb.Budget(pairs=2), cache=cache)
    assert problem.complete.tolist() == [i for i in range(13) if i not in source.gone and i % 4]


def test_sizes_of_batches_and_shards_change_nothing(cache: Cache) -> None:
    space = Space({"text": Counting()})
    expected = embed_source(Jagged(), space, cache)["text"]
    for batch_size, shard in ((1, 1), (3, 7), (100, 2)):
        found = embed_source(Jagged(), space, cache, batch_size=batch_size, shard=shard)["text"]
        assert torch.equal(found.vectors, expected.vectors) and torch.equal(found.owner, expected.owner)


def test_nothing_is_computed_twice(cache: Cache) -> None:
    source, text = Jagged(), Counting()
    space = Space({**lb.space(image="convnet").encoders, "text": text})
    first = embed_source(source, space, cache)
    calls, reads = text.calls[0], source.reads[0]
    second = embed_source(source, space, cache)
    assert (text.calls[0], source.reads[0]) == (calls, reads) and reads == 13
    assert all(torch.equal(first[m].vectors, second[m].vectors) for m in first)
    assert all(torch.equal(first[m].owner, second[m].owner) for m in first)


def test_the_cache_knows_source_and_encoder(cache: Cache) -> None:
    space = lb.space(image="convnet")
    first = embed_source(Jagged(), space, cache)["image"].vectors
    other = embed_source(Jagged(), lb.space(image={"name": "convnet", "seed": 1}), cache)["image"].vectors
    assert not torch.equal(first, other)
    assert len(embed_source(Jagged(gone=()), space, cache)["image"].vectors) == 13


def test_a_killed_run_continues_where_it_stopped(cache: Cache) -> None:
    source, text = Jagged(), Counting(fail_after=12)
    with pytest.raises(KeyboardInterrupt):
        embed_source(source, Space({"text": text}), cache, batch_size=2, shard=4)
    resumed = Counting()
    found = embed_source(source, Space({"text": resumed}), cache, batch_size=2, shard=4)["text"]
    total = sum(map(len, source.captions))
    assert resumed.calls[0] == total - 12  # three whole shards were kept
    assert torch.equal(
        found.vectors, embed_source(source, Space({"text": Counting()}), Cache(cache.root / "x"))["text"].vectors
    )


def test_progress_ends_at_the_total(cache: Cache) -> None:
    ticks: list[tuple[str, int, int]] = []
    embed_source(Jagged(), Space({"text": Counting()}), cache, batch_size=4, shard=6, tick=lambda *t: ticks.append(t))
    done = [d for _, d, _ in ticks]
    assert done == sorted(done) and ticks[-1] == ("text", 18, 18) and {m for m, _, _ in ticks} == {"text"}


def test_what_only_one_side_knows_is_left_out(cache: Cache) -> None:
    images_only = ToySource(4, "train", ("image",), 16)
    assert set(embed_source(images_only, Space({"text": Counting()}), cache)) == set()


def test_a_source_without_a_single_value(cache: Cache) -> None:
    source = Jagged(3, gone=(0, 1, 2))
    source._captions = [()] * 3
    found = embed_source(source, Space({**lb.space(image="convnet").encoders, "text": Counting()}), cache)
    assert found["image"].vectors.shape == (0, 128) and found["text"].vectors.shape == (0, 3)


def test_embeddings_are_taken_as_they_are_from_their_own_encoder_only(cache: Cache) -> None:
    source, space = Jagged(2, gone=()), Space({"text": Counting()})
    source.embeddings = {"text": torch.tensor([[3.0, 0.0, 4.0], [0.0, 2.0, 0.0]])}
    source.embedded_by = {"text": space["text"].fingerprint}
    found = embed_source(source, space, cache)["text"]
    torch.testing.assert_close(found.vectors, torch.tensor([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]]))
    assert found.owner.tolist() == [0, 1] and space["text"].calls == [0]  # type: ignore[attr-defined]
    source.embedded_by = {"text": "another"}
    with pytest.raises(DataError, match="another encoder"):
        embed_source(source, space, cache)


@pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"shard": 0}])
def test_sizes_below_one(cache: Cache, sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=">= 1"):
        embed_source(Jagged(), Space({"text": Counting()}), cache, **sizes)  # type: ignore[arg-type]


def test_features_need_one_owner_a_row() -> None:
    with pytest.raises(DataError, match="got 2 rows and 3 owners"):
        Features(torch.eye(2), torch.arange(3))
    features = Features(torch.eye(4), torch.tensor([1, 1, 3, 3]))
    assert features.counts(5).tolist() == [0, 2, 0, 2, 0] and features.first(5).tolist() == [-1, 0, -1, 2, -1]
    assert features.rows(torch.tensor([3])).tolist() == [2, 3]


class Torn(ToySource):
    """The toy source; the image of sample 5 holds a NaN."""

    def batch(self, index: Any) -> Batch:
        """The samples."""
        rows = list(index)
        values = super().batch(rows).values
        image = values["image"].clone()
        image[[i == 5 for i in rows], 0, 3, 3] = torch.nan
        return Batch({**values, "image": image})


@dataclass(frozen=True)
class Overflowing(Counting):
    """Text to vectors, infinite for a long one. Options: calls, fail_after."""

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Ones."""
        return torch.tensor([[1.0, torch.inf if "3 of sample" in text else 1.0] for text in values])

    @property
    def dim(self) -> int:
        """Two."""
        return 2


def test_what_is_not_finite_is_refused_by_name_and_not_kept(cache: Cache) -> None:
    torn = Torn(8, "train", ("image", "text"), 16)
    with pytest.raises(
        DataError, match=r"toy\[train\]: the image of sample 'train/5' holds NaN or infinite values; mend"
    ):
        embed_source(torn, lb.space(image="convnet"), cache, batch_size=2)
    says = r"the encoder '.*' gives NaN or infinite values for the text of sample 'train/4'; check its weights"
    source = Jagged()
    source._captions = [(f"{i - 1} of sample {i}",) for i in range(13)]
    for _ in range(2):  # nothing of it was cached
        with pytest.raises(DataError, match=says):
            embed_source(source, Space({"text": Overflowing()}), cache, batch_size=3)


def test_a_learned_text_that_is_not_finite_is_refused_by_name(cache: Cache) -> None:
    space = lb.space(text="bag_of_words")
    vectors = torch.ones(3, space["text"].dim)
    vectors[1, 7] = torch.nan
    small = DistilledSet(
        "mine",
        {"text": Modality("text")},
        {"text": vectors},
        captions=[("a",)] * 3,
        origins=["x", "y", "z"],
        embedded_by={"text": space["text"].fingerprint},
    )
    with pytest.raises(DataError, match="mine: the text of sample 's00001' holds NaN"):
        embed_source(small, space, cache)


@dataclass(frozen=True)
class Listening(Encoder):
    """The first two samples of a waveform, told at which rate they are."""

    rate: int = 16000
    modality = "audio"
    dim = 2

    @property
    def sample_rate(self) -> int:
        """As it was told."""
        return self.rate

    def build(self) -> nn.Module:
        """No weights."""
        return nn.Identity()

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """The first two samples."""
        return values[:, :2]  # type: ignore[no-any-return]


class Sounds(ToySource):
    """Waveforms of a known rate."""

    def __init__(self, rate: int) -> None:
        super().__init__(4, "train", ("image",), 16)
        self.modalities = {"audio": Modality("audio", (6,), -1.0, rate=rate)}
        self.fingerprint = digest("sounds", rate)

    def batch(self, index: Any) -> Batch:
        """Sounds that differ."""
        return Batch({"audio": torch.arange(1.0, 25.0).view(4, 6)[list(index)] / 25})


def test_waveforms_of_another_rate_are_refused(tmp_path: Path) -> None:
    space = Space({"audio": Listening()})
    with pytest.raises(ConfigError, match=r"sounds of 8000 samples a second.* takes them for 16000; .*rate 8000"):
        embed_source(Sounds(8000), space, Cache(tmp_path))
    assert embed_source(Sounds(16000), space, Cache(tmp_path))["audio"].vectors.shape == (4, 2)
    assert embed_source(Sounds(0), space, Cache(tmp_path))["audio"].vectors.shape == (4, 2)
