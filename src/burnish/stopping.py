"""Ending a run early: the best weights so far are kept aside while alarms may end it, and put back when one does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from burnish.build import Trainer


@dataclass(frozen=True)
class Best:
    """The weights after `step` steps, when the fresh answers were at their best `level` (gold, else reward)."""

    step: int
    level: float
    weights: dict[str, Tensor]


def after(trainer: Trainer, done: int) -> bool:
    """After a step: remember the weights if they are the best so far; True where an alarm has ended the run.

    Weights are looked at once a window of refreshes, before its answers are forgotten: the level is that window's mean.
    """
    watch = trainer.watch
    if not trainer.run.stop.when or not watch.figures:
        return False
    heard = len(watch.alarms.history.get("length", ()))
    level = watch.alarms.level()
    due = heard and heard % trainer.run.stop.window == 0 and heard != trainer.looked
    if due and level is not None and (trainer.best is None or level > trainer.best.level):
        weights = {name: tensor.detach().clone() for name, tensor in trainer.masters.state().items()}
        trainer.best = Best(done, level, weights)
    trainer.looked = heard if due else trainer.looked
    if not watch.ended:
        return False
    if trainer.best is not None:
        put_back(trainer)
    trainer.log.append("stopped", step=done, alarm=watch.ended, best=trainer.best.step if trainer.best else done)
    trainer.progress.note(
        f"stopped after step {done} by the alarm '{watch.ended}' (stop.when); "
        + (f"the weights are those after step {trainer.best.step}, the best so far" if trainer.best else
           "no window of refreshes was complete, so the weights are the newest")
    )  # fmt: skip
    return True


@torch.no_grad()
def put_back(trainer: Trainer) -> None:
    """The best weights into the policy."""
    assert trainer.best is not None
    for name, parameter in zip(trainer.masters.names, trainer.masters.parameters, strict=True):
        parameter.copy_(trainer.best.weights[name])
    trainer.masters.publish()
