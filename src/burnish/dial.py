"""The dial: makes the source of groups that a run's configuration asks for, and hears what comes from it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.alarms import Alarms
from burnish.answering import Answerer, Fresh
from burnish.config import Run
from burnish.distributed import World
from burnish.engine import Engine
from burnish.errors import ConfigError, StoreError
from burnish.gather import rule_of
from burnish.group import to_json
from burnish.judges import Judge, panel
from burnish.prepare import Prepared
from burnish.progress import Progress
from burnish.reference import Live
from burnish.runlog import RunLog
from burnish.sampler import Sampler, process
from burnish.sources import Fixed, Mixed, Refreshed, Source, shares

ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class Judges:
    """Who judges a run's fresh answers: `judge` for training, `gold` only to watch it."""

    judge: Judge
    gold: Judge | None


def judges_of(run: Run) -> Judges | None:
    """The judges that the configuration names; None where nothing is fresh. Raises before any weight loads."""
    if not run.dialled:
        return None
    cache = Path(run.run.dir).parent / "judge-cache"
    judge = panel.make(run.judge, cache)
    if judge is None:
        raise ConfigError("source.refresh_every asks for fresh answers, and nobody judges them: add a [judge]")
    return Judges(judge, panel.make(run.gold, cache))


@dataclass
class Watch:
    """Hears of every refresh: writes it to the log and the answers to a file, and rings the alarms."""

    run: Run
    log: RunLog
    shown: Progress
    alarms: Alarms = field(init=False)
    figures: dict[str, float] = field(default_factory=dict)  # of the newest refresh
    ended: str = ""  # why the run shall end

    def __post_init__(self) -> None:
        self.alarms = Alarms(self.run.stop)

    def __call__(self, step: int, fresh: Fresh) -> None:
        self.figures = dict(fresh.figures)
        self.log.append("fresh", step=step + 1, **self.figures)
        self._write(step, fresh)
        for alarm in self.alarms.hear(self.figures):
            self.shown.note(f"alarm ({alarm.name}), step {step + 1}: {alarm.line}")
            self.log.append("alarm", step=step + 1, name=alarm.name, text=alarm.line)
            if alarm.name in self.run.stop.when and not self.ended:
                self.ended = alarm.name

    def _write(self, step: int, fresh: Fresh) -> None:
        if not self.run.log.answers or self.log.silent:
            return
        file = Path(self.run.run.dir) / ANSWERS
        rows = [replace(group, meta={**group.meta, "step": step}) for group in fresh.texts]
        try:
            with file.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write("".join(json.dumps(to_json(row), ensure_ascii=False) + "\n" for row in rows))
        except OSError as error:
            raise StoreError(f"{file} cannot be written: {error.strerror}. Free some space") from error

    def cut_after(self, step: int) -> None:
        """Drop the answers of refreshes after `step` steps, which a resumed run gives again."""
        file = Path(self.run.run.dir) / ANSWERS
        if self.log.silent or not file.exists():
            return
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["meta"]["step"] < step]
        file.write_text("".join(kept), encoding="utf-8", errors="surrogateescape")


def answerer(ready: Prepared, engine: Engine, reference: Live | None, judges: Judges) -> Answerer:
    """Who gives and judges the answers of this run."""
    run = ready.run
    return Answerer(
        sampler_of(ready, engine), judges.judge, engine, reference, ready.loss, rule_of(run.pairs), ready.tokenizer,
        run.source, ready.terminal, judges.gold,
    )  # fmt: skip


def sampler_of(ready: Prepared, engine: Engine) -> Sampler:
    """In this process, or a server. Raises ConfigError where the policy does not stand whole in this process."""
    run = ready.run
    if run.source.sampler == "server":
        from burnish.sampler import remote

        return remote.of(run, engine)
    refuse_divided(engine.world)
    return process.Sampler(engine, ready.terminal)


def refuse_divided(world: World) -> None:
    """The sampler needs the policy whole."""
    if world.size > 1:
        raise ConfigError(
            "source.sampler = 'process' answers with the whole policy, and with several processes each holds a part of "
            "it: use one process, or a server (source.sampler = 'server')"
        )


def source_of(
    ready: Prepared, answer: Answerer | None, watch: Watch, steps: int, end: int | None
) -> Source:
    """The source of groups at this turn of the dial."""
    run = ready.run
    if answer is None or run.once:
        return Fixed(ready.train, run.optim.groups_per_step, run.seed, end)
    source = run.source
    assert isinstance(source.refresh_every, int)
    own, static = shares(run.optim.groups_per_step, source.fresh)
    fresh = Refreshed(
        ready.asked, answer, watch, source.refresh_every, own, run.seed, source.epochs, source.replay,
        source.replay_share, source.curriculum == "adaptive",
    )  # fmt: skip
    return Mixed(fresh, Fixed(ready.train, static, run.seed)) if static else fresh


def answered_once(ready: Prepared, answer: Answerer, watch: Watch) -> Prepared:
    """`refresh_every = "never"` with a judge: every prompt answered by the policy as it is before the first step, and
    then a data set like any other."""
    began = time.perf_counter()
    fresh = answer(ready.asked, (ready.run.seed, 0))
    watch(0, fresh)
    groups = [replace(group, rollout=None) for group in fresh.groups]
    line = (
        f"answers: {len(ready.asked)} prompts, {ready.run.source.k} answers each, by the policy itself: {len(groups)} "
        f"groups of use ({time.perf_counter() - began:.1f} s)"
    )
    watch.shown.note(line)
    return replace(ready, train=groups, lines=[*ready.lines, line])


def state_of(source: Source, answer: Answerer | None, watch: Watch) -> dict[str, Any]:
    """What a checkpoint must hold of all this."""
    credit = {} if answer is None else {name: dict(values) for name, values in answer.state.items()}
    return {"source": source.state(), "credit": credit, "alarms": watch.alarms.state()}


def restore(state: dict[str, Any], source: Source, answer: Answerer | None, watch: Watch) -> None:
    """Take it up again."""
    if state["source"]:
        source.restore(state["source"])
    if answer is not None:
        answer.state = state["credit"]
    watch.alarms.restore(state["alarms"])
