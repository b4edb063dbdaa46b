"""Between two steps: the next groups, an evaluation, a checkpoint, and every reason to leave before the end."""

from __future__ import annotations

from burnish.errors import JudgeError
from burnish.group import EncodedGroup
from burnish.loop import resume
from burnish.loop.build import Trainer
from burnish.loop.evaluate import evaluate
from burnish.loop.interrupt import Interrupted
from burnish.loop.rounds import waits, when_voted


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
