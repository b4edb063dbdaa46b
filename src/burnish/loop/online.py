"""The online half of a run, made from its configuration: who judges, who answers, and where groups come from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.answers.answerer import Answerer
from burnish.answers.judges import Judge, Stateful, panel
from burnish.answers.objective_view import ObjectiveView
from burnish.config import Run
from burnish.data.load import rule_of
from burnish.engine.engine import Engine
from burnish.engine.reference import Live
from burnish.errors import BurnishError, ConfigError
from burnish.loop.prepare import Prepared
from burnish.loop.rounds import People, people_of
from burnish.loop.samplers import sampler_of
from burnish.loop.sources import Fixed, Mixed, Refreshed, Source, shares


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
