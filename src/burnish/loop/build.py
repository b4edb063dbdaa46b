"""What a run is made of: policy, proved layout, reference log-probs, float32 masters, optimiser."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from burnish.answers.answerer import Answerer
from burnish.config import Run
from burnish.engine import checkpoint, distributed, loading, model, reference, reward_model
from burnish.engine.distributed import World
from burnish.engine.engine import Engine
from burnish.engine.loading import make_engine
from burnish.engine.masters import Masters, adamw
from burnish.engine.value_head import ValueHead
from burnish.errors import ConfigError, ModelError
from burnish.loop import online
from burnish.loop.online import Watch
from burnish.loop.prepare import Prepared
from burnish.loop.references import frozen, reference_of
from burnish.loop.sources import Source
from burnish.loop.stopping import Keeper
from burnish.objectives.mixture import State
from burnish.runlog import trackers
from burnish.runlog.log import RunLog
from burnish.runlog.progress import Progress


@dataclass
class Trainer:
    """What a run holds while it runs. The class is a record; the verbs are the functions below."""

    ready: Prepared
    engine: Engine
    masters: Masters
    optimizer: Any
    reference: reference.Stored | reference.Live | None
    source: Source
    watch: Watch
    keeper: Keeper
    answerer: Answerer | None
    watcher: Answerer | None
    log: RunLog
    progress: Progress
    steps: int
    end: int | None
    moved: bool = False
    running: State = field(default_factory=dict)  # running averages of objectives that keep some
    stop: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writer = checkpoint.Writer(Path(self.run.run.dir), self.run.save.keep, self.world)

    @property
    def run(self) -> Run:
        return self.ready.run

    @property
    def world(self) -> World:
        return self.engine.world


def build(
    ready: Prepared, world: World, log: RunLog, shown: Progress, steps: int, end: int | None,
    judges: online.Judges | None = None,
) -> Trainer:  # fmt: skip
    """Load the weights, prove the layout, fetch the reference log-probs, make the optimiser."""
    config = ready.run
    if world.leads:
        trackers.attach(config, log, shown.note)
    for advice in distributed.advise():
        shown.note(advice)
    torch.manual_seed(config.seed)
    scorer, line = make_engine(_policy(ready, world, shown), config, world)
    policy = scorer.policy
    text = policy.base.config.get_text_config()
    if config.model.router_aux_coef and not getattr(text, "num_experts_per_tok", None):
        raise ConfigError(f"model.router_aux_coef is set, but {policy.path} is not a mixture of experts")
    shown.note(line)
    torch.set_float32_matmul_precision(
        config.engine.float32_matmul_precision
    )  # after the canary, which needs full precision
    values = _value_head(ready, scorer, shown) if ready.loss.needs("value") else None
    head, trunk = ([], []) if values is None else values.trainable()
    masters = Masters(
        [*policy.trainable(), *trunk], policy.dtype, own=policy.sharded, wide=head
    )  # before the cast, or they would start rounded to bfloat16
    model.cast_for_compute(policy)
    watch = Watch(config, log, shown)
    answers, live = online.answers_of(ready, scorer, shown, judges)
    if answers is not None and config.sampled_once:
        ready = online.answered_once(ready, answers, watch)
        end = None if end is None else round((config.optim.epochs or 1.0) * len(ready.train))
        steps = min(steps, -(-end // config.optim.groups_per_step)) if end is not None else steps
    beside: reference.Stored | reference.Live | None = live
    if not ready.loss.needs("reference"):
        beside = None
    elif live is None:
        beside = reference_of(ready, scorer, shown, log, steps, end)
    source = online.source_of(ready, answers, watch, steps, end)
    watcher = online.watcher_of(ready, scorer, beside, shown, judges) if config.monitored else None
    if config.engine.gradient_checkpointing:
        policy.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy.module.train()
    optimizer = _optimizer(ready, masters, shown, steps, end)
    keeper = Keeper(watch, masters)
    return Trainer(
        ready, scorer, masters, optimizer, beside, source, watch, keeper, answers, watcher, log, shown, steps, end,
        running=ready.loss.start(),
    )  # fmt: skip


def _optimizer(ready: Prepared, masters: Masters, shown: Progress, steps: int, end: int | None) -> Any:
    config, optim = ready.run, ready.run.optim
    trained = sum(p.numel() for p in masters.parameters)
    passes = (end or steps * optim.groups_per_step) / (len(ready.asked) if config.sampled else len(ready.train))
    shown.note(
        f"training {trained / 1e6:.2f}M parameters for {steps} steps of {optim.groups_per_step} groups: "
        f"{passes:.3g} passes over the {'prompts' if config.sampled else 'data'}"
    )
    return adamw(
        masters.parameters, lr=optim.peak_lr, betas=(optim.beta1, optim.beta2), weight_decay=optim.weight_decay
    )


def _value_head(ready: Prepared, scorer: Engine, shown: Progress) -> ValueHead:
    """A value head on the policy's hidden states, or on those of a model beside it."""
    config = ready.run
    if scorer.world.size > 1:
        raise ConfigError(f"{ready.loss.name} trains a value head, which one process does; not several")
    if scorer.plain_head:
        raise ModelError(f"{ready.loss.name} needs hidden states, and what this model's head does is not known")
    trunk = None
    if config.value.backbone == "own":
        trunk = make_engine(frozen(config.model, ready, scorer.world), config)[0]
        trunk.router_aux_coef = 0.0
        trunk.policy.module.train()
    shown.note(
        "value head: " + ("on a model of its own, a copy of the policy" if trunk else "on the policy's hidden states")
    )
    scorer.critic = found = ValueHead.on(scorer, trunk)
    return found


def _policy(ready: Prepared, world: World, shown: Progress) -> model.Policy:
    """The model to train: a language model, or one with a scalar head where the objective asks for it."""
    config = ready.run
    loading.refuse_undividable(world, {"adapter.kind = 'qlora'": config.adapter.kind == "qlora"})
    if not ready.loss.needs("scalar"):
        return loading.load(
            world,
            lambda place: model.load_policy(
                config.model, config.adapter, tokenizer_size=len(ready.tokenizer), place=place
            ),
            config.seed,
            tell=shown.note,
            straight=not config.adapter.dora,  # its magnitudes are made from the weights
        )
    told: list[str] = []
    untouched = copy.deepcopy(ready.tokenizer)  # loading may give the tokenizer a padding token, once

    def make(place: model.Place) -> model.Policy:
        tokenizer = copy.deepcopy(untouched) if place == "nowhere" else ready.tokenizer
        policy, told[:] = reward_model.load_reward_model(
            config.model, config.adapter, tokenizer, set(ready.terminal),
            head_only=config.reward.train == "head", seed=config.seed, place=place,
        )  # fmt: skip
        return policy

    policy = loading.load(world, make, config.seed, straight=False, tell=shown.note)
    for line in told:
        shown.note(line)
    return policy
