"""`show`: a saved set or a finished run as a page, and its facts and first captions in the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.core.card import coverage
from limbeck.core.distilled import DistilledSet, load
from limbeck.core.recipe import Recipe
from limbeck.data.source import Source
from limbeck.engine.run import Run
from limbeck.errors import ConfigError, StorageError
from limbeck.report.formatting import count, size
from limbeck.report.gallery import began
from limbeck.report.page import page
from limbeck.terminal import visible

if TYPE_CHECKING:
    from rich.console import Console, Group

__all__ = ["show", "view"]

GENERATOR = b'<meta name="generator" content="Limbeck">'  # in the head of every page


def show(
    path: str | Path, *, source: Source | None = None, out: str | Path | None = None, console: "Console | None" = None
) -> Path:
    """Writes the page of a saved set or of a finished run, and prints what is in it.

    Args:
        path: a folder that `DistilledSet.save` wrote, or a run folder.
        source: the real training data, for the images where samples started.
        out: the file to write; by default `report.html` in a run folder, `<set>.html` beside a set.
        console: where to print; by default the terminal.

    Returns:
        The path of the page.

    Raises:
        StorageError: `path` is neither, or a run that is not finished; or nobody named `out`, and in its place is a file of others.
        ConfigError: the set was not made from `source`: it holds none of the samples that the set started from.
    """
    from rich.console import Console

    path = Path(path)
    small, history = _open(path)
    if source is not None and not set(small.origins) & set(source.keys):
        made = small.recipe.source.get("name", "another source")
        raise ConfigError(
            f"{small.name} was not made from {source.name}: it started from {made}, with samples such as "
            f"{small.origins[0]!r}; name that source, or leave it out"
        )
    name = path.resolve().name
    default = path / "report.html" if (path / "recipe.yaml").is_file() else path.resolve().with_name(f"{name}.html")
    if out is None:
        refuse_foreign(default)
    written = page(out or default, sets=[small], history={name: history} if history else {}, source=source)
    (console or Console()).print(view(small))
    return written


def view(small: DistilledSet, *, samples: int = 5) -> "Group":
    """The facts of a set and the captions of its first `samples` samples, for a rich console."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    parts = ", ".join(
        f"{name} {size(nbytes)}" for name, nbytes in sorted(small.sizes.items(), key=lambda part: -part[1])
    )
    rows = {
        "pairs": count(small.pairs),
        "size": f"{size(small.nbytes)} ({parts})",
        "method": str(small.recipe.method.get("name", "unknown")),
        "licence": small.licence,
    }
    rows |= {"masks": covered} if (covered := coverage(small)) else {}
    rows |= {f"{modality} encoder": licence for modality, licence in small.encoder_licences.items()}
    for key, value in rows.items():
        facts.add_row(Text(key, style="dim"), Text(visible(value)))
    said = [" / ".join(captions) for captions in small.captions]
    column = "nearest captions" if "text" in small.tensors else "captions"
    if not any(said) and small.labels is not None:
        column, said = "class", [small.classes[label] if label >= 0 else "" for label in small.labels.tolist()]
    first = Table("sample", column, began(small), box=None, header_style="dim")
    for key, text, origin in list(zip(small.keys, said, small.origins, strict=True))[:samples]:
        first.add_row(*(Text(visible(cell)) for cell in (key, text, origin)))
    return Group(Text(visible(small.name), style="bold"), facts, Text(), first)


def refuse_foreign(default: Path) -> None:
    """Refuses to overwrite a page that nobody named, unless it is one of ours.

    Args:
        default: where a page is written when no file is named.

    Raises:
        StorageError: a file of others is there.
    """
    if default.is_file() and GENERATOR not in default.read_bytes()[:4096]:
        raise StorageError(
            f"{default} is there, and not a page of Limbeck; name another file with --out (in Python out=)"
        )


def _open(path: Path) -> tuple[DistilledSet, list[dict[str, Any]]]:
    if (path / "manifest.json").is_file():
        return load(path), []
    if not (path / "recipe.yaml").is_file():
        raise StorageError(f"{path} is neither a distilled set (manifest.json) nor a run (recipe.yaml); check the path")
    recipe = Recipe.read(path / "recipe.yaml")
    run = Run(path, recipe)
    history = run.history()
    if not run.result.is_dir():
        done = history[-1]["step"] if history else 0
        raise StorageError(
            f"the run {path} is not finished: {done} of {recipe.method.get('steps', '?')} steps are done; "
            "give the command that started it again, it continues where it stopped"
        )
    return load(run.result), history
