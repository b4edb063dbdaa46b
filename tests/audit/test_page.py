"""The audit's page: everything escaped, nothing fetched, whole with any part missing, readable in a real browser."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from burnish.audit import Auditor, audit
from burnish.audit.page import page
from burnish.data.render import Renderer
from burnish.group import Completion, Group, Preferences, Scores
from burnish.pages import numbers
from burnish.pages.histogram import PLOT, histogram
from burnish.pages.intervals import ShareRow, shares
from burnish.pages.svg import Picture, ticks
from tests.zoo import tokenizer

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
EVIL = "<script>alert(1)</script> \"'&"
TURNED = "a\u202eb\x00c\ud800d"  # turns the line around, ends it, and is no Unicode text
VOID = {"meta", "link", "br", "img", "hr", "input"}
CHOICES = ("verdict", "severity")  # the audit's own words, which no text of the data reaches


def full() -> dict[str, Any]:
    """An audit with every part: two sources, raters, scores, a tokenizer, and texts that attack the page."""
    train = Auditor(Renderer(tokenizer("chatml"), "plain"))
    words = ["alpha", "beta", "gamma", "delta", "omega"]
    for i in range(90):
        long, short = " ".join(words[(i + j) % 5] for j in range(9)) + f"\n\n- item {i}", f"no {words[i % 5]}"
        source = f"one {EVIL}" if i % 2 else "two"
        sides = (Completion(long, "a"), Completion(short, "b"))
        train.take(
            [Group(f"Say {i // 2} {EVIL}", sides, Preferences(((0, 1, 1.0),)), source=source, where=f"d.jsonl:{i}")]
        )
    scored = tuple(Completion(t) for t in ("good answer", "fair", "bad one"))
    train.take([Group("rank these", scored, Scores((3.0, 2.0, 0.5)), source="two", where=f"{EVIL}:1")])
    train.take([Group("rank \x00these", scored, Scores((3.0, 2.5, 0.5)), source="two", where=f"{EVIL}:2")])
    train.sources.append({"name": EVIL, "format": "pairs", "read_as": "x", "groups": 92, "prompts": 47, "pairs": 96,
                          "left_out": 0, "faults": 0})  # fmt: skip
    found = audit(train).to_json()
    own = {"pairs": 5, "chosen": -1.0, "rejected": -1.5, "preferred_already": 0.6}
    raters = {"rate": 0.66, "pairs": 454, "ceiling": 0.79, "said": "two raters agree in 66%"}
    refused = {"code": "leak", "severity": "refuse", "said": "14 prompts are held out as well", "count": 14,
               "rows": ["d.jsonl:3", "d.jsonl:8"], "examples": ["a prompt\nof two lines"],
               "action": "data.dedupe = true"}  # fmt: skip
    whole = {"title": EVIL, "made": "now", "onpolicy": own, "agreement": raters, "verdict": "refused"}
    return found | whole | {"findings": [*found["findings"], refused]}


FULL = full()


def each_text(value: Any, change: Callable[[str], str], name: str = "") -> Any:
    """The same JSON with every text changed."""
    if isinstance(value, dict):
        return {key: each_text(inner, change, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [each_text(inner, change, name) for inner in value]
    return change(value) if isinstance(value, str) and name not in CHOICES else value


class Balance(HTMLParser):
    """Fails on a tag that closes what is not open; knows the tags seen and the headings' order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.levels: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def parse(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert not parser.open
    assert parser.levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(parser.levels))
    return parser


def test_every_text_is_escaped_and_nothing_is_fetched() -> None:
    for html in (page(FULL), page(each_text(FULL, lambda text: EVIL + text))):
        parsed = parse(html)
        assert "script" not in parsed.seen and "<script>" not in html and "&lt;script&gt;" in html
        assert EVIL not in html and "\"'&" not in html
        assert not re.search(r"(?:https?:)?//|url\(|@import", html)
        assert "default-src 'none'" in html  # and a browser would refuse what slipped through


def test_text_that_would_hide_or_turn_is_shown_as_its_escape() -> None:
    html = page(each_text(FULL, lambda text: TURNED + text))
    assert not set("\u202e\x00\ud800") & set(html) and r"a\u202eb\x00c\ud800d" in html
    html.encode("utf-8")


