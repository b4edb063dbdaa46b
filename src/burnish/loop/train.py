"""The loop: groups -> microbatches -> scores -> losses -> backward -> step -> log. It does not know the algorithm."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.config import Run
from burnish.data.views import offsets
from burnish.engine import checkpoint, model, reward_model, sharding
from burnish.engine.distributed import ALONE, World
from burnish.engine.engine import scalar_scores, token_scores
from burnish.engine.reference import Stored
from burnish.engine.scoring import rewards
from burnish.engine.sharding import whole
from burnish.errors import DataError, TrainingError, out_of_memory
from burnish.group import EncodedGroup
from burnish.loop import online, resume, selfcheck
from burnish.loop.build import Trainer, build
from burnish.loop.memory import measure
from burnish.loop.memory.plan import settled
from burnish.loop.prepare import Prepared, prepare, total_steps
from burnish.loop.schedule import learning_rate
from burnish.loop.sources import staleness
from burnish.loop.tally import Tally, finite, records
from burnish.objectives import feedback
from burnish.objectives.feedback import StepSums, mismatched
from burnish.objectives.mixture import State
from burnish.reports.run import model_card, write_summary
from burnish.runlog.log import RunLog, claim_run_dir, refuse_resume
from burnish.runlog.progress import Progress
from burnish.tensors import PackedBatch, ScalarScores, TokenScores

ABOUT_GROUPS = 512  # groups whose answers say where a reward model's rewards lie


PREEMPTED = 75  # exit code after SIGTERM and SIGUSR1: not done, to be started again with run.resume=true


class Interrupted(KeyboardInterrupt):
    """Asked to stop, after the step was finished and saved; the message says how to go on."""

    def __init__(self, message: str, asked: int) -> None:
        super().__init__(message)
        self.exit_code = 130 if asked == signal.SIGINT else PREEMPTED


def run(config: Run, *, world: World = ALONE, progress: bool | None = None) -> Path:
    """Train as `config` says; returns the run's folder. Raises BurnishError, or Interrupted on Ctrl-C."""
    world.lead(lambda: refuse_resume(config))
    online.refuse_divided(config, world)
    judges = online.judges_of(config)
    ready = settled(prepare(config), world)
    refuse_different_data(world, ready)
    world.lead(lambda: claim_run_dir(config))
    if config.engine.threads:
        torch.set_num_threads(config.engine.threads)
    steps, end = total_steps(config, len(ready.asked) if config.dialled else len(ready.train))
    folder = Path(config.run.dir)
    silent = not world.leads
    with RunLog(folder, silent=silent) as log, Progress(steps, live=progress, silent=silent) as shown:
        for line in ready.lines:
            shown.note(line)
        trainer = build(ready, world, log, shown, steps, end, judges)
        first = resume.resume(trainer) if config.run.resume else 0
        log.append("run", objective=ready.loss.name, steps=steps, first_step=first, notes=ready.lines)
        groups = trainer.source.next(0) if first == 0 else []
        if groups:
            for line in selfcheck.at_start(trainer.engine, trainer.reference, trainer.ready, groups):
                shown.note(line)
        if first == 0 and trainer.watcher is not None:
            online.look(trainer.watcher, trainer.watch, trainer.ready.asked, 0)
        if config.engine.token_budget == "auto" and world.size == 1 and trainer.engine.policy.device.type == "cuda":
            now = trainer.source.next(first)  # not those of step 0: asking for those again would answer them again
            if now:
                work = lambda batch: there_and_back(trainer, batch, now)  # noqa: E731
                trainer.engine.token_budget = measure.measured(trainer, now, work)
            shown.note(f"engine.token_budget = auto: {trainer.engine.token_budget} tokens, measured on this GPU")
        loop(trainer, first)
        finish(trainer)
    return folder


def there_and_back(trainer: Trainer, batch: PackedBatch, groups: Sequence[EncodedGroup]) -> None:
    """The passes of a microbatch of a step's groups, for what memory they take."""
    scored(trainer, batch, groups)[0].zero_loss().backward()  # type: ignore[no-untyped-call]


