"""`burnish train` in processes side by side: each with its share of the devices, its output in a file.

A run that fails, or that the system ends, is a result like any other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.errors import StoreError
from burnish.loop.interrupt import Interrupted, signals_collected

GRACE = 120.0  # seconds that interrupted runs have to write their checkpoints
PAUSE = 0.2  # seconds between two looks at the processes


@dataclass(frozen=True)
class Job:
    """A run to make: its name, its words for `burnish train`, and the file of its output."""

    name: str
    words: tuple[str, ...]
    output: Path


@dataclass(frozen=True)
class JobResult:
    """How a job ended. `words`: the last line that it wrote, where it failed."""

    name: str
    code: int
    seconds: float
    words: str = ""


Started = Callable[[Job], None]
Ended = Callable[[JobResult], None]
Running = dict[int, tuple[Job, "subprocess.Popen[bytes]", float]]  # by slot: the job, its process, when it began


def run(
    jobs: Sequence[Job], at_once: int, devices: int, started: Started, ended: Ended, ready: Callable[[Job], bool],
    say: Callable[[str], None],
) -> list[JobResult]:  # fmt: skip
    """Run the jobs, so many at a time, and give their results in the order in which they ended.

    The first runs alone until it is `ready` (it has done what the others can then take from it) or has ended. When this
    process is asked to stop, every job is told and has `GRACE` seconds to save. Raises Interrupted.
    """
    waiting, running, results = deque(jobs), Running(), list[JobResult]()
    alone: Job | None = jobs[0] if jobs else None
    signals: list[int] = []
    with signals_collected(signals, say, patient=False):
        try:
            while waiting or running:
                if signals:
                    raise Interrupted("stopped; the same command goes on with what the runs saved", signals[0])
                results += _ended(running, ended)
                if alone is not None and (ready(alone) or any(result.name == alone.name for result in results)):
                    alone = None
                while waiting and len(running) < (at_once if alone is None else 1):
                    slot = next(number for number in range(at_once) if number not in running)
                    job = waiting.popleft()
                    running[slot] = (job, _start(job, slot, at_once, devices), time.monotonic())
                    started(job)
                time.sleep(PAUSE)
        finally:
            _stop([process for _, process, _ in running.values()])
    return results


def _ended(running: Running, ended: Ended) -> list[JobResult]:
    """The results of the jobs that have ended, which leave `running`."""
    results = []
    for slot, (job, process, began) in list(running.items()):
        if process.poll() is not None:
            del running[slot]
            results.append(_result(job, process, began))
            ended(results[-1])
    return results


def _start(job: Job, slot: int, at_once: int, devices: int) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    if at_once > 1 and devices:
        environment["CUDA_VISIBLE_DEVICES"] = str(slot % devices)
    if at_once > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))
    try:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        with job.output.open("ab") as stream:
            command = [sys.executable, "-m", "burnish", "train", *job.words]
            # a session of its own: ctrl-C reaches this process alone, which tells them
            return subprocess.Popen(command, stdout=stream, stderr=stream, env=environment, start_new_session=True)
    except OSError as error:
        raise StoreError(f"{job.name} cannot be started: {error.strerror or error}") from None


def _result(job: Job, process: subprocess.Popen[bytes], began: float) -> JobResult:
    code = int(process.returncode)
    return JobResult(job.name, code, time.monotonic() - began, "" if code == 0 else _last_line(job.output, code))


def _last_line(output: Path, code: int) -> str:
    try:
        lines = [line for line in output.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    if code < 0:
        return f"ended by the system ({signal.Signals(-code).name}); often it ran out of memory"
    return lines[-1].strip() if lines else f"exit code {code}, and no output"


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
