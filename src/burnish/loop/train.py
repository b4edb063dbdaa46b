"""The loop: groups -> microbatches -> scores -> losses -> backward -> step -> log. It does not know the algorithm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from burnish.config import Run
from burnish.engine.distributed import ALONE, World
from burnish.errors import TrainingError
from burnish.group import EncodedGroup
from burnish.loop import resume
from burnish.loop.between import after_step, next_groups
from burnish.loop.build import Trainer, locked, opened
from burnish.loop.finish import already_finished, finish
from burnish.loop.interrupt import signals_collected
from burnish.loop.memory.retry import attempts
from burnish.loop.passes import batch_scores, first_pass
from burnish.loop.start import before_first_step
from burnish.loop.tally import Tally, completion_records, staleness
from burnish.loop.update import update
from burnish.runlog.records import RunRecord, StepRecord


def run(config: Run, *, world: World = ALONE, progress: bool | None = None) -> Path:
    """Train as `config` says; returns the run's folder. Raises BurnishError, or Interrupted on Ctrl-C."""
    folder = Path(config.run.dir)
    with locked(folder, world) as lock:
        if world.lead(lambda: already_finished(config)):
            return folder
        with resume.clock_stopped(config, world), opened(config, world, progress, lock) as trainer:
            first = resume.resume(trainer) if config.run.resume else 0
            trainer.log.write(
                RunRecord(
                    objective=trainer.prepared.mixture.name, steps=trainer.steps, first_step=first,
                    notes=tuple(trainer.prepared.lines),
                )
            )  # fmt: skip
            loop(trainer, first)
            finish(trainer)
    return folder


def loop(trainer: Trainer, first: int) -> None:
    """Steps from `first` to the last, or to the alarm that ends the run."""
    with signals_collected(trainer.signals, trainer.progress.note, patient=trainer.world.size > 1):
        for step in range(first, trainer.steps):
            began = time.perf_counter()
            groups = next_groups(trainer, step)
            sampling = time.perf_counter() - began
            if step == first:
                before_first_step(trainer, groups, step)
            began = time.perf_counter()
            record = StepRecord(step=step + 1, loss=0.0)
            if groups:
                for attempt in attempts(trainer, groups, step):  # again with less where memory runs out
                    with attempt:
                        tally = gradients(trainer, groups, step)
                record = update(trainer, tally, groups, step)
            if trainer.reference is not None:  # after a step without groups, too
                trainer.reference.follow(step + 1, trainer.masters.state())
            record = log_step(trainer, record, groups, sampling, time.perf_counter() - began)
            trainer.moved |= step > first and _left_reference(record)
            if step - first == 9 and trainer.stands_still:
                raise TrainingError("after ten steps every log-ratio is still exactly 0: nothing is being trained")
            if after_step(trainer, step + 1):
                return


def gradients(trainer: Trainer, groups: Sequence[EncodedGroup], step: int) -> Tally:
    """Forward and backward over this process's microbatches; returns the sums of all processes."""
    seed = trainer.run.seed
    sums = first_pass(trainer, groups)
    running, mixture = trainer.prepared.mixture.advance(trainer.running, groups, sums, seed, step)
    step_loss = mixture.at(groups, sums, seed, step)
    tally = Tally(running=running)
    for batch in trainer.engine.plan(groups):
        scores, router_loss = batch_scores(trainer, batch, groups)
        if batch.idle:
            scores.zero_loss().backward()  # type: ignore[no-untyped-call]
            continue
        losses = step_loss(scores, batch)
        loss = step_loss.total(losses)
        (loss if router_loss is None else loss + router_loss / len(groups)).backward()  # type: ignore[no-untyped-call]
        tally.take(batch, float(loss.detach()), step_loss.metrics(losses), groups)
        if trainer.run.log.completions:
            tally.completions += completion_records(batch, scores, losses, groups, step + 1)
    return tally.joined(trainer.world)


def log_step(
    trainer: Trainer, record: StepRecord, groups: Sequence[EncodedGroup], sampling: float, training: float
) -> StepRecord:
    """Complete a step's record with its times (seconds) and the age of its groups, and write it."""
    split = {"seconds/training": training} if trainer.run.sampled else {}
    metrics = {**record.metrics, **staleness(groups, record.step - 1), **split}
    record = replace(record, seconds=sampling + training, groups=len(groups), metrics=metrics)
    trainer.log.write(record)
    trainer.progress.update(record, trainer.monitor.figures)
    return record


def _left_reference(record: StepRecord) -> bool:
    return any(value != 0.0 for name, value in record.metrics.items() if name.startswith("logratio/"))
