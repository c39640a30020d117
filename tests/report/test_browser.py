"""The page in a real browser: no request, no error, no overflow, tabs that work, a dark mode that is dark."""

import io
import shutil

import pytest
import torch
from PIL import Image

from limbeck.data import Modality
from limbeck.objectives.similarity import Similarity
from limbeck.report import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory, small, score, source, history):
    metrics = [f"{way}@{k}" for way in ("IR", "TR") for k in (1, 5, 10)]
    scores = [
        score(method, pairs, (value, value + 2), metric)
        for metric in [*metrics, "mean"]
        for method, pairs, value in (("random", 6, 11.0), ("cf", 6, 20.0), ("full", 5012, 41.0))
    ]
    learned, plain = Similarity(6, "full"), small("cf")
    with torch.no_grad():
        learned.matrix[4, 1], learned.matrix[1, 5] = 1, -1
    masks = torch.zeros(6, 1, 16, 16, dtype=torch.uint8)
    masks[:, :, 4:12, 4:12] = 255
    tensors = {**plain.tensors, "similarity.matrix": learned.matrix.detach(), "mask": masks}
    modalities = {**plain.modalities, "mask": Modality("mask", (1, 16, 16))}
    sets = [
        small("random", learned=False),
        small("cf", tensors=tensors, modalities=modalities, similarity=learned.describe()),
    ]
    return page(
        tmp_path_factory.mktemp("page") / "report.html",
        sets=sets,
        scores=scores,
        history={"cf": history},
        source=source,
    )


@pytest.fixture
def visit(browser, path):
    """Opens the page at a width and in a colour scheme; fails the test on a request or a message of the console."""
    contexts, trouble = [], []

    def visit(width=1280, scheme="light", javascript=True):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=javascript
        )
        contexts.append(context)
        view = context.new_page()
        view.on(
            "request",
            lambda request: None if request.url.startswith(("data:", path.as_uri())) else trouble.append(request.url),
        )
        view.on("console", lambda message: trouble.append(message.text))
        view.on("pageerror", lambda error: trouble.append(str(error)))
        view.goto(path.as_uri())
        return view

    yield visit
    for context in contexts:
        context.close()
    assert trouble == []


def _brightness(colour):
    return sum(float(x) for x in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3


def test_the_table_carries_the_numbers(visit):
    view = visit()
    rows = [
        [cell.strip() for cell in row.locator("th, td").all_inner_texts()] for row in view.locator(".scores tr").all()
    ]
    assert rows[0] == ["Set", "Pairs", "Size", "mean", "IR@1", "IR@5", "IR@10", "TR@1", "TR@5", "TR@10", "Time"]
    assert rows[1][:4] == ["random-6", "6", "6.0 kB", "12.0 \u00b1\u00a01.4"]
    assert [row[0] for row in rows[1:]] == ["random-6", "cf-6", "full-5012"]
    assert view.locator("td strong").all_inner_texts() == ["21.0"] * 7
    assert (
        view.locator("h1").inner_text().replace("\u00a0", " ") == "6 pairs, 6.0 kB, keep 50 % of what 5,012 pairs teach"
    )


def test_every_picture_is_decoded_and_described(visit):
    view = visit()
    pictures = view.locator("img").evaluate_all("xs => xs.map(x => [x.complete && x.naturalWidth > 0, x.alt])")
    assert len(pictures) > 12 and all(decoded and alt for decoded, alt in pictures)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(visit, width):
    view = visit(width)
    view.locator("summary").evaluate_all("xs => xs.forEach(x => x.parentElement.open = true)")
    assert view.evaluate("document.documentElement.scrollWidth") <= width


def test_tabs_show_one_set_at_a_time_without_javascript(visit):
    view = visit(javascript=False)
    panels = view.locator(".panel")
    assert [panels.nth(i).is_visible() for i in (0, 1)] == [False, True]
    view.get_by_text("random", exact=True).first.click()
    assert [panels.nth(i).is_visible() for i in (0, 1)] == [True, False]
    assert panels.nth(0).locator("li .main").count() == 6
    view.keyboard.press("ArrowRight")
    assert [panels.nth(i).is_visible() for i in (0, 1)] == [False, True]


def test_dark_mode_is_dark_and_print_is_not(visit):
    for scheme, media, low, high in (
        ("light", "screen", 240, 255),
        ("dark", "screen", 0, 40),
        ("dark", "print", 240, 255),
    ):
        view = visit(scheme=scheme)
        view.emulate_media(media=media)
        assert low <= _brightness(view.evaluate("getComputedStyle(document.body).backgroundColor")) <= high


def test_the_edge_of_a_mask_lies_on_its_image_until_it_is_pointed_at(visit):
    view = visit()
    image = view.locator(".panel:visible .masked").first
    image.scroll_into_view_if_needed()
    outer, inner = image.bounding_box(), image.locator("path").bounding_box()
    for side, start in (("width", "x"), ("height", "y")):
        assert abs(inner[side] / outer[side] - 0.5) < 0.03
        assert abs((inner[start] - outer[start]) / outer[side] - 0.25) < 0.03
    opacity = "x => getComputedStyle(x).opacity"
    assert image.locator("svg").evaluate(opacity) == "1"
    image.hover()
    assert image.locator("svg").evaluate(opacity) == "0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(visit, scheme):
    """WCAG AA: 4.5 to 1 for every colour that text is written in, against the page."""
    view = visit(scheme=scheme)
    ratios = view.evaluate("""() => {
        const parse = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const luminance = c => parse(c).map(x => x / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
            .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
        const paper = luminance(getComputedStyle(document.body).backgroundColor);
        return ["--ink", "--muted", "--accent"].map(name => {
            document.body.style.outlineColor = `var(${name})`;
            const other = luminance(getComputedStyle(document.body).outlineColor);
            return (Math.max(paper, other) + 0.05) / (Math.min(paper, other) + 0.05);
        });
    }""")
    assert min(ratios) >= 4.5


def test_figures_take_the_colours_of_the_scheme(visit):
    texts = [
        visit(scheme=s).locator("svg text").first.evaluate("x => getComputedStyle(x).fill") for s in ("light", "dark")
    ]
    assert _brightness(texts[0]) < 128 < _brightness(texts[1])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_map_of_a_similarity_has_the_colours_of_the_scheme(visit, scheme):
    """Row 4, column 1 above zero, row 1, column 5 below it, row 2, column 3 near it."""
    view = visit(scheme=scheme)
    shot = Image.open(io.BytesIO(view.locator(".relation svg").screenshot())).convert("RGB")
    box = view.locator(".relation svg").bounding_box()
    cells = view.locator(".relation svg mask image").first.bounding_box()

    def seen(row, column):
        x = cells["x"] - box["x"] + cells["width"] * (column + 0.5) / 6
        y = cells["y"] - box["y"] + cells["height"] * (row + 0.5) / 6
        return shot.getpixel((round(x), round(y)))

    wanted = {(4, 1): "var(--s0)", (1, 5): "var(--s1)", (2, 3): "var(--paper)"}
    for place, colour in wanted.items():
        view.evaluate(f"document.body.style.outlineColor = '{colour}'")
        exact = view.evaluate("getComputedStyle(document.body).outlineColor")
        channels = [int(c) for c in exact.removeprefix("rgb(").removesuffix(")").split(",")]
        assert max(abs(a - b) for a, b in zip(seen(*place), channels, strict=True)) < 60, (place, exact)