@pytest.mark.parametrize("missing", sorted(FULL))
def test_any_part_may_be_missing_or_null(missing: str) -> None:
    parse(page({name: value for name, value in FULL.items() if name != missing}))
    parse(page({**FULL, missing: None}))
    if isinstance(FULL[missing], list | dict):
        parse(page({**FULL, missing: type(FULL[missing])()}))


@pytest.mark.parametrize("value", [None, float("nan")])
def test_numbers_may_be_missing(value: float | None) -> None:
    contrast = dict.fromkeys(("same_model", "median_edit", "near_identical", "score_gap"))
    rows = [{**row, "p_longer": value, "low": value, "high": value, "mean_gap": value} for row in FULL["length"]]
    html = page({**FULL, "contrast": {**FULL["contrast"], **contrast}, "length": rows})
    assert "Is the longer answer" not in html and "nan" not in re.sub(r"<style>.*</style>", "", html, flags=re.S)
    assert "None" not in html.replace("None: no fault", "")


def test_a_page_of_nothing() -> None:
    assert "clean" in page({}) and "<svg" not in page({})
    empty = {"edges": [], "counts": []}
    assert "<svg" not in page(
        {"gap_histogram": empty, "contrast": {"edit_histogram": {"edges": [0, 1], "counts": [0]}}}
    )


def test_the_findings_decide_where_no_verdict_is_given() -> None:
    html = page({**FULL, "verdict": None})
    assert 'class="verdict refused"' in html and "1 refusal, " in html
    assert html.index("finding refuse") < html.index("finding warn")


def test_places_are_counted_on_and_left_out_where_there_are_none() -> None:
    finding = {"code": "x", "severity": "warn", "said": "s", "count": 1200, "rows": ["d.jsonl:3", "d.jsonl:8"]}
    assert "lines 3, 8 of d.jsonl and 1,198 more<" in page({"findings": [finding]})
    assert 'class="rows"' not in page({"findings": [{**finding, "rows": []}]})


def test_what_to_do_is_toml() -> None:
    actions = [{"setting": "data.max_length_gap = 100", "why": "two\nlines <b>"}, {"setting": 'objective.name = "dpo"'}]
    block = re.search(r"<pre><code>(.*?)</code></pre>", page({"actions": actions}), re.S)
    assert block
    text = unescape(re.sub(r"</?span>", "", block[1]))
    assert tomllib.loads(text) == {"data": {"max_length_gap": 100}, "objective": {"name": "dpo"}}
    assert text.startswith("# two\n# lines <b>\ndata.")


def test_every_picture_is_there() -> None:
    html = page(FULL)
    for title in ("Length of the chosen", "Lengths of chosen", "Is the longer", "Is the answer with more",
                  "How far the two answers", "How far the two scores"):  # fmt: skip
        assert f'aria-label="{title}' in html, title
    assert html.count("<svg") == html.count("<figcaption") == 6


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 7), (-340, 340), (0, 0.03), (1e5, 9e6), (3, 3)):
        marks = ticks(low, high)
        assert 1 <= len(marks) <= 7 and all(low - 1e-9 <= mark <= high + 1e-9 for mark in marks)
        steps = {round(b - a, 9) for a, b in pairwise(marks)}
        assert len(steps) <= 1 and all(str(step).strip("0.").rstrip("0")[:1] in "125" for step in steps)
    assert ticks(0, 2, whole=True) == [0, 1, 2]


def test_numbers_for_people() -> None:
    assert [numbers.number(v) for v in (1234567, -12.4, 0.25, 0, None)] == [
        "1,234,567",
        "\u221212",
        "0.25",
        "0",
        "\u2013",
    ]
    assert [numbers.tick(v) for v in (2000, 250_000, 1.2e6)] == ["2,000", "250k", "1.2M"]
    assert [numbers.share(v) for v in (0.667, 0.042, 0.00001, 0, 1, 0.05, None)] == [
        "67%", "4.2%", "<0.1%", "0%", "100%", "5%", "\u2013"
    ]  # fmt: skip


