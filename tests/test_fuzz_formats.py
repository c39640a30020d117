"""Whatever bytes a set, a space, a recipe, a table of scores or a command line holds, it is used as it is or refused with a message."""

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import limbeck as lb
from limbeck.cli import _loaded, commands, help_of_line
from limbeck.commands._options import Part, parse
from limbeck.core.card import card
from limbeck.core.recipe import Recipe
from limbeck.errors import LimbeckError
from limbeck.evaluation import table
from limbeck.evaluation.score import Score, read_scores, write_scores
from limbeck.spaces.binder import Binding, bind, load_space
from whole import TABLE, TENSORS, whole_set, with_file, with_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
few = partial(  # the same cases at every run; a failing one is not made smaller, which takes minutes
    settings,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", "image", "../x", "/etc/passwd", "nan", "9" * 30, "\ud800", "\0", "hf:x/y", "call:os.system"]
    ),
    st.text(max_size=8),
)
NUMBERS = st.one_of(
    st.integers(-3, 20), st.floats(), st.sampled_from([2**31, 2**63, 10**40, 10**400, 1e308, -0.0, True, False])
)
LEAVES = st.one_of(st.none(), NUMBERS, TEXTS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
CHANGES = st.lists(st.tuples(st.integers(0, 9999), VALUES, st.booleans()), min_size=1, max_size=2)


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a tree of plain values stands."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in parts:
        yield (*at, key)
        yield from places(value, (*at, key))


def changed(tree: Any, changes: list[tuple[int, Any, bool]]) -> Any:
    """The tree with values at some places replaced, or left out."""
    tree = copy.deepcopy(tree)
    for number, value, drop in changes:
        where = list(places(tree))
        if not where:
            return tree
        *above, last = where[number % len(where)]
        part = tree
        for key in above:
            part = part[key]
        if drop:
            del part[last]
        else:
            part[last] = value
    return tree


def damaged(raw: bytes, seed: int) -> bytes:
    """Bytes with bits flipped, parts left out, put in or cut off."""
    rng, data = random.Random(seed), bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(data)) if data else 0
        match rng.randrange(4 if data else 1):
            case 0:
                data[place:place] = rng.randbytes(rng.choice([1, 4, 64]))
            case 1:
                del data[place : place + rng.choice([1, 4, 64])]
            case 2:
                data[place] ^= 1 << rng.randrange(8)
            case _:
                data[place] = rng.choice(b'\x00\xff\x7f\x80[{"0')
    return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.1 else data)


def ours(use: Callable[[], Any]) -> None:
    """Calls; errors of ours are an answer as good as any, all others fail."""
    try:
        use()
    except LimbeckError as error:
        assert str(error).strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_set().save(tmp_path_factory.mktemp("fuzz") / "set")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "space"
    encoders = lb.space(image={"name": "convnet", "width": 8}, text={"name": "bag_of_words", "width": 8, "buckets": 64})
    bind(lb.check.toy_source(), encoders, folder, Binding(dim=4, hidden=(8,), steps=2, batch=16))
    return folder


def read_set(folder: Path) -> None:
    small = lb.load(folder)
    _ = (
        small.batch(range(len(small))),
        small.fingerprint,
        small.sizes,
        small.relation,
        small.coverage,
        card(small, small.nbytes),
    )


def test_manifests(folder: Path, tmp_path: Path) -> None:
    good = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))

    @few(max_examples=400)
    @given(CHANGES, st.booleans())
    def run(changes: list[tuple[int, Any, bool]], sealed: bool) -> None:
        def change(manifest: dict[str, Any]) -> None:
            manifest.clear()
            manifest.update(changed(good, changes))

        ours(lambda: read_set(with_manifest(folder, tmp_path / "set", change, sealed)))

    run()


@pytest.mark.parametrize("name", [TABLE, TENSORS])
def test_bytes_with_the_right_digests(folder: Path, tmp_path: Path, name: str) -> None:
    raw = (folder / name).read_bytes()
    for seed in range(300):
        ours(lambda seed=seed: read_set(with_file(folder, tmp_path / "set", name, damaged(raw, seed))))  # type: ignore[misc]


def test_bytes_of_a_manifest(folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "set")
    raw, good = (folder / "manifest.json").read_bytes(), lb.load(folder).recipe
    for seed in range(400):
        (copied / "manifest.json").write_bytes(damaged(raw, seed))

        def read() -> None:
            assert lb.load(copied).recipe == good  # opened means opened as what it was

        ours(read)


def test_spaces(space: Path, tmp_path: Path) -> None:
    good = json.loads((space / "space.json").read_text(encoding="utf-8"))

    def read(folder: Path) -> None:
        for encoder in load_space(folder).encoders.values():
            _ = encoder.dim, encoder.licence, encoder.fingerprint

    @few(max_examples=300)
    @given(CHANGES)
    def run(changes: list[tuple[int, Any, bool]]) -> None:
        def change(manifest: dict[str, Any]) -> None:
            manifest.clear()
            manifest.update(changed(good, changes))

        ours(lambda: read(with_manifest(space, tmp_path / "space", change)))

    run()
    raw = (space / "tensors.safetensors").read_bytes()
    for seed in range(100):
        data = damaged(raw, seed)
        ours(lambda data=data: read(with_file(space, tmp_path / "space", "tensors.safetensors", data)))  # type: ignore[misc]


