"""Hostile answers change nothing but their own verdict: those beside them are judged as if they were alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from burnish.answers.judges import check_process
from burnish.answers.judges.check_process import CheckProcess, TooLong
from burnish.answers.judges.checks import CHECKS, Missing, Request
from burnish.answers.judges.verifier import Verifier, make
from burnish.config.online import VerifierConfig
from burnish.group import Completion, Group, Scores, Unjudged

MEGABYTES = 10 << 20
BOMB = "a" * 40 + "!"
HOSTILE = {
    "bomb": BOMB,
    "10 MB": "7 " * (MEGABYTES // 2),
    "10 MB of digits": "9" * MEGABYTES,
    "digits": "#### " + "9" * 5000,
    "a fraction of digits": f"#### 1/{'9' * 100_000}",
    "blanks": " " * 150_000,
    "lines": "answer is" + "\n" * 150_000,
    "tabs": "\\boxed{" + "\t " * 75_000,
    "signs": "- $ " * 40_000,
    "fences": ("```" + " " * 40) * 3000,
    "one fence": "```" + " " * 150_000,
    "nested": "[" * 150_000,
    "nested and closed": "[" * 90_000 + "]" * 90_000,
    "nested objects": '{"a":' * 30_000 + "1" + "}" * 30_000,
    "braces": r"\boxed{" * 20_000,
    "fractions": r"\frac{" * 20_000,
    "surrogate": "\ud800 3",
    "NUL": "\x00" * 1000 + "3\x00",
    "no text": "",
    "right to left": "\u202e3\u202c" * 1000,
    "other digits": "#### ٣²",
    "stars": "*" * 150_000,
    "words": "word, " * 30_000,
    "brackets": "[" + "a" * 100 + "<<" * 50_000,
}
RULES = {  # name -> settings, the row, a right answer and a wrong one
    "gsm8k": ({}, {"final": "31"}, "#### 31", "#### 32"),
    "numeric": ({}, {"final": "31"}, "31", "32"),
    "math": ({}, {"final": "31"}, r"\boxed{31}", r"\boxed{31x}"),
    "exact": ({}, {"answer": "b"}, "B", "c"),
    "regex": ({"pattern": "(a+)+$", "seconds": 0.5}, {}, "aaa", "b"),
    "format": ({"pattern": "(b+)+", "seconds": 0.5}, {}, "bb", "c"),
    "json_schema": (
        {"seconds": 2.0},
        {"schema": {"anyOf": [{"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]},
                              {"type": "string", "pattern": "^(a+)+$"}]}},
        '"aa"', '{"m": 1}',
    ),
    "length": ({"target": 2}, {}, "a b", "a b c d"),
    "ifeval": (
        {"seconds": 2.0},
        {"instruction_id_list": ["detectable_format:title", "keywords:existence", "detectable_format:json_format"],
         "kwargs": [{}, {"keywords": ["(x+)+y"]}, {}]},
        '"<<t>> xy"', "<<t>> xy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(RULES))
def test_hostile_answers_change_only_their_own_verdict(name: str) -> None:
    given, meta, right, wrong = RULES[name]
    judge = make(VerifierConfig(name=name, **given))
    answers = [right, wrong]
    for hostile in HOSTILE.values():
        answers += [hostile, right, wrong]
    began = time.monotonic()
    (feedback,) = judge([Group("?", tuple(map(Completion, answers)), meta=meta)])
    took = time.monotonic() - began
    assert isinstance(feedback, Scores), feedback
    beside = [value for k, value in enumerate(feedback.values) if k % 3 != 2]
    assert beside == [1.0, 0.0] * (len(HOSTILE) + 1)
    got = dict(zip(HOSTILE, feedback.values[2::3], strict=True))
    assert name == "length" or not any(got.values()), got  # one word is a length like any other
    assert took < 15, took


PROGRAMS = {
    "loops": "while True: pass",
    "sleeps": "import time\ntime.sleep(60)",
    "forks": "import os\nwhile True: os.fork()",
    "floods": "while True: print('x' * 10000)",
    "reads files": "print(open('/etc/passwd').read())",
    "opens sockets": "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "is nested": "x = " + "(" * 50_000 + ")" * 50_000,
    "digs folders": "import os\nfor _ in range(300): os.mkdir('d'); os.chdir('d')\nassert False",
    "signals": "import signal\nsignal.raise_signal(35)\nassert False",
    "leaves a quote open": '"""',
    "surrogate": "x = '\ud800'",
    "NUL": "x = 1\x00",
    "is long": "x = 1\n" * (MEGABYTES // 6),
    "redefines": "def check(*_): raise SystemExit(0)\ncheck()",
    "fences": ("```" + " " * 40) * 3000,
}


