"""A function of somebody else's making, such as a chat template, in a child process that can be stopped.

The child is a fork, so that nothing is imported twice, and answers one call after another. The kernel ends it where a
call takes more processor time or memory than the limits say, be it in a loop or in one long multiplication; it ends
itself where the parent is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

SECONDS = 5.0  # of processor time for a call
WALL = 60.0  # seconds to wait for a child that does nothing
MEMORY = 1 << 30  # bytes of address space beyond what the parent had
LONGEST = 16 << 20  # characters of a text
BATCH = 32  # calls in a message
STRIKES = 3  # children that are ended before no other is started


class BeyondLimitsError(Exception):
    """A call took more than it may."""


class Bounded:
    """`function`, of arguments that can be pickled, to a text; many calls at once, each under the limits.

    Raises BeyondLimitsError where the limits end a call, and ValueError with the message of whatever the function
    raises. After `STRIKES` ended children everything raises at once, so that a long file ends soon.
    """

    def __init__(self, function: Callable[..., str], seconds: float = SECONDS) -> None:
        self._function, self._seconds = function, seconds
        self._child: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._strikes, self._fault = 0, ""
        self._lock = threading.Lock()

    def __call__(self, calls: Sequence[tuple[Any, ...]]) -> list[str]:
        """The text of each call, by its arguments."""
        with self._lock:
            if self._strikes >= STRIKES:
                raise BeyondLimitsError(self._fault)
            pipe, texts = self._pipe or self._start(), list[str]()
            for start in range(0, len(calls), BATCH):
                try:
                    pipe.send(calls[start : start + BATCH])
                    if not pipe.poll(WALL + BATCH * self._seconds):
                        raise BeyondLimitsError(self._end(stuck=True))
                    reply = pipe.recv()
                except (EOFError, OSError):
                    raise BeyondLimitsError(self._end()) from None
                if isinstance(reply, str):
                    raise ValueError(reply)
                texts += reply
        return texts

    def _start(self) -> Connection:
        context = multiprocessing.get_context("fork")
        self._pipe, other = context.Pipe()
        args = (self._function, other, self._seconds)
        self._child = context.Process(target=_serve, args=args, daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, none of which the child needs
            self._child.start()
        other.close()
        return self._pipe

    def _end(self, *, stuck: bool = False) -> str:
        """End the child, and say why."""
        assert self._child is not None and self._pipe is not None
        if stuck:
            self._child.kill()
        self._child.join()
        self._pipe.close()
        self._pipe = None
        self._strikes += 1
        code = self._child.exitcode
        reason = f"gave nothing in {WALL:g} s" if stuck else f"ended its process ({code})"
        self._fault = f"took more than {self._seconds:g} s" if code == -signal.SIGPROF else reason
        return self._fault


def _serve(function: Callable[..., str], pipe: Connection, seconds: float) -> None:
    """The child: no file of the parent's stays open in it, and no signal of the terminal reaches it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, pipe.fileno())
    os.closerange(pipe.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    with open("/proc/self/statm") as pages:
        most = int(pages.read().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            pipe.send(_reply(function, pipe.recv(), seconds))
        except (EOFError, OSError):
            os._exit(0)


def _reply(function: Callable[..., str], calls: Sequence[tuple[Any, ...]], seconds: float) -> list[str] | str:
    """The texts, or why one of them could not be had."""
    texts = []
    try:
        for args in calls:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            texts.append(function(*args))
            if len(texts[-1]) > LONGEST:
                return f"the text has more than {LONGEST >> 20} million characters"
    except MemoryError:
        return f"it takes more than {MEMORY >> 20} MiB of memory"
    except Exception as error:  # of any kind: the function is somebody else's
        return str(error)[:2000] or type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return texts
