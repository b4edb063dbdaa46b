"""The dial: makes the source of groups that a run's configuration asks for, and hears what comes from it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.answers.answerer import Answerer, Fresh, decoding_of
from burnish.answers.judges import Judge, panel
from burnish.answers.sampler import Sampler, process
from burnish.config import Run
from burnish.data.load import rule_of
from burnish.data.prompts import Asked
from burnish.engine import checkpoint, model
from burnish.engine.distributed import World
from burnish.engine.engine import Engine
from burnish.engine.reference import Live, Stored
from burnish.errors import ConfigError, DataError, StoreError
from burnish.group import to_json
from burnish.loop import references
from burnish.loop.alarms import Alarms
from burnish.loop.prepare import Prepared
from burnish.loop.sources import Fixed, Mixed, Refreshed, Source, shares
from burnish.runlog.log import RunLog
from burnish.runlog.progress import Progress

ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class Judges:
    """Who judges a run's fresh answers: `judge` for training, `gold` only to watch it."""

    judge: Judge | None
    gold: Judge | None


def judges_of(run: Run) -> Judges | None:
    """The judges that the configuration names; None where nothing is fresh. Raises before any weight loads."""
    if not run.sampled and not run.gold:
        return None
    cache = Path(run.run.dir).parent / "judge-cache"
    return Judges(panel.make(run.judge, cache), panel.make(run.gold, cache))


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
    assert judges.judge is not None
    return Answerer(
        sampler_of(ready, engine), judges.judge, engine, reference, ready.loss, rule_of(run.pairs), ready.tokenizer,
        run.source, judges.gold,
    )  # fmt: skip


def answers_of(
    ready: Prepared, scorer: Engine, shown: Progress, judges: Judges | None
) -> tuple[Answerer | None, Live | None]:
    """(who answers prompts, the reference that the answers are measured against); neither where nothing is fresh."""
    run = ready.run
    if judges is None or not run.sampled:
        return None, None
    live = None
    if run.reference.kind != "none" and not run.sampled_once:
        live = references.live(ready, scorer, shown)
        live.carried = run.reference.update == "never" and not ready.loss.needs("kl")
    if "rollouts" in ready.loss.views and run.source.temperature != 1.0:
        if scorer.plain_head or scorer.policy.transform.softcap is not None:
            raise ConfigError("source.temperature must be 1 for this model, whose logits are capped before it")
        for one in (scorer, *([live.engine] if live else [])):
            one.temperature = run.source.temperature
    return answerer(ready, scorer, live, judges), live


def watcher_of(
    ready: Prepared, scorer: Engine, beside: Stored | Live | None, shown: Progress,
    judges: Judges | None,
) -> Answerer:  # fmt: skip
    """Who answers at an offline run's evaluations; measured against a reference in memory, beside any stored one."""
    assert judges is not None and judges.gold is not None
    live = beside if isinstance(beside, Live) else None
    if live is None and ready.run.reference.kind != "none":
        live = references.live(ready, scorer, shown)
    return answerer(ready, scorer, live, Judges(judges.gold, None))


def sampler_of(ready: Prepared, engine: Engine) -> Sampler:
    """In this process, or a server. Raises ConfigError where the policy does not stand whole in this process."""
    run = ready.run
    if run.source.sampler == "server":
        return _server(ready, engine)
    refuse_divided(run, engine.world)
    return process.Sampler(engine, ready.terminal)


def _server(ready: Prepared, engine: Engine) -> Sampler:
    """A server that answers, and is given the weights through a folder that both can see."""
    from burnish.answers.sampler import remote

    run, policy = ready.run, engine.policy
    if policy.sharded:
        raise ConfigError("source.sampler = 'server' needs the weights whole in one process to hand them over")
    if run.source.update == "lora" and not policy.adapted:
        raise ConfigError("source.update = 'lora' hands over an adapter, and adapter.kind = 'none' trains none")
    if run.source.update == "reload" and policy.adapted:
        raise ConfigError("source.update = 'reload' hands over a whole model, and an adapter is trained: use 'lora'")

    def write(folder: Path) -> None:
        model.save_model(policy, folder, ready.tokenizer)

    server = remote.Sampler(
        run.source.url, key=os.environ.get(run.source.key_env, ""), write=write,
        folder=Path(run.run.dir) / "handed-over", update=run.source.update, terminal=ready.terminal,
    )  # fmt: skip
    server.check(decoding_of(run.source))
    return server


