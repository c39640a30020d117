"""`TwoTowers`: the image-text student that experts train and that trajectory matching unrolls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.constraints import Check, Count, Ge, NotNegative, Positive, validate
from limbeck.core import Problem, Synthetic
from limbeck.core.encode import encode
from limbeck.networks._spec import check_student
from limbeck.objectives.contrastive import contrastive
from limbeck.spaces import Space
from limbeck.spaces.preprocess import resize
from limbeck.spaces.trainable import TrainableEncoder
from limbeck.students import PCAWhitener, Tower, crop_flip

__all__ = ["Head", "TwoTowers", "stages"]

Head = Literal["linear", "mlp", "residual"]
HIDDEN = 512  # of an mlp head, which is never narrower than what it makes


@dataclass(frozen=True)
class TwoTowers:
    """Which two towers are trained, and what each of them reads.

    An image tower is a head on frozen features (`"frozen"`), the space's own encoder with its pretrained weights
    (`"encoder"`), or a network of `limbeck.networks` from random weights, by name. A text tower is a head on frozen features,
    or the space's encoder with a head, which reads token embeddings. Heads on frozen features see the ridge-whitened
    principal components of the real data, as the student of the retrieval protocol does.

    Args:
        image: `"frozen"`, `"encoder"` or the name of a network.
        text: `"frozen"` or `"encoder"`.
        head: `"linear"`; `"mlp"` with one hidden layer, 512 wide or as wide as the joint space; `"residual"` as LoRS has it: no head on a trained encoder of images, and
            Linear, GELU, Linear, plus the first linear, LayerNorm on the others.
        dim: components of the joint space; of `"residual"` beside a trained image tower its own.
        temperature: of the logits.
        ridge, rank: of the components that heads on frozen features see.
        resolution: pixels a side that a network sees; 0 leaves images as they are.
        tokens: L, the length of texts where their encoder is trained.

    Raises:
        ConfigError: an unknown tower or head, or numbers that cannot work.
    """

    image: Annotated[str, Check(check_student)] = "frozen"
    text: Literal["frozen", "encoder"] = "frozen"
    head: Head = "linear"
    dim: Count = 256
    temperature: Positive = 0.07
    ridge: NotNegative = 30.0
    rank: Count = 512
    resolution: Annotated[int, Ge(0)] = 0
    tokens: Annotated[int, Ge(3)] = 32

    def __post_init__(self) -> None:
        validate(self)

    @property
    def read(self) -> "TwoTowers":
        """The same towers with unused options at their defaults."""
        frozen, own = "frozen" in (self.image, self.text), self.image == "frozen"
        return replace(
            self,
            ridge=self.ridge if frozen else 0.0,
            rank=self.rank if frozen else 1,
            resolution=0 if own else self.resolution,
            tokens=self.tokens if self.text == "encoder" else 3,
        )

    def network(self, problem: Problem, generator: torch.Generator) -> nn.Module:
        """Two towers with new heads: `forward(image, text)` gives unit vectors `[B, dim]` of each."""
        image = self._image(problem, generator)
        text = self._text(problem, generator, self._dim(problem))
        return _Pair(image, text).to(problem.device)

    def loss(self, network: nn.Module, kind: str) -> Callable[..., Tensor]:
        """`loss(parameters, image, text, similarity, ignored)` of the network with other parameters.

        Args:
            network: what `network` made; its own parameters are not read.
            kind: of `limbeck.objectives.contrastive.LOSSES`.
        """
        measure = contrastive(kind)

        def loss(
            parameters: Mapping[str, Tensor],
            image: Tensor,
            text: Tensor,
            similarity: Tensor,
            ignored: Tensor | None = None,
        ) -> Tensor:
            u, v = torch.func.functional_call(network, dict(parameters), (image, text))
            return measure(u @ v.T / self.temperature, similarity, ignored)

        return loss

    def real(self, problem: Problem, sample: Tensor, caption: Tensor, moved: torch.Generator | None) -> Any:
        """What the towers read of real pairs.

        Args:
            problem: whose training source.
            sample: `int64 [B]` samples.
            caption: `int64 [B]` rows of the text features, one of each sample.
            moved: draws a light augmentation of images that are pixels; `None` for none.
        """
        if self.image == "frozen":
            image = self._frozen(problem, "image")[problem.index.first["image"][sample].to(problem.device)]
        else:
            image = problem.source.batch(sample)["image"]
            image = self._pixels(image if moved is None else crop_flip(image, moved)).to(problem.device)
        if self.text == "frozen":
            return image, self._frozen(problem, "text")[caption.to(problem.device)]
        return image, self.token_embeddings(problem, caption)

    def synthetic(
        self, problem: Problem, synthetic: Synthetic, moved: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What the towers read of the whole synthetic set, differentiable: encoded once where a tower is frozen.

        Args:
            problem, synthetic: whose set.
            moved: an augmentation of images, applied first.
        """
        frozen = Space({m: problem.space[m] for m in ("image", "text") if getattr(self, m) == "frozen"})
        values = {
            m: self.components(problem, m).whiten(z, self.ridge)
            for m, z in encode(frozen, synthetic, moved=moved).items()
        }
        if "image" not in values:
            image = synthetic.value("image")
            values["image"] = self._pixels(image if moved is None else moved(image))
        if "text" not in values:
            values["text"] = synthetic.value("text")
        return values

    def token_embeddings(self, problem: Problem, caption: Tensor) -> Tensor:
        """Token embeddings `[B, L, E]` of the captions in these rows."""
        chosen = [problem.captions[row] for row in caption.tolist()]
        return problem.space["text"].tokens(chosen, self.tokens).to(problem.device)

    def components(self, problem: Problem, modality: str) -> PCAWhitener:
        """Principal components of the real features of a modality."""

        def make() -> PCAWhitener:
            rows = problem.candidates.rows[modality].unique()
            return PCAWhitener.of(problem.features[modality].vectors[rows], self.rank).to(problem.device)

        return problem.once(("components", modality, self.rank), make)

    def encoders(self, problem: Problem) -> list[str]:
        """Fingerprints of the encoders that the towers read or start from."""
        return [problem.space[m].fingerprint for m in ("image", "text") if getattr(self, m) in ("frozen", "encoder")]

    def _frozen(self, problem: Problem, modality: str) -> Tensor:
        """What the heads see of every row of the real features."""

        def make() -> Tensor:
            vectors = problem.features[modality].vectors.to(problem.device)
            return self.components(problem, modality).whiten(vectors, self.ridge)

        return problem.once(("components of all", modality, self.rank, self.ridge), make)

    def _pixels(self, image: Tensor) -> Tensor:
        return resize(image, (self.resolution, self.resolution)) if self.resolution else image

    def _dim(self, problem: Problem) -> int:
        own = self.head == "residual" and self.image != "frozen"
        return problem.space["image"].dim if own and self.image == "encoder" else self.dim

    def _image(self, problem: Problem, generator: torch.Generator) -> nn.Module:
        if self.image == "frozen":
            return self._head(len(self.components(problem, "image").variance), self.dim, generator)
        side = self.resolution or problem.source.modalities["image"].shape[-1]
        if self.image != "encoder":
            return _without_statistics(Tower(0, self.dim, generator, self.image, side, self._hidden(self.dim)))
        tower = TrainableEncoder(problem.space["image"])
        if self.head == "residual":
            return tower
        return nn.Sequential(tower, self._head(tower.dim, self.dim, generator, normed=True))

    def _text(self, problem: Problem, generator: torch.Generator, dim: int) -> nn.Module:
        if self.text == "frozen":
            return self._head(len(self.components(problem, "text").variance), dim, generator)
        tower = TrainableEncoder(problem.space["text"])
        return nn.Sequential(tower, self._head(tower.dim, dim, generator, normed=True))

    def _head(self, inputs: int, dim: int, generator: torch.Generator, normed: bool = False) -> nn.Module:
        if self.head == "residual":
            return _Residual(inputs, dim, generator)
        head = Tower(inputs, dim, generator, hidden=self._hidden(dim))
        return nn.Sequential(_Unit(), head) if normed else head

    def _hidden(self, dim: int) -> int:
        return max(HIDDEN, dim) if self.head == "mlp" else 0


