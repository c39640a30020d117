"""`Runtime`: where work runs, where it keeps what is costly, and who hears of its progress."""

from dataclasses import dataclass, field

from limbeck.errors import ConfigError
from limbeck.runtime.cache import Cache
from limbeck.runtime.progress import ProgressCallback

__all__ = ["Runtime"]


@dataclass(frozen=True)
class Runtime:
    """Device, cache and progress, which many functions pass on together.

    Args:
        device: where encoders, students and sets live.
        cache: where features, pixels and experts are kept; by default the user's cache folder.
        progress: called with (what, done, total) as work proceeds.

    Example:
        >>> Runtime(progress=print).report("decoding train", 1, 2)
        decoding train 1 2
    """

    device: str = "cpu"
    cache: Cache = field(default_factory=Cache)
    progress: ProgressCallback | None = None

    @classmethod
    def of(
        cls,
        runtime: "Runtime | None" = None,
        *,
        device: str | None = None,
        cache: Cache | None = None,
        tick: ProgressCallback | None = None,
    ) -> "Runtime":
        """The runtime that a function was given, or one of what it was given instead.

        Args:
            runtime: as it is, where there is one.
            device, cache, tick: what else it is made of; `None` for the default.

        Raises:
            ConfigError: both.
        """
        if runtime is None:
            return cls(cls.device if device is None else device, Cache() if cache is None else cache, tick)
        named = {"device": device, "cache": cache, "tick": tick}
        if given := " and ".join(name for name, value in named.items() if value is not None):
            raise ConfigError(f"give runtime or {given}, not both: a Runtime holds device, cache and progress")
        return runtime

    def report(self, what: str, done: int, total: int) -> None:
        """Tells `progress`, where there is one, that `done` of the `total` pieces of `what` are done."""
        if self.progress:
            self.progress(what, done, total)
