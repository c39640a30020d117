"""YAML that says plain values and nothing else: no tags, no dates, bounded in bytes, depth and aliases, no key twice."""

import re
from pathlib import Path
from typing import Any

import yaml

from limbeck.data.plain import read_text, shorten
from limbeck.errors import LimbeckError
from limbeck.limits import YAML_FILE, YAML_VALUES

__all__ = ["parse_yaml", "read_yaml"]

DEPTH = 32  # of lists and mappings in each other


def read_yaml(path: Path, remedy: str, error: type[LimbeckError]) -> Any:
    """The plain value in a YAML file, see `parse_yaml`.

    Args:
        path: of the file.
        remedy: what a person can do where it cannot be read.
        error: to raise.

    Raises:
        LimbeckError: of the type `error`: it is no file that can be read, or not such YAML; names the line.
    """
    try:
        return parse_yaml(read_text(path, YAML_FILE))
    except OSError as wrong:
        raise error(f"{path} cannot be read: {wrong.strerror or wrong}; {remedy}") from wrong
    except ValueError as wrong:
        raise error(f"{path} is not YAML that can be read here: {wrong}; {remedy}") from wrong


def parse_yaml(text: str) -> Any:
    """The value of YAML that says plain things alone: texts, numbers, true, false, null, lists, and mappings with texts as keys.

    Dates, `1:30` and `010` are texts, as on a command line. Aliases are read, up to 20,000 values in all, 32 deep.

    Args:
        text: of one document.

    Raises:
        ValueError: it is something else, or says a key twice; names the line.

    Example:
        >>> parse_yaml("seed: 1\\nwhen: 2001-01-01\\nlr: 1.0e-3")
        {'seed': 1, 'when': '2001-01-01', 'lr': 0.001}
        >>> parse_yaml("seed: 1\\nseed: 2")
        Traceback (most recent call last):
        ValueError: line 2: the key 'seed' stands there twice
    """
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise ValueError(f"line {line}: the character {control[0]!r} is not allowed")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _value(loader, node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f"line {mark.line + 1}: "
        raise ValueError(f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    finally:
        loader.dispose()


_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff")
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {f"{_TAG}{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}


class _Loader(yaml.SafeLoader):
    """Composes with a bound on depth; knows fewer kinds of scalars than YAML 1.1."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"it is nested more than {DEPTH} deep", mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Those of YAML 1.1 without dates and without numbers of base 60, of base 8 or with underscores: what PyYAML writes is read alike."""
    kept = {"bool", "null", "merge"}
    made = {
        first: [(tag, found) for tag, found in pairs if tag.removeprefix(_TAG) in kept]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = re.compile(r"0|[1-9][0-9]*")
    exponent = r"([eE][-+][0-9]+)?"
    decimal = re.compile(
        rf"[-+]?({number.pattern})\.[0-9]*{exponent}|\.[0-9]+{exponent}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    )
    for first in "-+.0123456789":
        made[first] = [
            *made.get(first, []),
            (f"{_TAG}int", re.compile(rf"[-+]?({number.pattern})$")),
            (f"{_TAG}float", re.compile(rf"({decimal.pattern})$")),
        ]
    return made


_Loader.yaml_implicit_resolvers = _resolvers()


def _value(loader: _Loader, root: yaml.Node) -> Any:
    """The value of a composed document; an alias is what it stands for."""
    count = 0

    def wrong(node: yaml.Node, says: str) -> yaml.MarkedYAMLError:
        return yaml.constructor.ConstructorError(None, None, says, node.start_mark)

    def build(node: yaml.Node, above: tuple[int, ...]) -> Any:
        nonlocal count
        count += 1
        if count > YAML_VALUES.most:
            raise wrong(node, f"its aliases stand for {YAML_VALUES}")
        if id(node) in above:
            raise wrong(node, "it holds itself by an alias")
        if len(above) > DEPTH:
            raise wrong(node, f"it is nested more than {DEPTH} deep")
        if node.tag not in _PLAIN_TAGS:
            raise wrong(
                node, f"a value is tagged {node.tag.removeprefix(_TAG)!r}; texts, numbers, lists and mappings are read"
            )
        above = (*above, id(node))
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [build(part, above) for part in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return mapping(node, above)
        if isinstance(node, yaml.ScalarNode):
            return scalar(node)
        raise wrong(node, f"a value is tagged {node.tag.removeprefix(_TAG)!r} and is none")

    def mapping(node: yaml.MappingNode, above: tuple[int, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, part in node.value:
            if key.tag == f"{_TAG}merge":
                tree = build(part, above)
                for one in reversed(tree if isinstance(tree, list) else [tree]):
                    if not isinstance(one, dict):
                        raise wrong(part, "<< takes a mapping")
                    merged |= one
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise wrong(key, "a key must be a text")
            if key.value in own:
                raise wrong(key, f"the key {shorten(key.value)} stands there twice")
            own[key.value] = build(part, above)
        return merged | own

    def scalar(node: yaml.ScalarNode) -> Any:
        try:
            return loader.construct_object(node)
        except (ValueError, KeyError, IndexError, AttributeError, OverflowError):
            raise wrong(node, f"{shorten(node.value)} is no {node.tag.removeprefix(_TAG)} that can be read") from None

    return build(root, ())
