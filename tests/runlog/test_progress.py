"""What a person sees: on a pipe lines with rates and the time left, not too many; on a terminal a display that goes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from burnish.runlog import progress
from burnish.runlog.progress import Progress, clock
from burnish.runlog.records import StepRecord


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The clock, to be set by hand."""
    reading = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: reading[0])
    yield reading


def record(step: int) -> StepRecord:
    return StepRecord(step=step, loss=0.5, tokens=1000, seconds=2.0, metrics={"rewards/margins": 0.25, "other": 1.0})


def test_a_pipe_gets_the_first_and_the_last_step_and_one_every_five_seconds(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(4, live=False) as display:
        for step, seconds in enumerate((101.0, 103.0, 106.0, 106.5), 1):
            now[0] = seconds
            display.update(record(step), {"reward": 3.0})
    assert capsys.readouterr().out.splitlines() == [
        f"step {step}/4: loss 0.5, reward 3, margin 0.25; 500 tokens/s, {left} left"
        for step, left in ((1, "0:06"), (3, "0:02"), (4, "0:00"))
    ]


def test_counted_work_has_a_rate_and_the_time_left(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(live=False) as display:
        stage = display.stage("SFT", "steps")
        for done, seconds in ((10, 102.0), (20, 105.0), (30, 106.0)):
            now[0] = seconds
            stage(done, 30, "loss 1.5")
    assert capsys.readouterr().out.splitlines() == [
        "SFT: 20/30 steps, loss 1.5, 4.0/s, 0:02 left",
        "SFT: 30/30 steps, loss 1.5, 5.0/s, 0:00 left",
    ]


def test_work_of_unknown_length_is_counted_on_standard_error(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(live=False, stderr=True) as display:
        stage = display.stage("audit")
        for seconds in (101.0, 110.0):
            now[0] = seconds
            stage.add(2000)
        now[0] = 112.0
        display.doing("looking for near copies")  # soon after another line: not on a pipe
        now[0] = 118.0
        display.doing("scoring")
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == ["audit: 4,000 groups, 400.0/s", "scoring"]


def test_a_terminal_gets_a_display_that_is_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(2) as display:
        display.note("stays")
        display.update(record(1), {})
    out = capsys.readouterr().out
    assert "stays" in out and "0.2500" in out and "500 tokens/s" in out and out.endswith("\x1b[2K")


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1, silent=True) as display:
        display.note("a")
        display.update(record(1), {})
        display.stage("b")(1, 1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599.0, "59:59"), (3723.0, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
