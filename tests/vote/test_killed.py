"""A server that is killed under load: no vote that was acknowledged is lost, and none counts twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from burnish.vote.store import Ballot
from tests.vote.pages import ballot_of

RATERS, PAUSE = 8, 0.16  # of a rater between two votes, seconds: fifty votes a second from all


class Server:
    """`burnish vote BALLOT.db` in a process of its own; `address` once it listens."""

    def __init__(self, ballot: Ballot, port: int) -> None:
        command = [sys.executable, "-m", "burnish", "vote", str(ballot.path), "--port", str(port), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.lines: list[str] = []
        while not any(line.startswith("vote: ") or "/r/" in line for line in self.lines):
            self.lines.append(self.process.stdout.readline())
            assert self.lines[-1], self.process.communicate()[1]

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def _rate(address: str, name: str, wanted: int, acknowledged: list[str], begun: threading.Barrier) -> None:
    """A rater's tab: votes again and again what was not acknowledged, as the page does."""
    with httpx.Client(base_url=address, timeout=2.0) as client:
        client.post("/api/join", json={"name": name})
        begun.wait()
        for _ in range(wanted):
            time.sleep(PAUSE)
            task = str(_surely(client, "GET", "/api/task", None)["task"])
            reply = {"task": task, "choice": "left"}
            _surely(client, "POST", "/api/vote", reply)
            acknowledged.append(task)
            if len(acknowledged) % 5 == 0:
                _surely(client, "POST", "/api/vote", reply)  # a double click


def _surely(client: httpx.Client, way: str, path: str, body: dict[str, str] | None) -> dict[str, object]:
    end = time.monotonic() + 30
    while True:
        try:
            answer = client.request(way, path, json=body)
            if answer.status_code == 200:
                found: dict[str, object] = answer.json()
                return found
        except httpx.HTTPError:
            pass
        assert time.monotonic() < end, "the server did not come back"
        time.sleep(0.05)


def test_no_vote_is_lost_or_counted_twice_when_the_server_is_killed(tmp_path: Path) -> None:
    ballot = ballot_of(tmp_path, [(f"one {i}", f"other {i}") for i in range(200)])
    wanted = 14
    server = Server(ballot, 0)
    address = next(line for line in server.lines if line.startswith("vote: ")).removeprefix("vote: ").strip()
    port = int(address.rpartition(":")[2])
    acknowledged: list[str] = []
    begun = threading.Barrier(RATERS + 1)
    people = [
        threading.Thread(target=_rate, args=(address, f"r{i}", wanted, acknowledged, begun)) for i in range(RATERS)
    ]
    for person in people:
        person.start()
    begun.wait()
    began = time.monotonic()
    for share in (0.25, 0.6):  # killed twice
        while len(acknowledged) < share * RATERS * wanted:
            time.sleep(0.005)
        server.kill()
        server = Server(ballot, port)
    for person in people:
        person.join()
    server.kill()
    assert len(acknowledged) == RATERS * wanted and time.monotonic() - began < 60
    votes = ballot.votes()
    assert Counter(vote.task for vote in votes) == Counter(acknowledged)
    assert max(Counter(vote.pair for vote in votes).values()) == 1
    assert Counter(vote.rater for vote in votes) == {f"r{i}": wanted for i in range(RATERS)}
