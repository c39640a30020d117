"""What registered things say of themselves: read from their source text, so that nothing heavy is imported."""

import ast
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path

from limbeck import registry

__all__ = ["arguments", "options", "spaces", "summary"]

ROOT = Path(registry.__file__).parent


def summary(kind: str, name: str) -> str:
    """The first sentence of the class registered under `name`.

    Example:
        >>> summary("method", "herding")
        'M real pairs chosen greedily so that their mean joint embedding stays closest to that of all pairs.'
    """
    found = _parse(kind, name)
    return " ".join((ast.get_docstring(found) or "").split("\n\n")[0].split()) if found else "(from a plug-in)"


def options(kind: str, name: str) -> list[str]:
    """The names of the fields of the class registered under `name`, with those of the classes of ours above it.

    Example:
        >>> options("method", "herding"), "steps" in options("method", "lors")
        (['per_class'], True)
    """
    path, found = registry.file_of(kind, name), _parse(kind, name)
    return list(dict.fromkeys(_fields(path, found))) if path and found else []


def arguments(cls: type) -> dict[str, str]:
    """What the `Args:` of a class and of the classes above it say of each field; `a, b: text` describes both."""
    from docstring_parser.google import parse

    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__doc__ and (base is cls or is_dataclass(base)):
            for entry in parse(base.__doc__).params:
                text = " ".join((entry.description or "").split())
                names = [name.strip() for name in entry.arg_name.split(",")]
                found |= {name: text for name in names if not (text.startswith("see `") and name in found)}
    return {f.name: found.get(f.name, "") for f in fields(cls)} if is_dataclass(cls) else found


def spaces() -> dict[str, str]:
    """The ready spaces: modalities, the checkpoint by default, and the licence of its weights.

    Example:
        >>> spaces()["clap"]
        'audio, text; laion/clap-htsat-unfused; licence: Apache-2.0'
    """
    path = ROOT / "spaces" / "ready.py"
    tree, above = ast.parse(path.read_text(encoding="utf-8")), _find(path, "Ready")
    table = _assigned(tree, "READY")
    assert isinstance(table, ast.Dict) and above
    says = {}
    for name, call in zip(map(ast.literal_eval, table.keys), table.values, strict=True):  # type: ignore[arg-type]
        assert isinstance(call, ast.Call)
        given = dict(zip(_fields(*above), map(ast.literal_eval, call.args), strict=False))
        parts = [", ".join(given["modalities"]), given.get("checkpoint"), f"licence: {given['licence']}"]
        says[name] = "; ".join(filter(None, parts))
    return {**says, "bound": summary("encoder", "bound")}


def _fields(path: Path, found: ast.ClassDef) -> list[str]:
    names = []
    for base in found.bases:
        above = _find(path, base.id) if isinstance(base, ast.Name) else None
        names += _fields(*above) if above else []
    body = [node for node in found.body if isinstance(node, ast.AnnAssign)] if _is_frozen(found) else []
    own = [node.target.id for node in body if isinstance(node.target, ast.Name) and "ClassVar" not in ast.dump(node)]
    return names + own


def _find(path: Path, name: str) -> tuple[Path, ast.ClassDef] | None:
    """The class `name` of the module at `path`, there or where it is imported from."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return path, node
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            package, *parts = node.module.split(".")
            module = ROOT.joinpath(*parts)
            if package == ROOT.name:
                return _find(module / "__init__.py" if module.is_dir() else module.with_suffix(".py"), name)
    return None


@lru_cache
def _parse(kind: str, name: str) -> ast.ClassDef | None:
    path = registry.file_of(kind, name)
    if path is None:
        return None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    exported = _strings(_assigned(tree, "__all__"))
    return next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name in exported), None)


def _assigned(tree: ast.Module, name: str) -> ast.expr | None:
    """What the module assigns to `name`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node.value
    return None


def _strings(node: ast.expr | None) -> list[str]:
    return [e.value for e in getattr(node, "elts", []) if isinstance(e, ast.Constant) and isinstance(e.value, str)]


def _is_frozen(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.dump(decorator) for decorator in node.decorator_list)
