"""The optimiser's part of a step: gradients are clipped, weights moved, and the step's record made."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch

from burnish.engine.sharding import whole
from burnish.errors import TrainingError
from burnish.group import EncodedGroup
from burnish.loop.build import Trainer
from burnish.loop.resume import save
from burnish.loop.schedule import learning_rate
from burnish.loop.tally import Tally, names_of
from burnish.runlog.records import StepRecord


def update(trainer: Trainer, tally: Tally, groups: Sequence[EncodedGroup], step: int) -> StepRecord:
    """Move the weights by the gradients of these groups; returns the step's record, but for the time that it took.

    Raises TrainingError, with nothing moved, where a loss or the gradient is no number.
    """
    optim = trainer.run.optim
    for reason, names in tally.spoiled:
        _refuse_step(trainer, step, names, reason)
    limit = optim.max_grad_norm or float("inf")
    norm = float(whole(torch.nn.utils.clip_grad_norm_(trainer.masters.parameters, limit)))
    if not isfinite(norm):
        _refuse_step(trainer, step, names_of(groups), f"the gradient's norm is {norm}")
    lr = learning_rate(step, trainer.steps, peak=optim.peak_lr, kind=optim.schedule, warmup=optim.warmup)
    for parameters in trainer.optimizer.param_groups:
        parameters["lr"] = lr
    trainer.optimizer.step()
    trainer.running = tally.running  # not before: a refused step must leave no trace in the checkpoint
    trainer.masters.clear_gradients()
    trainer.masters.publish()
    for completion in tally.completions:
        trainer.log.write(completion)
    metrics = ({"imbalance": tally.imbalance} if trainer.world.size > 1 else {}) | tally.means()
    return StepRecord(step=step + 1, loss=tally.loss, lr=lr, grad_norm=norm, tokens=tally.tokens, metrics=metrics)


def _refuse_step(trainer: Trainer, step: int, names: Sequence[str], reason: str) -> None:
    """A number that is not finite: nothing is updated, what was done is kept, and the groups are named."""
    trainer.masters.clear_gradients()
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    kept = f" The weights after step {step} are in {save(trainer, step, wait=True)}." if step else ""
    raise TrainingError(
        f"step {step + 1}: {reason}, in a microbatch with the groups {listed}. Nothing was updated.{kept} "
        "Look at these rows; if they are sound, lower optim.lr"
    )
