"""The voting page's server: what a rater's browser may ask. Which side is whose never leaves this process.

Everything a browser gets is made from the task's texts alone; a task's id is random. Raters have sessions that the
ballot keeps, so that a server that was killed goes on where it was.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field

from burnish.errors import StoreError
from burnish.pages.template import style
from burnish.vote import show
from burnish.vote.asking import next_task
from burnish.vote.live import LiveAnswers
from burnish.vote.records import Choice, Reply, Task
from burnish.vote.store import Ballot

COOKIE = "burnish_session"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}  # fmt: skip
FIGURES = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
LONGEST = 1 << 20  # bytes of a request


@dataclass(frozen=True)
class Gate:
    """Who may come in: with `links` only raters with a link of theirs, else whoever reaches the loopback address."""

    links: bool

    def admits(self, request: Request) -> bool:
        """Whether a request was sent by this page: its host is ours, and another site's page did not send it."""
        host = request.headers.get("host", "")
        if not self.links and host.rsplit(":", 1)[0] not in LOOPBACK and host not in LOOPBACK:
            return False  # a name of somebody else's that leads here
        origin = request.headers.get("origin")
        return request.method == "GET" or origin is None or origin.partition("://")[2] == host


class Join(BaseModel):
    name: str = Field(min_length=1, max_length=80)


class VoteBody(BaseModel):
    task: str = Field(max_length=64)
    choice: Choice
    note: str = Field("", max_length=4000)
    flagged: bool = False
    reasons: list[str] = Field([], max_length=32)
    seconds: float = Field(0.0, ge=0, le=1e7)


class TaskBody(BaseModel):
    task: str = Field(max_length=64)


class AskBody(BaseModel):
    prompt: str = Field(min_length=1, max_length=20_000)


