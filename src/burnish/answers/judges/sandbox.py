"""The sandbox for unread programs: an answer with its unit tests runs in a process under limits. Linux only.

What it prevents: endless loops and sleeps (seconds of wall time and of processor time), memory, processes (a single
one, so no fork bomb), large files, floods of output, the network, other programs, and files outside the process's empty
folder and Python's library. Where the kernel grants it, the process also gets new namespaces: no network device, no
other process in sight, and whatever it started dies with it. Where bubblewrap is installed and works, no other file is
in its sight either: the limits and hooks then hold within bubblewrap's container.

What it does not: these are Python's hooks and the kernel's limits, no virtual machine. A program that is written
against this file, with a fault of the interpreter or, under bubblewrap, of the kernel at hand, gets out. A program that
looks for the word which marks its end can print the word itself. Judge answers of your models with it, and other
programs in a container.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
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
PROBE = 10.0  # seconds to find out whether bubblewrap works
INSIDE = "/burnish-answer"  # where the program's folder is in bubblewrap's container
LIBRARIES = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/nix/store")


@dataclass(frozen=True)
class Isolation:
    """How programs are kept apart from the machine. `bubblewrap` is its program's path, None where it is not used."""

    bubblewrap: str | None
    line: str  # for people

    def command(self, folder: Path) -> list[str]:
        """What starts the guard on `answer.py` in a folder, and behind which its limits stand."""
        python = [sys.executable, "-I"]
        if self.bubblewrap is None:
            return [*python, str(GUARD), str(folder / "answer.py")]
        prefixes = (sys.prefix, sys.base_prefix)
        seen = dict.fromkeys([*LIBRARIES, *prefixes, *map(os.path.realpath, prefixes)])
        binds = [word for path in seen for word in ("--ro-bind-try", path, path)]
        return [
            self.bubblewrap, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", *binds,
            "--proc", "/proc", "--dev", "/dev", "--ro-bind", str(GUARD), f"{INSIDE}/guard.py",
            "--ro-bind", str(folder / "answer.py"), f"{INSIDE}/answer.py",
            "--bind", str(folder / "work"), f"{INSIDE}/work", "--remount-ro", "/", "--chdir", f"{INSIDE}/work",
            "--", *python, f"{INSIDE}/guard.py", f"{INSIDE}/answer.py",
        ]  # fmt: skip


@functools.cache
def isolation() -> Isolation:
    """Bubblewrap where it is installed and a program passes in it, else the guard alone, with the reason."""
    guarded = "programs run under limits, in namespaces where the kernel grants them"
    path = shutil.which("bwrap")
    if path is None:
        return Isolation(None, f"{guarded}; bubblewrap, which would hide all files, is not installed")
    wrapped = Isolation(path, f"programs run in bubblewrap's container ({path}), under limits")
    outcome = run("", Limits(PROBE), wrapped)
    if outcome.passed:
        return wrapped
    return Isolation(None, f"{guarded}; bubblewrap is installed and does not work: {outcome.output[-200:]}")


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    passed: bool  # it ran to its end, tests included
    output: str  # the end of what it printed, or what stopped it


def run(program: str, limits: Limits = USUAL, kept: Isolation | None = None) -> Outcome:
    """Run a program, its tests behind it; it passes if no assertion or error stops it before its last line.

    `kept`: how it is kept apart; None: as `isolation` says.
    """
    kept = kept or isolation()
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
                [*kept.command(Path(folder)), *most], stdin=subprocess.PIPE, stdout=output,
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
    # bubblewrap tells of a signal as a shell does
    number = child.returncode - 128 if kept.bubblewrap is not None else -child.returncode
    if number in set(signal.Signals):
        return Outcome(False, f"stopped by {signal.Signals(number).name}")
    return Outcome(text.rstrip().endswith(word), text.replace(word, "").strip()[-2000:])


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and whatever it started in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()
