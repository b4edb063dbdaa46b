"""The sandbox for unread programs: an answer with its unit tests runs in a process under limits. Linux only.

What it prevents: endless loops and sleeps (seconds of wall time and of processor time), memory, processes (a single
one, so no fork bomb), large files, floods of output, the network, other programs, and files outside the process's empty
folder and Python's library. Where the kernel grants it, the process also gets new namespaces: no network device, no
other process in sight, and whatever it started dies with it.

What it does not: these are Python's hooks and the kernel's limits, no virtual machine. A program that is written
against this file, with a fault of the interpreter or of the kernel at hand, gets out. A program that looks for the word
which marks its end can print the word itself. Judge answers of your models with it, and other programs in a container.
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
    """What a program may use."""

    seconds: float = 5.0  # of wall time, and of processor time
    memory: int = 512 << 20  # bytes of address space beyond the interpreter's
    output: int = 64 << 10  # bytes, of a file and of what it prints


USUAL = Limits()


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    passed: bool  # it ran to its end, tests included
    output: str  # the end of what it printed, or what stopped it


def run(program: str, limits: Limits = USUAL) -> Outcome:
    """Run a program, its tests behind it; it passes if no assertion or error stops it before its last line."""
    word = secrets.token_hex(16)
    folder = tempfile.mkdtemp()
    try:
        file = Path(folder) / "answer.py"
        file.write_text(program, encoding="utf-8", errors="surrogatepass")
        place = Path(folder) / "work"
        place.mkdir()
        printed = Path(folder) / "printed"
        with printed.open("wb") as output:
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
        text = printed.read_bytes()[-limits.output :].decode("utf-8", "replace")
    finally:
        # not shutil.rmtree, which recurses: a program may have left folders three thousand deep
        subprocess.run(["rm", "-rf", "--", folder], check=False)
    if stopped:
        return Outcome(False, stopped)
    if child.returncode < 0:
        return Outcome(False, f"stopped by {signal.Signals(-child.returncode).name}")
    return Outcome(text.rstrip().endswith(word), text.replace(word, "").strip()[-2000:])


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and whatever it started in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()
