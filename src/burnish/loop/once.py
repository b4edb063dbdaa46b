"""`refresh_every = "never"` with a judge: offline training on the policy's own answers, which are asked for once."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from burnish.answers.answerer import Answerer
from burnish.engine import checkpoint
from burnish.errors import DataError, JudgeError
from burnish.findings import counted
from burnish.loop.prepare import Prepared
from burnish.loop.rounds import waits, when_voted
from burnish.loop.watch import RefreshMonitor


def sample_once(prepared: Prepared, answerer: Answerer, monitor: RefreshMonitor) -> Prepared:
    """Every prompt answered by the policy as it is before the first step, and then a data set like any other.

    Raises DataError where no answer teaches anything, JudgeError where nobody could judge any.
    """
    began = time.perf_counter()
    run = prepared.run
    refresh = when_voted(
        lambda: answerer(prepared.prompts, run.seed, 0), wait=waits(run), note=monitor.progress.note, saved=lambda: None
    )
    if refresh.unjudged is not None:
        raise JudgeError(f"nobody could judge any of {len(prepared.prompts)} groups of answers: {refresh.unjudged}")
    if not (run.run.resume and checkpoint.folders(Path(run.run.dir))):  # else they were recorded before
        monitor.record(0, refresh)
    groups = [replace(group, rollout=None) for group in refresh.groups if group is not None]
    if not groups:
        raise DataError(
            f"none of {counted(len(prepared.prompts), 'prompt')} got answers that {prepared.mixture.name} can learn "
            "from: all alike"
        )
    line = (
        f"answers: {counted(len(prepared.prompts), 'prompt')}, {counted(run.source.k, 'answer')} each, by the policy "
        f"itself: {counted(len(groups), 'group')} of use ({time.perf_counter() - began:.1f} s)"
    )
    monitor.progress.note(line)
    return replace(prepared, train=groups, lines=[*prepared.lines, line])
