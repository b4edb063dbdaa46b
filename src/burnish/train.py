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

from burnish import checkpoint, model, rewardmodel, selfcheck, state
from burnish.build import Trainer, build
from burnish.config import Run
from burnish.engine import scalar_scores, token_scores
from burnish.errors import TrainingError
from burnish.feedback import StepSums, mismatched
from burnish.group import EncodedGroup
from burnish.loss import State
from burnish.pack import offsets
from burnish.prepare import prepare, total_steps
from burnish.progress import Progress
from burnish.reference import Stored
from burnish.runlog import RunLog, claim_run_dir, refuse_resume
from burnish.schedule import learning_rate
from burnish.scoring import rewards
from burnish.summary import model_card, write_summary
from burnish.tensors import Losses, Metric, PackedBatch, ScalarScores, TokenScores

ABOUT_GROUPS = 512  # groups whose answers say where a reward model's rewards lie


PREEMPTED = 75  # exit code after SIGTERM and SIGUSR1: not done, to be started again with run.resume=true


class Interrupted(KeyboardInterrupt):
    """Asked to stop, after the step was finished and saved; the message says how to go on."""

    def __init__(self, message: str, asked: int) -> None:
        super().__init__(message)
        self.exit_code = 130 if asked == signal.SIGINT else PREEMPTED


def run(config: Run, *, progress: bool | None = None) -> Path:
    """Train as `config` says; returns the run's folder. Raises BurnishError, or Interrupted on Ctrl-C."""
    refuse_resume(config)
    ready = prepare(config)
    claim_run_dir(config)
    if config.engine.threads:
        torch.set_num_threads(config.engine.threads)
    steps, end = total_steps(config, len(ready.train))
    folder = Path(config.run.dir)
    with RunLog(folder) as log, Progress(steps, live=progress) as shown:
        for line in ready.lines:
            shown.note(line)
        trainer = build(ready, log, shown, steps, end)
        first = state.resume(trainer) if config.run.resume else 0
        log.append("run", objective=ready.loss.name, steps=steps, first_step=first, notes=ready.lines)
        if first == 0:
            for line in selfcheck.at_start(trainer.engine, trainer.reference, ready, trainer.groups(0)):
                shown.note(line)
        loop(trainer, first)
        finish(trainer)
    return folder


def loop(trainer: Trainer, first: int) -> None:
    config = trainer.run
    with _finish_step_on_interrupt(trainer.stop):
        for step in range(first, trainer.steps):
            began = time.perf_counter()
            groups = trainer.groups(step)
            lr = learning_rate(
                step, trainer.steps, peak=config.optim.peak_lr, kind=config.optim.schedule, warmup=config.optim.warmup
            )
            loss, metrics, tokens, running = accumulate(trainer, groups, step)
            limit = config.optim.max_grad_norm or float("inf")
            norm = float(torch.nn.utils.clip_grad_norm_(trainer.masters.parameters, limit))
            if not _finite(norm):
                refuse_step(trainer, step, groups, f"the gradient's norm is {norm}")
            for group in trainer.optimizer.param_groups:
                group["lr"] = lr
            trainer.optimizer.step()
            trainer.running = running  # not before: a refused step must leave no trace in the checkpoint
            trainer.optimizer.zero_grad(set_to_none=True)
            trainer.masters.publish()
            if trainer.reference is not None:
                trainer.reference.follow(step + 1, trainer.masters.state())
            shown = {name: metric.mean for name, metric in metrics.items()}
            seconds = time.perf_counter() - began
            trainer.log.append(
                "step", step=step + 1, loss=loss, lr=lr, grad_norm=norm, tokens=tokens, seconds=seconds, **shown
            )
            trainer.progress.update(step + 1, {"loss": loss, "lr": lr, "tokens": tokens, "seconds": seconds, **shown})
            trainer.moved |= step > first and _moved(shown)
            if step - first == 9 and not trainer.moved and isinstance(trainer.reference, Stored):
                raise TrainingError("after ten steps every log-ratio is still exactly 0: nothing is being trained")
            after_step(trainer, step + 1)


