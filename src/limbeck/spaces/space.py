"""`Encoder` and `Space`: from the values of a modality to unit vectors, differentiably."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck import registry
from limbeck.constraints import validate
from limbeck.data.batch import Batch
from limbeck.errors import ConfigError, LimbeckError, MissingDependency
from limbeck.runtime.cache import digest

__all__ = ["Encoder", "Space"]


@dataclass(frozen=True)
class Encoder(ABC):
    """One modality to unit vectors: frozen, in eval mode, differentiable in a tensor input.

    A subclass is a frozen dataclass whose fields are its options. Its constructor does no work: the weights are read
    by `build`, once, at first use. Writing one means `build`, `encode`, `dim` and the class attributes `modality`,
    `licence` and `requires`. In a family of many models, a field called `name` takes what follows the colon in
    `"hf:NAME"`, and `modality` may be a field, too.

    Attributes:
        requires: packages that must be importable, and the extra that brings each (or the `pip` command that does).
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __post_init__(self) -> None:
        validate(self)

    @property
    @abstractmethod
    def modality(self) -> str:
        """What it encodes: `"image"`, `"text"`, `"audio"`, `"depth"`, ..."""

    @property
    def licence(self) -> str:
        """The licence of the weights."""
        return "unknown"

    @property
    def base(self) -> "Encoder":
        """The encoder below a learned head; else itself."""
        return self

    @property
    def reads_vectors(self) -> bool:
        """Whether its values are vectors that were made elsewhere."""
        return False

    @property
    def sample_rate(self) -> int | None:
        """The samples a second that it takes waveforms for; `None` where it takes none."""
        return None

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with its weights. Called once."""

    @abstractmethod
    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Vectors `[B, D]`, not yet of unit length, from raw values.

        Args:
            network: what `build` made.
            values: images `float [B, C, H, W]` in [0, 1] of any size, a list of B strings, or where the encoder has
                `tokens`, B texts as such `float [B, L, E]`.
        """

    def tokens(self, strings: Sequence[str], length: int) -> Float[Tensor, "b {length} e"]:
        """Texts as token embeddings `float [B, L, E]`: what the network reads after its table of word vectors.

        A row of zeros is no token. A text that is longer than `length` is cut; `encode` of the tokens of a text that is
        not gives the vector of the text.

        Args:
            strings: B texts.
            length: rows of each text L.

        Raises:
            ConfigError: this encoder reads no token embeddings.
        """
        raise ConfigError(
            f"the encoder {self.describe()['name']!r} reads no token embeddings, so its texts are learned as vectors "
            "only; encoders that do: minilm, bag_of_words, and hf:NAME of a model of text alone"
        )

    @property
    @abstractmethod
    def dim(self) -> int:
        """The number of components D of a vector."""

    @cached_property
    def network(self) -> nn.Module:
        """The network: built at first use, frozen, in eval mode. The global random generator is left as it was.

        Raises:
            MissingDependency: a package that the encoder requires is not installed.
            ConfigError: options of a size that cannot be made.
        """
        for package, extra in self.requires:
            if find_spec(package) is None:
                raise MissingDependency(f"the encoder {self.describe()['name']!r}", package, extra)
        with torch.random.fork_rng(devices=[]):  # third-party constructors draw weights before they load them
            try:
                return self.build().eval().requires_grad_(False)
            except LimbeckError:
                raise
            except (RuntimeError, MemoryError, OverflowError) as error:  # of torch, for sizes that it cannot make
                reason = " ".join(str(error).split())[:200]
                raise ConfigError(
                    f"the encoder {self.describe()} cannot be built: {reason}; check its options"
                ) from error

    def __call__(self, values: Any) -> Float[Tensor, "b d"]:
        """Unit vectors `float32 [B, D]`; gradients flow to `values` where it is a tensor."""
        return F.normalize(self.encode(self.network, values).float(), dim=-1)

    def to(self, device: str | torch.device) -> "Encoder":
        """Moves the network to `device` (in place) and returns the encoder."""
        self.network.to(device)
        return self

    def describe(self) -> dict[str, Any]:
        """Name and options, as they are written in a recipe; `limbeck.space` makes the same encoder of them again."""
        family, options = registry.name_of(type(self)), asdict(self)
        argument = options.pop("name", None)
        return {"name": f"{family}:{argument}" if argument else family, **options}

    def identity(self) -> dict[str, Any]:
        """What besides the weights decides the vectors: family and options.

        A family whose `name` is only a place to read from overrides this: the same weights read elsewhere are the same
        encoder.
        """
        return self.describe()

    @property
    def parts(self) -> tuple["Encoder", ...]:
        """The encoders that it is made of: its `members` where it has any, else itself alone."""
        members: tuple[Encoder, ...] = tuple(getattr(self, "members", ()))
        return tuple(part for member in members for part in member.parts) or (self,)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of `identity` and of every weight: two encoders that share it give the same vectors."""
        return digest(self.identity(), *_weights(self.network))

    @cached_property
    def weights(self) -> str:
        """A digest of the weights alone, whatever the options; of an encoder without weights its `fingerprint`."""
        weights = list(_weights(self.network))
        return digest(*weights) if weights else self.fingerprint

    @property
    def all_weights(self) -> frozenset[str]:
        """`weights` of each part: two encoders that share one of them see with the same network."""
        return frozenset(part.weights for part in self.parts)


def _weights(network: nn.Module) -> Iterator[Any]:
    """Name, type, shape and bytes of every weight, one after the other."""
    for name, value in network.state_dict().items():
        raw = value.detach().cpu().contiguous().flatten()
        yield from (name, str(value.dtype), list(value.shape), raw.view(torch.uint8).numpy().tobytes())


class Space:
    """A set of encoders, one a modality, whose unit vectors can be compared or matched.

    Args:
        encoders: modality name to encoder.

    Example:
        >>> import limbeck
        >>> space = limbeck.space(image="convnet")
        >>> space.embed(Batch({"image": torch.zeros(2, 3, 32, 32)}))["image"].shape
        torch.Size([2, 128])
    """

    def __init__(self, encoders: Mapping[str, Encoder]) -> None:
        for modality, encoder in encoders.items():
            if encoder.modality != modality:
                name = encoder.describe()["name"]
                raise ConfigError(f"the encoder {name!r} encodes {encoder.modality!r}, it cannot serve as {modality!r}")
        self.encoders = dict(encoders)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that this space can encode."""
        return tuple(self.encoders)

    def __contains__(self, modality: str) -> bool:
        return modality in self.encoders

    def __getitem__(self, modality: str) -> Encoder:
        if modality not in self.encoders:
            held = ", ".join(self.encoders) or "none"
            raise ConfigError(f"this space has no encoder for {modality!r}; it has {held}")
        return self.encoders[modality]

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """Unit vectors `[B, D_m]` for each modality of the batch that this space knows.

        A tensor under `"text"` is a learned text, differentiable like a learned image: with two axes embeddings of this
        space, which are only brought to unit length, with three the encoder's `tokens`, which pass through it. Strings need exactly one caption a sample; for several,
        embed the source (`limbeck.spaces.embed_source`).
        """
        vectors = {}
        for modality, encoder in self.encoders.items():
            if modality not in batch:
                continue
            value = batch[modality]
            if modality == "text" and isinstance(value, Tensor) and value.ndim == 2:
                vectors[modality] = F.normalize(value, dim=-1)
            elif modality == "text" and not isinstance(value, Tensor):
                vectors[modality] = encoder(_single(value))
            else:
                vectors[modality] = encoder(value)
        return vectors

    def to(self, device: str | torch.device) -> "Space":
        """Moves every encoder to `device` (in place) and returns the space."""
        for encoder in self.encoders.values():
            encoder.to(device)
        return self

    @property
    def dims(self) -> dict[str, int]:
        """The number of components of each modality's vectors."""
        return {modality: encoder.dim for modality, encoder in self.encoders.items()}

    @property
    def licences(self) -> dict[str, str]:
        """The licence of each encoder's weights."""
        return {modality: encoder.licence for modality, encoder in self.encoders.items()}

    @property
    def fingerprint(self) -> str:
        """A digest of all encoders."""
        return digest({m: e.fingerprint for m, e in self.encoders.items()})

    def describe(self) -> dict[str, Any]:
        """The encoders as they are written in a recipe."""
        return {modality: encoder.describe() for modality, encoder in self.encoders.items()}

    def __repr__(self) -> str:
        return f"Space({', '.join(f'{m}={e!r}' for m, e in self.encoders.items())})"


def _single(captions: Sequence[tuple[str, ...]]) -> list[str]:
    counts = {len(c) for c in captions}
    if counts - {1}:
        raise ConfigError(f"embedding strings needs one caption a sample, got {sorted(counts)}; choose one of each")
    return [c[0] for c in captions]
