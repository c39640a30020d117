"""From a command's dataclass to its command line and back: `--method cf --method.steps 100`.

A field is an option, its type the type, its line in the docstring the help. A field made by `part` names a registered thing,
whose own fields become options below that name, for the thing that was chosen and no other.
"""

import difflib
import os
from abc import ABC, abstractmethod
from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import partial
from inspect import cleandoc, get_annotations
from typing import Any, ClassVar, TypeVar, get_type_hints

from limbeck import registry
from limbeck.commands._describe import arguments, options
from limbeck.commands._line import NO_VALUE, Line, needs_value, read_line
from limbeck.commands._types import Option, add, is_mapping, typed
from limbeck.constraints import validate
from limbeck.errors import ConfigError, MissingDependency, UnknownName
from limbeck.runtime.progress import ProgressCallback

__all__ = ["Answer", "Command", "Part", "help_of", "parse", "part"]

C = TypeVar("C", bound="Command")

AUTO = "auto"  # in the place of a method: distill searches for one
PLACES = ("image", "text", "audio", "depth")  # that may stand before the name of one of several encoders
FILLED_IN = ("name", "path", "modality")  # fields of a part that its name and its place say


@dataclass(frozen=True)
class Part:
    """A registered thing and its options.

    Args:
        kind: of the registry.
        spec: its name, with what follows a colon.
        options: those that were given, typed.
    """

    kind: str
    spec: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_search(self) -> bool:
        """Whether a method is searched for."""
        return (self.kind, self.spec) == ("method", AUTO)

    def make(self) -> Any:
        """An instance of the class; in a family of many, its field `name` takes what follows the colon.

        Raises:
            ConfigError: a family without what follows the colon, or something that is none with it; or a search for one.
        """
        if self.is_search:
            raise ConfigError(
                "auto is no method but a search for one, by limbeck distill; name a method here, such as label_distillation"
            )
        found, named = registry.named(self.kind, self.spec)
        return found(**named, **self.options)


@dataclass(frozen=True)
class Answer:
    """What a command found: `text` for a person, `data` (JSON types) for a script."""

    text: Any
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """One command. A subclass is a frozen dataclass in a file of its own.

    Args:
        config: a YAML file with options, or recipe:NAME for one that is here; those on the command line stand above it.
        json: print the result as JSON.
        verify: compare the contents of the data that are opened, and of the cache, with their digests, in whole.
        limits: what every limit of the readers (pixels, bytes, samples, characters) is multiplied by, where you trust data that are
            refused as too large.
        debug: show the traceback of an error.
        allow: what a file or a set names and may be used: code that is not Limbeck's (call:MODULE.FUNCTION, a plug-in), and data
            and models elsewhere (folder:data/pets, hf:NAME); give it once for each.
    """

    words: ClassVar[str] = ""  # the name of the field that the plain word gives
    resumes: ClassVar[str] = "nothing is kept of it"  # said when a person stops it

    config: str | None = None
    json: bool = False
    verify: bool = False
    limits: float | None = None
    debug: bool = False
    allow: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict, metadata={"hidden": True})
    named: frozenset[str] = field(default=frozenset(), metadata={"hidden": True})  # the options that were given

    def __post_init__(self) -> None:
        validate(self)

    @abstractmethod
    def execute(self, tick: ProgressCallback) -> Answer:
        """Does it; `tick` is called with (what, done, total)."""


def part(
    kind: str,
    default: str | tuple[str, ...] | None = None,
    *,
    name: str | None = None,
    without: tuple[str, ...] = (),
    split: str = "train",
) -> Any:
    """A field that names a registered thing, or several of them where the default is a tuple.

    Args:
        kind: of the registry.
        default: its name; `None` for a thing that may be left out, or is the plain word of the command.
        name: of the option, if it is not the field's.
        without: fields of the thing that are no options here.
        split: which split of a source is opened by default.
    """
    meta = {"kind": kind, "name": name, "without": without, "split": split, "many": isinstance(default, tuple)}
    if isinstance(default, tuple):
        return field(default=tuple(Part(kind, one) for one in default), metadata=meta)
    return field(default=None if default is None else Part(kind, default), metadata=meta)


def parse(command: type[C], argv: Sequence[str]) -> C:
    """The command with everything that the words after its name say.

    Raises:
        ConfigError: an option that is unknown, of another thing, without a value or of the wrong type; a missing word.
    """
    line = read_line(argv, _flags(command), command.words, _mappings(command))
    line = replace(line, given=_without_places(command, line.given))
    known = _known(command, line)
    held = {name: _below(name, line.given) for name in _mappings(command)}
    plain = {name: raw for name, raw in line.given.items() if name in held or name.partition(".")[0] not in held}
    for name, raw in plain.items():
        if name in held:
            raise ConfigError(f"{name} is a mapping, as in {name}: {{KEY: VALUE}}, got {raw!r}")
        if name not in known:
            raise _unknown(command, name, known, line)
    if len(line.words) > bool(command.words):
        raise ConfigError(f"limbeck {_title(command)} does not know what to do with {line.words[-1]!r}")
    given = {name: typed(known[name], raw) for name, raw in plain.items()}
    values: dict[str, Any] = {"fingerprints": line.fingerprints or {}, "named": frozenset(line.given), **held}
    for f in _visible(command):
        if "kind" in f.metadata:
            values[f.name] = _parts(command, f, line, given)
        elif _name(f) in given:
            values[f.name] = given[_name(f)]
        elif f.name == command.words and line.words:
            values[f.name] = typed(Option(f.name, get_type_hints(command)[f.name], "", ""), line.words[0])
    for f in _visible(command):
        if values.get(f.name) is None and _required(command, f):
            how = f.name.upper() if f.name == command.words else f"--{_name(f)} VALUE"
            raise ConfigError(f"limbeck {_title(command)} needs {how}; see limbeck {_title(command)} --help")
    return command(**values)


