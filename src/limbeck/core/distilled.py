"""`DistilledSet`: the immutable result, itself a `Source`, so that it is judged like any other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from limbeck.core.codec import Files, Packed, exact_files, pack, stored_files
from limbeck.core.encode import chunked
from limbeck.core.kept import kept_values, moved
from limbeck.core.masks import object_masks
from limbeck.core.problem import Problem
from limbeck.core.recipe import Recipe
from limbeck.core.synthetic import SOFT, Synthetic
from limbeck.data.batch import Batch, Captions
from limbeck.data.modality import Modality
from limbeck.data.plain import escape_surrogates
from limbeck.data.source import Source
from limbeck.data.trust import check_named, remember
from limbeck.objectives.nearest import nearest
from limbeck.objectives.similarity import Similarity
from limbeck.runtime.cache import digest

__all__ = ["DistilledSet", "freeze", "load"]

OWN = ("image", "mask", "text", "label")  # modalities with a form of their own; the others are plain tensors


@dataclass(frozen=True, eq=False, repr=False)
class DistilledSet(Source):
    """M synthetic samples, ready to train on, to look at and to save.

    Args:
        name: what a person calls it.
        modalities: as of the source that it came from.
        tensors: `"image"` `uint8` or `float32 [M, 3, R, R]`; `"text"` where text was learned or came as vectors, `float32 [M, D]`
            or, as tokens of a text encoder, `[M, L, E]`;
            `"audio"`, `"depth"` and other modalities held as tensors `float32 [M, ...]`, exactly as they were learned;
            `"mask"` `uint8 [M, 1, R, R]`, 255 on the object, where the source has masks;
            `"label"` `int64 [M]`, of the real sample that it started from; `"soft_label"` `float32 [M, C]`, learned shares of the
            classes; a modality that `embedded_by` names as learned vectors `float32 [M, D]`; `"similarity.<name>"` the parameters of a learned similarity; `"hint.<name>"` scalars;
            in older sets `"relation"` `float32 [M, M]`.
        captions: the readable captions of each sample: all of the real sample that it started from, first the one of its pair;
            those that were written for it, where it was generated; or the nearest real one where text was learned.
        origins: the key of the real sample that each one started from.
        neighbours: for each sample the nearest real captions with their cosine similarity, best first.
        nearest: the key of the real image nearest to each synthetic image, and its cosine similarity.
        classes: the names of the labels.
        licence: of the data it was made from.
        recipe: how it was made; a recipe that holds everything needed to make it again.
        embedded_by: modality to fingerprint of the encoder that its embeddings belong to.
        encoder_licences: modality to licence of the encoder's weights.
        training: how a student should be trained on the set: `"loss"` and `"temperature"`; empty where nothing is said.
        similarity: what `Similarity.restore` needs beside the parameters; empty without a learned similarity.
        moved: how far each learned vector is from the real sample's own: their cosine, of texts that with the mean of its captions.
        generation: how its samples were generated: prior and its licence, prompts, sampling, who wrote new captions; empty where none were.
        stored: modality to the bytes that its tensor was decoded from; a tensor without, or in the place of the one that was, is stored exactly.
    """

    name: str
    modalities: Mapping[str, Modality]
    tensors: Mapping[str, Tensor]
    captions: Sequence[Captions] = ()
    origins: Sequence[str] = ()
    neighbours: Sequence[Sequence[tuple[str, float]]] = ()
    nearest: Sequence[tuple[str, float]] = ()
    classes: tuple[str, ...] = ()
    licence: str = "unknown"
    recipe: Recipe = field(default_factory=Recipe)
    embedded_by: Mapping[str, str] = field(default_factory=dict)
    encoder_licences: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, str | float] = field(default_factory=dict)
    similarity: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    moved: Sequence[float] = ()
    stored: Mapping[str, Files | Packed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Shows bytes of names that are no UTF-8, so that the set can be written; forgets the bytes of tensors that were replaced."""
        clean = escape_surrogates
        values = {
            "name": clean(self.name),
            "captions": [tuple(map(clean, sample)) for sample in self.captions],
            "origins": [clean(key) for key in self.origins],
            "neighbours": [[(clean(text), score) for text, score in near] for near in self.neighbours],
            "nearest": [(clean(key), score) for key, score in self.nearest],
            "classes": tuple(map(clean, self.classes)),
            "licence": clean(self.licence),
            "stored": {m: held for m, held in self.stored.items() if held.values is self.tensors.get(m)},
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.origins)

    def batch(self, index: Sequence[int] | Tensor) -> Batch:
        """The samples at `index`: images and masks `float32` in [0, 1]; text as embeddings where it holds them, else captions."""
        rows = torch.as_tensor(list(index) if not isinstance(index, Tensor) else index, dtype=torch.long)
        values: dict[str, Any] = {}
        for modality in (m for m in ("image", "mask") if m in self.tensors):
            pixels = self.tensors[modality][rows]
            values[modality] = pixels.float().div(255) if pixels.dtype == torch.uint8 else pixels
        values |= {m: self.tensors[m][rows] for m in self.modalities if m in self.tensors and m not in OWN}
        if "text" in self.modalities:
            values["text"] = (
                self.tensors["text"][rows] if "text" in self.tensors else [self.captions[i] for i in rows.tolist()]
            )
        if "label" in self.tensors:
            values["label"] = self.tensors["label"][rows]
        return Batch(values, relation=None if self.relation is None else self.relation[rows][:, rows])

    @property
    def embeddings(self) -> Mapping[str, Tensor]:  # type: ignore[override]
        """What was learned or came as vectors of an encoder; see `Source` for the two forms of text."""
        return {m: self.tensors[m] for m in dict.fromkeys(("text", *self.embedded_by)) if m in self.tensors}

    @property
    def pairs(self) -> int:
        """What a budget in pairs counts: samples; a generated one with captions that were written for it is as many pairs."""
        return sum(max(len(captions), 1) for captions in self.captions) if self.generation else len(self)

    @property
    def keys(self) -> Sequence[str]:
        """A name for each sample, `s00000` onwards."""
        return [f"s{i:05d}" for i in range(len(self))]

    @property
    def labels(self) -> Tensor | None:
        """`int64 [M]` labels, or `None`."""
        return self.tensors.get("label")

    @property
    def soft_labels(self) -> Tensor | None:
        """`float32 [M, C]`, the learned share of each class in each sample, or `None`; a row sums to one."""
        return self.tensors.get(SOFT)

    @property
    def coverage(self) -> Tensor | None:
        """The share of each image that counts as object, `float32 [M]`, see `object_masks`; `None` without masks."""
        return object_masks(self.batch(range(len(self)))).mean(dim=(1, 2, 3)) if "mask" in self.tensors else None

    @cached_property
    def relation(self) -> Tensor | None:
        """How much image i matches text j, `float32 [M, M]`; `None` for the identity."""
        if not self.similarity:
            return self.tensors.get("relation")
        prefix = "similarity."
        factors = {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}
        whole: Tensor = Similarity.restore(self.similarity, factors)()
        return whole.detach()

    @property
    def hints(self) -> dict[str, float]:
        """Learned scalars for the student, such as a learning rate."""
        return {k.removeprefix("hint."): float(v) for k, v in self.tensors.items() if k.startswith("hint.")}

    @cached_property
    def pictures(self) -> Mapping[str, Files]:
        """The files of images and masks, as they are stored; not of images that are kept as floats."""
        found: dict[str, Files] = {}
        for modality in (m for m in ("image", "mask") if m in self.tensors and not self.tensors[m].is_floating_point()):
            held = self.stored.get(modality)
            found[modality] = held if isinstance(held, Files) else exact_files(self.tensors[modality])
        return found

    def files(self, modality: str, index: Sequence[int]) -> Sequence[bytes | None]:
        """The stored images or masks at `index`; of other modalities there are none."""
        held = self.pictures.get(modality)
        return [None if held is None else held.files[i] for i in index]

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each part of the set's folder, see `limbeck.core.storage.part_sizes`."""
        from limbeck.core.storage import part_sizes

        return MappingProxyType(part_sizes(self))

    @property
    def nbytes(self) -> int:
        """Bytes of all files of the set's folder, saved or not."""
        return sum(self.sizes.values())

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """A digest of every tensor and caption, and of how a student should be trained.

        Images that are no exact files enter with their bytes: another version of a decoder may give other pixels of them.
        """
        raw = [x for k in sorted(self.tensors) for x in (k, *self._raw(k))]
        said = [dict(x) for x in (self.training, self.similarity) if x]
        return digest(*raw, [list(c) for c in self.captions], list(self.classes), *said)

    def _raw(self, name: str) -> Sequence[Any]:
        held, tensor = self.stored.get(name), self.tensors[name]
        if isinstance(held, Files) and not held.exact:
            return [list(tensor.shape), *held.files]
        return [tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()]

    def refuse_strangers(
        self, kind: Literal["source", "encoder"], things: Mapping[str, Any], instead: str
    ) -> list[str]:
        """Refuses data or encoders that the set names and nobody allowed, see `limbeck.data.trust.check_named`.

        Args:
            kind: of the things.
            things: those of `recipe` that are to be opened.
            instead: the option that names one in its place.
        """
        return check_named(self.name, self.recipe.plain(), kind, things, instead)

    def save(self, folder: str | Path) -> Path:
        """Writes the set as a folder that `limbeck.load` and `datasets.load_dataset` open; see `limbeck.core.storage`."""
        from limbeck.core.storage import save

        return save(self, Path(folder))