def refuse_different_data(world: World, ready: Prepared) -> None:
    """Every process reads the data for itself; raises DataError where they did not read the same."""
    prints = world.gather(resume.fingerprint([*ready.train, *ready.evaluation]) if world.size > 1 else "")
    if len(set(prints)) > 1:
        raise DataError("the processes read different training data: data.train must be the same files for all of them")


def loop(trainer: Trainer, first: int) -> None:
    with _finish_step_on_interrupt(trainer.stop, patient=trainer.world.size > 1):
        for step in range(first, trainer.steps):
            began = time.perf_counter()
            groups = resume.next_groups(trainer, step)
            given = time.perf_counter()
            shown = update(trainer, groups, step) if groups else {"loss": 0.0, "tokens": 0}
            if trainer.reference is not None:  # after a step without groups, too
                trainer.reference.follow(step + 1, trainer.masters.state())
            ended = time.perf_counter()
            shown |= {"seconds": ended - began, "groups": len(groups)} | staleness(groups, step)
            if trainer.run.dialled:
                shown["seconds/training"] = ended - given
            trainer.log.append("step", step=step + 1, **shown)
            trainer.progress.update(step + 1, trainer.watch.figures | shown)
            trainer.moved |= step > first and _moved(shown)
            if step - first == 9 and not trainer.moved and isinstance(trainer.reference, Stored):
                raise TrainingError("after ten steps every log-ratio is still exactly 0: nothing is being trained")
            if after_step(trainer, step + 1):
                return


def update(trainer: Trainer, groups: Sequence[EncodedGroup], step: int) -> dict[str, float]:
    """One optimiser step on these groups; returns the step record's numbers."""
    config = trainer.run
    lr = learning_rate(
        step, trainer.steps, peak=config.optim.peak_lr, kind=config.optim.schedule, warmup=config.optim.warmup
    )
    tally, running = accumulate(trainer, groups, step)
    for what, names in tally.spoiled:
        refuse_step(trainer, step, names, what)
    limit = config.optim.max_grad_norm or float("inf")
    norm = float(whole(torch.nn.utils.clip_grad_norm_(trainer.masters.parameters, limit)))
    if not finite(norm):
        refuse_step(trainer, step, [g.where or g.id for g in groups], f"the gradient's norm is {norm}")
    for group in trainer.optimizer.param_groups:
        group["lr"] = lr
    trainer.optimizer.step()
    trainer.running = running  # not before: a refused step must leave no trace in the checkpoint
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.masters.publish()
    for completion in tally.completions:
        trainer.log.append("completion", step=step + 1, **completion)
    shown = {"loss": tally.loss, "lr": lr, "grad_norm": norm, "tokens": tally.tokens}
    return shown | ({"imbalance": tally.imbalance} if trainer.world.size > 1 else {}) | tally.means()


def accumulate(trainer: Trainer, groups: Sequence[EncodedGroup], step: int) -> tuple[Tally, State]:
    """Gradients of one step's mean loss, over as many microbatches as the token budget asks for; returns the step's
    sums over all processes, and the running averages after it.

    Where a microbatch does not fit into memory the step is done again with half the budget, which changes no result.
    """
    seed = feedback.generator(trainer.run.seed, step, f"dropout/{trainer.world.rank}").initial_seed()
    budget = trainer.engine.token_budget
    try:
        while True:
            torch.manual_seed(seed)  # an adapter's dropout: a function of the step, so that a resumed run repeats it
            try:
                return gradients(trainer, groups, step)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or trainer.world.size > 1 or trainer.engine.smallest(groups):
                    raise
            trainer.optimizer.zero_grad(set_to_none=True)  # outside the handler, whose traceback holds the tensors
            trainer.engine.token_budget //= 2
            trainer.progress.note(
                f"step {step + 1}: out of memory; done again with engine.token_budget = {trainer.engine.token_budget}, "
                "which changes no result"
            )
            trainer.log.append("note", step=step + 1, text="out of memory", token_budget=trainer.engine.token_budget)
    finally:
        trainer.engine.token_budget = budget