def accumulate(
    trainer: Trainer, groups: Sequence[EncodedGroup], step: int
) -> tuple[float, dict[str, Metric], int, State]:
    """Gradients of one step's mean loss, over as many microbatches as the token budget asks for; returns the loss, the
    metrics, the tokens computed, and the running averages after this step."""
    total, tokens = 0.0, 0
    metrics: dict[str, Metric] = {}
    sums = first_pass(trainer, groups)
    moment = (trainer.run.seed, step)
    running, recipe = trainer.ready.loss.advance(trainer.running, groups, sums, moment)
    loss = recipe.at(groups, sums, moment)
    for batch in trainer.engine.plan(groups):
        scores, aux = scored(trainer, batch, groups)
        losses = loss(scores, batch)
        value = loss.total(losses)
        if not _finite(float(value.detach())):
            refuse_step(trainer, step, [groups[i] for i in batch.group_index], f"the loss is {float(value.detach())}")
        (value if aux is None else value + aux / len(groups)).backward()  # type: ignore[no-untyped-call]
        total += float(value.detach())
        tokens += int(
            (batch.attention_mask if batch.attention_mask is not None else batch.input_ids + 1).count_nonzero()
        )
        for name, metric in loss.metrics(losses).items():
            metrics[name] = metrics[name] + metric if name in metrics else metric
        if trainer.run.log.completions:
            record_completions(trainer.log, step + 1, batch, scores, losses, groups)
    return total, metrics, tokens, running


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
        place = torch.tensor([starts[i] + k for i in batch.group_index for k in range(len(groups[i].completion_ids))])
        own = scores.logps
        sums[0][place], sums[1][place] = own, own - scores.logratios
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
    total = 0.0
    metrics: dict[str, Metric] = {}
    trainer.engine.policy.module.eval()
    sums = first_pass(trainer, groups)
    loss = trainer.ready.loss.holding(trainer.running).at(groups, sums, (trainer.run.seed, step))
    for batch in trainer.engine.plan(groups):
        losses = loss(scored(trainer, batch, groups)[0], batch)
        total += float(loss.total(losses))
        for name, metric in loss.metrics(losses).items():
            metrics[name] = metrics[name] + metric if name in metrics else metric
    trainer.engine.policy.module.train()
    shown = {name: metric.mean for name, metric in metrics.items()}
    trainer.log.append("eval", step=step, loss=total, groups=len(groups), **shown)
    accuracy = f", accuracy {shown['rewards/accuracies']:.3f}" if "rewards/accuracies" in shown else ""
    trainer.progress.note(f"held out, after step {step}: loss {total:.4f}{accuracy}")


def record_completions(
    log: RunLog,
    step: int,
    batch: PackedBatch,
    scores: TokenScores | ScalarScores,
    losses: Sequence[Losses],
    groups: Sequence[EncodedGroup],
) -> None:
    """Per-completion numbers: what every later diagnostic is drawn from."""
    columns: dict[str, list[float]] = {"length": batch.lengths.tolist()}
    if isinstance(scores, TokenScores):
        columns["logp"] = scores.logps.detach().tolist()
        if scores.reference is not None:
            columns["reference_logp"] = scores.sum_by_completion(scores.reference).tolist()
    rewards = next((found.rewards for found in losses if found.rewards is not None), None)
    if rewards is not None:
        columns["reward"] = rewards.detach().tolist()
    places = [(i, k) for i in batch.group_index for k in range(len(groups[i].completion_ids))]
    for number, (i, k) in enumerate(places):
        own = {name: values[number] for name, values in columns.items()}
        log.append("completion", step=step, group=groups[i].id, index=k, **own)


def after_step(trainer: Trainer, done: int) -> None:
    """Evaluate and save where the configuration says so; leave when the user asked to."""
    config = trainer.run
    last = done == trainer.steps
    if trainer.ready.evaluation and (last or (config.eval.every and done % config.eval.every == 0)):
        evaluate(trainer, done)
    if trainer.stop and not last:
        where = state.save(trainer, done, wait=True)
        raise Interrupted(
            f"stopped after step {done} of {trainer.steps}, as asked; saved in {where}. "
            f"Go on with: burnish train {config.run.dir}/config.toml run.resume=true",
            trainer.stop[0],
        )
    if config.save.every and done % config.save.every == 0 and not last:
        state.save(trainer, done)


def refuse_step(trainer: Trainer, step: int, groups: Sequence[EncodedGroup], what: str) -> None:
    """A number that is not finite: nothing is updated, what was done is kept, and the groups are named."""
    trainer.optimizer.zero_grad(set_to_none=True)
    names = ", ".join((g.where or g.id) for g in groups[:8]) + (", ..." if len(groups) > 8 else "")
    where = f" The weights after step {step} are in {state.save(trainer, step, wait=True)}." if step else ""
    raise TrainingError(
        f"step {step + 1}: {what}, in a microbatch with the groups {names}. Nothing was updated.{where} "
        "Look at these rows; if they are sound, lower optim.lr"
    )


def finish(trainer: Trainer) -> None:
    """Write the model, its card and the summary, and say where they lie."""
    folder = Path(trainer.run.run.dir)

    def fill(target: Path) -> None:
        model.save_model(trainer.engine.policy, target, trainer.ready.tokenizer)
        (target / "README.md").write_text(model_card(trainer.run, trainer.ready.lines), encoding="utf-8")
        if trainer.engine.policy.scalar:
            rewardmodel.write_about(trainer.engine.policy, target, found, trainer.ready.loss.name)

    sample = (trainer.ready.evaluation or trainer.ready.train)[:ABOUT_GROUPS]
    found = rewards(trainer.engine, sample) if trainer.engine.policy.scalar else []
    last = state.save(trainer, trainer.steps, wait=True)  # a full disk or an impatient user must not cost the run
    checkpoint.write_folder(folder / "model", fill, "model")
    shutil.rmtree(last, ignore_errors=True)
    trainer.log.append("end", step=trainer.steps)
    trainer.progress.note(write_summary(folder))


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def _moved(metrics: dict[str, float]) -> bool:
    return any(value != 0.0 for name, value in metrics.items() if name.startswith("logratio/"))


@contextmanager
def _finish_step_on_interrupt(stop: list[int]) -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGUSR1 asks the loop to stop after the step; a second one interrupts at once."""

    def ask(number: int, frame: Any) -> None:
        if stop:
            raise KeyboardInterrupt
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
