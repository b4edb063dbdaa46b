"""What the server lets in and what it lets out: sessions, links, hosts; never a word of whose answer is where."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from burnish.errors import ModelError, StoreError
from burnish.vote import report
from burnish.vote.figures import figures
from burnish.vote.live import PIECES, LiveAnswers
from burnish.vote.server import HEADERS, LONGEST, Gate, app_of
from burnish.vote.store import Ballot
from tests.vote.pages import MODELS, ballot_of

ANSWERS = [(f"one {i}", f"other {i}") for i in range(12)]
HOME = "http://127.0.0.1:8765"


def client(ballot: Ballot, live: LiveAnswers | None = None, *, links: bool = False) -> TestClient:
    app = app_of(ballot, Gate(links), live, lambda: report.page(figures(ballot), "test"))
    return TestClient(app, base_url=HOME, follow_redirects=False)


def joined(ballot: Ballot, name: str = "ann", live: LiveAnswers | None = None) -> TestClient:
    browser = client(ballot, live)
    assert browser.post("/api/join", json={"name": name}).status_code == 200
    return browser


def test_nothing_without_a_session(tmp_path: Path) -> None:
    browser = client(ballot_of(tmp_path, ANSWERS))
    assert browser.get("/").status_code == browser.get("/vote.js").status_code == 200
    for way, path, body in (
        ("GET", "/api/task", None), ("POST", "/api/vote", {"task": "x", "choice": "left"}),
        ("POST", "/api/skip", {"task": "x"}), ("POST", "/api/undo", {}), ("GET", "/api/whole/left", None),
    ):  # fmt: skip
        assert browser.request(way, path, json=body).status_code == 401, path
        browser.cookies.set("burnish_session", "forged")
        assert browser.request(way, path, json=body).status_code == 401, path
        browser.cookies.clear()


def test_with_links_only_those_with_a_link_come_in(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, ANSWERS, raters=["ann", "bo"])
    browser = client(ballot, links=True)
    assert browser.post("/api/join", json={"name": "ann"}).status_code == 403
    assert browser.get("/r/guessed").status_code == 403
    answer = browser.get(f"/r/{ballot.rater('ann')}")
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    assert browser.get("/api/task").json()["task"]
    with ballot.reading() as db:  # a stolen file opens no session
        assert not {row[0] for row in db.execute("SELECT digest FROM sessions")} & set(browser.cookies.values())


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "[::2]:80", ""])
def test_another_hosts_name_is_refused(tmp_path: Path, host: str) -> None:
    """A name that somebody lets point at the loopback address (DNS rebinding) reads nothing."""
    browser = joined(ballot_of(tmp_path, ANSWERS))
    assert browser.get("/api/task", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:9", "http://127.0.0.1"])
def test_another_sites_page_casts_no_vote(tmp_path: Path, origin: str) -> None:
    ballot = ballot_of(tmp_path, ANSWERS)
    browser = joined(ballot)
    task = browser.get("/api/task").json()["task"]
    reply = {"task": task, "choice": "left"}
    assert browser.post("/api/vote", json=reply, headers={"origin": origin}).status_code == 403
    assert ballot.votes() == []
    assert browser.post("/api/vote", json=reply, headers={"origin": HOME}).json()["counted"] is True


def test_every_answer_has_the_strict_headers(tmp_path: Path) -> None:
    browser = joined(ballot_of(tmp_path, ANSWERS))
    for path in ("/", "/vote.js", "/vote.css", "/api/task", "/none", "/r/x", "/organiser/x"):
        answer = browser.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, name)
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'self'" in policy


def test_what_is_too_large_or_not_meant_is_refused_without_a_traceback(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, ANSWERS)
    browser = joined(ballot)
    task = browser.get("/api/task").json()["task"]
    assert browser.post("/api/vote", content=b"x" * (LONGEST + 1)).status_code == 403
    assert browser.post("/api/vote", content=iter([b"x"] * 10)).status_code == 403  # in chunks, of unknown size
    for body in ({}, {"task": task}, {"task": task, "choice": "both"}, {"task": 5, "choice": "left"}, [],
                 {"task": task, "choice": "left", "seconds": -1},
                 {"task": task, "choice": "left", "note": "x" * 5000}):  # fmt: skip
        assert browser.post("/api/vote", json=body).status_code == 422
    assert browser.post("/api/vote", content=b"{", headers={"content-type": "application/json"}).status_code == 422
    assert ballot.votes() == []
    known = browser.post("/api/vote", json={"task": task, "choice": "left", "reasons": ["invented"]})
    assert known.json()["counted"] and ballot.votes()[0].reasons == ()


def test_raters_see_no_figures_and_the_organiser_does(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, ANSWERS)
    browser = joined(ballot)
    assert browser.get("/organiser/guessed").status_code == 404
    page = browser.get(f"/organiser/{ballot.settings()['organiser']}")
    assert page.status_code == 200 and MODELS[0] in page.text
    assert "script-src" not in page.headers["content-security-policy"]


def test_what_cannot_be_saved_is_said_so_that_the_page_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballot = ballot_of(tmp_path, ANSWERS)
    browser = joined(ballot)
    task = browser.get("/api/task").json()["task"]

    def full(self: Ballot, *_: Any) -> bool:
        raise StoreError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Ballot, "vote", full)
        answer = browser.post("/api/vote", json={"task": task, "choice": "left"})
        assert answer.status_code == 503 and "full" in answer.json()["error"]
    assert browser.post("/api/vote", json={"task": task, "choice": "left"}).json()["counted"] is True


# ------------------------------------------------------------------------------------------------ blindness


def test_no_response_names_a_model(tmp_path: Path) -> None:
    """Every route, its errors too: no model's name, no file's name, no word that tells a from b."""
    ballot = ballot_of(tmp_path, ANSWERS, raters=[])
    failing = iter([False, True, True])

    def answers(turns: Any, a: int, b: int, seed: int) -> tuple[str, str]:
        if next(failing, False):
            raise ModelError(f"{MODELS[a]} cannot answer: {tmp_path}/{MODELS[b]}")
        return "first", "second"

    browser = joined(ballot, live=LiveAnswers(ballot, answers))
    heard: list[str] = []

    def hear(answer: Any) -> Any:
        heard.append(answer.text + json.dumps(dict(answer.headers)))
        return answer

    for path in ("/", "/vote.js", "/vote.css", "/api/whole/left", "/api/whole/middle", "/nothing", "/openapi.json"):
        hear(browser.get(path))
    for choice in ("left", "right", "tie"):
        task = hear(browser.get("/api/task")).json()["task"]
        hear(browser.post("/api/vote", json={"task": task, "choice": choice}))
    hear(browser.post("/api/undo", json={}))
    for path in ("/api/ask", "/api/again", "/api/ask"):
        body = {"task": _open(browser)} if path == "/api/again" else {"prompt": "mine"}
        name = hear(browser.post(path, json=body)).json()["answers"]
        hear(browser.get(f"/api/answers/{name}"))
    hear(browser.post("/api/vote", json={"task": "gone", "choice": "left"}))
    ballot.set("closed", 1.0)
    hear(browser.get("/api/task"))
    assert "the models could not answer" in "".join(heard)
    for word in (*MODELS, "zebra", "yak", str(tmp_path), ballot.path.name, "swapped", "model_a", '"a"', '"b"'):
        assert not any(word in text for text in heard), word


def _open(browser: TestClient) -> str:
    return str(browser.get("/api/task").json()["task"])


def test_ids_sizes_and_times_tell_nothing_of_the_sides(tmp_path: Path) -> None:
    """Over 120 tasks: ids of one length; neither an id, nor the time of an answer, nor its size goes with the side
    (permutation tests, each at one in ten thousand)."""
    ballot = ballot_of(tmp_path, [("an answer of thirty characters", "other words, thirty letters ok")] * 1
                       + [(f"answer {i:03d}", f"reply! {i:03d}") for i in range(119)])  # fmt: skip
    browser = joined(ballot)
    ids, times, sizes = [], [], []
    for _ in range(120):
        began = time.perf_counter()
        answer = browser.get("/api/task")
        times.append(time.perf_counter() - began)
        task = answer.json()["task"]
        ids.append(task)
        sizes.append(float(len(re.sub(r"\d+", "0", answer.text))))
        browser.post("/api/vote", json={"task": task, "choice": "tie"})
    sides = {vote.task: vote.swapped for vote in ballot.votes()}
    swapped = [sides[task] for task in ids]
    assert {len(task) for task in ids} == {22} and sum(swapped) == 60
    ranked = [float(sorted(times).index(value)) for value in times]  # a pause of the machine is one rank
    for name, values in (
        ("time", ranked), ("size", sizes), ("first letter", [float(ord(task[0])) for task in ids]),
        ("last letter", [float(ord(task[-1])) for task in ids]),
    ):  # fmt: skip
        assert _chance(values, swapped) > 1e-4, name


def _chance(values: list[float], swapped: list[bool], draws: int = 20_000) -> float:
    """The share of shuffles whose difference of means is as large as the one seen."""
    own = np.array(values) - np.mean(values)
    sides = np.array(swapped, dtype=np.float64)
    shuffled = np.random.default_rng(0).permuted(np.tile(sides, (draws, 1)), axis=1)
    return float((1 + (np.abs(shuffled @ own) >= abs(sides @ own) - 1e-9).sum()) / (draws + 1))


def test_both_answers_come_at_one_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent before both are there, however slow one is; both come in as many pieces, a long one too."""
    monkeypatch.setattr("burnish.vote.live.PACE", 0.0)
    ballot = ballot_of(tmp_path, ANSWERS)

    def answers(turns: Any, a: int, b: int, seed: int) -> tuple[str, str]:
        time.sleep(1.2)
        return "short", "a long answer " * 500

    browser = joined(ballot, live=LiveAnswers(ballot, answers))
    name = browser.post("/api/ask", json={"prompt": "mine"}).json()["answers"]
    with browser.stream("GET", f"/api/answers/{name}") as stream:
        events = [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line]
    kinds = [next(iter(event)) for event in events]
    assert kinds == ["waiting"] + ["left"] * PIECES + ["done"]
    for side in ("left", "right"):
        assert "".join(event.get(side, "") for event in events) in ("short", "a long answer " * 500)
    assert browser.get("/api/task").json()["left"]["raw"] in ("short", "a long answer " * 500)
    other = joined(ballot, "bo", LiveAnswers(ballot, answers))
    assert "not there any more" in other.get(f"/api/answers/{name}").text
