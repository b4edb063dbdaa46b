"""A sweep: runs that differ in some settings, made one after the other or side by side, compared, and one picked.

The members are ordinary runs in folders of the sweep. They share the store of the reference's log-probs, so that one
pass over the data serves all that have the same model and data. What is finished is skipped; what was stopped goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.config import Run, load, to_toml
from burnish.config.sweep import SweepMember, SweepPlan
from burnish.errors import ConfigError, DataError, StoreError
from burnish.findings import counted
from burnish.pipeline import jobs
from burnish.pipeline.jobs import Job, JobResult
from burnish.reports.compare.comparison import compare
from burnish.reports.history import flat, read_history
from burnish.runlog import log
from burnish.runlog.lock import Lock
from burnish.runlog.progress import clock
from burnish.runlog.records import EndRecord, ReferenceRecord, StepRecord

FIRST = "first"  # folder of the runs on a share of the groups
MEMBERS, OUTPUTS = "members", "outputs"

Say = Callable[[str], None]


@dataclass(frozen=True)
class SweepResult:
    """What became of a sweep: its comparison, the failures by name, and the members that were not trained in full."""

    comparison: dict[str, Any] | None
    failed: dict[str, str]
    dropped: tuple[str, ...] = ()


def sweep(plan: SweepPlan, say: Say) -> SweepResult:
    """Run a sweep. Raises StoreError where its folder holds something else, DataError where no run made a step."""
    _claim(plan.folder)
    with Lock(plan.folder) as lock:
        lock.take(make=True)
        members, failed = list(plan.members), dict[str, str]()
        dropped: tuple[str, ...] = ()
        if plan.config.first is not None:
            members, dropped, failed = _halved(plan, say)
        failed |= _make(plan, members, say)
    done = [m for m in members if m.name not in failed or _has_steps(Path(m.run.run.dir))]
    if not done:
        raise DataError(f"none of the {counted(len(members), 'run')} made a step: {_named(failed)}")
    comparison = None
    if len(done) > 1:
        comparison = compare([read_history(Path(m.run.run.dir)) for m in done], [])
        comparison["made"] = time.strftime("%Y-%m-%d")
        comparison["failed"] = failed
    return SweepResult(comparison, failed, dropped)


def _named(failed: dict[str, str]) -> str:
    return "; ".join(f"{name}: {words}" for name, words in failed.items())


def _claim(folder: Path) -> None:
    if (folder / "config.toml").exists() or (folder / "config.json").exists():
        raise StoreError(f"sweep.dir = {folder} is the folder of a run or a model; name a folder of the sweep's own")


def _halved(plan: SweepPlan, say: Say) -> tuple[list[SweepMember], tuple[str, ...], dict[str, str]]:
    """All members on a share of the groups; (the best of them, the others' names, the failures)."""
    assert plan.config.first is not None
    keep = plan.config.keep or max(1, math.ceil(len(plan.members) / 3))
    if keep >= len(plan.members):
        return list(plan.members), (), {}
    say(f"first all {len(plan.members)} on {plan.config.first:.0%} of the groups, then the best {keep} in full")
    short = [replace(m, run=_shortened(m, plan)) for m in plan.members]
    failed = _make(plan, short, say, FIRST)
    alive = [m for m in short if m.name not in failed]
    if len(alive) <= keep:
        best = [m.name for m in alive]
    else:
        best = ranked([m.name for m in alive], compare([read_history(Path(m.run.run.dir)) for m in alive], []))[:keep]
    dropped = tuple(m.name for m in plan.members if m.name not in best and m.name not in failed)
    say(f"in full: {', '.join(best)}")
    return [m for m in plan.members if m.name in best], dropped, failed


def ranked(names: Sequence[str], comparison: dict[str, Any]) -> list[str]:
    """The runs by the lower bound of the pick's measure; those without it last, in the order given."""
    values = comparison["quality"].get(comparison["pick"]["measure"], {})

    def lower(name: str) -> float:
        value = values.get(name)
        return -math.inf if value is None or value[1] is None else float(value[1])

    return sorted(names, key=lambda name: -lower(name))


def _shortened(member: SweepMember, plan: SweepPlan) -> Run:
    """The run on the first part of its groups: so much fewer steps or epochs, in a folder of its own."""
    run, share = member.run, plan.config.first or 1.0
    if run.optim.steps is not None:
        optim = run.optim.model_copy(update={"steps": max(1, round(run.optim.steps * share))})
    else:
        optim = run.optim.model_copy(update={"epochs": (run.optim.epochs or 1.0) * share})
    folder = str(plan.folder / FIRST / member.name)
    return run.model_copy(update={"optim": optim, "run": run.run.model_copy(update={"dir": folder})})


def _make(plan: SweepPlan, members: Sequence[SweepMember], say: Say, kind: str = "") -> dict[str, str]:
    """Make the runs that are not finished; the failures by name."""
    todo = []
    for member in members:
        if _is_finished(member.run, plan.folder / MEMBERS / kind / f"{member.name}.toml"):
            say(f"{member.name}: finished before")
        else:
            todo.append(member)
    by_name = {member.name: member for member in todo}
    began, ended_so_far = time.monotonic(), 0

    def started(job: Job) -> None:
        say(f"{job.name}: started")

    def ended(result: JobResult) -> None:
        nonlocal ended_so_far
        ended_so_far += 1
        left = (time.monotonic() - began) / ended_so_far * (len(todo) - ended_so_far)
        state = f"done in {clock(result.seconds)}" if result.code == 0 else f"FAILED: {result.words}"
        say(f"{result.name}: {state}; {ended_so_far} of {len(todo)}, about {clock(left)} left")

    def ready(job: Job) -> bool:
        return _has_reference(Path(by_name[job.name].run.run.dir))

    listed = [_job(plan.folder, member, kind) for member in todo]
    results = jobs.run(listed, plan.config.jobs, _devices(plan.config.jobs), started, ended, ready, say)
    return {result.name: result.words for result in results if result.code != 0}


def _job(folder: Path, member: SweepMember, kind: str) -> Job:
    file = folder / MEMBERS / kind / f"{member.name}.toml"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(to_toml(member.run), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}") from None
    return Job(member.name, (str(file), "run.resume=true"), folder / OUTPUTS / kind / f"{member.name}.txt")


def _is_finished(run: Run, file: Path) -> bool:
    """Whether the member's folder holds its finished run. Raises StoreError where it holds one with other settings."""
    folder = Path(run.run.dir)
    if not (folder / "log.jsonl").exists():
        return False
    if file.exists():
        before, now = dict(flat(_kept(file).model_dump())), dict(flat(run.model_dump()))
        changed = [key for key in before | now if before.get(key) != now.get(key)]
        if changed:
            raise StoreError(
                f"{folder} holds a run with another {' and '.join(changed)} than this sweep gives it; "
                "name another sweep.dir, or delete it"
            )
    return any(True for _ in log.read(folder, EndRecord))


def _kept(file: Path) -> Run:
    try:
        return load(str(file))
    except ConfigError as error:
        raise StoreError(f"{file} cannot be taken up: {error}; name another sweep.dir, or delete it") from error


def _has_steps(folder: Path) -> bool:
    try:
        return any(True for _ in log.read(folder, StepRecord))
    except DataError:
        return False


def _has_reference(folder: Path) -> bool:
    """Whether the run has stored its reference's log-probs, or has gone on without any."""
    try:
        return any(True for _ in log.read(folder, ReferenceRecord, StepRecord))
    except DataError:
        return False


def _devices(at_once: int) -> int:
    """CUDA devices, where several runs are to share them."""
    if at_once == 1:
        return 0
    import torch

    return torch.cuda.device_count()