def gradients(trainer: Trainer, groups: Sequence[EncodedGroup], step: int) -> tuple[Tally, State]:
    """Forward and backward over this process's microbatches, and the sums of all processes."""
    own = Tally()
    sums = first_pass(trainer, groups)
    running, mixture = trainer.ready.loss.advance(trainer.running, groups, sums, trainer.run.seed, step)
    loss = mixture.at(groups, sums, trainer.run.seed, step)
    for batch in trainer.engine.plan(groups):
        scores, aux = scored(trainer, batch, groups)
        if batch.idle:
            scores.zero_loss().backward()  # type: ignore[no-untyped-call]
            continue
        losses = loss(scores, batch)
        value = loss.total(losses)
        (value if aux is None else value + aux / len(groups)).backward()  # type: ignore[no-untyped-call]
        own.take(batch, float(value.detach()), loss.metrics(losses), groups)
        if trainer.run.log.completions:
            own.completions += records(batch, scores, losses, groups)
    return own.joined(trainer.world), running


@torch.no_grad()
def first_pass(trainer: Trainer, groups: Sequence[EncodedGroup]) -> StepSums | None:
    """Sums over the whole step, for an objective that needs them before its first loss; else None. Only what is asked
    for is computed: KTO wants mismatched answers alone."""
    needs = trainer.ready.loss.needs
    if not needs("step") and not needs("mismatched"):
        return None
    own = list(groups) if needs("step") else []
    policy, stored = summed(trainer, own)
    other, other_stored = summed(trainer, mismatched(groups, trainer.ready.train) if needs("mismatched") else [])
    lengths = torch.tensor([len(ids) for group in own for ids in group.completion_ids], device=policy.device)
    return StepSums(policy, stored, lengths, other - other_stored)


def summed(trainer: Trainer, groups: list[EncodedGroup]) -> tuple[Tensor, Tensor]:
    """Summed log-probs, policy and reference, of every completion of some groups, in their order."""
    count = sum(len(group.completion_ids) for group in groups)
    starts = offsets(groups)
    kind = torch.float64 if trainer.run.model.dtype == "float64" else torch.float32
    sums = torch.zeros(2, count, dtype=kind, device=trainer.engine.policy.device)
    for batch in trainer.engine.plan(groups) if groups else []:
        theirs = None if trainer.reference is None else trainer.reference.scores(batch, groups)[0]
        scores = token_scores(trainer.engine.score(batch), theirs, batch)
        if batch.idle:
            continue
        place = torch.tensor([starts[i] + k for i in batch.group_index for k in range(len(groups[i].completion_ids))])
        own = scores.logps
        sums[0][place], sums[1][place] = own, own - scores.logratios
    trainer.world.add_up(sums)
    return sums[0], sums[1]


def scored(
    trainer: Trainer, batch: PackedBatch, groups: Sequence[EncodedGroup]
) -> tuple[TokenScores | ScalarScores, Tensor | None]:
    """What the objective looks at in a microbatch, with gradient, and the router loss of a mixture of experts."""
    needs = trainer.ready.loss.needs
    if needs("scalar"):
        rewards, aux = trainer.engine.reward(batch)
        return scalar_scores(rewards, batch), aux
    theirs, head = (None, None) if trainer.reference is None else trainer.reference.scores(batch, groups)
    found = trainer.engine.score(batch, square=needs("square"), reference=head if needs("kl") else None)
    return token_scores(found, theirs, batch), found.aux


@torch.no_grad()
def evaluate(trainer: Trainer, step: int) -> None:
    """The objective's loss and metrics on the held-out groups, as one record."""
    groups = trainer.ready.evaluation
    own = Tally()
    trainer.engine.policy.module.eval()
    sums = first_pass(trainer, groups)
    loss = trainer.ready.loss.holding(trainer.running).at(groups, sums, trainer.run.seed, step)
    for batch in trainer.engine.plan(groups):
        scores, _ = scored(trainer, batch, groups)
        if not batch.idle:
            losses = loss(scores, batch)
            own.take(batch, float(loss.total(losses)), loss.metrics(losses), groups)
    trainer.engine.policy.module.train()
    trainer.engine.policy.settle()
    found = own.joined(trainer.world)
    total, shown = found.loss, found.means()
    trainer.log.append("eval", step=step, loss=total, groups=len(groups), **shown)
    accuracy = f", accuracy {shown['rewards/accuracies']:.3f}" if "rewards/accuracies" in shown else ""
    trainer.progress.note(f"held out, after step {step}: loss {total:.4f}{accuracy}")