def test_empty_pictures_are_left_out() -> None:
    sides = ("less", "more")
    assert histogram([0, 1], {"a": [0]}, "t", "x") is None is histogram([], {}, "t", "x")
    assert shares([], "t", "x", sides) is None is shares([ShareRow("a", None, 0, 1, "")], "t", "x", sides)


def drawn(picture: Picture | None) -> str:
    assert picture is not None
    return picture.__html__()


def test_bars_have_the_heights_of_their_counts() -> None:
    svg = drawn(histogram([0, 1, 2, 3], {"a": [1, 2, 4], "b": [4, 0, 1]}, "t", "x"))
    heights = [float(h) for h in re.findall(r'<rect class="bar"[^>]* height="([\d.]+)"', svg)]
    assert heights == pytest.approx([PLOT / 4, PLOT / 2, PLOT], abs=0.2)
    steps = re.search(r'd="M56.0 162.0V30.0H[\d.]+V162.0H[\d.]+V129.0H454.0V162.0"', svg)
    assert steps, svg


def test_a_bar_has_the_colour_of_its_side_and_none_on_zero() -> None:
    svg = drawn(histogram([-3, -1, 1, 3], {"a": [1, 2, 4]}, "t", "x", sides=("less", "more")))
    assert re.findall(r'class="bar (\w+)"', svg) == ["left", "even", "right"] and "\u2190 less" in svg
    rows = [ShareRow("a", 0.7, 0.6, 0.8, ""), ShareRow("b", 0.5, 0.4, 0.6, ""), ShareRow("c", 0.3, 0.2, 0.4, "")]
    svg = drawn(shares(rows, "t", "x", ("less", "more")))
    assert re.findall(r'<g class="(\w+)"', svg) == ["right", "even", "left"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    reason = "" if CHROMIUM.exists() else f"no Chromium at {CHROMIUM}"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        reason = "playwright is not installed"
    if reason:
        if os.environ.get("BURNISH_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS.split())
        yield opened
        opened.close()


# [contrast, text] of every element that has text of its own, against the first ground behind it (WCAG 2)
CONTRASTS = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = rgb => { const [r, g, b] = rgb.slice(0, 3).map(v => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const own = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  return [...document.body.querySelectorAll("*")].filter(e => own(e) && e.tagName !== "title").map(e => {
    const style = getComputedStyle(e);
    const a = light(parse(e.ownerSVGElement ? style.fill : style.color)), b = light(ground(e));
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim().slice(0, 40)]; }); }"""
# texts of pictures that are smaller than ten pixels, stick out, or lie over another (boxes are higher than letters)
CROWDED = """() => [...document.querySelectorAll("svg")].flatMap(svg => {
  const frame = svg.getBoundingClientRect(), size = parseFloat(getComputedStyle(svg).fontSize);
  const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
  const over = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  const wrong = texts.filter(([, t], i) => t.left < frame.left - 0.5 || t.right > frame.right + 0.5
    || t.top < frame.top - 0.5 || t.bottom > frame.bottom + 0.5 || texts.some(([, u], j) => i < j && over(t, u)));
  const small = size * frame.width / svg.viewBox.baseVal.width < 10 ? [`letters of ${svg.ariaLabel}`] : [];
  return [...small, ...wrong.map(([text]) => `${text} in ${svg.ariaLabel}`)]; })"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 400, 640, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    """No error, no request but the file, no sideways scroll, nothing crowded, contrast of 4.5 to 1 (WCAG 2, AA)."""
    file = tmp_path / "audit.html"
    file.write_text(page(FULL), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    errors: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(file.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = tab.evaluate(CONTRASTS)
    assert len(contrasts) > 100 and min(contrasts)[0] >= 4.5, min(contrasts)
    assert tab.evaluate(CROWDED) == []
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert max(ground) < 50 if scheme == "dark" else min(ground) > 240
    tab.emulate_media(media="print")
    assert min(tab.evaluate(CONTRASTS))[0] >= 4.5 and tab.evaluate("getComputedStyle(document.body).color") < "rgb(99"
    tab.close()
    assert not errors and [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
