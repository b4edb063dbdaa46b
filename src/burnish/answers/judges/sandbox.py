"""Running a program that nobody has read: an answer with unit tests behind it, in a process of its own.

What it keeps away: loops and sleeps (seconds of wall time and of processor time), memory, processes (one, so no fork
bomb), large files, floods of output, the network, other programs, and files outside its own empty folder and Python's
library. Where the kernel grants it, the process also has namespaces of its own: no network device, no other process in
sight, everything it started dies with it. Linux only.

What it does not: it is Python's own hooks and the kernel's limits, no virtual machine. A program written against this
very file, with a fault of the interpreter or of the kernel at hand, gets out; and one that looks for the word by which
a program's end is told can say it itself. Judge answers of your own models with it, and strangers' in a container.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True)
class Limits:
    """What one program may take."""

    seconds: float = 5.0
    memory: int = 512 << 20  # bytes of address space beyond the interpreter's own
    output: int = 64 << 10  # bytes, of a file and of what it prints


USUAL = Limits()


@dataclass(frozen=True)
class Outcome:
    """`passed`: it ran to its end, tests and all. `told`: the end of what it said, or what stopped it."""

    passed: bool
    told: str


def run(program: str, limits: Limits = USUAL) -> Outcome:
    """Run a program, its tests behind it; it passes if no assertion or error stops it before its last line."""
    word = secrets.token_hex(16)
    folder = tempfile.mkdtemp()
    try:
        file = Path(folder) / "answer.py"
        file.write_text(program, encoding="utf-8", errors="surrogatepass")
        place = Path(folder) / "work"
        place.mkdir()
        said = Path(folder) / "said"
        with said.open("wb") as output:
            most = [str(limits.seconds), str(limits.memory), str(limits.output)]
            child = subprocess.Popen(
                [sys.executable, "-I", str(GUARD), str(file), *most], stdin=subprocess.PIPE, stdout=output,
                stderr=subprocess.STDOUT, cwd=place, env={"PATH": "/usr/bin:/bin"}, start_new_session=True,
            )  # fmt: skip
            try:
                child.communicate(word.encode(), timeout=limits.seconds + 0.5)
                stopped = ""
            except subprocess.TimeoutExpired:
                stopped = f"stopped after {limits.seconds:g} s"
            finally:
                _kill(child)
        text = said.read_bytes()[-limits.output :].decode("utf-8", "replace")
    finally:
        # not Python's own removal, which recurses: a program may have left folders three thousand deep
        subprocess.run(["rm", "-rf", "--", folder], check=False)
    if stopped:
        return Outcome(False, stopped)
    if child.returncode < 0:
        return Outcome(False, f"stopped by {signal.Signals(-child.returncode).name}")
    return Outcome(text.rstrip().endswith(word), text.replace(word, "").strip()[-2000:])


def _kill(child: subprocess.Popen[bytes]) -> None:
    """The child and whatever it started in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()
