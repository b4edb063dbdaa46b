"""The whole report: JSON without holes, advice that follows from the figures, words, picture and page of it."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from burnish.pages.curves import curves
from burnish.pages.intervals import Row, forest
from burnish.pages.svg import mark
from burnish.reports.rewards import report
from burnish.reports.rewards.advice import IMPLICIT
from burnish.reports.rewards.page import page, picture
from burnish.reports.rewards.records import ScoredGroup, Scorer
from burnish.reports.rewards.terminal import print_report
from tests.audit.test_page import (
    CONTRASTS,
    CROWDED,
    EVIL,
    TURNED,
    browser,  # noqa: F401  (a fixture)
    drawn,
    parse,
)
from tests.reports.rewards.world import group, world

SCORED = world(probed=True)
WHOLE = report(SCORED.groups, SCORED.scorers, probes=SCORED.probes, trained_on=SCORED.trained_on)
RM = Scorer("rm", "reward model")


def words_of(figures: Mapping[str, Any]) -> str:
    out = io.StringIO()
    print_report(figures, Console(file=out, width=300, highlight=False))
    return out.getvalue()


def codes(figures: Mapping[str, Any], scorer: str) -> list[str]:
    return [line["code"] for line in figures["advice"] if line["scorer"] == scorer]


def of(groups: Sequence[ScoredGroup], scorer: Scorer = RM, **more: Any) -> dict[str, Any]:
    return report(groups, [scorer], **more)


def test_it_is_json_and_says_how_much_it_saw() -> None:
    again = json.loads(json.dumps(WHOLE, allow_nan=False))
    assert again == WHOLE
    assert (again["groups"], again["prompts"], again["pairs"]) == (240, 240, 576)
    assert [scorer["name"] for scorer in again["scorers"]] == ["rm-1", "rm-2", "rm-3", "worst of 3", "policy"]


def test_what_was_built_into_the_world_is_found() -> None:
    """rm-2 pays for length and is too sure; rm-3 has "safety" the wrong way round; form fools rm-2."""
    assert {"length", "miscalibrated", "flips"} <= set(codes(WHOLE, "rm-2")) and "length" not in codes(WHOLE, "rm-1")
    by_length = [row["by"]["rm-2"]["value"] for row in WHOLE["accuracy"]["length"]]
    assert by_length == sorted(by_length) and by_length[-1] - by_length[0] > 0.5
    safety = next(row for row in WHOLE["accuracy"]["subsets"] if row["name"] == "safety")
    assert safety["by"]["rm-3"]["value"] < 0.5 < safety["by"]["rm-1"]["low"]
    gold = {name: row["gold"]["value"][-1] for name, row in WHOLE["best_of_n"]["by"].items()}
    assert max(gold, key=lambda name: gold[name]) == "rm-1" and WHOLE["best_of_n"]["gold"]["value"][-1] > gold["rm-1"]
    assert WHOLE["calibration"]["rm-2"]["temperature"]["low"] > 3


def test_an_implicit_reward_always_comes_with_its_caution() -> None:
    groups = [group({"rm": (1.0, 0.0)}, [(0, 1, 1.0)], prompt=str(i)) for i in range(200)]
    assert IMPLICIT in [
        line["message"] for line in of(groups, Scorer("rm", "implicit", beta=0.1), words=False)["advice"]
    ]
    assert IMPLICIT not in [line["message"] for line in of(groups, words=False)["advice"]]


def test_each_advice_follows_from_its_figure() -> None:
    right = [(0, 1, 1.0)]
    wrong = [group({"rm": (0.0, 1.0)}, right, prompt=str(i), subset="xy"[i % 2]) for i in range(200)]
    found = of(wrong, words=False)
    assert "below-chance" in codes(found, "rm") and "few-prompts" not in codes(found, "")
    assert "few-prompts" in codes(of(wrong[:20], words=False), "")
    longer = [group({"rm": (2.0, 1.0)}, right, prompt=str(i), lengths=(9, 3)) for i in range(200)]
    assert "no-better-than-length" in codes(of(longer, words=False), "rm")
    flat = [group({"rm": (1.0, 1.0)}, right, prompt=str(i)) for i in range(200)]
    assert "flat" in codes(of(flat, words=False), "rm")
    padded = {"list padding": {"rm": [(9.0, 9.0) for _ in longer]}}
    assert "flips" in codes(of(longer, probes=padded, words=False), "rm")
    assert "unjudged" in codes(of([group({"rm": (1.0, 2.0)})], words=False), "")


def test_over_optimisation_by_best_of_n_is_said() -> None:
    """Of four answers gold rises with the proxy, but the one with the highest proxy is the worst."""
    groups = [
        group({"rm": (1.0, 2.0, 3.0, 4.0)}, prompt=str(i), gold=(0.0, 1.0, 2.0, -4.0 + i % 3 / 10)) for i in range(150)
    ]
    found = of(groups, words=False)
    assert "over-optimised" in codes(found, "rm") and found["best_of_n"]["by"]["rm"]["peak"] == 1
    fine = [group({"rm": (1.0, 2.0, 3.0)}, prompt=str(i), gold=(0.0, 1.0, 2.0)) for i in range(150)]
    assert "over-optimised" not in codes(of(fine, words=False), "rm")


def test_a_report_of_little() -> None:
    """Nothing judged, nothing in gold, one answer: what cannot be told is left out everywhere."""
    for groups in (
        [group({"rm": (1.0,)})],
        [group({"rm": (1.0, 2.0)})],
        [group({"rm": (1.0, 1.0)}, [(0, 1, 1.0)], lengths=(3, 3), answers=("", ""))],
    ):
        found = of(groups, words=False)
        json.dumps(found, allow_nan=False)
        parse(page(found))
        assert "nan" not in words_of(found) and "None" not in words_of(found)
        assert "nan" not in xml_of(picture(found)) and "None" not in picture(found)


def test_the_words_hold_every_part() -> None:
    text = words_of(WHOLE)
    for part in ("mean over subsets", "chosen much shorter", "points over length", "a bag of words", "temperature",
                 "correlation with length", "gold at n = 16", "list padding: flips", "both at or above the median",
                 "they are split over", IMPLICIT):  # fmt: skip
        assert part in text, part
    assert "nan" not in text and "None" not in text
    evil = words_of(renamed(WHOLE, "\x1b[31m"))
    assert "\x1b[31m" not in evil and r"\x1b[31m" in evil


def xml_of(svg: str) -> str:
    """The picture without its style, having been parsed as XML."""
    ElementTree.fromstring(svg)
    return re.sub(r"<style>.*</style>", "", svg, flags=re.S)


def test_the_picture_is_drawn_whatever_names_say() -> None:
    """Seven panels, below a key of five scorers; a file of its own, so it names its namespace and holds its style."""
    svg = xml_of(picture(WHOLE))
    headings = re.findall(r'<text class="heading"[^>]*>([^<]*)<', svg)
    assert headings == [
        "Where it is right", "By difference of length", "Is it as sure as it is right?", "Gold score of the best of n",
        "Reward and length within a prompt", "How often it turns a pair around", "Is it right where its members agree?",
    ]  # fmt: skip
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"') and "576 judged pairs" in svg
    evil = xml_of(picture(renamed(WHOLE, TURNED + EVIL)))
    assert EVIL not in evil and not set("\u202e\x00\ud800") & set(evil)


def test_panels_of_a_sheet_lie_apart_and_inside() -> None:
    svg = picture(WHOLE)
    width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    places = [tuple(map(int, place)) for place in re.findall(r'<g transform="translate\((\d+) (\d+)\)">', svg)]
    assert len(places) == 7 and len({x for x, _ in places}) == 3
    assert all(x + 480 <= width and y < height for x, y in places)
    for x in {x for x, _ in places}:
        tops = sorted(y for column, y in places if column == x)
        assert all(below - above > 120 for above, below in pairwise(tops))


def renamed(value: Any, change: str) -> Any:
    """The figures with every scorer's, probe's and subset's name changed, also where it is a key."""
    names = {scorer["name"] for scorer in WHOLE["scorers"]} | set(WHOLE["probes"])
    if isinstance(value, Mapping):
        return {f"{change}{k}" if k in names else k: renamed(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [renamed(v, change) for v in value]
    keep = ("warn", "note", "reward model", "ensemble", "implicit", "")
    return f"{change}{value}" if isinstance(value, str) and value not in keep else value


def test_every_text_is_escaped_and_nothing_is_fetched() -> None:
    html = page(renamed(WHOLE, EVIL))
    parsed = parse(html)
    assert "script" not in parsed.seen and "<script>" not in html and "&lt;script&gt;" in html
    assert EVIL not in html and not re.search(r"(?:https?:)?//|url\(|@import", html)
    assert "default-src 'none'" in html
    turned = page(renamed(WHOLE, TURNED))
    assert not set("\u202e\x00\ud800") & set(turned) and r"a\u202eb\x00c\ud800d" in turned


def test_every_picture_of_the_page_is_there() -> None:
    html = page(WHOLE)
    parse(html)
    assert html.count("<figure>") == html.count("<figcaption>") == 10
    assert "nan" not in re.sub(r"<style>.*</style>", "", html, flags=re.S) and "None" not in html
    bare = page(report(SCORED.groups, SCORED.scorers[:1], words=False))
    parse(bare)
    assert "Disagreement" not in bare and "What an edit of form adds" not in bare and "it is unknown how" in bare


def test_marks_stand_at_their_numbers() -> None:
    """A row's axis runs from 176 to 454: 0.75 of it is 384.5; what lies outside is drawn at its end."""
    svg = drawn(forest([Row("all", "", {"a": (0.75, 0.5, 1.5)})], ["a"], "t", "x", ("l", "r")))
    assert 'class="reach" x1="315.0" y1="42.5" x2="454.0"' in svg and 'translate(384.5 42.5)"' in svg
    alone = drawn(forest([Row("all", "", {"a": (0.75, None, None)}, ("longer", 0.25))], ["a"], "t", "x", ("l", "r")))
    assert "reach" not in alone and "translate(384.5" in alone and 'class="reference" x1="245.5"' in alone
    assert forest([Row("all", "", {"a": (None, None, None)})], ["a"], "t", "x", ("l", "r")) is None
    diagonal = [(0, 0, None, None), (1, 1, None, None)]
    line = drawn(curves({"a": diagonal}, ["a"], "t", ("x", "y"), x_bounds=(0, 1), y_bounds=(0, 1)))
    assert 'points="56.0,220.0 454.0,30.0"' in line and "band" not in line
    assert len({(mark(i), i % 6) for i in range(36)}) == 36  # no two of 36 scorers look the same


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 640, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:  # noqa: F811
    """No error, no request but the file, no sideways scroll, nothing crowded, contrast of 4.5 to 1 (WCAG 2, AA)."""
    file = tmp_path / "report.html"
    file.write_text(page(WHOLE), encoding="utf-8")
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
    assert tab.evaluate(CROWDED.replace('querySelectorAll("svg")', 'querySelectorAll("figure > svg")')) == []
    tab.close()
    assert not errors and [url for url in requests if not url.startswith("data:")] == [file.as_uri()]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_picture_in_a_browser(browser: Any, tmp_path: Path, scheme: str) -> None:  # noqa: F811
    """Nothing crowded; the ground is the page's."""
    file = tmp_path / "report.svg"
    file.write_text(picture(WHOLE), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1600, "height": 1100}, color_scheme=scheme)
    tab.goto(file.as_uri())
    assert tab.evaluate(CROWDED) == []
    ground = tab.evaluate("getComputedStyle(document.querySelector('.paper')).fill.match(/\\d+/g).map(Number)")
    assert max(ground) < 50 if scheme == "dark" else min(ground) > 240
    tab.close()