def help_of(command: type[Command], argv: Sequence[str], width: int = 100) -> str:
    """The help text of a command, with the options of the things that are named in `argv`."""
    from jsonargparse import ArgumentParser

    try:
        words = [word for word in argv if word not in ("-h", "--help")]
        line = read_line(words, _flags(command), command.words, _mappings(command))
    except ConfigError:  # half a line is enough to help with
        line = Line({})
    word = [f for f in _visible(command) if f.name == command.words]
    shown = "".join(f" {f.name.upper()}" if _required(command, f) else f" [{f.name.upper()}]" for f in word)
    parser = ArgumentParser(
        prog=f"limbeck {_title(command)}",
        usage=f"limbeck {_title(command)}{shown} [options]",
        description=_description(command),
        formatter_class=partial(RawDescriptionHelpFormatter, max_help_position=32, width=width),  # type: ignore[arg-type]
    )
    for f in word:
        parser.add_argument(f.name, type=str, nargs="?", metavar=f.name.upper(), help=arguments(command)[f.name])
    groups: dict[str, Any] = {"": parser}
    lacking = _lacking(command, line)
    for option in _known(command, line, lenient=True).values():
        if option.name.split(".")[:2] in lacking:
            continue
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        add(groups[option.group], option)
    return str(parser.format_help())


def _lacking(command: type[Command], line: Line) -> list[list[str]]:
    """The first two words of options that are of no use for the data that the line names: encoders of sound or depth that they lack."""
    for f in (f for f in _visible(command) if f.metadata.get("kind") == "source" and f.name == command.words):
        for _, spec in _chosen(command, f, line):
            family, _ = registry.parse_spec(spec)
            if family in registry.names("source"):
                try:
                    source = registry.get("source", family)
                except MissingDependency:  # half a line is enough to help with
                    return []
                present = {form.modality.name for form in source().forms}
                present |= {
                    option.name.partition("_")[0] for option in fields(source)
                }  # such as depth_unit, which adds it
                return [["space", m] for m in ("audio", "depth") if m not in present]
    return []


def _flags(command: type[Command]) -> set[str]:
    hints = get_type_hints(command)
    return {_name(f) for f in _visible(command) if hints[f.name] is bool}


def _mappings(command: type[Command]) -> set[str]:
    hints = get_type_hints(command)
    return {_name(f) for f in _visible(command) if is_mapping(hints[f.name])}


def _without_places(command: type[Command], given: Mapping[str, str]) -> dict[str, str]:
    """What is given but the modality of an encoder where a recipe repeats that of its place."""
    said = {f"{_name(f)}.modality": f.name for f in _visible(command) if f.metadata.get("kind") == "encoder"}
    return {name: raw for name, raw in given.items() if said.get(name) != raw}


