"""Answers that are programs: right ones pass, and hostile ones change nothing but their own verdict."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from burnish.answers.judges.sandbox import Limits, run

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


def test_humaneval_solutions_pass_and_their_absence_fails(shared_data: Path) -> None:
    lines = (shared_data / "verifiable" / "humaneval.jsonl").read_text(encoding="utf-8").splitlines()
    tasks = [json.loads(line) for line in lines]
    for task in tasks[::4]:
        tests = f"{task['test']}\ncheck({task['entry_point']})\n"
        assert run(task["prompt"] + task["canonical_solution"] + tests).passed, task["task_id"]
        assert not run(task["prompt"] + "    return None\n" + tests).passed, task["task_id"]
