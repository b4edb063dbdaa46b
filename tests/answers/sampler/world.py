"""A sampler without a model, and a real server around whatever is to be served."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from burnish.answers.sampler import Decoding, Prompt, Sampled, Tell
from burnish.answers.serving import listen


def fraction(*parts: object) -> float:
    """A number from 0 to 1 that is a function of the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**48


@dataclass
class Fake:
    """Answers with pseudo-random tokens, a function of (seed, step), prompt and number of the answer, and of `weights`.

    Every distribution is the same: token t of `vocabulary` has the logit -t/8. `raw`: log-probs are those before
    temperature and truncation. Calls are kept in `calls`; each takes `seconds`.
    """

    vocabulary: int = 300
    terminal: int = 0
    raw: bool = False
    seconds: float = 0.0
    weights: str = ""
    fails: bool = False
    told: bool = True
    calls: list[tuple[list[Prompt], int, Decoding]] = field(default_factory=list)
    steps: int = 0

    def __call__(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, moment: tuple[int, int], tell: Tell | None = None
    ) -> list[list[Sampled]]:
        self.calls.append((list(prompts), k, decoding))
        if self.fails:
            raise RuntimeError("out of cheese")
        done: list[list[Sampled]] = []
        for i, prompt in enumerate(prompts):
            done.append([])
            for number in range(k):
                ids: list[int] = []
                logps: list[float] = []
                while len(ids) < decoding.max_new_tokens and self.terminal not in ids:
                    time.sleep(self.seconds)
                    self.steps += 1
                    u = fraction(moment, prompt.id, prompt.ids, number, len(ids), self.weights)
                    token, logp = self.draw(u, decoding)
                    ids.append(token)
                    logps.append(logp)
                    if tell is not None and self.told:
                        tell(i, number, token, logp)
                done[-1].append(Sampled(tuple(ids), tuple(logps), "stop" if self.terminal in ids else "length"))
        return done

    def draw(self, u: float, decoding: Decoding) -> tuple[int, float]:
        """Token 3 is the likeliest, then 4, ...; 0 to 2 come last, so that answers end now and then."""
        size = decoding.top_k or self.vocabulary
        heat = decoding.temperature or 1e-6
        weights = [math.exp(-t / 8 / heat) for t in range(size)]
        total, at = sum(weights), 0
        left = u * total
        while at < size - 1 and left >= weights[at]:
            left -= weights[at]
            at += 1
        logp = math.log(weights[at] / total)
        if self.raw:
            plain = [math.exp(-t / 8) for t in range(self.vocabulary)]
            logp = math.log(plain[at] / sum(plain))
        return (at + 3) % self.vocabulary, logp

    def publish(self, version: int) -> None:
        raise AssertionError("a server's sampler is not told versions")


class Scripted:
    """A server that answers as the test says, and counts."""

    def __init__(self, reply: Callable[[int, str, dict[str, Any]], Any], wait: float = 0.0) -> None:
        self.reply, self.wait = reply, wait
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.flying = self.most = 0
        self.app = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        given = {**dict(request.query_params), **(json.loads(body) if body else {})}
        self.asked.append((request.url.path, given))
        self.flying += 1
        self.most = max(self.most, self.flying)
        await asyncio.sleep(self.wait)
        self.flying -= 1
        found = self.reply(len(self.asked), request.url.path, given)
        return found if isinstance(found, Response) else JSONResponse(found)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class Live:
    """A running server: its address, and how to stop it."""

    def __init__(self, app: Any, bound: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [bound]}, daemon=True)
        self.bound = bound
        self.thread.start()
        until = time.monotonic() + 10
        while not self.server.started:
            assert time.monotonic() < until and self.thread.is_alive(), "the server does not start"
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.bound.close()


@contextlib.contextmanager
def live(app: Any) -> Iterator[Live]:
    """Serve the app on a free port of this machine."""
    served = Live(app, listen("127.0.0.1", 0))
    try:
        yield served
    finally:
        served.stop()
