"""Ending a run early: the best weights so far are kept aside while alarms may end it, and put back when one does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.engine.masters import Masters
from burnish.loop.online import Watch


@dataclass(frozen=True)
class Best:
    """The weights after `step` steps, when the fresh answers were at their best `level` (gold, else reward)."""

    step: int
    level: float
    weights: dict[str, Tensor]


@dataclass
class Keeper:
    """Looks at the weights once a window of refreshes: the level is the mean of the window that has just ended."""

    watch: Watch
    masters: Masters
    best: Best | None = None
    looked: int = 0  # refreshes heard when the best was last looked for

    def after(self, done: int) -> bool:
        """After a step: remember the weights if they are the best so far; True where an alarm has ended the run."""
        limits = self.watch.run.stop
        if not limits.when or not self.watch.figures:
            return False
        heard = len(self.watch.alarms.history.get("length", ()))
        if heard % limits.window == 0 and heard != self.looked:
            self.looked = heard
            self._compare(done)
        if not self.watch.ended:
            return False
        if self.best is not None:
            self._put_back(self.best)
        kept = (
            f"the weights are those after step {self.best.step}, the best so far"
            if self.best
            else "no window of refreshes was complete, so the weights are the newest"
        )
        best = self.best.step if self.best else done
        self.watch.log.append("stopped", step=done, alarm=self.watch.ended, best=best)
        self.watch.shown.note(f"stopped after step {done} by the alarm '{self.watch.ended}' (stop.when); {kept}")
        return True

    def _compare(self, done: int) -> None:
        level = self.watch.alarms.level()
        if level is not None and (self.best is None or level > self.best.level):
            weights = {name: tensor.detach().clone() for name, tensor in self.masters.state().items()}
            self.best = Best(done, level, weights)

    @torch.no_grad()
    def _put_back(self, best: Best) -> None:
        for name, parameter in zip(self.masters.names, self.masters.parameters, strict=True):
            parameter.copy_(best.weights[name])
        self.masters.publish()
