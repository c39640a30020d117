"""`limbeck demo`, with toy data in place of the emoji."""

from functools import partial

import pytest

from limbeck.check import toy_source
from limbeck.commands.demo import Demo
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
    monkeypatch.setattr("limbeck.evaluation.compare", partial(compare, steps=5, noise=(1.0,), looks=1))
    said = [Demo(out=tmp_path, pairs=4, seeds=2, steps=steps).execute(lambda *x: None).text for steps in (1, 2)]
    old, new = (set(options["history"]) for options in pages)
    assert len(old) == len(new) == 2 and not old & new
    assert {len(rows) for rows in pages[1]["history"].values()} == {2}
    for steps, text in zip((1, 2), said, strict=True):
        assert f"cf(steps={steps}) - best coreset (" in text and "paired over 2 seeds" in text
