"""Checks that may never end (a pattern with nested repeats, JSON nested a million deep), in a process that can be
stopped. A judge has a single such process; it is killed when an answer takes too long, and another is started."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import IO, Any

from burnish.answers.judges.checks import CHECKS, Missing, Request

START = 60.0  # seconds for Python to start, and to import
MEMORY = 1 << 30  # bytes of address space beyond the interpreter's
PACKAGES = str(Path(__file__).resolve().parents[3])


class TooLong(Exception):
    """The check took more than its time, or all memory; the process is gone."""


class Broke(Exception):
    """The check raised on this answer; the process goes on."""


class CheckProcess:
    """Runs checks in a second process, which is started when it is needed and ends with this one. It imports `package`
    first, so that no answer's time is spent on that."""

    def __init__(self, package: str = "") -> None:
        self._package = package
        self._child: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes], int], CheckProcess] | None = None
        self._lock = threading.Lock()  # one request at a time

    def score(self, name: str, request: Request, seconds: float) -> float:
        """The check's score. Raises Missing as the check does, Broke where it raised anything else, TooLong after
        `seconds`, and OSError where no process can be started."""
        fields = [name, request.prompt, request.answer, dict(request.meta), dict(request.settings), seconds]
        line = json.dumps(fields, ensure_ascii=True, default=str).encode() + b"\n"
        with self._lock:
            child = self._child if self._child is not None and self._child.poll() is None else self._start()
            assert child.stdin is not None and child.stdout is not None
            try:
                child.stdin.write(line)
                child.stdin.flush()
                kind, value = json.loads(_line(child.stdout, seconds))
            except (OSError, ValueError):  # TimeoutError is an OSError
                self.close()
                raise TooLong(f"stopped after {seconds:g} s") from None
            except BaseException:  # Ctrl-C: the reply still to come belongs to no later request
                self.close()
                raise
        if kind != "score":
            raise (Missing if kind == "missing" else Broke)(value)
        return float(value)

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        # -P: a file called json.py in the user's folder must not be imported. A new session: Ctrl-C is not for it
        paths = os.pathsep.join(filter(None, (PACKAGES, os.environ.get("PYTHONPATH"))))
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", __spec__.name, self._package], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths}, start_new_session=True,
        )  # fmt: skip
        self._child, self._end = child, weakref.finalize(self, _stop, child, os.getpid())
        assert child.stdout is not None
        _line(child.stdout, START)
        return child

    def close(self) -> None:
        """Stop the other process, at once."""
        if self._end is not None:
            self._end()
        self._child = self._end = None


def _stop(child: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:  # a fork ends, and the process belongs to its parent
        return
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # what the other side no longer read
                stream.close()


def _line(stream: IO[bytes], seconds: float) -> bytes:
    """The next line. Raises TimeoutError, or OSError at the end of the stream."""
    line, until = b"", time.monotonic() + seconds
    with selectors.DefaultSelector() as waiting:
        waiting.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not waiting.select(max(0.0, until - time.monotonic())):
                raise TimeoutError
            piece = os.read(stream.fileno(), 1 << 16)
            if not piece:
                raise OSError("the process has ended")
            line += piece
    return line


def main(package: str) -> None:
    """The second process: a request a line in; ["score", number], ["missing", why] or ["broke", why] a line out."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a check prints must not be taken for its reply
    if package:
        importlib.import_module(package)
    with open("/proc/self/statm") as pages:
        most = int(pages.read().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        name, prompt, answer, meta, settings, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds + 1)  # kills this process, should its parent be gone
        reply: tuple[str, Any]
        try:
            reply = ("score", CHECKS[name].run(Request(prompt, answer, meta, settings)))
        except Missing as error:
            reply = ("missing", str(error))
        except Exception as error:  # a check may raise anything; the judge finds out whose fault it is
            reply = ("broke", f"{type(error).__name__}: {error}"[:500])
        signal.setitimer(signal.ITIMER_REAL, 0)
        out.write(json.dumps(reply).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
