"""The audit's page: everything escaped, nothing fetched, whole with any part missing, readable in a real browser."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from burnish.audit import Auditor, audit, charts
from burnish.audit.page import page
from burnish.group import Completion, Group, Preferences, Scores
from burnish.render import Renderer
from tests.zoo import tokenizer

CHROMIUM = Path("/usr/bin/chromium")
EVIL = "<script>alert(1)</script> \"'&"
VOID = {"meta", "link", "br", "img", "hr", "input"}


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
    return found | {"title": EVIL, "made": "now", "onpolicy": own}


FULL = full()


class Balance(HTMLParser):
    """Fails on a tag that closes what is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def parse(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert not parser.open
    return parser


def test_every_text_is_escaped_and_nothing_is_fetched() -> None:
    html = page(FULL)
    parsed = parse(html)
    assert "script" not in parsed.seen and "<script>" not in html and "&lt;script&gt;" in html
    assert not re.search(r"(?:https?:)?//|url\(|@import", html.replace("<!doctype html>", ""))
    assert "\x00" not in html


@pytest.mark.parametrize("missing", sorted(FULL))
def test_any_part_may_be_missing_or_null(missing: str) -> None:
    parse(page({name: value for name, value in FULL.items() if name != missing}))
    if missing not in ("verdict",):
        parse(page({**FULL, missing: None}))


def test_every_picture_is_there() -> None:
    html = page(FULL)
    for title in (
        "Length of the chosen answer",
        "Lengths of chosen",
        "Is the longer answer",
        "Does the preferred",
        "Edit ",
    ):
        assert f'aria-label="{title}' in html, title
    assert html.count("<svg") == 6  # and the gap of the scores


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 7), (-340, 340), (0, 0.03), (1e5, 9e6), (3, 3)):
        marks = charts.ticks(low, high)
        assert 1 <= len(marks) <= 9 and all(low - 1e-9 <= mark <= high + 1e-9 for mark in marks)
        steps = {round(b - a, 9) for a, b in pairwise(marks)}
        assert len(steps) <= 1 and all(str(step).strip("0.").rstrip("0")[:1] in "125" for step in steps)


def test_empty_pictures_are_left_out() -> None:
    assert charts.histogram([0, 1], [("a", "bar", [0])], "t", "x") == ""
    assert charts.intervals([], "t", "x") == "" and charts.intervals([("a", float("nan"), 0, 1, "")], "t", "x") == ""


def test_bars_have_the_heights_of_their_counts() -> None:
    svg = charts.histogram([0, 1, 2, 3], [("a", "bar", [1, 2, 4])], "t", "x")
    heights = [float(h) for h in re.findall(r'<rect class="bar"[^>]* height="([\d.]+)"', svg)]
    assert len(heights) == 3
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2) and heights[2] == pytest.approx(4 * heights[0], abs=0.2)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    reason = "" if CHROMIUM.exists() else "no Chromium at /usr/bin/chromium"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        reason = "playwright is not installed"
    if reason:
        if os.environ.get("BURNISH_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    flags = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
             "--disable-component-update --disable-sync")  # fmt: skip
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(CHROMIUM), args=flags.split())
        yield opened
        opened.close()


LUMINANCE = """element => {
  const parse = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = rgb => { const [r, g, b] = rgb.map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const style = getComputedStyle(element);
  return [light(parse(style.color)), light(parse(getComputedStyle(document.body).backgroundColor))]; }"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    """No error, no request but the file itself, no sideways scroll, contrast of at least 4.5 to 1 (WCAG 2, AA)."""
    file = tmp_path / "audit.html"
    file.write_text(page(FULL), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    errors: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(file.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("body", ".made", ".refuse .word, .warn .word", "figcaption", "td"):
        pair = tab.eval_on_selector(selector, LUMINANCE)
        assert (max(pair) + 0.05) / (min(pair) + 0.05) >= 4.5, selector
    dark = tab.eval_on_selector("body", LUMINANCE)[1] < 0.1
    assert dark == (scheme == "dark")
    tab.close()
    assert not errors and [url for url in requests if not url.startswith(("file:", "data:"))] == []