def app_of(ballot: Ballot, gate: Gate, live: LiveAnswers | None, organiser: Callable[[], str]) -> FastAPI:
    """The application. `organiser` makes the page of figures."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        size = request.headers.get("content-length", "0" if request.method == "GET" else "")
        if not gate.admits(request) or not size.isdecimal() or int(size) > LONGEST:  # a body of unknown size is none
            response: Response = PlainTextResponse("refused", 403)
        else:
            response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(StoreError)
    async def unsaved(request: Request, error: StoreError) -> Response:
        """A full disk, above all: the page keeps the vote and tries again."""
        return JSONResponse({"error": str(error)}, 503)

    _pages(app, ballot, gate, organiser)
    _votes(app, ballot, live)
    if live is not None:
        _asking(app, ballot, live)
    return app


def _pages(app: FastAPI, ballot: Ballot, gate: Gate, organiser: Callable[[], str]) -> None:
    web = files("burnish.vote") / "web"

    @app.get("/")
    def page() -> Response:
        return HTMLResponse((web / "page.html").read_text(encoding="utf-8"))

    @app.get("/vote.js")
    def script() -> Response:
        return Response((web / "vote.js").read_bytes(), media_type="text/javascript")

    @app.get("/vote.css")
    def sheet() -> Response:
        return Response(style() + (web / "vote.css").read_text(encoding="utf-8"), media_type="text/css")

    @app.get("/r/{token}")
    def enter(token: str) -> Response:
        secret = ballot.begin_session(token)
        if secret is None:
            return PlainTextResponse("This link belongs to nobody; ask the organiser for yours.", 403)
        return _with_session(RedirectResponse("/", 303), secret)

    @app.post("/api/join")
    def join(body: Join) -> Response:
        if gate.links:
            raise HTTPException(403, "each rater has a link; ask the organiser for yours")
        secret = ballot.begin_session(ballot.rater(body.name.strip() or "rater"))
        assert secret is not None
        return _with_session(JSONResponse({}), secret)

    @app.get("/organiser/{token}")
    def figures(token: str) -> Response:
        if not secrets.compare_digest(token.encode(), str(ballot.settings()["organiser"]).encode()):
            raise HTTPException(404)
        return HTMLResponse(organiser(), headers={"Content-Security-Policy": FIGURES})


def _votes(app: FastAPI, ballot: Ballot, live: LiveAnswers | None) -> None:
    @app.get("/api/task")
    def task(request: Request) -> dict[str, Any]:
        return _state(ballot, _rater(ballot, request), live)

    @app.post("/api/vote")
    def vote(body: VoteBody, request: Request) -> dict[str, Any]:
        rater = _rater(ballot, request)
        known = set(ballot.settings()["reasons"])
        reasons = tuple(reason for reason in body.reasons if reason in known)
        counted = ballot.vote(rater, Reply(body.task, body.choice, body.note, body.flagged, reasons, body.seconds))
        return {**_state(ballot, rater, live), "counted": counted}

    @app.post("/api/skip")
    def skip(body: TaskBody, request: Request) -> dict[str, Any]:
        rater = _rater(ballot, request)
        ballot.skip(rater, body.task)
        return _state(ballot, rater, live)

    @app.post("/api/undo")
    def undo(request: Request) -> dict[str, Any]:
        rater = _rater(ballot, request)
        undone = ballot.undo(rater)
        return {**_state(ballot, rater, live), "undone": undone}

    @app.get("/api/whole/{side}")
    def whole(side: Literal["left", "right"], request: Request) -> Response:
        """All of an answer that was too long for the page."""
        current = next_task(ballot, _rater(ballot, request))
        if current is None:
            raise HTTPException(404)
        return PlainTextResponse(getattr(current, side))


def _asking(app: FastAPI, ballot: Ballot, live: LiveAnswers) -> None:
    @app.post("/api/ask")
    def ask(body: AskBody, request: Request) -> dict[str, str]:
        rater = _rater(ballot, request)
        if ballot.settings()["closed"] is not None:
            raise HTTPException(409, "the ballot is closed")
        return {"answers": live.ask(rater, body.prompt)}

    @app.post("/api/again")
    def again(body: TaskBody, request: Request) -> dict[str, str]:
        """The open task's prompt answered anew by the same two models."""
        rater = _rater(ballot, request)
        current = next_task(ballot, rater)
        if current is None or current.id != body.task:
            raise HTTPException(409, "that pair is no longer open")
        return {"answers": live.again(rater, current)}

    @app.get("/api/answers/{answers}")
    def stream(answers: str, request: Request) -> Response:
        return StreamingResponse(live.stream(_rater(ballot, request), answers), media_type="text/event-stream")


def _rater(ballot: Ballot, request: Request) -> int:
    """The rater whose session the request belongs to. Raises 401 where there is none."""
    rater = ballot.rater_of(request.cookies.get(COOKIE, ""))
    if rater is None:
        raise HTTPException(401, "no session")
    return rater


def _with_session(response: Response, secret: str) -> Response:
    response.set_cookie(COOKIE, secret, max_age=90 * 86400, httponly=True, samesite="lax", path="/")
    return response


def _state(ballot: Ballot, rater: int, live: LiveAnswers | None) -> dict[str, Any]:
    """What the page shows: the rater's task, or that there is none."""
    settings = ballot.settings()
    current = next_task(ballot, rater)
    if current is None:
        return {"task": None, "closed": settings["closed"] is not None, "can_ask": live is not None}
    return {**shown_task(current), "reasons": settings["reasons"], "can_ask": live is not None}


def shown_task(task: Task) -> dict[str, Any]:
    """A task as the page gets it."""
    marked = show.differences(task.left, task.right)
    sides = {}
    for place, (name, text) in enumerate((("left", task.left), ("right", task.right))):
        rendered = show.shown(text)
        sides[name] = {"html": rendered.html, "raw": rendered.raw, "more": rendered.more,
                       "marked": None if marked is None else marked[place]}  # fmt: skip
    return {
        "task": task.id, "number": task.number, "total": task.total, "prompt": show.shown_turns(task.turns), **sides,
    }  # fmt: skip