def test_hostile_programs_change_only_their_own_verdict() -> None:
    judge = make(VerifierConfig(name="code", seconds=1.0))
    right = "    return 1\n"
    meta = {"test": "def check(f):\n    assert f() == 1\n", "entry_point": "f"}
    groups = [Group("def f():\n", (Completion(text), Completion(right)), meta=meta) for text in PROGRAMS.values()]
    began = time.monotonic()
    found = dict(zip(PROGRAMS, judge(groups), strict=True))
    assert found == {name: Scores((0.0, 1.0)) for name in PROGRAMS} and time.monotonic() - began < 25


def test_an_answer_that_takes_too_long_costs_its_time_and_no_more() -> None:
    judge = make(VerifierConfig(name="regex", pattern="(a+)+$", seconds=0.5))
    assert isinstance(judge, Verifier)
    row = Group("?", tuple(map(Completion, ["aa", BOMB, "aa", BOMB, "b"])))
    began = time.monotonic()
    assert judge([row]) == [Scores((1.0, 0.0, 1.0, 0.0, 0.0))]
    assert 1.0 <= time.monotonic() - began < 5
    child = judge.process._child
    assert child is not None
    assert judge([row]) and judge.process._child is not child  # killed and started anew


def test_the_process_is_kept_and_ends_with_the_judge() -> None:
    judge = make(VerifierConfig(name="regex", pattern="a"))
    assert isinstance(judge, Verifier)
    row = Group("?", (Completion("a"),))
    assert judge.process._child is None  # none before it is needed
    assert judge([row]) == [Scores((1.0,))]
    child = judge.process._child
    assert child is not None and judge([row, row]) == [Scores((1.0,))] * 2 and judge.process._child is child
    child.kill()  # by somebody else, between two answers
    child.wait()
    assert judge([row]) == [Scores((1.0,))]
    child = judge.process._child
    assert child is not None and child.poll() is None
    del judge
    assert child.poll() is not None


def test_the_process_does_not_outlive_the_one_that_asks(tmp_path: Path) -> None:
    """Not even in the middle of an answer that never ends."""
    code = (
        "import os, threading\nfrom burnish.answers.judges.check_process import CheckProcess, Request\n"
        "p = CheckProcess()\n"
        "p.score('regex', Request('', 'a', {}, {'pattern': 'a'}), 1)\nprint(p._child.pid, flush=True)\n"
        "threading.Timer(0.3, os._exit, (0,)).start()\n"
        f"p.score('regex', Request('', {BOMB!r}, {{}}, {{'pattern': '(a+)+$'}}), 1)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    status, until = Path("/proc") / told.stdout.strip() / "stat", time.monotonic() + 6
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":  # or not buried by anyone yet
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_users_files_are_not_taken_for_pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert make(VerifierConfig(name="regex", pattern="a"))([Group("?", (Completion("a"),))]) == [Scores((1.0,))]


def test_a_machine_that_starts_no_process_gives_no_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_process.sys, "executable", os.devnull)
    row = Group("?", (Completion("a"),), where="x:1")
    (feedback,) = make(VerifierConfig(name="regex", pattern="a"))([row])
    assert isinstance(feedback, Unjudged) and feedback.reason.startswith("x:1: regex cannot check this row")
    row = Group("def f():\n", (Completion("    return 1"),), meta={"tests": ["assert f()"], "entry_point": "f"})
    (feedback,) = make(VerifierConfig(name="code"))([row])
    assert isinstance(feedback, Unjudged)


def test_a_check_that_breaks_whatever_the_answer_gives_no_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(request: Request) -> float:
        raise RuntimeError(request.answer)

    monkeypatch.setitem(CHECKS, "gsm8k", type(CHECKS["gsm8k"])("gsm8k", breaks, (), ""))
    (feedback,) = make(VerifierConfig(name="gsm8k"))([Group("?", (Completion("a"),))])
    assert isinstance(feedback, Unjudged) and "RuntimeError" in feedback.reason


def test_the_other_process_tells_what_is_missing_from_what_is_too_long() -> None:
    patient = CheckProcess()
    with pytest.raises(Missing, match="no field pattern"):
        patient.score("regex", Request("", "a", {}, {}), 5.0)
    with pytest.raises(TooLong, match=r"0\.2 s"):
        patient.score("regex", Request("", BOMB, {}, {"pattern": "(a+)+$"}), 0.2)
    patient.close()
    patient.close()


def test_odd_rows_cross_to_the_other_process() -> None:
    meta: dict[str, Any] = {"pattern": "a", "day": Path("x"), "nan": float("nan"), "half": "\ud800", "0": {1: 2}}
    judge = make(VerifierConfig(name="regex", field="pattern"))
    assert judge([Group("?", (Completion("a"),), meta=meta)]) == [Scores((1.0,))]
    (feedback,) = judge([Group("?", (Completion("a"),), meta={**meta, "keys": {(1, 2): 3}})])
    assert isinstance(feedback, Unjudged) and json.dumps(feedback.reason)
