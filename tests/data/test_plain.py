"""Plain values that somebody else wrote: what is no such value is refused at once, with its place."""

import time
from pathlib import Path

import pytest
import yaml

from limbeck.commands._line import read_config
from limbeck.core.recipe import Recipe
from limbeck.data.plain import INTEGER, NONE, NUMBER, PLAIN, TEXT, check, dump_json, escape_surrogates, read_json, seal
from limbeck.data.plain_yaml import parse_yaml, read_yaml
from limbeck.errors import ConfigError, LimbeckError, StorageError

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 10)}]\n" for i in range(8)
)
WRONG = {
    "an alias bomb": (BOMB, "aliases stand for more than 20,000 values, see --limits"),
    "a list that holds itself": ("seed: &a [*a]", "line 1: it holds itself"),
    "a mapping that holds itself": ("a: 1\nmethod: &a {name: cf, x: *a}", "line 2: it holds itself"),
    "an alias of nothing": ("a: *b", "line 1: .*undefined alias"),
    "nested": ("seed: " + "[" * 3000, "line 1: it is nested more than 32 deep"),
    "nested by aliases": (
        "a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(40)),
        "nested more than 32",
    ),
    "a key twice": ("seed: 1\npairs: 3\nseed: 2", "line 3: the key 'seed' stands there twice"),
    "a key twice, below": ("method:\n  steps: 1\n  'steps': 2", "line 3: the key 'steps' stands there twice"),
    "a key that is no text": ("a: 1\n? {b: 1}\n: 1", "line 2: a key must be a text"),
    "5000 digits": ("seed: " + "1" * 5000, "line 1: .*is no int"),
    "an int that is none": ("a:\n- !!int x", "line 2: 'x' is no int"),
    "an int of nothing": ("a: !!int ''", "line 1: '' is no int"),
    "a float that is none": ("a: !!float x", "is no float"),
    "a bool that is none": ("a: !!bool x", "is no bool"),
    "an int that is a list": ("a: !!int [1]", "tagged 'int' and is none"),
    "a timestamp": ("a: !!timestamp 2001-01-01", "line 1: a value is tagged 'timestamp'"),
    "a set": ("a: !!set {b}", "tagged 'set'"),
    "pairs": ("a: !!omap [b: 1]", "tagged 'omap'"),
    "bytes": ("a: !!binary aGk=", "tagged 'binary'"),
    "a call": ("a: 1\nb: !!python/object/apply:os.system [x]", "line 2: a value is tagged 'python/object/apply"),
    "two documents": ("a: 1\n---\nb: 2", "line 2: .*another document"),
    "a merge of a number": ("<<: 5", "line 1: << takes a mapping"),
    "a tab": ("a:\n\tb: 1", "line 2"),
    "a control character": ("a: 1\nb: \x1b[2J", "line 2: the character"),
    "never closed": ('a: 1\nb: "x', "line 2"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_yaml_that_says_more_than_plain_values(kind: str, tmp_path: Path) -> None:
    text, says = WRONG[kind]
    (tmp_path / "r.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(ValueError, match=says):
        parse_yaml(text)
    with pytest.raises(ConfigError, match=rf"r\.yaml is not YAML that can be read here: .*{says}"):
        read_config(tmp_path / "r.yaml")
    with pytest.raises(StorageError, match=rf"r\.yaml is not YAML that can be read here: .*{says}"):
        Recipe.read(tmp_path / "r.yaml")
    assert time.process_time() - start < 5


def test_yaml_means_what_the_same_word_means_on_a_command_line() -> None:
    text = "[1, -1, 1.5, 1.0e-3, 1e-3, .5, 010, 0x10, 1:30, 2001-99-99, true, null, '1', 1_000, -.inf, no]"
    numbers, texts = [1, -1, 1.5, 0.001], ["1e-3"]
    values = [
        *numbers,
        *texts,
        0.5,
        "010",
        "0x10",
        "1:30",
        "2001-99-99",
        True,
        None,
        "1",
        "1_000",
        float("-inf"),
        False,
    ]
    assert parse_yaml(text) == values
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a")["b"] == {"x": 3, "y": 2}
    assert parse_yaml("") is None


def test_every_recipe_that_is_written_is_read(tmp_path: Path) -> None:
    odd = {"name": "cf", "lr": 1e-05, "x": float("inf"), "y": "1e-3", "z": "no", "w": [1, None, "2001-01-01", "1:30"]}
    recipe = Recipe(source={"name": "folder:a\udce9\x1b\u2028\U0001f600"}, method={**odd, "none": None}, seed=-1)
    (tmp_path / "r.yaml").write_text(recipe.yaml(), encoding="utf-8")
    assert Recipe.read(tmp_path / "r.yaml") == recipe


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it must be a mapping, got None"),
        ("- 1", "it must be a mapping, got a list"),
        ("evil: 1", "it has the key 'evil', which does not belong there"),
        ("seed: x", "seed must be a whole number, got 'x'"),
        ("seed: 1.5", "seed must be a whole number"),
        ("method: 5", "method must be a mapping"),
        ("source: {name: [a]}", "source.name must be a text"),
        ("space: {image: {width: 3}}", "space.image lacks name"),
        ("fingerprints: {source: 1}", "fingerprints.source must be a text"),
        ("1: 2", "it has the key '1', which does not belong there"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(StorageError, match=f"is not a recipe: {says}"):
        Recipe.read(tmp_path / "r.yaml")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "absent.yaml", "remedy", ConfigError)
    with pytest.raises(ConfigError, match="it is not a file; remedy"):
        read_yaml(tmp_path, "remedy", ConfigError)
    (tmp_path / "large.yaml").write_text("#" * (256 * 2**10 + 1))
    with pytest.raises(ConfigError, match="more than 262,144 bytes"):
        read_yaml(tmp_path / "large.yaml", "remedy", ConfigError)
    (tmp_path / "utf16.yaml").write_bytes("a: 1".encode("utf-16"))
    with pytest.raises(ConfigError, match=r"it is not UTF-8 \(byte 0\)"):
        read_yaml(tmp_path / "utf16.yaml", "remedy", ConfigError)
    (tmp_path / "bom.yaml").write_bytes("a: 1".encode("utf-8-sig"))
    assert read_yaml(tmp_path / "bom.yaml", "remedy", ConfigError) == {"a": 1}


SHAPE = {"name": TEXT, "n?": INTEGER, "rows?": [{"x": NUMBER}], "one?": (NONE, {"y": TEXT}), "rest?": {"*": PLAIN}}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "it must be a mapping, got a list"),
        ({}, "it lacks name"),
        ({"name": None}, "name must be a text, got None"),
        ({"name": "a", "more": 1}, "it has the key 'more'"),
        ({"name": "a", "n": True}, "n must be a whole number, got True"),
        ({"name": "a", "n": 10**400}, "got a number of too many digits"),
        ({"name": "a", "rows": {}}, "rows must be a list, got a mapping"),
        ({"name": "a", "rows": [{"x": 1}, {"x": float("nan")}]}, r"rows\[1\]\.x must be a finite number, got nan"),
        ({"name": "a", "one": {"y": 1}}, "one.y must be a text, got 1"),
        ({"name": "a", "rest": {"z": {1: 2}}}, "rest.z must be made of"),
    ],
)
def test_a_value_is_held_against_its_description(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check(value, SHAPE)


def test_a_value_of_the_description_passes() -> None:
    check({"name": "a", "n": -1, "rows": [{"x": 1}, {"x": 0.5}], "one": None, "rest": {"z": [{}, None]}}, SHAPE)


def test_json_comes_back_the_same_whatever_the_text(tmp_path: Path) -> None:
    value = {"a": 'photo\udce9 \ud800 "\\udce9" \xe9', "b": [float("inf"), 1e-300]}
    (tmp_path / "a.json").write_text(dump_json(value), encoding="utf-8")
    assert read_json(tmp_path / "a.json", PLAIN, "remedy", LimbeckError) == value
    assert seal(value) == seal(seal(value)) != seal({**value, "b": []})


def test_surrogates_are_shown() -> None:
    assert escape_surrogates("a\udce9\ud800\xe9") == r"a\xe9\ud800" + "\xe9"
    assert escape_surrogates("a\xe9") == "a\xe9"


def test_what_we_write_is_yaml_for_others(tmp_path: Path) -> None:
    recipe = Recipe(source={"name": "demo"}, method={"name": "cf", "lr": 1e-05}, seed=3)
    assert yaml.safe_load(recipe.yaml()) == parse_yaml(recipe.yaml()) == recipe.plain()
