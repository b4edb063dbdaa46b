"""What a run is made of, put together: policy, proved layout, reference, float32 masters, source, optimiser.

This is the composition root: it imports as many modules as there are parts. What works on a `Trainer` imports it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from burnish.answers.answerer import Answerer
from burnish.answers.judges import inputs
from burnish.config import Run
from burnish.data.identity import fingerprint
from burnish.engine import checkpoint, distributed, loading, model, reward_model
from burnish.engine.distributed import World
from burnish.engine.engine import Engine
from burnish.engine.loading import make_engine
from burnish.engine.masters import Masters, adamw
from burnish.engine.reference import Live, Stored
from burnish.engine.value_head import ValueHead
from burnish.engine.weights import Place
from burnish.errors import ModelError
from burnish.findings import counted
from burnish.loop import online, references
from burnish.loop.memory.plan import with_planned_budget
from burnish.loop.once import sample_once
from burnish.loop.prepare import Prepared, prepare
from burnish.loop.refusals import mixture_of, refuse_different_data, refuse_processes
from burnish.loop.schedule import total_steps
from burnish.loop.sources import Source
from burnish.loop.watch import BestWeights, RefreshMonitor
from burnish.objectives.mixture import State
from burnish.runlog import trackers
from burnish.runlog.folder import claim_run_dir
from burnish.runlog.lock import Lock
from burnish.runlog.log import RunLog
from burnish.runlog.progress import Progress


@dataclass
class Trainer:
    """What a run holds while it runs. The class is a record; the verbs are functions of the modules around it."""

    prepared: Prepared
    engine: Engine
    masters: Masters
    optimizer: Any
    reference: Stored | Live | None
    source: Source
    judges: online.Judges
    monitor: RefreshMonitor
    best: BestWeights
    answerer: Answerer | None  # who answers the prompts that are trained on
    eval_answerer: Answerer | None  # who answers an offline run's prompts at its evaluations
    log: RunLog
    progress: Progress
    steps: int
    moved: bool = False  # whether a log-ratio has left 0
    running: State = field(default_factory=dict)  # running averages of objectives that keep some
    signals: list[int] = field(default_factory=list)  # signals that asked the run to stop

    def __post_init__(self) -> None:
        self.writer = checkpoint.Writer(Path(self.run.run.dir), self.run.save.keep, self.world)

    @property
    def stands_still(self) -> bool:
        """Whether every log-ratio to a reference that stands still has been exactly 0 so far."""
        return not self.moved and isinstance(self.reference, Stored)

    @property
    def run(self) -> Run:
        return self.prepared.run

    @property
    def world(self) -> World:
        return self.engine.world


@contextmanager
def locked(folder: Path, world: World) -> Iterator[Lock]:
    """The lock on a run's folder, which the first process holds where the folder exists already. Raises StoreError."""
    with Lock(folder) as lock:
        world.lead(lock.take)
        yield lock


@contextmanager
def opened(config: Run, world: World, live: bool | None, lock: Lock) -> Iterator[Trainer]:
    """A trainer with its log and progress open. Everything that can be refused is refused before a weight is loaded.

    `live`: whether progress is drawn in place; None: where the output is a terminal. Raises BurnishError.
    """
    judges = online.judges_of(config)
    mixture = mixture_of(config)
    refuse_processes(config, mixture, world)
    prepared = with_planned_budget(prepare(config, mixture), world)
    judged_by = world.lead(lambda: inputs.fingerprint([*config.judge, *config.gold], prepared.prompts))
    prepared = replace(prepared, judge_inputs=judged_by)
    refuse_different_data(world, fingerprint([*prepared.train, *prepared.evaluation]))
    world.lead(lambda: lock.take(make=True))
    lost = config.run.resume and world.lead(lambda: not (Path(config.run.dir) / "config.toml").exists())
    world.lead(lambda: claim_run_dir(config))
    if config.engine.threads:
        torch.set_num_threads(config.engine.threads)
    steps, end = total_steps(config, len(prepared.prompts) if config.sampled else len(prepared.train))
    silent, folder = not world.leads, Path(config.run.dir)
    with RunLog(folder, silent=silent, lock=lock) as log, Progress(steps, live=live, silent=silent) as progress:
        if lost:
            progress.note(f"run.resume: {config.run.dir} holds no run (deleted, or of another name?): a new one begins")
        for line in filter(None, [lock.unsupported, *prepared.lines, judges.line]):
            progress.note(line)
        yield build(prepared, judges, world, log, progress, steps, end)