def stages(network: nn.Module, modality: str) -> tuple[nn.Module, nn.Module]:
    """The encoder of a tower and the head behind it, either of which may be an `nn.Identity`.

    Args:
        network: what `TwoTowers.network` made.
        modality: whose tower.

    Example:
        >>> import limbeck as lb
        >>> space = lb.space(image="convnet", text="bag_of_words")
        >>> problem = lb.Problem(lb.check.toy_source(), space, lb.Budget(pairs=4))
        >>> network = TwoTowers("encoder").network(problem, torch.Generator())
        >>> [type(stages(network, m)[0]).__name__ for m in ("image", "text")]
        ['TrainableEncoder', 'Identity']
    """
    tower = network.get_submodule(modality)
    if isinstance(tower, TrainableEncoder):
        return tower, nn.Identity()
    if isinstance(tower, nn.Sequential):
        encoder, head = tower
        return encoder, head
    if isinstance(tower, Tower) and tower.network is not None:
        return tower.network, tower.head
    return nn.Identity(), tower


def _without_statistics(network: nn.Module) -> nn.Module:
    """Batch norms see their batch alone: a student is a function of its parameters, and snapshots hold nothing else."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return network


class _Pair(nn.Module):
    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.image, self.text = image, text

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(self.image(image), dim=1), F.normalize(self.text(text), dim=1)


class _Unit(nn.Module):
    """Unit length: frozen features have it, those of a trained encoder get it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


class _Residual(nn.Module):
    """`LayerNorm(h + W2 gelu(h)), h = W1 x`: the projection of CLIP-like training scripts, without dropout."""

    def __init__(self, inputs: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        first, second = (Tower(a, dim, generator, gain=1.0) for a in (inputs, dim))
        self.first, self.second, self.norm = first, second, nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return cast(Tensor, self.norm(h + self.second(F.gelu(h))))
