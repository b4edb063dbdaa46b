"""The loop: groups -> microbatches -> scores -> losses -> backward -> step -> log. It does not know the algorithm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from burnish.config import Run
from burnish.engine.distributed import ALONE, World
from burnish.errors import JudgeError, TrainingError
from burnish.group import EncodedGroup
from burnish.loop import resume
from burnish.loop.build import Trainer, locked, opened
from burnish.loop.evaluate import evaluate
from burnish.loop.finish import already_finished, finish
from burnish.loop.interrupt import Interrupted, signals_collected
from burnish.loop.memory.retry import attempts
from burnish.loop.passes import batch_scores, first_pass
from burnish.loop.rounds import waits, when_voted
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


def next_groups(trainer: Trainer, step: int) -> list[EncodedGroup]:
    """The step's groups, with a refresh recorded. Where nobody answers, what was done is saved."""
    try:
        groups, refresh = when_voted(
            lambda: trainer.source.next(step), wait=waits(trainer.run), note=trainer.progress.note,
            saved=lambda: resume.save(trainer, step, wait=True), asked_to_stop=lambda: bool(trainer.signals),
        )  # fmt: skip
    except JudgeError as error:
        if not step:
            raise
        folder = resume.save(trainer, step, wait=True)
        raise JudgeError(f"{error}. The weights after step {step} are in {folder}; run.resume=true goes on") from error
    if refresh is not None:
        trainer.monitor.record(step, refresh)
    return groups


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


def after_step(trainer: Trainer, done: int) -> bool:
    """Evaluate and save where the configuration says so; leave when the user asked to. True where an alarm ends the
    run, with the best weights put back."""
    config = trainer.run
    last = done == trainer.steps
    if last or (config.eval.every and done % config.eval.every == 0):
        evaluate(trainer, done)
    ended = trainer.best.after(done)  # after the look at an offline policy's answers, which may ring an alarm
    last = last or ended
    signal = next((number for numbers in trainer.world.gather(trainer.signals) for number in numbers), None)
    if signal is not None and not last:
        folder = resume.save(trainer, done, wait=True)
        raise Interrupted(
            f"stopped after step {done} of {trainer.steps}, as asked; saved in {folder}. "
            f"Go on with: burnish train {config.run.dir}/config.toml run.resume=true",
            signal,
        )
    refuse_unjudged(trainer, done, last)
    if config.save.every and done % config.save.every == 0 and not last:
        resume.save(trainer, done)
    return ended


def refuse_unjudged(trainer: Trainer, done: int, last: bool) -> None:
    """Save and raise JudgeError where too many refreshes in a row could not be judged, or none in the whole run. A
    resumed run goes on with the next prompts, and counts anew."""
    monitor, most = trainer.monitor, trainer.run.source.max_unjudged
    if last and trainer.run.sampled and not monitor.judged:
        raise JudgeError(f"nobody could judge any answer of the whole run: {monitor.unjudged[-1]}")
    if last or trainer.run.monitored or len(monitor.unjudged) < most:
        return
    reason, monitor.unjudged = monitor.unjudged[-1], []
    folder = resume.save(trainer, done, wait=True)
    raise JudgeError(
        f"nobody could judge the last {most} refreshes (source.max_unjudged): {reason}. The weights after step {done} "
        f"are in {folder}; run.resume=true goes on with the next prompts"
    )


def _left_reference(record: StepRecord) -> bool:
    return any(value != 0.0 for name, value in record.metrics.items() if name.startswith("logratio/"))
