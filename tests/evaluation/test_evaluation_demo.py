"""`limbeck demo`, with toy data in place of the emoji."""

from functools import partial

import pytest

from limbeck.check import toy_source
from limbeck.commands.demo import Demo, _unseen
from limbeck.errors import MissingDependency
from limbeck.evaluation import compare


@pytest.mark.slow
def test_the_page_holds_the_runs_just_made_and_no_older_ones(space, tmp_path, monkeypatch):
    pages = []

    def page(path, **options):
        pages.append(options)
        return path

    monkeypatch.setattr("limbeck.sources.source", lambda *a, **k: toy_source(16))
    monkeypatch.setattr("limbeck.spaces.build.space", lambda **k: space)
    monkeypatch.setattr("limbeck.report.page", page)
    monkeypatch.setattr("limbeck.commands.demo._unseen", lambda: ["convnet"])
    monkeypatch.setattr("limbeck.evaluation.compare", partial(compare, steps=5, noise=(1.0,), looks=1))
    said = [Demo(out=tmp_path, pairs=4, seeds=2, steps=steps).execute(lambda *x: None).text for steps in (1, 2)]
    old, new = (set(options["history"]) for options in pages)
    assert len(old) == len(new) == 2 and not old & new
    assert {len(rows) for rows in pages[1]["history"].values()} == {2}
    for steps, text in zip((1, 2), said, strict=True):
        assert (
            "unseen: convnet  of full" in text.splitlines()[1]
            and f"convnet: label_distillation(steps={steps}) - best" in text
        )
        assert f"label_distillation(steps={steps}) - best coreset (" in text and "paired over 2 seeds" in text


def test_the_demo_takes_the_first_encoder_that_is_installed_and_says_how_to_install_one(monkeypatch, capsys):
    def get(kind, name):
        if name in there["missing"]:
            raise MissingDependency(f"the encoder {name!r}", "weights", f"pip install {name}")

    there = {"missing": ()}
    monkeypatch.setattr("limbeck.registry.get", get)
    for there["missing"], taken in (((), "mobilenet_v2"), (("mobilenet_v2",), "efficientnet_lite2")):
        assert _unseen() == [taken]
    assert capsys.readouterr().err == ""
    there["missing"] = ("mobilenet_v2", "efficientnet_lite2")
    assert _unseen() == [] and "pip install mobilenet_v2" in capsys.readouterr().err
