"""`limbeck.source`: names, options, distilled sets."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import limbeck as lb
from limbeck import registry
from limbeck.data.layout import Layout
from limbeck.errors import ConfigError, DataError, UnknownName


def test_unknown_layout_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean webdataset"):
        lb.source("webdatset:x")


def test_unknown_option_lists_the_options(flickr: Path) -> None:
    with pytest.raises(ConfigError, match=r"no option capton; its options: resolution, .*annotations, images"):
        lb.source(f"karpathy:{flickr}", capton="x")


def test_a_bare_folder_asks_for_its_layout(flickr: Path) -> None:
    with pytest.raises(ConfigError, match="as in 'folder:"):
        lb.source(str(flickr))
    with pytest.raises(DataError, match="no folder"):
        lb.source("set:nowhere")


def test_a_saved_set_is_a_source(tmp_path: Path) -> None:
    problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
    small = lb.distill(problem, lb.methods.Random())
    small.save(tmp_path / "set")
    for spec in (str(tmp_path / "set"), f"set:{tmp_path / 'set'}"):
        assert lb.source(spec).fingerprint == small.fingerprint
    with pytest.raises(DataError, match="no split 'test'"):
        lb.source(str(tmp_path / "set"), "test")
    with pytest.raises(ConfigError, match="no options"):
        lb.source(str(tmp_path / "set"), resolution=8)


@pytest.mark.parametrize("name", registry.names("source"))
def test_every_layout_documents_its_options_and_its_shape(name: str) -> None:
    layout = registry.get("source", name)
    text = layout.__doc__ or ""
    assert issubclass(layout, Layout) and layout().path == "", "a constructor does no work"
    assert all(f"{option}:" in text for option in (f.name for f in fields(layout))), "each option is documented"
    assert re.search(r"\S+/[ \n]", text) or "hf:data" in text, "the shape on disk is drawn"


def test_decoding_keeps_a_cache_of_its_own(flickr: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    cache = lb.Cache(tmp_path / "mine")
    lb.source(f"karpathy:{flickr}", cache=cache, tick=lambda *what: told.append(what), resolution=8)
    assert told == [("decoding train", 4, 4)] and len(list((tmp_path / "mine").rglob("pixels"))) == 1