def test_scores(tmp_path: Path) -> None:
    what = {"name": "a", "method": "cf", "pairs": 9, "bytes": 9, "protocol": "p", "fingerprint": "f", "metric": "m"}
    path = write_scores(tmp_path / "s.json", [Score.of([1.0, 2.0], **what), Score.of([3.0], **{**what, "metric": "n"})])
    raw = path.read_bytes()
    good = json.loads(raw)

    def read() -> None:
        scores = read_scores(path)
        _ = [table(scores, format) for format in ("text", "markdown", "csv", "json")]

    @few(max_examples=500)
    @given(CHANGES)
    def run(changes: list[tuple[int, Any, bool]]) -> None:
        path.write_text(json.dumps(changed(good, changes)))
        ours(read)

    run()
    for seed in range(300):
        path.write_bytes(damaged(raw, seed))
        ours(read)


RECIPE = {
    "source": {"name": "folder:x", "resolution": 16, "split": "train"},
    "space": {"image": {"name": "convnet", "width": 8}, "text": {"name": "bag_of_words"}},
    "method": {"name": "cf", "steps": 5, "lr": 0.1},
    "budget": {"pairs": 4},
    "seed": 0,
    "fingerprints": {"source": "a"},
}
ODD_YAML = [
    b"&a ",
    b"*a",
    b"<<: *a\n",
    b"? ",
    b"!!binary ",
    b"!!timestamp ",
    b"\t",
    b"2001-99-99",
    b"1:60:60",
    b".inf",
    b"1" * 5000,
]
ODD_YAML += [
    b"!!set",
    b"!!int ",
    b"!!python/object/apply:os.system ['x']",
    b"---\n",
    b"%YAML 9.9\n",
    b"\xff",
    b"\x85",
    b"|\n",
    b"[" * 50,
]


def read_recipe(path: Path, command: str) -> None:
    ours(lambda: Recipe.read(path).yaml())
    ours(lambda: parse(_loaded(command), ["--config", str(path)]))


def test_recipes(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"

    @few(max_examples=60)
    @given(CHANGES, st.sampled_from(["distill", "doctor", "compare", "embed", "evaluate", "bind", "audit"]))
    def run(changes: list[tuple[int, Any, bool]], command: str) -> None:
        text = yaml.safe_dump(changed(RECIPE, changes), sort_keys=False, allow_unicode=bool(changes[0][0] % 2))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        read_recipe(path, command)

    run()
    raw = yaml.safe_dump(RECIPE, sort_keys=False).encode()
    for seed in range(120):
        rng = random.Random(seed)
        place = rng.randrange(len(raw))
        data = raw[:place] + rng.choice(ODD_YAML) + raw[place:] if seed % 2 else damaged(raw, seed)
        path.write_bytes(data)
        read_recipe(path, "distill")


WORDS = [
    "demo",
    "none",
    "null",
    "",
    "-1",
    "0",
    "nan",
    "1e400",
    "true",
    "[",
    "]",
    "{}",
    "[1,2",
    "a=b",
    "=",
    ",",
    "x=",
    "cuda:9",
]
WORDS += [
    "folder:",
    "folder:/nowhere",
    "hf:",
    "bound:",
    "bound:x",
    "set:x",
    "manifest:\udce9",
    "call:",
    "call:os.system",
    "vectors:0",
]
WORDS += [
    "convnet:8",
    "convnet:\u00b2",
    "ensemble:convnet",
    "recipe:x",
    "*a",
    "&a [*a]",
    "!!python/object:x {}",
    "9" * 5000,
    "\0",
]
WORDS += [
    "cf",
    "lors",
    "edge",
    "random",
    "retrieval",
    "classification",
    "-",
    "---",
    "\x1b[2J",
    "${HOME}",
    "~",
    "1:30",
    "\u0661",
]


@pytest.mark.parametrize("command", commands())
def test_command_lines(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("method: {name: cf, steps: 3}\npairs: 4\n")
    names = [
        "config",
        "method",
        "method.steps",
        "method.lr",
        "pairs",
        "bytes",
        "seed",
        "seeds",
        "device",
        "space",
        "space.image",
    ]
    names += [
        "space.text",
        "source.resolution",
        "out",
        "run",
        "json",
        "debug",
        "allow",
        "protocol",
        "student",
        "methods",
        "vary",
        "cf.lr",
    ]
    names += [
        "captions",
        "masks",
        "on",
        "against",
        "weights",
        "captions.name",
        "protocol.steps",
        "hidden",
        "x",
        "",
        ".",
        "method.",
    ]
    words = st.one_of(st.sampled_from(WORDS), st.text(max_size=5), st.just("c.yaml"))
    option = st.tuples(st.sampled_from(names), words, st.sampled_from(["=", " ", ""]))

    def line(parts: list[Any]) -> list[str]:
        found: list[str] = []
        for part in parts:
            if isinstance(part, str):
                found.append(part)
            else:
                name, value, way = part
                found += {"=": [f"--{name}={value}"], " ": [f"--{name}", value], "": [f"--{name}"]}[way]
        return found

    @few(max_examples=40)
    @given(st.lists(st.one_of(option, words), max_size=4))
    def run(parts: list[Any]) -> None:
        def use() -> None:
            made = parse(_loaded(command), line(parts))
            for value in vars(made).values():
                for part in value if isinstance(value, tuple) else (value,):
                    if isinstance(part, Part) and part.kind not in ("source", "encoder"):
                        part.make()

        ours(use)
        assert help_of_line([command, *line(parts)])

    run()
