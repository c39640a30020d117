"""`Generated`: what methods have in common that draw a set from a generative prior."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from limbeck.annotation import Knowledge
from limbeck.constraints import Check, Count, NotNegative, OnlyIf
from limbeck.core import Method, Problem, Synthetic
from limbeck.errors import ConfigError, DataError, LimbeckWarning
from limbeck.methods.generative.diffusion.estimate import Cost, cost_of, throughput
from limbeck.methods.generative.diffusion.features import agreement, caption_vectors, joint_space
from limbeck.methods.generative.diffusion.pipelines import prior_fingerprint
from limbeck.methods.generative.diffusion.prior import DiffusersPrior
from limbeck.methods.generative.diffusion.prompts import check_prompts, chosen_prompts, listed
from limbeck.methods.generative.diffusion.sampling import Sampling, sampled
from limbeck.methods.generative.diffusion.synthesis import (
    Synthesised,
    captioner,
    check_ability,
    check_captioner,
    described,
    images_of_budget,
    rewritten,
)
from limbeck.methods.generative.diffusion.tuned import TunedPrior
from limbeck.runtime.files import sha256
from limbeck.spaces import Space

__all__ = ["Generated"]

REWORDED = OnlyIf(lambda o: o.captions > 1, "each image has one caption (`captions=1`)", "set `captions=2`")


@dataclass(frozen=True)
class Generated(Method):
    """A set whose images are sampled from a generative prior, for real training captions.

    A budget of M pairs holds M / captions images: an image with two captions counts as two pairs.

    Args:
        prior: the pipeline: a folder that `limbeck train-prior` or `save_pretrained` wrote, or a name on the hub.
        prompts: which training captions are asked for: random (as published), cluster (medoids of matched clusters), another selection
            rule, or list:FILE with one a line.
        repeats: images of each caption.
        captions: captions of each image: that it was made from, and new ones.
        captioner: what makes the new ones: retrieval, scenes, hf:NAME or call:module.function; limbeck list captioners names them.
        stage: describe, new captions tell what an image shows; or paraphrase, they put the prompt into other words, before any image.
        sampling_steps: steps of the scheduler for an image.
        guidance: how strongly an image is drawn to its caption; 1 for none.
        candidates: images drawn for each that is kept, which is the one that agrees best with its caption.
        resolution: pixels a side at which images are sampled, before they are brought to the source's; by default the prior's own.
        precision: of frozen weights and products; what is trained stays in float32.
    """

    needs: ClassVar[tuple[str, ...]] = ("image", "text")

    prior: str = ""
    prompts: Annotated[str, Check(check_prompts)] = "random"
    repeats: Count = 1
    captions: Count = 1
    captioner: Annotated[str, Check(check_captioner), REWORDED] = "retrieval"
    stage: Annotated[Literal["describe", "paraphrase"], REWORDED] = "describe"
    sampling_steps: Count = 30
    guidance: NotNegative = 3.0
    candidates: Count = 1
    resolution: Count | None = None
    precision: Literal["float32", "bfloat16"] = "float32"

    def check(self, problem: Problem) -> None:
        """Refuses a task without a prior, modalities that no prior makes, and a budget that the captions do not divide."""
        super().check(problem)
        name = self.describe()["name"]
        if not self.prior:
            raise ConfigError(
                f"{name} draws from a generative prior: name one with --method.prior, a folder that `limbeck train-prior` wrote or a "
                "text-to-image pipeline of diffusers"
            )
        self.refuse_others(problem, {"image": "images", "text": "texts"})
        if "text" in problem.source.embeddings:
            raise DataError(
                f"{problem.source.name} holds texts as vectors, and a prior reads words; give it data with captions that are strings"
            )
        if self.captions > 1:
            check_ability(check_captioner(self.captioner), self.stage, self.captions - 1)
        self.images(problem, problem.available)

    def extra_fingerprints(self) -> dict[str, str]:
        """A digest of the prior's files, and of a list of prompts."""
        path = listed(self.prompts)
        return {
            "prior": prior_fingerprint(self.prior),
            **({"prompts": sha256(path)} if path and path.is_file() else {}),
        }

    def images(self, problem: Problem, available: int | None = None) -> int:
        """How many images the budget holds.

        Args:
            problem: whose budget.
            available: samples that can make a pair; by default those that do, which only their features tell.

        Raises:
            ConfigError: captions or repeats do not divide it.
        """
        budget = problem.budget
        if budget.pairs is not None:
            count = images_of_budget(budget.pairs, self.captions)
        else:
            size = self._image_bytes(problem)
            count = int(((budget.limit or 0) - problem.fixed_bytes) // size)
            count -= count % self.repeats
            if count < 1:
                raise ConfigError(
                    f"a budget of {budget.bytes} bytes holds no image; one takes {size:,.0f} bytes with its captions, and a "
                    f"set {problem.fixed_bytes:,} for its card, its manifest and its table"
                )
        available = len(problem.complete) if available is None else available
        if count // self.repeats > available:
            raise ConfigError(
                f"this budget asks for {count // self.repeats} captions of different samples, and {problem.source.name} has "
                f"{available}; ask for less, or for more images of each caption (repeats)"
            )
        if count % self.repeats:
            raise ConfigError(
                f"{self.repeats} images of each caption do not divide {count} images; choose another budget, or other repeats"
            )
        return count

    def _image_bytes(self, problem: Problem) -> int:
        """Bytes of an image with its captions."""
        return problem.sample_bytes(learned_text=False, masks=False, captions=self.captions)

    def estimates(self, problem: Problem) -> dict[str, Any]:
        """Memory and time of sampling, from the configuration of the prior and the speed of this device; no weight is read."""
        cost, speed = self._cost(problem), throughput(problem.device, self.precision)
        images, size = self.images(problem), round(self._image_bytes(problem))
        memory = "memory at the peak of an update, estimated" if self.steps else "memory of the prior, estimated"
        return {
            "weights of the prior": cost.weights,
            "operations a second, measured": speed,
            memory: cost.memory if self.steps else cost.weights * (2 if self.precision == "bfloat16" else 4),
            "memory for what is learned, estimated": 28 * cost.trained,
            "seconds of all steps, estimated": 0.0,
            "seconds of sampling, estimated": images * self.candidates * cost.image / speed,
            "images": images,
            "bytes of the set": images * size,
            "disk for checkpoints and set, estimated": 24 * cost.trained + 2 * images * size,
        }

    def _cost(self, problem: Problem, **training: Any) -> Cost:
        side = problem.source.modalities["image"].shape[-1]
        steps = max(round(self.depth() * self.sampling_steps), 1)
        how = {"steps": steps, "guided": self.guidance != 1, "precision": self.precision}
        count = partial(cost_of, self.prior, side=side, sampled=self.resolution, **{"batch": 1, **how, **training})
        return problem.once((self, "cost"), count)

    def start(self, problem: Problem) -> Synthetic:
        """The prompts, and the prior, which nothing has changed; a captioner that is not there is told now, not after training."""
        if self.captions > 1:
            check_captioner(self.captioner).ready()
        chosen = chosen_prompts(problem, self.prompts, self.images(problem) // self.repeats)
        chosen = chosen.repeat_interleave(self.repeats)
        pairs, labels = problem.candidates, problem.source.labels
        index = pairs.sample[chosen]
        return Synthetic(
            {},
            origin=index,
            caption=pairs.rows["text"][chosen],
            labels=None if labels is None else labels[index],
            generator=self.tuned(problem),
        ).to(problem.device)

    def opened(self, problem: Problem) -> DiffusersPrior:
        """The prior as its files have it, for this problem's device."""
        prior = DiffusersPrior.open(self.prior, problem.device, self.precision)
        prior.latent_shape(self.resolution or prior.resolution)  # refused now, not after training
        prior.scheduler(self.sampling_steps)
        return prior

    def tuned(self, problem: Problem) -> TunedPrior | None:
        """The prior with what of it is trained; `None` where nothing is, and the prior is kept for `materialize`."""
        self._kept(problem)
        return None

    def _kept(self, problem: Problem) -> DiffusersPrior:
        return problem.once((self, "prior"), partial(self.opened, problem))

    def origins(self, problem: Problem, synthetic: Synthetic) -> Callable[[range], Tensor] | None:
        """From a range of images to real ones that sampling starts from; `None` to start from noise."""
        return None

    def depth(self) -> float:
        """Share of the schedule that sampling goes through."""
        return 1.0

    def materialize(self, problem: Problem, synthetic: Synthetic, folder: Path | None = None) -> Synthetic:
        """Samples the images, and makes their new captions; what is done is kept in `folder`, where there is one."""
        tuned = synthetic.generator
        prior = tuned.prior if isinstance(tuned, TunedPrior) else self._kept(problem)
        assert synthetic.caption is not None
        rows = synthetic.caption.tolist()
        prompts = [problem.captions[row] for row in rows]
        how = Sampling(self.sampling_steps, self.guidance, self.candidates, self.resolution, self.depth())
        joint = partial(problem.once, "joint space", partial(joint_space, problem))
        agrees = partial(_agrees, joint) if self.candidates > 1 else None
        work = None if folder is None else folder / "samples"
        voice = captioner(self.captioner, partial(_knowledge, problem, joint)) if self.captions > 1 else None
        made: Synthesised | None = None
        if voice:
            voice.to(problem.device)
        if voice and self.stage == "paraphrase":
            made = rewritten(voice, prompts, self.captions - 1, work, problem.runtime)
        images = sampled(problem, prior, prompts, how, work, self.origins(problem, synthetic), agrees)
        if voice and self.stage == "describe":
            made = described(voice, images, prompts, self.captions - 1, work, problem.runtime)
        texts, said = [(prompt,) for prompt in prompts], {}
        if voice and made:
            texts = [(prompt, *new) for prompt, new in zip(prompts, made.captions, strict=True)]
            said = {
                "by": voice.describe(),
                "stage": self.stage,
                "licence": voice.licence,
                "repeated_prompts": made.repeated,
            }
        cut = len(prior.truncated(prompts))
        if cut:
            warnings.warn(
                f"{cut} of {len(prompts)} prompts are longer than {self.prior} reads, which saw their beginnings alone",
                LimbeckWarning,
                stacklevel=2,
            )
        trained = self._training(problem, tuned) if isinstance(tuned, TunedPrior) else {}
        facts = self._facts(prior, how, rows, cut, trained, said)
        return Synthetic(
            {"image": images.float() / 255}, origin=synthetic.origin, caption=synthetic.caption, labels=synthetic.labels,
            texts=texts, generation=facts,
        ).to(problem.device)  # fmt: skip

    def _facts(
        self,
        prior: DiffusersPrior,
        how: Sampling,
        rows: list[int],
        cut: int,
        trained: Mapping[str, Any],
        said: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What the set tells of how its images and captions were made."""
        facts: dict[str, Any] = {
            "prior": {"name": self.prior, "licence": prior.licence, "predicts": prior.prediction},
            "prompts": {"chosen": self.prompts, "captions": rows, "truncated": cut},
            "sampling": {
                "scheduler": type(prior.pipe.scheduler).__name__,
                "steps": how.steps,
                "guidance": how.guidance,
            },
        }
        return facts | ({"training": trained} if trained else {}) | ({"captions": said} if said else {})

    def _training(self, problem: Problem, tuned: TunedPrior) -> dict[str, Any]:
        """What the set tells of how its prior was trained."""
        return {"updates": int(tuned.updates), "share_moved": round(tuned.moved, 4)}


def _agrees(joint: Callable[[], Space], images: Tensor, captions: Sequence[str]) -> Tensor:
    return agreement(joint(), images, captions)


def _knowledge(problem: Problem, joint: Callable[[], Space]) -> Knowledge:
    """The training captions, and the joint space they are compared with images in."""
    space = joint()
    device = problem.device
    return Knowledge(
        problem.captions,
        caption_vectors(problem, space),
        lambda images: space["image"](images.to(device)).cpu(),
        lambda texts: torch.as_tensor(space["text"](list(texts))).cpu(),
    )