def refuse_divided(run: Run, world: World) -> None:
    """The sampler of this process needs the policy whole. Raises ConfigError."""
    if world.size > 1 and (run.sampled or run.monitored) and run.source.sampler == "process":
        raise ConfigError(
            "source.sampler = 'process' answers with the whole policy, and with several processes each holds a part of "
            "it: use one process, or a server (source.sampler = 'server')"
        )


def source_of(ready: Prepared, answer: Answerer | None, watch: Watch, steps: int, end: int | None) -> Source:
    """The source of groups at this turn of the dial."""
    run = ready.run
    if answer is None or run.sampled_once or not run.sampled:
        return Fixed(ready.train, run.optim.groups_per_step, run.seed, end)
    source = run.source
    assert isinstance(source.refresh_every, int)
    own, static = shares(run.optim.groups_per_step, source.fresh)
    fresh = Refreshed(
        ready.asked, answer, watch, source.refresh_every, own, run.seed, steps, source.epochs, source.replay,
        source.replay_share, source.curriculum == "adaptive",
    )  # fmt: skip
    return Mixed(fresh, Fixed(ready.train, static, run.seed)) if static else fresh


def answered_once(ready: Prepared, answer: Answerer, watch: Watch) -> Prepared:
    """`refresh_every = "never"` with a judge: every prompt answered by the policy as it is before the first step, and
    then a data set like any other."""
    began = time.perf_counter()
    fresh = answer(ready.asked, (ready.run.seed, 0))
    if not (ready.run.run.resume and checkpoint.found(Path(ready.run.run.dir))):  # else they were told of before
        watch(0, fresh)
    groups = [replace(group, rollout=None) for group in fresh.groups if group is not None]
    if not groups:
        raise DataError(
            f"none of {len(ready.asked)} prompts got answers that {ready.loss.name} can learn from: all alike"
        )
    line = (
        f"answers: {len(ready.asked)} prompts, {ready.run.source.k} answers each, by the policy itself: {len(groups)} "
        f"groups of use ({time.perf_counter() - began:.1f} s)"
    )
    watch.shown.note(line)
    return replace(ready, train=groups, lines=[*ready.lines, line])


def look(watcher: Answerer, watch: Watch, asked: Sequence[Asked], done: int) -> None:
    """An offline run's policy answers prompts after `done` steps, for [gold] to look at; nothing is trained on them."""
    run = watch.run
    fresh = watcher(asked[: run.eval.prompts], (run.seed, done))
    figures = {("gold" if name == "reward" else name): value for name, value in fresh.figures.items()}
    watch(done, replace(fresh, figures=figures))
    kl = f", {figures['kl/answer']:.3g} nats from the reference" if "kl/answer" in figures else ""
    gold = figures.get("gold", float("nan"))
    watch.shown.note(f"own answers, after step {done}: gold {gold:.4g}, {figures['length']:.1f} tokens{kl}")


def state_of(source: Source, answer: Answerer | None, watch: Watch) -> dict[str, Any]:
    """What a checkpoint must hold of all this."""
    credit = {} if answer is None else {name: dict(values) for name, values in answer.state.items()}
    return {"source": source.state(), "credit": credit, "alarms": watch.alarms.state(), "ended": watch.ended}


def restore(state: dict[str, Any], source: Source, answer: Answerer | None, watch: Watch) -> None:
    """Take it up again."""
    if state["source"]:
        source.restore(state["source"])
    if answer is not None:
        answer.state = state["credit"]
    watch.alarms.restore(state["alarms"])
    watch.ended = str(state["ended"])