def freeze(problem: Problem, recipe: Recipe, synthetic: Synthetic, *, learned_text: bool) -> DistilledSet:
    """The distilled set of a synthetic one: what is decoded from images, masks and vectors as the problem stores them, texts made
    readable, origins named. What the synthetic set keeps of real samples is taken from the source.

    Args:
        problem: where the synthetic set came from.
        recipe: how it was made.
        synthetic: what was learned.
        learned_text: whether text is learned, and kept as embeddings; else each sample keeps all captions of the real one that it
            started from, or that one's embedding where the source holds vectors, which is then all that the encoder reads.
    """
    source, tensors, synthetic = problem.source, {}, synthetic.averaged()
    remember(recipe.plain())
    keys = source.keys
    values = {m: synthetic.value(m).detach().cpu() for m in synthetic.modalities} | kept_values(problem, synthetic)
    stored: dict[str, Files | Packed] = {}
    real = "image" in values and is_real(problem, synthetic)
    if "image" in values and problem.budget.pixels == "float32":
        tensors["image"] = values["image"].clamp(0, 1).contiguous()
    elif "image" in values:
        stored["image"] = images_of(problem, synthetic, real)
    if "mask" in values:
        stored["mask"] = exact_files(_eight_bits(values["mask"]))
    tensors |= {m: value.float().contiguous() for m, value in values.items() if m not in OWN}
    if synthetic.labels is not None:
        tensors["label"] = synthetic.labels.cpu()
    if synthetic.relation is not None:
        tensors |= {
            f"similarity.{k}": v.detach().cpu().contiguous() for k, v in synthetic.relation.state_dict().items()
        }
    tensors |= {f"hint.{k}": module().detach().cpu() for k, module in synthetic.hints.items()}
    captions: list[Captions] = list(synthetic.texts) or [()] * len(synthetic)
    learned_text = learned_text and "text" not in synthetic.kept
    neighbours: list[list[tuple[str, float]]] = []
    if "text" in values:
        neighbours = _nearest_captions(problem, values["text"])
        if learned_text or "text" in source.embeddings:
            stored["text"] = pack(values["text"], problem.storage.vectors)
        if learned_text:
            captions = [(near[0][0],) for near in neighbours]
    if synthetic.caption is not None and not learned_text and "text" in (*values, *synthetic.kept):
        captions = _own_captions(problem, synthetic.caption.tolist(), synthetic.origin.tolist())
    stored |= {m: pack(values[m], problem.storage.vectors) for m in synthetic.vectors}
    tensors |= {m: held.values for m, held in stored.items()}
    held = {*values, *synthetic.kept, "label", *(["text"] if synthetic.texts else [])}
    embedded = [m for m in ("text", *synthetic.vectors) if m in tensors]
    return DistilledSet(
        name=f"{source.name} by {recipe.method.get('name', 'unknown')}",
        modalities={name: m for name, m in source.modalities.items() if name in held},
        tensors=tensors,
        captions=captions,
        origins=[keys[i] for i in synthetic.origin.tolist()],
        neighbours=neighbours,
        nearest=_nearest_images(problem, values.get("image"), synthetic.origin if real else None),
        classes=source.classes,
        licence=source.licence,
        recipe=recipe,
        embedded_by={m: problem.space[m].fingerprint for m in embedded},
        encoder_licences=problem.space.licences,
        training=synthetic.training_options,
        similarity={} if synthetic.relation is None else synthetic.relation.describe(),
        generation=synthetic.generation,
        moved=moved(problem, synthetic),
        stored=stored,
    )


