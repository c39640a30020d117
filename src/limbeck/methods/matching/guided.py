"""Guided: distribution or gradient matching of labelled images, guided by their captions and by the masks of their objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD, Optimizer

from limbeck.constraints import Count, Ge, NotNegative, OnlyIf
from limbeck.core import Method, Problem, Synthetic, chosen_pairs, encode, object_masks, select
from limbeck.data.augment import OPERATIONS, Augment, by_group, siamese, siamese_masked
from limbeck.errors import ConfigError, DataError
from limbeck.methods.matching._classifier import InnerClassifier
from limbeck.networks._init import centred
from limbeck.networks.convnet import ConvNet
from limbeck.objectives.guidance import balance, caption_distance, caption_map, composite, masked_mean
from limbeck.objectives.moments import group_mean, mean_distance
from limbeck.objectives.selection import Init, rule

__all__ = ["Guided"]

TERMS = ("alignment", "gradients", "captions")


def _with(term: str) -> OnlyIf:
    return OnlyIf(
        lambda o: o._has(term), f"{term} has no term of its own (`{term}={{o.{term}}}`)", f"name another `{term}`"
    )


CLASSIFIES = OnlyIf(lambda o: o._classifies, "no gradients are matched", "set `base=dc` or `gradients=both`")
BALANCED = OnlyIf(lambda o: o.base != "none" and o._balanced, "no weight is balanced by it")
COMPARED = OnlyIf(
    lambda o: o.captions in ("proj", "clip"), "no image is compared with its own caption", "set `captions=proj`"
)
LEARNED = OnlyIf(lambda o: o.text == "learn", "captions are not learned (`text={o.text}`)", "set `text=learn`")
READ = OnlyIf(
    lambda o: o.text != "learn" or o.captions != "none" or o.concat,
    "no term reads captions",
    "set `captions` or `concat`",
)


@dataclass(frozen=True)
class _Sets:
    """Real and synthetic samples of one step, moved alike: pairs (real, synthetic)."""

    images: tuple[Tensor, Tensor]
    masks: tuple[Tensor, Tensor]
    objects: Sequence[Tensor]  # none where no term reads them
    groups: tuple[Tensor, Tensor]
    texts: tuple[Tensor, Tensor] | None
    count: int


@dataclass(frozen=True)
class Guided(Method):
    """A base objective and four ideas that use captions and masks, each a term of its own.

        L = L_base + w_a L_alignment + w_g L_gradients + w_c L_captions

    - base: `dm`, the distance of mean features under a new random ConvNet; `dc`, the distance of a classifier's gradients.
    - alignment, masked feature alignment: `dm` of the objects alone: on inputs whose background is filled (`input`), or on
      features averaged over the mask (`feature`, which still sees the background through deep layers).
    - gradients, masked gradient matching: `dc` of the objects alone: in both sets, or in the real one (`real_only`).
    - captions, caption matching: what a ridge regression from features of real images to their captions says of the synthetic
      ones (`proj`); the vectors of a space that encodes both (`clip`); the captions themselves (`embed`); or features and captions
      side by side in place of the base (`joint`). The last two need captions that are learned.
    - concat: the classifier of `dc` and of `gradients` reads captions beside the images.

    The set carries its masks. A loss on masked inputs gives pixels outside of them no gradient: what stands there is of no use to
    it, and is what a student sees unless it puts backgrounds of its own there (`--protocol.background random`).

    Args:
        steps: number of steps.
        base: dm, dc or none.
        alignment: none, input or feature.
        gradients: none, both or real_only.
        captions: none, proj, clip, embed or joint.
        concat: size of the captions beside the image features, where 1 is equal; 0 leaves them out.
        weight_alignment: w_a; by default such that the term's gradient in the pixels is `fraction` as long as that of the base at the start.
        weight_gradients: w_g; likewise.
        weight_captions: w_c; likewise, and 1 for `embed`, which moves no pixels.
        fraction: of those defaults.
        single: of caption matching, the weight of each image's own caption beside the means of the classes.
        text: synthetic captions: of the real image that a sample started from, the mean of its class, or learned.
        masks: synthetic masks: of that real image, full, or the mean of its class.
        outside: what stands outside of the synthetic mask at the start, whichever terms there are: a grey fill, noise, or what was
            there (which leaks it, and is what `dm` and `dc` start from).
        batch: real samples a class and step.
        lr: learning rate of the pixels (SGD).
        lr_text: learning rate of learned captions.
        momentum: of both.
        width: channels of the ConvNets.
        renew: steps that a classifier serves.
        inner: epochs of its training on the set between two steps.
        lr_network: learning rate of that training.
        init: which real samples to start from: random, herding, kcenter, prototypes or kmeans.
        augment: Siamese operations, which move masks with their images; empty for none.

    Paper: Li, Reynaud and Kainz, Leveraging multi-modal information to enhance dataset distillation, arXiv 2505.08605. Its text could
    not be read: these are the ideas that its abstract names, and none of its numbers.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, Guided(steps=2, width=8, captions="proj", lr=0.1)))
        4
    """

    needs = ("image",)
    per_class: ClassVar[bool] = True
    again = False

    steps: Count = 1000
    base: Literal["dm", "dc", "none"] = "dm"
    alignment: Literal["none", "input", "feature"] = "none"
    gradients: Literal["none", "both", "real_only"] = "none"
    captions: Literal["none", "proj", "clip", "embed", "joint"] = "none"
    concat: Annotated[NotNegative, CLASSIFIES] = 0.0
    weight_alignment: Annotated[float | None, _with("alignment")] = None
    weight_gradients: Annotated[float | None, _with("gradients")] = None
    weight_captions: Annotated[float | None, _with("captions")] = None
    fraction: Annotated[NotNegative, BALANCED] = 0.5
    single: Annotated[NotNegative, COMPARED] = 1.0
    text: Annotated[Literal["inherit", "class_mean", "learn"], READ] = "inherit"
    masks: Literal["inherit", "full", "class_mean"] = "inherit"
    outside: Literal["fill", "noise", "keep"] = "fill"
    batch: Count = 256
    lr: NotNegative = 1.0
    lr_text: Annotated[NotNegative, LEARNED] = 0.1
    momentum: NotNegative = 0.5
    width: Count = 128
    renew: Annotated[Count, CLASSIFIES] = 10
    inner: Annotated[int, Ge(0), CLASSIFIES] = 50
    lr_network: Annotated[NotNegative, CLASSIFIES] = 0.01
    init: Init = "random"
    augment: Augment = tuple(OPERATIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base == "none" and not any(self._has(name) for name in TERMS):
            raise ConfigError(
                "`base=none` of guided leaves nothing to match; set `alignment`, `gradients` or `captions`"
            )
        if self.captions in ("embed", "joint") and self.text != "learn":
            raise ConfigError(f"`captions={self.captions}` of guided moves captions alone; set `text=learn`, too")
        if self.captions == "joint" and self.base != "dm":
            raise ConfigError(
                f"`captions=joint` of guided stands in place of `base=dm`, got `base={self.base}`; remove `base`"
            )

    @property
    def learns_text(self) -> bool:
        """Text is an embedding, unless it is that of a real image."""
        return self.text != "inherit"

    def check(self, problem: Problem) -> None:
        """Refuses data without labels, masks or captions that an option asks for."""
        source = problem.source
        if source.labels is None:
            raise DataError(f"guided works class by class, and {source.name} has no labels; use cf or dm")
        super().check(problem)
        self.refuse_others(problem, {"image": "images", "text": "captions"})
        if (self._has("alignment") or self._has("gradients")) and "mask" not in source.modalities:
            raise DataError(
                f"alignment and gradients read masks, and {source.name} has none; add them, or leave both out"
            )
        said = self.captions != "none" or self.concat or self.text != "inherit"
        if said and "text" not in problem.modalities:
            raise DataError(
                f"captions are asked for, and {source.name} with this space has none; add them, or leave it out"
            )
        if self.captions == "clip" and problem.space.dims["image"] != problem.space.dims["text"]:
            raise DataError(
                "captions = 'clip' compares images with captions in one space; take one such as --space clip, or bind the encoders"
            )

    def start(self, problem: Problem) -> Synthetic:
        """Real samples with their masks and captions, as the options say."""
        chosen = select(problem, rule(self.init), problem.pairs(self.learns_text), per_class=True)
        text = ("text",) if self.text == "learn" and "text" in problem.modalities else ()
        synthetic = chosen_pairs(problem, chosen, learn=("image", *text))
        if self.text == "class_mean" and "text" in problem.modalities:
            self._average(problem, synthetic, "text")
        if "mask" in synthetic.modalities:
            self._place_masks(problem, synthetic)
        synthetic.register_buffer("weights", torch.ones(len(TERMS), device=problem.device))
        if self._classifies:
            self._classifier(problem).start(synthetic)
        return synthetic

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Stochastic gradient descent with momentum."""
        rates = {m: self.lr_text if m == "text" else self.lr for m in synthetic.learned}
        groups = [{"params": [v], "lr": rates[m]} for m, v in synthetic.learned.items()]
        return SGD(groups, lr=self.lr, momentum=self.momentum)

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """The terms of this step, and their sum."""
        sets = self._sets(problem, synthetic, t)
        found: dict[str, Tensor] = {}
        if self.base == "dm" or self._has("alignment") or self.captions in ("proj", "joint"):
            found |= self._by_means(problem, sets, t)
        if self._classifies:
            found |= self._by_gradients(problem, synthetic, sets, t)
        if self.captions == "clip":
            found["captions"] = self._in_space(problem, synthetic, sets)
        if self.captions == "embed" and sets.texts is not None:
            x, y = (group_mean(c, g, sets.count) for c, g in zip(sets.texts, sets.groups, strict=True))
            found["captions"] = mean_distance(x, y)
        zero = torch.zeros((), device=problem.device)
        weights = self._weights(synthetic, found, t)
        loss = found.get("base", zero) + sum((w * found[name] for name, w in weights.items()), zero)
        loss.backward()
        shown = {f"weight {name}": w for name, w in weights.items()} if t == 0 else {}
        return {"loss": loss.detach(), **{name: value.detach() for name, value in found.items()}, **shown}

    def _has(self, term: str) -> bool:
        return bool(getattr(self, term) != "none") and (term, self.captions) != ("captions", "joint")

    @property
    def _balanced(self) -> list[str]:
        """The terms whose weight is not given, and that move pixels, in which it is balanced."""
        moving = [name for name in TERMS if self._has(name) and (name, self.captions) != ("captions", "embed")]
        return [name for name in moving if getattr(self, f"weight_{name}") is None]

    @property
    def _classifies(self) -> bool:
        return self.base == "dc" or self._has("gradients")

    def _sets(self, problem: Problem, synthetic: Synthetic, t: int) -> _Sets:
        index, real, own = problem.draw_groups(self.batch, t, len(synthetic), per_class=True)
        batch, device = problem.source.batch(index), problem.device
        images = [batch["image"].to(device), synthetic.value("image")]
        masks = [torch.ones_like(x[:, :1]).detach() for x in images]
        if "mask" in synthetic.modalities:
            masks = [object_masks(batch).to(device), synthetic.value("mask")]
        groups = real.to(device), own.to(device)
        fill = torch.rand(1, 3, 1, 1, generator=problem.rng("fill", t)).to(device)
        read = self.alignment == "input" or self._has("gradients")
        objects = (
            [composite(x, m, fill) for x, m in zip(images, masks, strict=True)] if read else []
        )  # before both are moved
        texts = None
        if "text" in problem.modalities:
            rows = problem.index.first["text"][index]
            texts = problem.features["text"].vectors[rows].to(device), synthetic.value("text")

        def move(g: int, parts: list[Tensor]) -> list[Tensor]:
            x, m = siamese_masked(parts[:2], parts[2:4], problem.rng(f"augment {g}", t), self.augment)
            return [*x, *m, *siamese(parts[4:], problem.rng(f"augment {g}", t), self.augment)]

        a, b, m, n, *objects = by_group([*images, *masks, *objects], (3 if read else 2) * groups, move)
        return _Sets((a, b), (m, n), objects, groups, texts, int(own[-1]) + 1)

    def _by_means(self, problem: Problem, sets: _Sets, t: int) -> dict[str, Tensor]:
        """Terms under a new random network."""
        side = sets.images[0].shape[-1]
        network = ConvNet(side, width=self.width, generator=problem.rng("network", t)).to(problem.device)
        found: dict[str, Tensor] = {}

        def means(values: tuple[Tensor, Tensor]) -> Tensor:
            x, y = (group_mean(v, g, sets.count) for v, g in zip(values, sets.groups, strict=True))
            return mean_distance(y, x)

        def both(inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                real = network.blocks(centred(inputs[0]))
            return real, network.blocks(centred(inputs[1]))

        whole = self.base == "dm" or self.alignment == "feature" or self.captions == "proj"
        maps = both(sets.images) if whole else None
        flat = None if maps is None else (maps[0].flatten(1), maps[1].flatten(1))
        if self.base == "dm" and flat is not None:
            found["base"] = means(flat)
            if self.captions == "joint" and sets.texts is not None:
                size = flat[0].square().mean().sqrt() / sets.texts[0].square().mean().sqrt()
                found["base"] = found["base"] + size**2 * means(sets.texts)
        if self.alignment == "feature" and maps is not None:
            found["alignment"] = means((masked_mean(maps[0], sets.masks[0]), masked_mean(maps[1], sets.masks[1])))
        elif self.alignment == "input":
            x, y = both((sets.objects[0], sets.objects[1]))
            found["alignment"] = means((x.flatten(1), y.flatten(1)))
        if self.captions == "proj" and flat is not None and sets.texts is not None:
            centre, weight, offset = caption_map(flat[0], sets.texts[0])
            target = group_mean(sets.texts[0], sets.groups[0], sets.count)
            own = (flat[1] - centre) @ weight + offset
            found["captions"] = caption_distance(own, sets.texts[1], target, sets.groups[1], self.single)
        return found

    def _by_gradients(self, problem: Problem, synthetic: Synthetic, sets: _Sets, t: int) -> dict[str, Tensor]:
        """Terms under a classifier that is trained on the set meanwhile."""
        trainee, found = self._classifier(problem), dict[str, Tensor]()
        said = sets.texts if self.concat else None
        if said is not None:
            size = trainee.scale(trainee.fresh(t - t % self.renew), synthetic)  # of the classifier when it was new
            said = size * said[0], size * said[1]
        own = None if said is None else said[1].detach()
        weights = trainee.at(synthetic, t, self.renew, self.inner, own)
        inputs = {"base": sets.images} if self.base == "dc" else {}
        if self._has("gradients"):
            whole = sets.images[1] if self.gradients == "real_only" else sets.objects[1]
            inputs["gradients"] = (sets.objects[0], whole)
        labels = synthetic.labels
        assert labels is not None
        for name, (real, mine) in inputs.items():
            total = torch.zeros((), device=problem.device)
            for g in range(sets.count):
                here, there = ((group == g).nonzero().squeeze(1) for group in (sets.groups[1], sets.groups[0]))
                texts = (None, None) if said is None else (said[0][there], said[1][here])
                label = int(labels[here[0]])
                total = total + trainee.distance(weights, label, real[there], mine[here], texts)
            found[name] = total
        return found

    def _in_space(self, problem: Problem, synthetic: Synthetic, sets: _Sets) -> Tensor:
        """Images and captions as vectors of one frozen space."""
        assert sets.texts is not None
        own = encode(problem.space, synthetic)["image"]
        labels, vectors = problem.source.labels, problem.features["image"]
        assert labels is not None and synthetic.labels is not None
        real = problem.once(("class means", "image"), lambda: _class_means(vectors.vectors, labels[vectors.owner]))
        mine = group_mean(own, sets.groups[1], sets.count)
        classes = torch.stack([synthetic.labels[sets.groups[1] == g][0] for g in range(sets.count)])
        means = (mine - real.to(own.device)[classes]).square().sum()
        return means + self.single * (1 - F.cosine_similarity(own, sets.texts[1], dim=1)).mean()

    def _weights(self, synthetic: Synthetic, found: dict[str, Tensor], t: int) -> dict[str, float]:
        """Those that are given, and at the first step those that balance the gradients, which are kept in the set."""
        present = [name for name in TERMS if name in found]
        given = {name: getattr(self, f"weight_{name}") for name in present}
        held = synthetic.get_buffer("weights")
        free = [name for name in present if name in self._balanced]
        if t == 0 and free and "base" in found:
            inputs = [synthetic.learned["image"]]
            for name, weight in zip(
                free, balance(found["base"], [found[n] for n in free], inputs, self.fraction), strict=True
            ):
                held[TERMS.index(name)] = weight
        return {n: float(held[TERMS.index(n)]) if given[n] is None else given[n] for n in present}

    def _classifier(self, problem: Problem) -> InnerClassifier:
        captions = problem.space.dims["text"] if self.concat else 0
        return InnerClassifier(
            problem, self.width, self.lr_network, augment=self.augment, captions=captions, concat=self.concat
        )

    def _place_masks(self, problem: Problem, synthetic: Synthetic) -> None:
        masks, image = synthetic.value("mask"), synthetic.learned["image"].data
        if self.masks == "full":
            masks.fill_(1)
        elif self.masks == "class_mean":
            self._average(problem, synthetic, "mask")
        if self.outside != "keep":
            draws = problem.rng("outside")
            grey = torch.full_like(image, 0.5)
            fill = torch.rand(image.shape, generator=draws).to(image) if self.outside == "noise" else grey
            image.copy_(composite(image, masks, fill))

    def _average(self, problem: Problem, synthetic: Synthetic, modality: str) -> None:
        """Puts the mean of its class in place of what each sample holds."""
        labels = problem.source.labels
        assert labels is not None and synthetic.labels is not None
        if modality == "text":
            held = problem.features["text"]
            means = F.normalize(_class_means(held.vectors, labels[held.owner]), dim=1)
        else:
            parts = [object_masks(problem.source.batch(part)) for part in torch.arange(len(problem.source)).split(256)]
            means = _class_means(torch.cat(parts), labels)
        synthetic.value(modality).copy_(means.to(synthetic.value(modality))[synthetic.labels])


def _class_means(values: Tensor, labels: Tensor) -> Tensor:
    """The mean of the rows of each class; those without a label are in none."""
    known = labels >= 0
    return group_mean(values[known], labels[known], int(labels.max()) + 1)
