"""Serves a ballot's page until it is interrupted, and says who opens what."""

from __future__ import annotations

import socket
import threading
import webbrowser
from typing import TYPE_CHECKING

import typer

from burnish.errors import BurnishError, ConfigError, StoreError

if TYPE_CHECKING:
    from burnish.vote.live import LiveAnswers
    from burnish.vote.store import Ballot

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(ballot: Ballot, host: str, port: int, browser: bool) -> None:
    """Serve the page. Raises ConfigError without raters on an open address, StoreError where the port is in use."""
    import uvicorn

    from burnish.vote import report
    from burnish.vote.figures import figures
    from burnish.vote.server import Gate, app_of

    settings = ballot.settings()
    names = settings.get("raters") or []
    if host not in LOOPBACK and not names:
        raise ConfigError(f'--host {host} lets others in: name them with votes.raters=["ann", "bo"], each gets a link')
    listening = _socket(host, port)
    address = f"http://{host if host != '0.0.0.0' else socket.gethostname()}:{listening.getsockname()[1]}"
    app = app_of(ballot, Gate(bool(names)), _live(ballot), lambda: report.page(figures(ballot), ballot.path.stem))
    for line in _lines(ballot, address, names):
        typer.echo(line)
    if browser and not names:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
    server.run(sockets=[listening])
    typer.echo(f"stopped; every vote is in {ballot.path}. figures: burnish vote status {ballot.path}")


def _socket(host: str, port: int) -> socket.socket:
    """A listening socket. Raises StoreError, saying who has the port or what is wrong with the address."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(
            f"port {port} of {host} cannot be had: {reason}; name another with --port, or --port 0"
        ) from None
    return listening


def _live(ballot: Ballot) -> LiveAnswers | None:
    """Who answers raters' own prompts; None where nobody can any more, since a model's folder is gone."""
    from burnish.config.balloting import load_ballot_text
    from burnish.evals.ballots import respondents
    from burnish.vote.live import LiveAnswers

    settings = ballot.settings()
    if not settings.get("free") or not settings.get("config"):
        return None
    try:
        answers = respondents(load_ballot_text(settings["config"]), ballot.models())
    except BurnishError as error:
        typer.echo(f"raters cannot ask prompts of their own: {error}")
        return None
    return None if answers is None else LiveAnswers(ballot, answers)


def _lines(ballot: Ballot, address: str, names: list[str]) -> list[str]:
    lines = [f"ballot: {ballot.path}"]
    if names:
        lines += [f"  {name}: {address}/r/{ballot.rater(name)}" for name in names]
        lines.append("each link is one person's; the connection is not encrypted")
    else:
        lines.append(f"vote: {address}")
    lines.append(f"figures, for you alone: {address}/organiser/{ballot.settings()['organiser']}")
    return [*lines, f"stop with Ctrl-C; go on with: burnish vote {ballot.path}"]
