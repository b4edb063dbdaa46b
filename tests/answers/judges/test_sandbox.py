"""Answers that are programs: right ones pass, and hostile ones change nothing but their own verdict."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from burnish.answers.judges import sandbox
from burnish.answers.judges.sandbox import Isolation, Limits, run

SHORT = Limits(seconds=2.0)
USUAL = """
import bisect, collections, dataclasses, datetime, decimal, fractions, functools, hashlib, heapq, itertools, json, math
import random, re, string, typing
Pair = collections.namedtuple("Pair", "a b")
@dataclasses.dataclass
class One:
    x: int = 1
open("own", "w").write("kept")
assert One().x == 1 and Pair(1, 2).b == 2 and open("own").read() == "kept"
"""
HOSTILE = {
    "wrong": "assert 1 == 2",
    "syntax": "def f(:",
    "sleeps": "import time\ntime.sleep(60)",
    "loops": "while True: pass",
    "forks": "import os\nwhile True: os.fork()",
    "starts threads": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(30,)).start()",
    "floods": "while True: print('x' * 1000)",
    "takes memory": "x = [0] * 10**10",
    "fills the disk": "f = open('a', 'w')\nwhile True: f.write('x' * 10000)",
    "reads files": "print(open('/etc/passwd').read())",
    "reads through a link": "import os\nos.symlink('/etc/passwd', 'a')",
    "climbs": "open('../answer.py')",
    "lists folders": "import os\nprint(os.listdir('/'))",
    "writes elsewhere": "open('{outside}', 'w').write('x')",
    "opens sockets": "import socket\nsocket.socket().connect(('127.0.0.1', 80))",
    "starts programs": "import subprocess\nsubprocess.run(['ls'])",
    "asks a shell": "import os\nos.system('ls')",
    "kills": "import os\nos.kill(os.getppid(), 9)",
    "calls C": "import ctypes\nctypes.CDLL(None).system(b'ls')",
    "leaves early": "import os\nos._exit(0)",
    "leaves": "import sys\nsys.exit(0)",
    "recurses": "def f(): return f()\nf()",
    "regular expression": "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')",
    "no text": "x = '\ud800'",
    "is long": "x = 1\n" * 1_700_000 + "assert False",
}


def test_a_right_program_passes() -> None:
    assert run(USUAL, SHORT).passed and run("", SHORT).passed
    told = run("print('so')\nassert [] == [1], 'lists differ'", SHORT)
    assert not told.passed and told.output.startswith("so") and "lists differ" in told.output


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_a_hostile_program_fails_in_time(kind: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    began = time.monotonic()
    outcome = run(HOSTILE[kind].replace("{outside}", str(outside)), SHORT)
    assert not outcome.passed and time.monotonic() - began < 8 and len(outcome.output) <= 2000
    assert not outside.exists() and os.getpid()


def test_what_a_program_starts_ends_with_it(tmp_path: Path) -> None:
    """Nothing of the hostile ones is left behind."""
    run(HOSTILE["starts threads"], SHORT)
    until = time.monotonic() + 3  # the kernel takes a moment
    while left := [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"guard.py" in _read(p)]:
        assert time.monotonic() < until, left
        time.sleep(0.05)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def fresh_probe() -> Iterator[None]:
    sandbox.isolation.cache_clear()
    yield
    sandbox.isolation.cache_clear()


def on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> str:
    """The folder's new program `bwrap`, which stands first on the path."""
    program = folder / "bwrap"
    program.write_text(script, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return str(program)


def test_without_bubblewrap_the_limits_stand_alone_and_the_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_probe: None
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sandbox.isolation().bubblewrap is None and "is not installed" in sandbox.isolation().line


def test_a_bubblewrap_that_does_not_work_is_not_used_and_its_reason_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_probe: None
) -> None:
    on_path(tmp_path, monkeypatch, "#!/bin/sh\necho no namespaces, sorry >&2\nexit 1\n")
    assert sandbox.isolation().bubblewrap is None
    assert sandbox.isolation().line.endswith("does not work: no namespaces, sorry") and run("", SHORT).passed


def test_programs_run_in_bubblewrap_where_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_probe: None
) -> None:
    words = tmp_path / "words"
    path = on_path(tmp_path, monkeypatch, f'#!/bin/sh\nfor word; do echo "$word"; done >> {words}\nkill -9 $$\n')
    outcome = run("", SHORT, Isolation(path, ""))
    given = words.read_text(encoding="utf-8").splitlines()
    assert outcome.output == "" and not outcome.passed
    assert given[:2] == ["--unshare-all", "--die-with-parent"] and given[-3:] == ["2.0", str(512 << 20), str(64 << 10)]
    shown = [given[i + 1] for i, word in enumerate(given) if word in ("--bind", "--ro-bind", "--ro-bind-try")]
    assert not {"/", "/etc", "/home", "/tmp", str(tmp_path)} & set(shown) and str(sandbox.GUARD) in shown


needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
PROBING = """
import os
seen = [path for path in ({outside!r}, "/etc/passwd", "/burnish-answer/work/../printed")
        if os.access(path, os.F_OK)]
assert seen == [], seen
assert os.getcwd() == "/burnish-answer/work" and not os.access("/", os.W_OK)
"""


@needs_bubblewrap
def test_in_bubblewrap_no_file_is_in_sight_even_where_no_hook_looks(tmp_path: Path) -> None:
    assert sandbox.isolation().bubblewrap is not None, sandbox.isolation().line
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    program = PROBING.format(outside=str(tmp_path / "secret"))
    assert run(program, SHORT).passed
    alone = run(program, SHORT, Isolation(None, ""))
    assert not alone.passed and "secret" in alone.output


@needs_bubblewrap
@pytest.mark.parametrize("kept", [Isolation(None, ""), None], ids=["limits alone", "bubblewrap"])
def test_signals_are_told_alike(kept: Isolation | None) -> None:
    outcome = run("x = 1\nwhile True: x += 1", Limits(seconds=0.4), kept)
    assert outcome.output in ("stopped by SIGALRM", "stopped after 0.4 s")
    assert run("import sys\nsys.exit(200)", SHORT, kept).output == ""


def test_humaneval_solutions_pass_and_their_absence_fails(shared_data: Path) -> None:
    lines = (shared_data / "verifiable" / "humaneval.jsonl").read_text(encoding="utf-8").splitlines()
    tasks = [json.loads(line) for line in lines]
    for task in tasks[::4]:
        tests = f"{task['test']}\ncheck({task['entry_point']})\n"
        assert run(task["prompt"] + task["canonical_solution"] + tests).passed, task["task_id"]
        assert not run(task["prompt"] + "    return None\n" + tests).passed, task["task_id"]
