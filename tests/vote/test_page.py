"""The voting page in Chromium: by keys and by mouse, at both widths and in both themes, and for a screen reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from burnish.vote.live import LiveAnswers
from tests.audit.test_page import CONTRASTS, browser  # noqa: F401  (a fixture)
from tests.vote.pages import MODELS, ballot_of, press, served, tab, until

pytestmark = pytest.mark.browser
ANSWERS = [
    (f"It is {i}.\n\n```python\nprint({i})\n```", f"<think>hm</think>It could be **{i}**, or {i + 1}.")
    for i in range(6)
]


def test_keys_vote_and_every_vote_is_kept(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    """1, 2, 3, 4 and the arrows are left, right, tie, both bad; n, f, s, u, ? do as the help says."""
    ballot = ballot_of(tmp_path, [*ANSWERS, *((f"yes {i}", f"no {i}") for i in range(6))])
    with served(ballot) as address, tab(browser, address) as page:
        for key in ("1", "2", "3", "4", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"):
            press(page, key)
        choices = [vote.choice for vote in ballot.votes()]
        assert choices == ["left", "right", "tie", "both_bad"] * 2
        assert page.inner_text("#progress") == "Pair 9 of 12"
        page.keyboard.press("n")
        page.keyboard.type("both invent 1 figure")
        page.keyboard.press("Escape")
        page.keyboard.press("f")
        press(page, "1")
        last = ballot.votes()[-1]
        assert (last.note, last.flagged, last.choice) == ("both invent 1 figure", True, "left")
        assert page.input_value("#note") == "" and page.get_attribute("#flag", "aria-pressed") == "false"
        press(page, "u")
        assert len(ballot.votes()) == 8 and page.inner_text("#progress") == "Pair 9 of 12"
        press(page, "s")
        page.keyboard.press("?")
        assert page.evaluate("document.getElementById('help').open")
        page.keyboard.press("1")  # help is open: no vote
        page.keyboard.press("Escape")
        assert len(ballot.votes()) == 8 and page.inner_text("#progress") == "Pair 10 of 12"
        assert page.faults == [] and all(url.startswith(address) or url == "data:," for url in page.requests)


def test_at_the_end_the_last_vote_can_be_undone_and_a_closed_ballot_says_so(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    ballot = ballot_of(tmp_path, ANSWERS[:1])
    with served(ballot) as address, tab(browser, address) as page:
        press(page, "1")
        page.wait_for_selector("#done:not([hidden])")
        press(page, "u")
        page.wait_for_selector("#ballot:not([hidden])")
        ballot.set("closed", 1.0)
        press(page, "2")
        page.wait_for_selector("#done:not([hidden])")
        assert "closed" in page.inner_text("#done-text") and ballot.votes() == []
        assert not page.is_visible("#undo-last")


def test_it_goes_on_where_it_was(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    """After a reload, and after the server was gone for a while: the vote is sent again, and counted once."""
    ballot = ballot_of(tmp_path, ANSWERS)
    with served(ballot) as address, tab(browser, address) as page:
        press(page, "1")
        before = page.inner_html("#left")
        page.reload()
        page.wait_for_selector("#ballot:not([hidden])")
        assert page.inner_html("#left") == before and page.inner_text("#progress") == "Pair 2 of 6"
        broken = iter([True, True, False])
        page.route("**/api/vote", lambda route: route.abort() if next(broken, False) else route.continue_())
        page.keyboard.press("2")
        page.wait_for_selector("#notice:not([hidden])")
        assert "Trying again" in page.inner_text("#notice")
        until(page, "document.getElementById('progress').textContent === 'Pair 3 of 6'")
        assert [vote.choice for vote in ballot.votes()] == ["left", "right"]


def test_an_answer_whose_acknowledgement_was_lost_counts_once(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    ballot = ballot_of(tmp_path, ANSWERS)
    with served(ballot) as address, tab(browser, address) as page:

        def lose(route: Any) -> None:
            route.fetch()  # the server counts it
            route.abort()  # and the page never hears of it

        page.route("**/api/vote", lose, times=1)
        page.keyboard.press("1")
        until(page, "document.getElementById('progress').textContent === 'Pair 2 of 6'")
        assert len(ballot.votes()) == 1


def test_views_of_an_answer(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    """Markdown rendered, thoughts folded, as written, word differences; long answers scroll together."""
    long = "\n\n".join(f"line {i}" for i in range(200))
    ballot = ballot_of(tmp_path, [("<think>a secret plan</think>**bold** one", long)])
    with served(ballot) as address, tab(browser, address) as page:
        short, other = ("left", "right") if "line 1" in page.inner_text("#right") else ("right", "left")
        assert page.inner_text(f"#{short} strong") == "bold" and not page.is_visible(f"#{short} details p")
        page.click(f"#{short} summary")
        assert page.is_visible(f"#{short} details p")
        page.keyboard.press("w")
        assert "<think>" in page.inner_text(f"#{short}") and page.locator(f"#{short} strong").count() == 0
        page.keyboard.press("d")
        assert page.locator(f"#{short} mark").count() > 0
        page.keyboard.press("d")
        page.evaluate(f"document.getElementById('{other}').scrollTop = 1e6")
        assert page.evaluate(f"document.getElementById('{other}').scrollTop") > 100


@pytest.mark.parametrize("width", [400, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_for_everybody(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:  # noqa: F811
    """Axe finds no violation on any part, nothing scrolls sideways, contrast is 4.5 to 1, the theme is followed."""
    from axe_playwright_python.sync_playwright import Axe

    ballot = ballot_of(tmp_path, ANSWERS[:1], reasons=["wrong", "too long"])
    live = LiveAnswers(ballot, lambda *_: ("one", "two"))
    shape: dict[str, Any] = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}

    def sound(page: Any) -> None:
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        worst = min(page.evaluate(CONTRASTS))
        assert worst[0] >= 4.5, worst

    with served(ballot, live) as address:
        with tab(browser, address, **shape) as page:
            sound(page)
            page.click("#help-open")
            sound(page)
            page.keyboard.press("Escape")
            page.click("text=too long")
            page.click("[data-choice=left]")
            page.wait_for_selector("#done:not([hidden])")
            sound(page)
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
            assert max(ground) < 60 if scheme == "dark" else min(ground) > 230
        assert ballot.votes()[0].reasons == ("too long",)
        page = browser.new_page(**shape)
        page.goto(address)
        page.wait_for_selector("#join:not([hidden])")
        sound(page)
        page.close()


def test_everything_is_reached_by_tab(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    """Each control that is seen can be focused by the keyboard alone, and shows it."""
    ballot = ballot_of(tmp_path, ANSWERS)
    with served(ballot) as address, tab(browser, address) as page:
        wanted = set(
            page.evaluate(
                "[...document.querySelectorAll('button, input, textarea')]"
                ".filter(e => e.checkVisibility() && !e.disabled).map(e => e.id || e.dataset.choice || e.textContent)"
            )
        )
        seen = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            seen.add(page.evaluate("(e => e.id || e.dataset.choice || e.textContent)(document.activeElement)"))
        assert wanted <= seen and {"prompt", "left", "right"} <= seen
        page.focus("#left")
        page.keyboard.press("ArrowDown")  # scrolls, and does not vote
        assert ballot.votes() == []


def test_ones_own_prompt_and_an_answer_again(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    """Both models' answers to it appear, it becomes the open pair, and its vote counts apart from the set's."""
    ballot = ballot_of(tmp_path, ANSWERS)
    asked: list[str] = []

    def answers(turns: Any, a: int, b: int, seed: int) -> tuple[str, str]:
        asked.append(str(turns))
        return f"first of {len(asked)}", f"second of {len(asked)}"

    with served(ballot, LiveAnswers(ballot, answers)) as address, tab(browser, address) as page:
        page.fill("#own", "Why is the sky blue?")
        page.click("#ask button")
        until(page, "document.getElementById('left').innerText.includes('of 1')")
        until(page, "!busy && state.task")
        assert page.inner_text("#prompt") == "Why is the sky blue?" and asked == ["Why is the sky blue?"]
        press(page, "1")
        page.click("#again")
        until(page, "!busy && document.getElementById('left').innerText.includes('of 2')")
        assert asked[1].startswith("What is **")
        press(page, "3")
        assert [vote.origin for vote in ballot.votes()] == ["asked", "asked"]
        text = page.content()
        assert not any(name in text for name in MODELS) and page.faults == []