def is_real(problem: Problem, synthetic: Synthetic) -> bool:
    """Whether the images are, to 8 bits, those of the real samples that the set started from."""
    if "image" in synthetic.kept:
        return True
    if "image" in synthetic.learned or synthetic.generation:
        return False
    own = problem.source.batch(synthetic.origin.cpu())["image"]
    return torch.equal(_eight_bits(own.cpu()), _eight_bits(synthetic.value("image").cpu()))


def images_of(problem: Problem, synthetic: Synthetic, real: bool) -> Files:
    """The images as they are stored: of real samples, see `is_real`, their own files, where these are what is to be stored."""
    if real:
        return problem.stored_images(synthetic.origin.cpu())
    return stored_files(_eight_bits(synthetic.value("image").detach().cpu()), problem.storage)


def _eight_bits(pixels: Tensor) -> Tensor:
    return pixels.clamp(0, 1).mul(255).round().byte()


def load(folder: str | Path) -> DistilledSet:
    """Opens a saved distilled set; see `limbeck.core.storage`."""
    from limbeck.core.storage import load as read

    return read(Path(folder))


def _own_captions(problem: Problem, rows: Sequence[int], origins: Sequence[int]) -> list[Captions]:
    """The captions that the sample of each pair has, that of the pair first; where they are vectors, that one alone."""
    found: list[Captions] = []
    for row, origin in zip(rows, origins, strict=True):
        own, others = problem.captions[row], list(problem.source.captions[origin])
        others.remove(own)
        found.append((own,) if "text" in problem.source.embeddings else (own, *others))
    return found


