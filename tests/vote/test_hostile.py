"""Answers that attack the page, in Chromium under its policy: they change nothing but themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.audit.test_page import browser  # noqa: F401  (a fixture)
from tests.vote.pages import MODELS, ballot_of, press, served, tab

pytestmark = pytest.mark.browser

STOLEN = "window.stolen = 1; document.title = 'stolen'"
HOSTILE = {
    "script": f"<script>{STOLEN}</script>",
    "style": "<style>body { display: none } .choices { visibility: hidden }</style>",
    "iframe": f'<iframe srcdoc="<script>parent.{STOLEN}</script>"></iframe><iframe src="https://example.org"></iframe>',
    "svg": f'<svg onload="{STOLEN}"><script>{STOLEN}</script><a xlink:href="javascript:{STOLEN}">x</a></svg>',
    "handler": f'<img src=x onerror="{STOLEN}"><div onclick="{STOLEN}" style="position:fixed;inset:0">x</div>',
    "link": f"[press](javascript:{STOLEN}) <a href=\"javascript:{STOLEN}\">or this</a> [x](vbscript:x)",
    "data": '[page](data:text/html,<script>1</script>) ![i](data:image/svg+xml,<svg/>) <object data="data:,x">',
    "image": "![far](https://e.org/pixel.png) <img src='https://e.org/a.png'>",
    "form": '<form action="https://example.org"><input name=x><button>Send</button></form><base href="https://e.org">',
    "meta": '<meta http-equiv="refresh" content="0;url=https://e.org"><link rel=stylesheet href="https://e.org">',
    "names": '<div id="ballot" class="choices"><button id="undo" data-choice="left">Left</button></div>',
    "unclosed": "</div></section></main><!-- <textarea> <![CDATA[ `" + "> " * 400 + "*" * 2000,
    "bidi": "\u202egnikcatta\u202c \u2066\u2067 right \u202e",
    "controls": "a\x00b\x07c\ufeff\u200b\ud7ff\ufffe",
    "letters": "Z" + "\u0301" * 5000,
    "nested": "> " * 3000 + "deep\n" + "- " * 3000 + "deep\n" + "[" * 5000,
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_it_changes_nothing_but_itself(browser: Any, tmp_path: Path, kind: str) -> None:  # noqa: F811
    """No script of it runs, nothing is fetched, the rest of the page stands where it stood, and the vote counts."""
    text = HOSTILE[kind]
    ballot = ballot_of(tmp_path, [(text, "a plain answer"), ("one", "another")])
    with served(ballot) as address, tab(browser, address) as page:
        calm = page.inner_text("#left") not in (text,) and "a plain answer" in page.inner_text(".sides")
        if not calm:  # the other pair came first
            press(page, "1")
        assert "a plain answer" in page.inner_text(".sides")
        hostile = "right" if page.inner_text("#left").strip() == "a plain answer" else "left"
        before = _frame(page)
        for key in ("w", "d", "d"):
            page.keyboard.press(key)
        if page.locator(f"#{hostile} a").count():
            page.locator(f"#{hostile} a").first.click(no_wait_after=True)
            page.wait_for_timeout(50)
        assert _frame(page) == before and page.is_visible("[data-choice=left]")
        assert page.evaluate("window.stolen === undefined && document.title === 'Which answer is better?'")
        assert (
            page.locator(f"#{hostile} :is(script, style, iframe, svg, img, form, input, button, object, meta)").count()
            == 0
        )
        assert page.evaluate(f"[...document.querySelectorAll('#{hostile} *')].every(e => !e.id && !e.style.cssText)")
        assert page.evaluate("document.querySelectorAll('#ballot, #undo').length") == 2
        assert all(url.startswith((address, "data:,")) for url in page.requests), page.requests
        count = len(ballot.votes())
        press(page, "1")
        assert len(ballot.votes()) == count + 1 and not any(name in page.content() for name in MODELS)
        assert page.faults == []


def _frame(page: Any) -> list[list[float]]:
    """Where the page's own parts are."""
    boxes: list[list[float]] = page.evaluate(
        "['#prompt', '#left', '#right', '.choices', '#undo', 'h1'].map(name => { const b = document.querySelector(name)"
        ".getBoundingClientRect(); return [b.x, b.y + scrollY, b.width, b.height].map(Math.round); })"
    )
    return boxes


@pytest.mark.parametrize(
    ("name", "text"), [("five megabytes", "word " * 1_000_000), ("a hundred thousand lines", "x\n" * 100_000),
                       ("one long word", "x" * 1_000_000)]
)  # fmt: skip
def test_a_huge_answer_does_not_stop_the_vote(browser: Any, tmp_path: Path, name: str, text: str) -> None:  # noqa: F811
    """It is shown in part, the rest on demand, and a vote is cast within seconds."""
    ballot = ballot_of(tmp_path, [(text, "short")])
    with served(ballot) as address, tab(browser, address) as page:
        long = "right" if page.inner_text("#left").strip() == "short" else "left"
        assert page.is_visible(f"#{long}-more") == (len(text) > 200_000)
        if name == "one long word":
            page.click(f"#{long}-more")
            page.wait_for_selector(f"#{long}-more", state="hidden")
            assert page.evaluate(f"document.getElementById('{long}').textContent.length") == len(text)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1100
        press(page, "2")
        assert len(ballot.votes()) == 1