def _below(head: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given under names that start with `head.`, without that start."""
    return {name.removeprefix(f"{head}."): value for name, value in given.items() if name.startswith(f"{head}.")}


def _visible(command: type[Command]) -> list[Field[Any]]:
    """The fields that are options: the command's own, then those of the classes above it."""
    order = [name for base in command.__mro__ for name in get_annotations(base)]
    return sorted((f for f in fields(command) if not f.metadata.get("hidden")), key=lambda f: order.index(f.name))


def _name(f: Field[Any]) -> str:
    return str(f.metadata.get("name") or f.name)


def _required(command: type[Command], f: Field[Any]) -> bool:
    return f.default is MISSING or (f.name == command.words and f.default is None)


def _title(command: type[Command]) -> str:
    return command.__module__.rsplit(".", 1)[-1].replace("_", "-")


def _description(command: type[Command]) -> str:
    return cleandoc(command.__doc__ or "").split("Args:")[0].strip()


def _known(command: type[Command], line: Line, lenient: bool = False) -> dict[str, Option]:
    """Every option that this line may give, in the order of the help."""
    hints, says = get_type_hints(command), arguments(command)
    own: dict[str, Option] = {}
    below: dict[str, Option] = {}
    for f in _visible(command):
        default = "" if f.default is MISSING else f.default
        if "kind" not in f.metadata:
            own[_name(f)] = Option(_name(f), hints[f.name], default, says[f.name])
            continue
        shown = ",".join(p.spec for p in (default if isinstance(default, tuple) else (default,)) if p)
        own[_name(f)] = Option(_name(f), str, shown, says[f.name])
        for head, spec in _chosen(command, f, line):
            try:
                below |= {option.name: option for option in _options_of(f, head, spec)}
            except (MissingDependency, UnknownName):
                if not lenient:
                    raise
    own.pop(command.words, None)
    return own | below


def _chosen(command: type[Command], f: Field[Any], line: Line) -> list[tuple[str, str]]:
    """The things that the line names for a field: (what their options start with, name)."""
    raw = line.given.get(_name(f))
    if f.name == command.words and line.words:
        raw = line.words[0]
    if raw == NO_VALUE:
        raise needs_value(_name(f))
    if raw is None:
        specs = [p.spec for p in (f.default if isinstance(f.default, tuple) else (f.default,)) if isinstance(p, Part)]
    else:
        specs = [spec.strip() for spec in raw.split(",")] if f.metadata["many"] else [raw]
    return [(spec if f.metadata["many"] else _name(f), spec) for spec in specs if spec not in ("none", "null", "")]


def _options_of(f: Field[Any], head: str, spec: str) -> list[Option]:
    """The options of the thing `spec`, whose names start with `head`."""
    kind, family = f.metadata["kind"], _family(f, spec)
    if kind == "source" and family not in registry.names("source"):
        if ":" in spec and not os.path.exists(spec):  # unlike pathlib's, also of what cannot be a name
            raise UnknownName("source", family, registry.names("source"))
        return []  # a folder, or a name that opening it will refuse
    if Part(kind, spec).is_search:
        return []
    found = registry.get(kind, family)
    hints, says, skip = get_type_hints(found), arguments(found), {*FILLED_IN, *f.metadata["without"]}
    group = f"options of the {kind} {family}"
    own = [x for x in fields(found) if x.init and x.name not in skip]
    made = [Option(f"{head}.{x.name}", hints[x.name], x.default, says[x.name], group) for x in own]
    if kind == "source":
        made.append(Option(f"{head}.split", str, f.metadata["split"], "which split to open", group))
    return made


def _family(f: Field[Any], spec: str) -> str:
    """The registered name in `spec`; where encoders of several modalities may be named, without the modality before it."""
    first, _, rest = spec.partition(":")
    placed = f.metadata["kind"] == "encoder" and f.metadata["many"] and rest and first in PLACES
    return registry.parse_spec(rest if placed else spec)[0]


def _parts(command: type[Command], f: Field[Any], line: Line, values: Mapping[str, Any]) -> Any:
    """The `Part` (or parts) of a field; nothing where none is named."""
    made = []
    for head, spec in _chosen(command, f, line):
        made.append(Part(f.metadata["kind"], spec, _below(head, values)))
    return tuple(made) if f.metadata["many"] else next(iter(made), None)


def _unknown(command: type[Command], name: str, known: Mapping[str, Option], line: Line) -> ConfigError:
    """Why an option is refused: whose it is, or which one may have been meant."""
    head, _, option = name.rpartition(".")
    for f in _visible(command):
        for start, spec in _chosen(command, f, line) if "kind" in f.metadata else ():
            if start == head and Part(f.metadata["kind"], spec).is_search:
                return ConfigError(
                    f"--{name} is an option of a method, and {spec} searches for one; name it, as in --{head} cf"
                )
            if start == head:
                if option in f.metadata["without"] and (there := difflib.get_close_matches(option, known, n=1)):
                    return ConfigError(f"--{name} is --{there[0]} here, see limbeck {_title(command)} --help")
                kind, family = f.metadata["kind"], _family(f, spec)
                if option == "modality":
                    return ConfigError(
                        f"--{name} is no option: --{head} encodes {f.name}; other modalities have their own"
                    )
                if option in FILLED_IN:
                    return ConfigError(
                        f"--{name} is no option: what it says stands behind the colon, as in {family}:..."
                    )
                own = [o.rpartition(".")[2] for o in known if o.startswith(f"{head}.")]
                others = [n for n in registry.names(kind) if n != family and option in options(kind, n)]
                near = difflib.get_close_matches(option, own, n=2, cutoff=0.6)
                says = f"an option of {', '.join(others)}, not of {family}" if others else f"not an option of {family}"
                hint = f"did you mean {' or '.join(f'--{head}.{n}' for n in near)}? " if near and not others else ""
                return ConfigError(f"--{name} is {says}; {hint}{family} has: {', '.join(own) or 'none'}")
    below = {full: full.rpartition(".")[2] for full in known}  # --steps may be --method.steps
    near = [full for full, last in below.items() if last == name] or difflib.get_close_matches(name, known, n=2)
    if not near and (last := difflib.get_close_matches(name, below.values(), n=1)):
        near = [full for full in below if below[full] == last[0]]
    hint = f"did you mean {' or '.join(f'--{n}' for n in near)}?" if near else f"see limbeck {_title(command)} --help"
    return ConfigError(f"limbeck {_title(command)} has no option --{name}; {hint}")
