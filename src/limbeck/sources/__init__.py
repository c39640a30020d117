"""Sources: one file is one layout of data on disk. `source` opens any of them by name."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from limbeck import registry
from limbeck.data.records import RecordSource
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError
from limbeck.runtime.cache import Cache
from limbeck.runtime.progress import ProgressCallback
from limbeck.runtime.runtime import Runtime

__all__ = ["source"]


def source(
    spec: str | Mapping[str, Any],
    split: str | None = None,
    *,
    cache: Cache | None = None,
    tick: ProgressCallback | None = None,
    runtime: Runtime | None = None,
    **options: Any,
) -> Source:
    """Opens one split of a dataset.

    Args:
        spec: `"layout:path"` (such as `"folder:data/pets"`), `"demo"`, the folder of a distilled set (also
            `"set:folder"`), or the mapping that `source.describe()` gives.
        split: `"train"` by default; `"val"`, `"test"`, or a name of the data's own.
        cache, tick, runtime: a `Runtime`, or one by one its cache and progress (`tick`); not both.
        options: fields of the layout, such as `resolution=96`.

    Returns:
        the source, opened: its images are decoded, what cannot be read is counted in its `skipped`.

    Raises:
        UnknownName: no such layout; the message lists the nearest ones.
        ConfigError: an option that the layout does not have.
        DataError: nothing is there, the split is empty, or too much of it cannot be read.
        MissingDependency: the layout needs a package that is not installed.

    Example:
        >>> source("fodler:data/pets")
        Traceback (most recent call last):
        limbeck.errors.UnknownName: unknown source 'fodler'; did you mean folder?
    """
    runtime = Runtime.of(runtime, cache=cache, tick=tick)
    if isinstance(spec, Mapping):
        given = dict(spec)
        spec, split = str(given.pop("name", "")), split or given.pop("split", None)
        options = {**{k: v for k, v in given.items() if k != "split"}, **options}
    split = split or "train"
    small = _distilled(spec)
    if small is not None:
        if options:
            raise ConfigError(f"a distilled set has no options, got {', '.join(sorted(options))}")
        return small if split == "train" else small.split(split)
    name, path = registry.parse_spec(spec)
    layout = registry.get("source", name)
    known = [f.name for f in fields(layout) if f.name != "path"]
    if wrong := sorted(set(options) - set(known)):
        raise ConfigError(f"the source {name!r} has no option {', '.join(wrong)}; its options: {', '.join(known)}")
    registry.check_options(layout, options, f"the source {name!r}")
    reader = layout(path=path, **options)
    opened = RecordSource(reader, reader.read(), split, runtime)
    len(opened)  # decodes now, so that bad data are reported here
    return opened


def _distilled(spec: str) -> Source | None:
    """The distilled set that `spec` names, if it names one."""
    explicit = spec.startswith("set:")
    folder = Path(spec.removeprefix("set:")).expanduser()
    if explicit and not os.path.isdir(folder):
        raise DataError(f"there is no folder {folder}; check the path")
    if not explicit and (not spec or not os.path.isdir(folder) or spec in registry.names("source")):
        return None
    if not explicit and not (folder / "manifest.json").is_file():
        raise ConfigError(
            f"{spec} is a folder but no distilled set; say how the data lie in it, as in 'folder:{spec}' "
            f"(known: {', '.join(registry.names('source'))})"
        )
    from limbeck.core.distilled import load

    return load(folder)
