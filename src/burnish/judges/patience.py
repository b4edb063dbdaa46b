"""Checks that may never end (a pattern with nested repeats, JSON nested a million deep), in a process that can be
stopped: one for a judge, kept while it answers, killed and started anew when an answer takes too long."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from typing import IO, Any

from burnish.judges import checks
from burnish.judges.checks import Missing, Request

START = 30.0  # seconds for Python to start


class TooLong(Exception):
    """The answer took more than its time; the process is gone."""


class Patient:
    """`score` runs a check in the other process. Use as a context manager, or `close` it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def score(self, name: str, request: Request, seconds: float) -> float:
        """The check's score. Raises Missing as the check does, TooLong after `seconds`."""
        child = self._child if self._child is not None and self._child.poll() is None else self._start()
        asked = [name, request.prompt, request.answer, dict(request.meta), dict(request.settings)]
        line = json.dumps(asked, ensure_ascii=True, default=str).encode() + b"\n"
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(line)
            child.stdin.flush()
            told = json.loads(_line(child.stdout, seconds))
        except (OSError, ValueError, TimeoutError):
            self.close()
            raise TooLong(f"stopped after {seconds:g} s") from None
        if isinstance(told, str):
            raise Missing(told)
        return float(told)

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "burnish.judges.patience"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._child.stdout is not None
        _line(self._child.stdout, START)
        return self._child

    def close(self) -> None:
        """Stop the other process, at once."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for stream in (self._child.stdin, self._child.stdout):
                if stream is not None:
                    _shut(stream)
            self._child = None

    def __del__(self) -> None:
        self.close()


def _shut(stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # of what the other side did not read any more
        stream.close()


def _line(stream: IO[bytes], seconds: float) -> bytes:
    """The next line. Raises TimeoutError, or OSError at the end of the stream."""
    found, until = b"", time.monotonic() + seconds
    with selectors.DefaultSelector() as waiting:
        waiting.register(stream, selectors.EVENT_READ)
        while not found.endswith(b"\n"):
            if not waiting.select(max(0.0, until - time.monotonic())):
                raise TimeoutError
            piece = os.read(stream.fileno(), 1 << 16)
            if not piece:
                raise OSError("the process has ended")
            found += piece
    return found


def main() -> None:
    """In the other process: a request a line, a number (or a sentence about what is missing) a line."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a check prints shall not be taken for its answer
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        name, prompt, answer, meta, settings = json.loads(line)
        told: Any
        try:
            told = checks.score(name, Request(prompt, answer, meta, settings))
        except (RecursionError, MemoryError):
            told = 0.0
        except Exception as error:  # what a row cannot be checked with is told, whatever it is
            told = str(error) or type(error).__name__
        out.write(json.dumps(told).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
