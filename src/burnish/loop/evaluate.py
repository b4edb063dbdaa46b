"""What a run looks at beside its steps: held-out groups, and the policy's own answers to prompts."""

from __future__ import annotations

from dataclasses import replace

import torch

from burnish.loop.build import Trainer
from burnish.loop.passes import batch_scores, first_pass
from burnish.loop.tally import Tally
from burnish.runlog.records import EvalRecord


def evaluate(trainer: Trainer, done: int) -> None:
    """The evaluations that are due after `done` steps, each where the run has something to evaluate on."""
    if trainer.prepared.evaluation:
        held_out(trainer, done)
    if trainer.eval_answerer is not None:
        own_answers(trainer, done)


@torch.no_grad()
def held_out(trainer: Trainer, done: int) -> None:
    """The objective's loss and metrics on the held-out groups, as one record."""
    groups = trainer.prepared.evaluation
    trainer.engine.policy.module.eval()
    sums = first_pass(trainer, groups)
    mixture = trainer.prepared.mixture.holding(trainer.running)
    step_loss = mixture.at(groups, sums, trainer.run.seed, done)
    tally = Tally()
    for batch in trainer.engine.plan(groups):
        scores, _ = batch_scores(trainer, batch, groups)
        if not batch.idle:
            losses = step_loss(scores, batch)
            tally.take(batch, float(step_loss.total(losses)), step_loss.metrics(losses), groups)
    trainer.engine.policy.module.train()
    trainer.engine.policy.settle()
    total = tally.joined(trainer.world)
    metrics = total.means()
    trainer.log.write(EvalRecord(step=done, loss=total.loss, groups=len(groups), metrics=metrics))
    accuracy = f", accuracy {metrics['rewards/accuracies']:.3f}" if "rewards/accuracies" in metrics else ""
    trainer.progress.note(f"held out, after step {done}: loss {total.loss:.4f}{accuracy}")


def own_answers(trainer: Trainer, done: int) -> None:
    """An offline run's policy answers prompts, for [gold] to judge; nothing is trained on them."""
    assert trainer.eval_answerer is not None
    prompts = trainer.prepared.prompts[: trainer.run.eval.prompts]
    refresh = trainer.eval_answerer(prompts, trainer.run.seed, done)
    figures = {("gold" if name == "reward" else name): value for name, value in refresh.figures.items()}
    trainer.monitor.record(done, replace(refresh, figures=figures))
    kl = f", {figures['kl/answer']:.3g} nats from the reference" if "kl/answer" in figures else ""
    gold = figures.get("gold", float("nan"))
    trainer.progress.note(f"own answers, after step {done}: gold {gold:.4g}, {figures['length']:.1f} tokens{kl}")