def build(
    prepared: Prepared, judges: online.Judges, world: World, log: RunLog, progress: Progress, steps: int,
    end: int | None,
) -> Trainer:  # fmt: skip
    """Load the weights, prove the layout, have prompts answered where that is done once, fetch the reference's
    log-probs, make the optimiser. `end`: number of groups at which an epoch-bounded run ends."""
    config = prepared.run
    if world.leads:
        trackers.attach(config, log, progress.note)
    for advice in distributed.advise():
        progress.note(advice)
    torch.manual_seed(config.seed)
    engine, masters = _engine_and_masters(prepared, world, progress)
    monitor = RefreshMonitor(config, log, progress)
    if config.run.resume:
        saved = checkpoint.newest_step(Path(config.run.dir))
        monitor.cut_after(saved)
    live = answerer = None
    if config.sampled:
        if config.reference.kind != "none" and not config.sampled_once:
            live = references.live_for_answers(prepared, engine, progress)
        online.set_temperature(prepared, [engine, *([live.engine] if live else [])])
        answerer = online.answerer(prepared, engine, live, judges.judge, judges.gold)
    if config.sampled_once and answerer is not None:
        prepared = sample_once(prepared, answerer, monitor)
        end = None if end is None else round((config.optim.epochs or 1.0) * len(prepared.train))
        steps = min(steps, -(-end // config.optim.groups_per_step)) if end is not None else steps
    reference: Stored | Live | None = None
    if prepared.mixture.needs("reference"):
        reference = live or references.reference_of(prepared, engine, progress, log, steps, end)
    source = online.source(prepared, answerer, steps, end)
    eval_answerer = None
    if config.monitored:
        measured_against = references.live_for_evaluation(prepared, engine, reference, progress)
        eval_answerer = online.answerer(prepared, engine, measured_against, judges.gold, None)
    if config.engine.gradient_checkpointing:
        engine.policy.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    engine.policy.module.train()
    optimizer = _optimizer(prepared, masters, progress, steps, end)
    return Trainer(
        prepared, engine, masters, optimizer, reference, source, judges, monitor, BestWeights(monitor, masters),
        answerer, eval_answerer, log, progress, steps, running=prepared.mixture.start(),
    )  # fmt: skip


def _engine_and_masters(prepared: Prepared, world: World, progress: Progress) -> tuple[Engine, Masters]:
    """The policy in its proved layout, with a value head where the objective wants one, and its masters."""
    config = prepared.run
    engine, line = make_engine(_policy(prepared, world, progress), config, world)
    progress.note(line)
    # after the canary, which needs full precision
    torch.set_float32_matmul_precision(config.engine.float32_matmul_precision)
    values = _value_head(prepared, engine, progress) if prepared.mixture.needs("value") else None
    head, backbone = ([], []) if values is None else values.trainable()
    policy = engine.policy
    masters = Masters(
        [*policy.trainable(), *backbone], policy.dtype, sharded=policy.sharded, wide=head
    )  # before the cast, or they would start rounded to bfloat16
    model.cast_for_compute(policy)
    return engine, masters


def _optimizer(prepared: Prepared, masters: Masters, progress: Progress, steps: int, end: int | None) -> Any:
    config, optim = prepared.run, prepared.run.optim
    trained = sum(p.numel() for p in masters.parameters)
    passes = (end or steps * optim.groups_per_step) / len(prepared.prompts if config.sampled else prepared.train)
    progress.note(
        f"training {trained / 1e6:.2f}M parameters for {counted(steps, 'step')} of "
        f"{counted(optim.groups_per_step, 'group')}: "
        f"{passes:.3g} {'pass' if passes == 1 else 'passes'} over the {'prompts' if config.sampled else 'data'}"
    )
    return adamw(
        masters.parameters, lr=optim.peak_lr, betas=(optim.beta1, optim.beta2), weight_decay=optim.weight_decay
    )


def _value_head(prepared: Prepared, engine: Engine, progress: Progress) -> ValueHead:
    """A value head on the policy's hidden states, or on those of a second copy of the policy."""
    config = prepared.run
    if engine.plain_head:
        raise ModelError(f"{prepared.mixture.name} needs hidden states, and what this model's head does is not known")
    backbone = None
    if config.value.backbone == "own":
        backbone = make_engine(references.frozen(config.model, engine.world), config)[0]
        backbone.router_aux_coef = 0.0
        backbone.policy.module.train()
    reads = "a model of its own, a copy of the policy" if backbone else "the policy's hidden states"
    progress.note(f"value head: on {reads}")
    head = ValueHead.on(engine, backbone)
    engine.critic = head
    return head


def _policy(prepared: Prepared, world: World, progress: Progress) -> model.Policy:
    """The model to train: a language model, or one with a scalar head where the objective asks for it."""
    config = prepared.run
    if not prepared.mixture.needs("scalar"):
        return loading.load(
            world,
            lambda place: model.load_policy(config.model, config.adapter, place=place),
            config.seed,
            tell=progress.note,
            straight=not config.adapter.dora,  # its magnitudes are made from the weights
        )
    lines: list[str] = []
    untouched = copy.deepcopy(prepared.tokenizer)  # loading may give the tokenizer a padding token, once

    def make(place: Place) -> model.Policy:
        tokenizer = copy.deepcopy(untouched) if place == "nowhere" else prepared.tokenizer
        policy, lines[:] = reward_model.load_reward_model(
            config.model, config.adapter, tokenizer, set(prepared.terminal),
            head_only=config.reward.train == "head", seed=config.seed, place=place,
        )  # fmt: skip
        return policy

    policy = loading.load(world, make, config.seed, straight=False, tell=progress.note)
    for line in lines:
        progress.note(line)
    return policy
