"""What a run does with its refreshes: it logs them, keeps the answers, rings alarms, and ends on one if asked to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.answers.answered import Answered, Refresh
from burnish.answers.figures import Figures
from burnish.config import Run
from burnish.engine.masters import Masters
from burnish.errors import StoreError
from burnish.findings import counted
from burnish.group import Scores, to_json
from burnish.loop.alarms import Alarms
from burnish.runlog.log import RunLog, rewrite
from burnish.runlog.progress import Progress
from burnish.runlog.records import AlarmRecord, NoteRecord, RefreshRecord, StoppedRecord

ANSWERS = "answers.jsonl"


@dataclass
class RefreshMonitor:
    """Records every refresh: its figures in the log, its answers in a file, and the alarms that it sets off."""

    run: Run
    log: RunLog
    progress: Progress
    alarms: Alarms = field(init=False)
    figures: Figures = field(default_factory=dict)  # of the newest refresh
    ended_by: str = ""  # the alarm of `stop.when` that ends the run
    judged: bool = False  # whether any refresh was judged so far
    unjudged: list[str] = field(default_factory=list)  # reasons, of the newest refreshes that nobody could judge

    def __post_init__(self) -> None:
        self.alarms = Alarms(self.run.stop)

    def record(self, step: int, refresh: Refresh) -> None:
        """Take note of the refresh after `step` optimiser steps."""
        self.figures = dict(refresh.figures)
        self.log.write(RefreshRecord(step=step + 1, metrics=self.figures))
        self._keep_answers(step, refresh)
        for alarm in self.alarms.hear(self.figures):
            self.progress.note(f"alarm ({alarm.name}), step {step + 1}: {alarm.line}")
            self.log.write(AlarmRecord(step=step + 1, name=alarm.name, text=alarm.line))
            if alarm.name in self.run.stop.when and not self.ended_by:
                self.ended_by = alarm.name
        if refresh.unjudged is None:
            self.judged, self.unjudged = True, []
            return
        self.unjudged.append(refresh.unjudged)
        text = f"nobody could judge the {counted(len(refresh.answered), 'group')} of answers: {refresh.unjudged}"
        self.log.write(NoteRecord(step=step + 1, text=text))
        self.progress.note(f"step {step + 1}: {text}")

    def _keep_answers(self, step: int, refresh: Refresh) -> None:
        if not self.run.log.answers or self.log.silent:
            return
        file = Path(self.run.run.dir) / ANSWERS
        rows = [replace(a.texts, feedback=a.feedback, meta=_about(a, step)) for a in refresh.answered]
        try:
            with file.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write("".join(json.dumps(to_json(row), ensure_ascii=False) + "\n" for row in rows))
        except OSError as error:
            raise StoreError(f"{file} cannot be written: {error.strerror}. Free some space") from error

    def cut_after(self, done: int) -> None:
        """Drop the records and answers that a run resumed after `done` steps gives again.

        It refreshes before step `done + 1`, which was not saved. An offline run's policy answers before the checkpoint
        of `done` steps, at its evaluation, which the checkpoint knows of.
        """
        refreshes = done + 1 if done and self.run.monitored else done
        self.log.cut_after(done, refreshes)
        file = Path(self.run.run.dir) / ANSWERS
        if self.log.silent or not file.exists():
            return
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["meta"]["step"] < refreshes]
        rewrite(file, "".join(kept), "surrogateescape")

    def state(self) -> dict[str, Any]:
        unjudged = {"judged": self.judged, "unjudged": self.unjudged}
        return {"alarms": self.alarms.state(), "ended": self.ended_by, **unjudged}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.alarms.restore(state["alarms"])
        self.ended_by = str(state["ended"])
        self.judged, self.unjudged = bool(state["judged"]), list(state["unjudged"])


def _about(answered: Answered, step: int) -> dict[str, Any]:
    """What is kept with a prompt's answers: its row, the step, and gold's scores where gold judged them."""
    gold = {"gold": list(answered.gold.values)} if isinstance(answered.gold, Scores) else {}
    return {**answered.texts.meta, "step": step, **gold}


@dataclass(frozen=True)
class Best:
    """The weights after `step` steps, when the fresh answers were at their best `level` (gold, else reward)."""

    step: int
    level: float
    weights: dict[str, Tensor]


@dataclass
class BestWeights:
    """Keeps the best weights while an alarm may end the run, and puts them back when one does.

    The level is the mean of a window of refreshes, looked at when a window has ended.
    """

    monitor: RefreshMonitor
    masters: Masters
    best: Best | None = None
    refreshes: int = 0  # that had been heard when the level was last looked at

    def after(self, done: int) -> bool:
        """After a step: remember the weights if they are the best so far; True where an alarm has ended the run."""
        monitor, limits = self.monitor, self.monitor.run.stop
        if not limits.when or not monitor.figures:
            return False
        heard = len(monitor.alarms.history.get("length", ()))
        if heard % limits.window == 0 and heard != self.refreshes:
            self.refreshes = heard
            self._compare(done)
        if not monitor.ended_by:
            return False
        if self.best is not None:
            self._put_back(self.best)
        weights = (
            f"the weights are those after step {self.best.step}, the best so far"
            if self.best
            else "no window of refreshes was complete, so the weights are the newest"
        )
        best = self.best.step if self.best else done
        monitor.log.write(StoppedRecord(step=done, alarm=monitor.ended_by, best=best))
        monitor.progress.note(f"stopped after step {done} by the alarm '{monitor.ended_by}' (stop.when); {weights}")
        return True

    def _compare(self, done: int) -> None:
        level = self.monitor.alarms.level()
        if level is not None and (self.best is None or level > self.best.level):
            weights = {name: tensor.detach().clone() for name, tensor in self.masters.state().items()}
            self.best = Best(done, level, weights)

    @torch.no_grad()
    def _put_back(self, best: Best) -> None:
        for name, parameter in zip(self.masters.names, self.masters.parameters, strict=True):
            parameter.copy_(best.weights[name])
        self.masters.publish()