def _nearest_captions(problem: Problem, text: Tensor, k: int = 3) -> list[list[tuple[str, float]]]:
    """The k real captions nearest to each embedding, no string twice, with their cosine similarity."""
    names = list(dict.fromkeys(problem.captions))
    place = {string: i for i, string in enumerate(names)}
    string = torch.tensor([place[caption] for caption in problem.captions])  # whose vectors may differ
    vectors = _seen(problem, "text", text)
    found = nearest(vectors, problem.features["text"].vectors, string, len(names), min(k, len(names)))
    score, index = (x.tolist() for x in found)
    return [
        [(names[j], round(s, 4)) for j, s in zip(js, values, strict=True)]
        for js, values in zip(index, score, strict=True)
    ]


def _nearest_images(problem: Problem, images: Tensor | None, origin: Tensor | None) -> list[tuple[str, float]]:
    """The key of the real image nearest to each image, and its cosine similarity.

    Args:
        problem: whose real images.
        images: of the set; `None` where it has none.
        origin: the samples that they are the images of; `None` where they are no real ones.
    """
    if images is None or "image" not in problem.modalities:
        return []
    real, keys = problem.features["image"], problem.source.keys
    vectors = _seen(problem, "image", images) if origin is None else real.vectors[real.first(len(keys))[origin.cpu()]]
    score, index = nearest(vectors, real.vectors, real.owner, len(keys), 1)
    return [(keys[i], round(s, 4)) for i, s in zip(index[:, 0].tolist(), score[:, 0].tolist(), strict=True)]


@torch.no_grad()
def _seen(problem: Problem, modality: str, values: Tensor) -> Tensor:
    """Unit vectors of synthetic values, encoded chunk by chunk, on the CPU."""
    return chunked(lambda part: problem.space.embed(Batch({modality: part.to(problem.device)}))[modality].cpu(), values)
