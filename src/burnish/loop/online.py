"""The online half of a run, made from its configuration: who judges, who answers, and where groups come from."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.answers.answerer import Answerer
from burnish.answers.judges import Judge, Stateful, panel
from burnish.answers.objective_view import ObjectiveView
from burnish.config import Run
from burnish.data.load import rule_of
from burnish.engine import checkpoint
from burnish.engine.engine import Engine
from burnish.engine.reference import Live
from burnish.errors import BurnishError, ConfigError, DataError, JudgeError
from burnish.findings import counted
from burnish.loop.prepare import Prepared
from burnish.loop.rounds import People, people_of, waits, when_voted
from burnish.loop.samplers import sampler_of
from burnish.loop.sources import Fixed, Mixed, Refreshed, Source, shares
from burnish.loop.watch import RefreshMonitor


@dataclass(frozen=True)
class Judges:
    """Who judges a run's fresh answers: `judge` for training, `gold` only to watch it."""

    judge: Judge | None
    gold: Judge | None
    line: str | None = None  # how programs are kept apart, where answers are programs

    def state(self) -> dict[str, Any]:
        """What the judges hold that a checkpoint keeps, by table."""
        return {table: judge.state() for table, judge in self._stateful().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        for table, judge in self._stateful().items():
            judge.restore(state[table])

    def _stateful(self) -> dict[str, Stateful]:
        tables: list[tuple[str, object]] = [("judge", self.judge), ("gold", self.gold)]
        return {table: judge for table, judge in tables if isinstance(judge, Stateful)}


def judges_of(run: Run) -> Judges:
    """The judges that the configuration names. Raises before any weight loads."""
    cache = Path(run.run.dir).parent / "judge-cache"
    programs = any(table.kind == "verifier" and table.name == "code" for table in (*run.judge, *run.gold))
    line = f"judge: {panel.isolation().line}" if programs else None
    judge = people_of(run) or panel.make(run.judge, cache)
    try:
        return Judges(judge, panel.make(run.gold, cache), line)
    except BurnishError as error:  # judges name their keys as they stand under [judge]
        raise type(error)(re.sub(r"\bjudge(?=\.\w|\]\])", "gold", str(error))) from error


def answerer(
    prepared: Prepared, engine: Engine, reference: Live | None, judge: Judge | None, gold: Judge | None
) -> Answerer:
    """Who answers this run's prompts, with whom the answers are judged and against whom they are measured."""
    run = prepared.run
    assert judge is not None
    sampler = sampler_of(prepared, engine)
    if isinstance(judge, People):
        sampler = judge.keeping(sampler)
    view = ObjectiveView(prepared.mixture.views, rule_of(run.pairs))
    return Answerer(
        sampler, judge, engine, reference, prepared.mixture, view, prepared.tokenizer, run.source,
        gold,
    )  # fmt: skip


def set_temperature(prepared: Prepared, engines: Sequence[Engine]) -> None:
    """Policy gradients are those of the distribution that is sampled from, so its temperature divides the trainer's
    logits, too. Raises ConfigError for a model whose logits are capped before that."""
    temperature = prepared.run.source.temperature
    if "rollouts" not in prepared.mixture.views or temperature == 1.0:
        return
    for engine in engines:
        if engine.plain_head or engine.policy.transform.softcap is not None:
            raise ConfigError("source.temperature must be 1 for this model, whose logits are capped before it")
        engine.temperature = temperature


def source(prepared: Prepared, answerer: Answerer | None, steps: int, end: int | None) -> Source:
    """The source of groups at this turn of the dial."""
    run, table = prepared.run, prepared.run.source
    if answerer is None or not isinstance(table.refresh_every, int):
        return Fixed(prepared.train, run.optim.groups_per_step, run.seed, end)
    sampled, fixed = shares(run.optim.groups_per_step, table.fresh)
    fresh = Refreshed(
        prepared.prompts, answerer, table.refresh_every, sampled, run.seed, steps, table.epochs, table.replay,
        table.replay_share, table.curriculum == "adaptive",
    )  # fmt: skip
    return Mixed(fresh, Fixed(prepared.train, fixed, run.seed)) if fixed else fresh


def sample_once(prepared: Prepared, answerer: Answerer, monitor: RefreshMonitor) -> Prepared:
    """`refresh_every = "never"` with a judge: every prompt answered by the policy as it is before the first step, and
    then a data set like any other. Raises DataError where no answer teaches anything, JudgeError where nobody
    could judge any."""
    began = time.perf_counter()
    run = prepared.run
    refresh = when_voted(
        lambda: answerer(prepared.prompts, run.seed, 0), wait=waits(run), note=monitor.progress.note, saved=lambda: None
    )
    if refresh.unjudged is not None:
        raise JudgeError(f"nobody could judge any of {len(prepared.prompts)} groups of answers: {refresh.unjudged}")
    if not (run.run.resume and checkpoint.folders(Path(run.run.dir))):  # else they were recorded before
        monitor.record(0, refresh)
    groups = [replace(group, rollout=None) for group in refresh.groups if group is not None]
    if not groups:
        raise DataError(
            f"none of {counted(len(prepared.prompts), 'prompt')} got answers that {prepared.mixture.name} can learn "
            "from: all alike"
        )
    line = (
        f"answers: {counted(len(prepared.prompts), 'prompt')}, {counted(run.source.k, 'answer')} each, by the policy "
        f"itself: {counted(len(groups), 'group')} of use ({time.perf_counter() - began:.1f} s)"
    )
    monitor.progress.note(line)
    return replace(prepared, train=groups, lines=[*prepared.lines, line])
