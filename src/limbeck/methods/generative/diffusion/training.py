"""`train_prior`: a small text-to-image pipeline from scratch, on a person's own images and captions; resumable."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from limbeck.constraints import Count, Ge, Interval, NotNegative, Positive, Share, validate
from limbeck.core import Recipe
from limbeck.data.captions import check_captions
from limbeck.data.source import Source
from limbeck.engine.run import Run
from limbeck.errors import DataError, Diverged, LimbeckWarning
from limbeck.methods.generative.diffusion.pipelines import refuse_others, write_pipeline
from limbeck.methods.generative.diffusion.prior import DiffusersPrior
from limbeck.methods.generative.diffusion.small import small_pipeline
from limbeck.objectives.diffusion import denoising_target
from limbeck.runtime.files import settle_within
from limbeck.runtime.progress import ProgressCallback
from limbeck.runtime.random import stream
from limbeck.runtime.runtime import Runtime
from limbeck.runtime.signals import asked, deferred

__all__ = ["PriorTraining", "losses", "train_prior"]

CHUNK = 256  # images at a time


@dataclass(frozen=True, kw_only=True)
class PriorTraining:
    """How a small prior is trained: first its VAE, then denoiser and text encoder together, with AdamW and a cosine rate.

        VAE:      |x - d(z)|^2 + kl KL(q(z | x) | N(0, I)),    z drawn from q(z | x)
        denoiser: |target - predicted(z_t, t, caption)|^2,     the caption left out in a share `caption_dropout` of the samples

    Args:
        channels: of the U-Net at each size of latents.
        text_width: components of the text encoder.
        text_layers: its layers.
        length: tokens that are read of a caption.
        prediction: what the denoiser predicts; v learns sooner than epsilon what captions say.
        vae_steps: updates of the VAE.
        vae_batch: images an update of the VAE; many small ones teach it more than few large ones.
        steps: updates of the denoiser.
        batch: samples an update of the denoiser.
        lr: learning rate of the denoiser; the VAE has twice that.
        kl: weight of the KL divergence.
        caption_dropout: share of samples without their caption, which guidance needs.
        ema: decay of the moving average of denoiser and text encoder that is kept; 0 for the last state.
        mirror: mirror images at random; leave it off where captions tell left from right.
        seed: of everything that is drawn.

    Raises:
        ConfigError: a value that cannot work.
    """

    channels: tuple[int, ...] = (64, 96)
    text_width: int = 64
    text_layers: Count = 2
    length: Annotated[int, Ge(4)] = 32
    prediction: Literal["epsilon", "v_prediction", "sample"] = "v_prediction"
    vae_steps: Count = 4000
    vae_batch: Count = 8
    steps: Count = 3000
    batch: Count = 32
    lr: Positive = 1e-3
    kl: NotNegative = 1e-6
    caption_dropout: Share = 0.1
    ema: Annotated[float, Interval(ge=0, lt=1)] = 0.995
    mirror: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        validate(self)


def train_prior(
    source: Source,
    folder: str | Path,
    how: PriorTraining | None = None,
    *,
    save_every: int = 200,
    device: str | None = None,
    tick: ProgressCallback | None = None,
    runtime: Runtime | None = None,
) -> DiffusersPrior:
    """Trains a small pipeline on images and their captions; the same call continues, or opens what is finished.

    The folder is a run (recipe, log, checkpoints) and, in the end, the pipeline itself, as `save_pretrained` writes it, with a
    card that carries the licence of the data.

    Args:
        source: the training split.
        folder: of the pipeline.
        how: the options.
        save_every: steps between checkpoints.
        device, tick, runtime: a `Runtime`, or one by one its device and progress (`tick`); not both.

    Raises:
        DataError: no images with captions.
        ConfigError: the folder belongs to other options, or a resolution that cannot be halved often enough.
        StorageError: another process works on the folder, or it holds what would lie in the pipeline's way.
        Diverged: the loss is no longer finite.

    Example:
        >>> import limbeck as lb, tempfile
        >>> how = PriorTraining(channels=(8, 8), text_width=8, vae_steps=2, steps=2, batch=4)
        >>> train_prior(lb.check.toy_source(8), tempfile.mkdtemp() + "/prior", how).resolution
        16
    """
    how, runtime = how or PriorTraining(), Runtime.of(runtime, device=device, tick=tick)
    if not {"image", "text"} <= set(source.modalities):
        raise DataError(
            f"a prior learns from images with captions, and {source.name} holds {', '.join(source.modalities)}"
        )
    check_captions(source)
    recipe = Recipe(
        source=source.describe(),
        method={"name": "train-prior", **asdict(how)},
        seed=how.seed,
        fingerprints={"source": source.fingerprint},
    )
    folder = Path(folder)
    run = Run(folder, recipe)
    if (folder / "model_index.json").is_file():  # also where others may only read
        run.settle()
        return DiffusersPrior.open(str(folder), runtime.device)
    refuse_others(folder)
    with run.owned("train a prior"):
        if not (folder / "model_index.json").is_file():  # else another process has finished it meanwhile
            _train(run, source, how, save_every, runtime)
        settle_within(folder)
    return DiffusersPrior.open(str(folder), runtime.device)


def _train(run: Run, source: Source, how: PriorTraining, save_every: int, runtime: Runtime) -> None:
    held, images = _read(source)
    captions = [text for i in held for text in source.captions[i]]
    side = source.modalities["image"].shape[-1]
    pipe = small_pipeline(
        captions,
        side,
        how.channels,
        how.text_width,
        how.text_layers,
        length=how.length,
        prediction=how.prediction,
        seed=how.seed,
    )
    run.begin()
    trainer = _Trainer(source, held, images, pipe, how, runtime)
    trainer.train(run, save_every)
    trainer.write(run.folder, source)


def _read(source: Source) -> tuple[list[int], Tensor]:
    """The samples that have an image and a caption, and their images `uint8`, decoded once; says how many lack either.

    Raises:
        DataError: none has both.
    """
    held, images = [], []
    for part in torch.arange(len(source)).split(CHUNK):
        batch = source.batch(part)
        both = batch.mask("image") & torch.tensor([bool(source.captions[i]) for i in part.tolist()])
        held += part[both].tolist()
        images.append(batch["image"][both].mul(255).round().byte())
    if not held:
        raise DataError(f"no sample of {source.name} has both an image and a caption, and a prior learns from those")
    if len(held) < len(source):
        warnings.warn(
            f"{len(source) - len(held)} of {len(source)} samples have no image or no caption, and are left out",
            LimbeckWarning,
            stacklevel=3,
        )
    return held, torch.cat(images)


class _Trainer:
    """Both phases behind one counter of steps: t < vae_steps trains the VAE, later steps denoiser and text encoder."""

    def __init__(
        self, source: Source, held: list[int], images: Tensor, pipe: Any, how: PriorTraining, runtime: Runtime
    ) -> None:
        self.source, self.held, self.how, self.runtime, self.device = source, held, how, runtime, runtime.device
        self.prior = DiffusersPrior(pipe).to(self.device)
        parts = {"vae": pipe.vae, "denoiser": pipe.unet, "text": pipe.text_encoder}
        self.parts = nn.ModuleDict(parts).requires_grad_(True)
        self.second = [p for name in ("denoiser", "text") for p in parts[name].parameters()]
        self.averages = nn.ParameterList([nn.Parameter(p.detach().clone(), False) for p in self.second])
        self.state = nn.ModuleDict({"parts": self.parts, "averages": self.averages})
        groups = [{"params": list(pipe.vae.parameters()), "lr": 2 * how.lr}, {"params": self.second, "lr": how.lr}]
        self.optimizer = AdamW(groups, lr=how.lr, betas=(0.9, 0.99), weight_decay=1e-4)
        self.images = images
        self.latents: Tensor | None = None

    @property
    def total(self) -> int:
        return self.how.vae_steps + self.how.steps

    def train(self, run: Run, save_every: int) -> None:
        with deferred():  # a signal waits until the state is whole, and this ends with `Stopped`
            done = run.restore(self.state, self.optimizer)
            while done < self.total and not asked():
                run.log(self._update(done))
                done += 1
                if asked() or done % save_every == 0 or done == self.total:
                    run.save(done, self.state, self.optimizer)
                try:
                    self._tell(done)
                except KeyboardInterrupt:  # outside of the command line, while the state is whole
                    run.save(done, self.state, self.optimizer)
                    raise

    def _update(self, t: int) -> dict[str, float]:
        """Step `t`, in place; returns its line of the log."""
        how, rates = self.how, (2 * self.how.lr, self.how.lr)
        done, of = (t, how.vae_steps) if t < how.vae_steps else (t - how.vae_steps, how.steps)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min((done + 1) / 50, 1) * (0.05 + 0.95 * (1 + cos(pi * done / of)) / 2)
        self.optimizer.zero_grad(set_to_none=True)
        what, loss = self._loss(t)
        loss.backward()
        nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], 1.0)
        value = float(loss.detach())
        if not value < float("inf"):
            raise Diverged(f"step {t + 1}: the loss of the {what} is {value}; lower lr, in a new folder")
        self.optimizer.step()
        if t >= how.vae_steps and how.ema:
            decay = min(how.ema, (1 + done) / (10 + done))
            torch._foreach_lerp_(list(self.averages), [p.detach() for p in self.second], 1 - decay)
        return {"step": t + 1, what: value}

    def _tell(self, done: int) -> None:
        first = done <= self.how.vae_steps
        at, of = (done, self.how.vae_steps) if first else (done - self.how.vae_steps, self.how.steps)
        self.runtime.report(f"train {'vae' if first else 'denoiser'}", at, of)

    def _loss(self, t: int) -> tuple[str, Tensor]:
        how = self.how
        draw = stream(how.seed, "prior", t)
        batch = how.vae_batch if t < how.vae_steps else how.batch
        rows = torch.randint(len(self.held), (min(batch, len(self.held)),), generator=draw)
        if t < how.vae_steps:
            pixels = self._pixels(rows, draw).to(self.device)
            posterior = self.prior.pipe.vae.encode(pixels).latent_dist
            drawn = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=draw).to(pixels)
            seen = self.prior.pipe.vae.decode(drawn).sample
            return "vae", F.mse_loss(seen, pixels) + how.kl * posterior.kl().mean()
        mean, spread = self._encoded()
        side = (
            torch.randint(mean.shape[1], (len(rows),), generator=draw) if how.mirror else torch.zeros(len(rows)).long()
        )
        clean = mean[rows, side] + spread[rows, side] * torch.randn(mean[rows, side].shape, generator=draw)
        clean, noise = clean.to(self.device), torch.randn(clean.shape, generator=draw).to(self.device)
        step = torch.randint(len(self.prior.alphas_cumprod), (len(rows),), generator=draw)
        said, pick = [], torch.rand(len(rows), 2, generator=draw).tolist()
        for row, (which, left) in zip(rows.tolist(), pick, strict=True):
            own = self.source.captions[self.held[row]]
            said.append("" if left < how.caption_dropout else own[int(which * len(own))])
        hidden = self.prior.pipe.text_encoder(self.prior._tokens(said)["input_ids"].to(self.device))[0]
        add_noise = self.prior.noised(clean, noise, step)
        predicted = self.prior.pipe.unet(add_noise, step.to(self.device), encoder_hidden_states=hidden).sample
        share = self.prior.alphas_cumprod[step]
        return "denoiser", F.mse_loss(predicted, denoising_target(clean, noise, share, how.prediction))

    def _pixels(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        pixels = self.images[rows].float() / 127.5 - 1
        if not self.how.mirror:
            return pixels
        turned = torch.rand(len(rows), generator=draw) < 0.5
        return torch.where(turned[:, None, None, None], pixels.flip(-1), pixels)

    @torch.no_grad()
    def _encoded(self) -> tuple[Tensor, Tensor]:
        """Mean and spread of the latents of all images, and of their mirror images, once the VAE is trained; sets its scaling."""
        if self.latents is None:
            vae, sides = self.prior.pipe.vae, (1, 2)[self.how.mirror]
            found = []
            for part in self.images.split(CHUNK):
                pixels = part.to(self.device).float() / 127.5 - 1
                posteriors = [vae.encode(p).latent_dist for p in (pixels, pixels.flip(-1))[:sides]]
                found.append(torch.stack([torch.stack([d.mean, d.std]) for d in posteriors], dim=2).cpu())
            whole = torch.cat(found, dim=1)  # [2, N, sides, C, H, W]
            scale = 1 / float((whole[0].var() + whole[1].square().mean()).sqrt())
            vae.register_to_config(scaling_factor=scale)
            vae.requires_grad_(False)
            self.latents = whole * scale
        return self.latents[0], self.latents[1]

    @torch.no_grad()
    def write(self, folder: Path, source: Source) -> None:
        """The pipeline with the averaged weights."""
        self._encoded()  # sets the scaling where nothing was left to train
        if self.how.ema:
            for parameter, average in zip(self.second, self.averages, strict=True):
                parameter.copy_(average)
        write_pipeline(self.prior.pipe.to("cpu"), folder, _card(source, self.how))


def _card(source: Source, how: PriorTraining) -> str:
    """The card of a trained prior: front matter with the licence of its data."""
    licence = source.licence if " " not in source.licence else "other"
    lines = [
        "---",
        f"license: {licence}",
        *([f"license_name: {json.dumps(source.licence, ensure_ascii=False)}"] if licence == "other" else []),
        "library_name: diffusers",
        "tags: [text-to-image, limbeck]",
        "---",
        "",
        f"# A small prior trained on {source.name}",
        "",
        f"{how.steps} steps of a U-Net with {', '.join(map(str, how.channels))} channels, made by `limbeck train-prior`. It has seen the",
        "data and nothing else, and may repeat them.",
        "",
        f"- Licence of the data: {source.licence}",
        "",
    ]
    return "\n".join(lines)


def losses(folder: Path) -> Mapping[str, float]:
    """The mean of the last 50 values of each loss in the log of a training.

    Args:
        folder: of the pipeline.
    """
    rows = Run(folder, Recipe.read(folder / "recipe.yaml")).history()
    names = ("vae", "denoiser")
    found = {name: [row[name] for row in rows if name in row][-50:] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items() if values}
