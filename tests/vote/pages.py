"""A ballot served in this process, and a rater's tab on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from burnish.vote import report
from burnish.vote.figures import figures
from burnish.vote.live import LiveAnswers
from burnish.vote.records import BallotPair
from burnish.vote.server import Gate, app_of
from burnish.vote.store import Ballot, create

MODELS = ("zebra-7b", "yak-13b")


def ballot_of(folder: Path, answers: Sequence[tuple[str, str]], **settings: Any) -> Ballot:
    """A ballot on two models' answers, a prompt for each pair."""
    pairs = [BallotPair(f"p{i}", f"What is **{i}**?", 0, 1, a, b) for i, (a, b) in enumerate(answers)]
    given = {"overlap": 1, "repeats": 0.0, "width": 0.1, "reasons": [], "raters": [], "free": False, **settings}
    return create(folder / "ballot.db", MODELS, pairs, given)


@contextmanager
def served(ballot: Ballot, live: LiveAnswers | None = None, *, links: bool = False) -> Iterator[str]:
    """The address at which a ballot is served."""
    app = app_of(ballot, Gate(links), live, lambda: report.page(figures(ballot), "test"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", server_header=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def tab(browser: Any, address: str, name: str = "ann", **context: Any) -> Iterator[Any]:
    """A rater's tab, with `faults` and `requests` of it; it has joined, and shows a pair or that there is none."""
    own = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **context})
    page = own.new_page()
    page.faults, page.requests = [], []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(address)
    page.wait_for_selector("#join:not([hidden])")
    page.faults.clear()  # the browser's own line about the first answer, 401
    page.fill("#name", name)
    page.click("#join button")
    page.wait_for_selector("#ballot:not([hidden]), #done:not([hidden])")
    try:
        yield page
    finally:
        own.close()


def press(page: Any, key: str) -> None:
    """Press a key that votes, skips or undoes, and wait for what the server says."""
    with page.expect_response(lambda response: "/api/" in response.url):
        page.keyboard.press(key)
    until(page, "!busy")


def until(page: Any, condition: str) -> None:
    """Wait for a condition on the page; its policy forbids what the driver's own waiting does."""
    end = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"{condition} did not come true"
        page.wait_for_timeout(20)