def after_step(trainer: Trainer, done: int) -> bool:
    """Evaluate and save where the configuration says so; leave when the user asked to. True where an alarm ends the
    run, with the best weights put back."""
    config = trainer.run
    last = done == trainer.steps
    if last or (config.eval.every and done % config.eval.every == 0):
        if trainer.ready.evaluation:
            evaluate(trainer, done)
        if trainer.watcher is not None:
            online.look(trainer.watcher, trainer.watch, trainer.ready.asked, done)
    ended = trainer.keeper.after(done)  # after the look at an offline policy's answers, which may ring an alarm
    last = last or ended
    asked = next((number for numbers in trainer.world.gather(trainer.stop) for number in numbers), None)
    if asked is not None and not last:
        where = resume.save(trainer, done, wait=True)
        raise Interrupted(
            f"stopped after step {done} of {trainer.steps}, as asked; saved in {where}. "
            f"Go on with: burnish train {config.run.dir}/config.toml run.resume=true",
            asked,
        )
    if config.save.every and done % config.save.every == 0 and not last:
        resume.save(trainer, done)
    return ended


def refuse_step(trainer: Trainer, step: int, groups: Sequence[str], what: str) -> None:
    """A number that is not finite: nothing is updated, what was done is kept, and the groups are named."""
    trainer.optimizer.zero_grad(set_to_none=True)
    names = ", ".join(groups[:8]) + (", ..." if len(groups) > 8 else "")
    where = f" The weights after step {step} are in {resume.save(trainer, step, wait=True)}." if step else ""
    raise TrainingError(
        f"step {step + 1}: {what}, in a microbatch with the groups {names}. Nothing was updated.{where} "
        "Look at these rows; if they are sound, lower optim.lr"
    )


def finish(trainer: Trainer) -> None:
    """Write the model, its card and the summary, and say where they lie."""
    folder = Path(trainer.run.run.dir)

    def fill(target: Path) -> None:
        model.save_model(policy, target, trainer.ready.tokenizer, weights)
        (target / "README.md").write_text(model_card(trainer.run, trainer.ready.lines), encoding="utf-8")
        if policy.scalar:
            reward_model.write_about(policy, target, found, trainer.ready.loss.name)

    policy = trainer.engine.policy
    sample = (trainer.ready.evaluation or trainer.ready.train)[:ABOUT_GROUPS]
    found = rewards(trainer.engine, sample) if policy.scalar else []
    last = resume.save(trainer, trainer.steps, wait=True)  # a full disk or an impatient user must not cost the run
    policy.settle()
    weights = sharding.gathered(policy.module, policy.dtype, trained_only=policy.adapted) if policy.sharded else None
    if trainer.world.leads:
        checkpoint.write_folder(folder / "model", fill, "model")
        shutil.rmtree(last, ignore_errors=True)
        trainer.log.append("end", step=trainer.steps)
        trainer.progress.note(write_summary(folder))
    trainer.world.lead(lambda: None)  # nobody leaves before the model is written


def _moved(metrics: dict[str, float]) -> bool:
    return any(value != 0.0 for name, value in metrics.items() if name.startswith("logratio/"))


@contextmanager
def _finish_step_on_interrupt(stop: list[int], *, patient: bool) -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGUSR1 asks the loop to stop after the step; a second one interrupts at once.
    `patient`: but for the one that torchrun passes on of the same Ctrl-C, which arrives with it."""
    asked = time.monotonic()

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if stop and not (patient and time.monotonic() - asked < 1):
            raise KeyboardInterrupt
        asked = time.monotonic()
        stop.append(number)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    except ValueError:  # not the main thread: no signals reach us
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
