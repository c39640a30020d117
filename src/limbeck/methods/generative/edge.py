"""EDGE: fine-tunes a text-to-image prior so that its images agree with their captions and differ from each other, and samples it."""

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW, Optimizer

from limbeck.constraints import Count, Ge, NotNegative, OnlyIf
from limbeck.core import Problem, Synthetic
from limbeck.errors import ConfigError, Fault, LimbeckWarning
from limbeck.methods.generative.diffusion.estimate import Cost
from limbeck.methods.generative.diffusion.features import (
    DecodedFeatures,
    LatentFeatures,
    PairFeatures,
    caption_vectors,
    joint_space,
)
from limbeck.methods.generative.diffusion.generated import Generated
from limbeck.methods.generative.diffusion.prior import Condition, DiffusersPrior
from limbeck.methods.generative.diffusion.tuned import Subset, TunedPrior
from limbeck.objectives.contrastive import directions, false_negatives
from limbeck.objectives.diffusion import clean_estimate, denoising_target
from limbeck.objectives.diversity import diversity
from limbeck.runtime import processes
from limbeck.runtime.timing import seconds_of

__all__ = ["Edge"]


@dataclass(frozen=True)
class Edge(Generated):
    """Fine-tunes a latent diffusion model on batches of real pairs, then samples images for real captions and adds captions.

        z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) e,    z = (z_t - sqrt(1 - a_t) e_hat) / sqrt(a_t)        one step back
        S_ij = <x_i, y_j> / temperature,          x, y: features of the estimate z_i and of caption j
        L = to_text L_I->T(S) + to_image L_T->I(S) + diverse L_D(x, y) + denoise |e_hat - e|^2

    L_I->T and L_T->I are the halves of InfoNCE, L_D is the mean cosine of the joint vectors of two different pairs. Estimates are
    decoded, and compared with captions by joint encoders of image and text: those of the space where it is joint (`--space clip`,
    `--space bound:FOLDER`), else with linear heads that are trained for it on the same data. Two captions of one image, and two
    images of one caption, never repel each other. VAE, text encoder and features stay as they are.

    As published: denoise 0, t_max 1000, lr 1e-4, batch 8; the published code differs from that (see docs/generation.md).

    Args:
        steps: updates.
        batch: pairs an update; over all processes together.
        lr: learning rate (AdamW).
        decay: weight decay.
        subset: what is trained: bias_norm, as published, cross_attention, lora or full.
        rank: of lora.
        temperature: of the contrastive loss.
        to_text, to_image: weights of its two directions.
        diverse: weight of the diversity loss.
        denoise: weight of the usual denoising loss; 0 is faithful to the paper, and lets the denoiser drift.
        t_max: diffusion steps that are drawn from, at most; estimates from later ones are blurred.
        features: decoded, or latent for a learned projection of latent and text.
        clean_input: show the denoiser clean latents, as the published code does against its paper; to reproduce it only.
        checkpointing: compute the VAE decoder twice to hold less memory.
        save_prior: write the fine-tuned pipeline to the folder `prior` of the run. Method `prior` takes it for a set of another size,
            without a second training; for the same options it draws the same images.
        prior, prompts, repeats, captions, captioner, stage, sampling_steps, guidance, candidates, resolution, precision: see `Generated`.

    Paper: Zhao et al., Efficient multimodal dataset distillation via generative models, NeurIPS 2025, arXiv 2509.15472.

    Example:
        >>> Edge(prior="priors/emoji", captions=2, denoise=0).describe()["name"]
        'edge'
    """

    steps: Count = 150
    batch: Annotated[int, Ge(2)] = 32
    lr: NotNegative = 1e-3
    decay: NotNegative = 0.0
    subset: Subset = "bias_norm"
    rank: Annotated[Count, OnlyIf(lambda o: o.subset == "lora", "`subset={o.subset}`", "set `subset=lora`")] = 8
    temperature: Annotated[float, Ge(1e-6)] = 0.5
    to_text: NotNegative = 0.5
    to_image: NotNegative = 0.5
    diverse: NotNegative = 1.0
    denoise: NotNegative = 1.0
    t_max: Count = 600
    features: Literal["decoded", "latent"] = "decoded"
    clean_input: bool = False
    checkpointing: bool = False
    save_prior: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.to_text + self.to_image + self.diverse + self.denoise == 0:
            raise ConfigError(
                "edge has no loss: to_text, to_image, diverse and denoise are all 0; give one a weight, or use prior"
            )

    @property
    def learns_pixels(self) -> bool:
        """Images are drawn from a prior, whose weights are learned."""
        return False

    @property
    def clip(self) -> float:
        """One."""
        return 1.0

    def tuned(self, problem: Problem) -> TunedPrior:
        """The prior, opened anew, with the weights that are trained."""
        prior = self.opened(problem)
        if self.t_max > len(prior.alphas_cumprod):
            raise ConfigError(
                f"t_max is at most the {len(prior.alphas_cumprod)} diffusion steps of {self.prior}, got {self.t_max}"
            )
        channels, *_ = prior.latent_shape(problem.source.modalities["image"].shape[-1])
        if self.batch % processes.count():
            raise ConfigError(f"batch {self.batch} is not divided by {processes.count()} processes; choose a multiple")
        if cut := self._cut(problem, prior):
            warnings.warn(
                f"{cut} of {len(problem.captions)} training captions are longer than {self.prior} reads, and are cut",
                LimbeckWarning,
                stacklevel=2,
            )
        if self.checkpointing:
            prior.pipe.vae.enable_gradient_checkpointing()
        more = {}
        if self.features == "latent":
            width = int(prior.condition(["a"]).hidden.shape[-1])
            more["features"] = LatentFeatures(channels, width, problem.rng("features"))
        return TunedPrior(prior, self.subset, self.rank, problem.rng("lora"), more)

    def materialize(self, problem: Problem, synthetic: Synthetic, folder: Path | None = None) -> Synthetic:
        """Samples, makes captions, and writes the prior where that is asked for."""
        made = super().materialize(problem, synthetic, folder)
        if self.save_prior and folder is None:
            warnings.warn("the prior is not saved: there is no run folder; pass run=", LimbeckWarning, stacklevel=2)
        elif self.save_prior and folder is not None and processes.is_first():
            assert isinstance(synthetic.generator, TunedPrior)
            synthetic.generator.save(folder / "prior")
        return made

    def estimates(self, problem: Problem) -> dict[str, Any]:
        """With those of updates: the prior's counted operations at the measured speed, the joint encoder's measured time."""
        found = super().estimates(problem)
        cost = self._cost(problem)
        seconds = cost.update / found["operations a second, measured"]
        if self.features == "decoded":
            encoder = problem.space["image"].to(problem.device)
            images = (
                problem.source.batch(range(min(self.batch, len(problem.source))))["image"]
                .to(problem.device)
                .requires_grad_()
            )
            seconds += (
                seconds_of(lambda: torch.autograd.backward(encoder(images).sum()), problem.device)
                * self.batch
                / len(images)
            )
        return {**found, "trained weights": cost.trained, "seconds of all steps, estimated": self.steps * seconds}

    def _cost(self, problem: Problem, **training: Any) -> Cost:
        own = {"batch": self.batch, "subset": self.subset, "rank": self.rank, "checkpointing": self.checkpointing}
        return super()._cost(problem, **own, decoded=self.features == "decoded")

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """AdamW on what is trained."""
        return AdamW(synthetic.parameters(), lr=self.lr, weight_decay=self.decay)

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """A batch of pairs, noised and estimated back; the losses of what the estimates look like."""
        tuned = synthetic.generator
        assert isinstance(tuned, TunedPrior)
        prior, pairs = tuned.prior, problem.candidates
        batch = min(self.batch, len(pairs)) // processes.count() * processes.count()  # every process has as many
        order = torch.randperm(len(pairs), generator=problem.rng("pairs", t))[:batch]
        rows, sample = pairs.rows["text"][order], pairs.sample[order]
        own = torch.tensor(processes.share(range(len(order))))  # of this process
        clean, noise, step = self._drawn(problem, prior, sample, own, t)
        condition = prior.condition([problem.captions[row] for row in rows[own].tolist()])
        add_noise, share = prior.noised(clean, noise, step), prior.alphas_cumprod[step].to(clean)
        predicted = prior.predict(clean if self.clean_input else add_noise, step, condition)
        estimate = clean_estimate(predicted, add_noise, share, prior.prediction)
        terms = self._compared(problem, tuned, estimate, rows[own], condition, _owners(problem, rows, sample))
        if self.denoise:
            terms["denoising"] = self.denoise * F.mse_loss(
                predicted, denoising_target(clean, noise, share, prior.prediction)
            )
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        processes.sum_gradients(synthetic.parameters())
        tuned.updates.fill_(t + 1)
        logs = {"loss": loss, **terms}
        return {name: processes.gathered(value.detach()[None]).mean() for name, value in logs.items()}

    def validate(self, synthetic: Synthetic) -> Fault | None:
        """Trained weights that do not move."""
        assert isinstance(synthetic.generator, TunedPrior)
        return synthetic.generator.stuck()

    def _training(self, problem: Problem, tuned: TunedPrior) -> dict[str, Any]:
        cut = self._cut(problem, tuned.prior)
        return {**super()._training(problem, tuned), "truncated_captions": cut}

    def _cut(self, problem: Problem, prior: DiffusersPrior) -> int:
        """How many training captions the prior sees the beginning of."""
        return problem.once((self, "cut"), lambda: len(prior.truncated(problem.captions)))

    def _drawn(
        self, problem: Problem, prior: DiffusersPrior, sample: Tensor, own: Tensor, t: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Clean latents, noise and diffusion steps of this process's part of the batch; drawn for the whole, so that processes agree."""
        images = problem.source.batch(sample[own])["image"].to(problem.device)
        draw, shape = problem.rng("noise", t), (len(sample), *prior.latent_shape(images.shape[-1]))
        spread, noise = torch.randn(shape, generator=draw)[own], torch.randn(shape, generator=draw)[own]
        step = torch.randint(self.t_max, (len(sample),), generator=draw)[own]
        with torch.no_grad():
            return prior.encode(images, spread), noise.to(problem.device), step

    def _compared(
        self,
        problem: Problem,
        tuned: TunedPrior,
        estimate: Tensor,
        rows: Tensor,
        condition: Condition,
        owners: tuple[Tensor, Tensor],
    ) -> dict[str, Tensor]:
        """The weighted losses of pair features, over the batches of all processes."""
        if not self.to_text + self.to_image + self.diverse:
            return {}
        features = self._features(problem, tuned)
        image = processes.gathered(features.image(estimate))
        text = processes.gathered(features.text(rows, condition).to(estimate.device))
        order = torch.cat([torch.arange(len(owners[0]))[r :: processes.count()] for r in range(processes.count())])
        ignored = (false_negatives(owners[0][order]) | false_negatives(owners[1][order])).to(image.device)
        to_text, to_image = directions(image @ text.T / self.temperature, ignored)
        terms = {"to text": self.to_text * to_text, "to image": self.to_image * to_image}
        if self.diverse:
            terms["diversity"] = self.diverse * diversity(image, text, ignored=ignored)
        return terms

    def _features(self, problem: Problem, tuned: TunedPrior) -> PairFeatures:
        if self.features == "latent":
            return tuned.more["features"]  # type: ignore[return-value]
        space = problem.once("joint space", partial(joint_space, problem))
        captions = problem.once("joint captions", partial(caption_vectors, problem, space))
        return DecodedFeatures(tuned.prior, space, captions)


def _owners(problem: Problem, rows: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
    """What the pairs of a batch belong to: their image, and the words of their caption."""
    place: dict[str, int] = {}
    words = [place.setdefault(problem.captions[row], i) for i, row in enumerate(rows.tolist())]
    return sample, torch.tensor(words)
