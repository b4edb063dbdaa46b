"""What a run is made of: policy, proved layout, reference log-probs, float32 masters, optimiser."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from burnish import canary, checkpoint, dial, distributed, engine, loading, model, reference, rewardmodel, trackers
from burnish.answering import Answerer
from burnish.config import ModelConfig, Run
from burnish.dial import Watch
from burnish.distributed import ALONE, World
from burnish.engine import Engine
from burnish.errors import ConfigError, ModelError
from burnish.feedback import mismatched
from burnish.group import EncodedGroup
from burnish.loss import State
from burnish.masters import Masters, adamw
from burnish.prepare import Prepared, step_indices
from burnish.progress import Progress
from burnish.runlog import RunLog
from burnish.sources import Source
from burnish.stopping import Best
from burnish.store import ReferenceStore
from burnish.values import ValueHead

USUAL_BUDGET = 8192  # where "auto" was asked of a verb that trains nothing


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
    answerer: Answerer | None
    log: RunLog
    progress: Progress
    steps: int
    end: int | None
    moved: bool = False
    best: Best | None = None  # kept aside where an alarm may end the run
    looked: int = 0  # refreshes heard when the best was last looked for
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
    judges: dial.Judges | None = None,
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
    torch.set_float32_matmul_precision(config.engine.products)  # after the canary, which needs full precision
    values = _value_head(ready, scorer, shown) if ready.loss.needs("value") else None
    head, trunk = ([], []) if values is None else values.trainable()
    masters = Masters(
        [*policy.trainable(), *trunk], policy.dtype, own=policy.sharded, wide=head
    )  # before the cast, or they would start rounded to bfloat16
    model.cast_for_compute(policy)
    watch = Watch(config, log, shown)
    answers, live = _answers(ready, scorer, shown, judges)
    if answers is not None and config.once:
        ready = dial.answered_once(ready, answers, watch)
        end = None if end is None else round((config.optim.epochs or 1.0) * len(ready.train))
        steps = min(steps, -(-end // config.optim.groups_per_step)) if end is not None else steps
    beside: reference.Stored | reference.Live | None = live
    if not ready.loss.needs("reference"):
        beside = None
    elif live is None:
        beside = _reference(ready, scorer, shown, log, steps, end)
    source = dial.source_of(ready, answers, watch, steps, end)
    if config.engine.gradient_checkpointing:
        policy.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy.module.train()
    optim = config.optim
    optimizer = adamw(
        masters.parameters, lr=optim.peak_lr, betas=(optim.beta1, optim.beta2), weight_decay=optim.weight_decay
    )
    trained = sum(p.numel() for p in masters.parameters)
    passes = (end or steps * optim.groups_per_step) / (len(ready.asked) or len(ready.train))
    shown.note(
        f"training {trained / 1e6:.2f}M parameters for {steps} steps of {optim.groups_per_step} groups: "
        f"{passes:.3g} passes over the {'prompts' if ready.asked else 'data'}"
    )
    return Trainer(ready, scorer, masters, optimizer, beside, source, watch, answers, log, shown, steps, end, running=ready.loss.start())


def _answers(
    ready: Prepared, scorer: Engine, shown: Progress, judges: dial.Judges | None
) -> tuple[Answerer | None, reference.Live | None]:
    """(who answers prompts, the reference that the answers are measured against); neither where nothing is fresh."""
    if judges is None:
        return None, None
    run = ready.run
    live = None
    if run.reference.kind != "none" and not run.once:
        live = _live(ready, scorer, shown)
        live.carried = run.reference.update == "never" and not ready.loss.needs("kl")
    if "rollouts" in ready.loss.views and run.source.temperature != 1.0:
        if scorer.plain_head or scorer.policy.transform.softcap is not None:
            raise ConfigError("source.temperature must be 1 for this model, whose logits are capped before it")
        for one in (scorer, *([live.engine] if live else [])):
            one.temperature = run.source.temperature
    return dial.answerer(ready, scorer, live, judges), live


def _value_head(ready: Prepared, scorer: Engine, shown: Progress) -> ValueHead:
    """A value head on the policy's hidden states, or on those of a model beside it."""
    config = ready.run
    if scorer.world.size > 1:
        raise ConfigError(f"{ready.loss.name} trains a value head, which one process does; not several")
    if scorer.plain_head:
        raise ModelError(f"{ready.loss.name} needs hidden states, and what this model's head does is not known")
    trunk = None
    if config.value.trunk == "own":
        trunk = make_engine(_frozen(config.model, ready, scorer.world), config)[0]
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
        policy, told[:] = rewardmodel.load_reward_model(
            config.model, config.adapter, tokenizer, set(ready.terminal),
            head_only=config.reward.train == "head", seed=config.seed, place=place,
        )  # fmt: skip
        return policy

    policy = loading.load(world, make, config.seed, straight=False, tell=shown.note)
    for line in told:
        shown.note(line)
    return policy


def make_engine(policy: model.Policy, config: Run, world: World = ALONE) -> tuple[Engine, str]:
    """An engine in the layout the canary allows (proved before any cast), and the line that says why."""
    verdict = canary.decide(policy, config.engine.layout)
    policy = loading.for_compute(policy, verdict, world)
    pad = getattr(policy.base.config.get_text_config(), "pad_token_id", None)
    scorer = Engine(
        policy,
        config.engine.token_budget if isinstance(config.engine.token_budget, int) else USUAL_BUDGET,
        shared=verdict.shared,
        plain_head=verdict.plain_head,
        pruned=verdict.pruned,
        pad_id=pad if isinstance(pad, int) and pad >= 0 else 0,
        router_aux_coef=config.model.router_aux_coef,
        world=world,
    )
    return scorer, f"layout: {verdict.line}"


def _reference(
    ready: Prepared, scorer: Engine, shown: Progress, log: RunLog, steps: int, end: int | None
) -> reference.Stored | reference.Live:
    """The reference as the configuration and the objective want it: stored log-probs, or a model in memory."""
    wanted = ready.run.reference
    if ready.loss.needs("kl") and scorer.plain_head:
        raise ModelError(f"{ready.loss.name} needs whole distributions, and what this model's head does is not known")
    if ready.loss.needs("kl") or wanted.update != "never" or wanted.scores == "live":
        return _live(ready, scorer, shown)
    return reference.Stored(_stored(ready, scorer, shown, log, steps, end))


def _frozen(source: ModelConfig, ready: Prepared, world: World) -> model.Policy:
    """A model that is not trained, divided as the policy is."""
    size = len(ready.tokenizer)
    return loading.load(world, lambda place: model.load_policy(source, tokenizer_size=size, place=place), 0)


def _live(ready: Prepared, scorer: Engine, shown: Progress) -> reference.Live:
    """The adapter switched off, or a model of its own beside the policy."""
    config = ready.run
    if scorer.policy.adapted and config.reference.kind == "initial":
        shown.note("reference: the model with the adapter switched off, computed in every step")
        return reference.Live(scorer, config.reference, {})
    path = config.reference.path if config.reference.kind == "path" else config.model.path
    other = config.model.model_copy(update={"path": path})
    own = make_engine(_frozen(other, ready, scorer.world), config, scorer.world)[0]
    own.router_aux_coef = 0.0
    found = reference.Live.of(own, config.reference)  # before the cast, or its weights would start rounded
    model.cast_for_compute(own.policy)
    own.policy.module.requires_grad_(False)
    own.policy.module.eval()
    moves = {
        "never": "stands still",
        "ema": f"follows the policy, {config.reference.share:g} of it after every step",
        "soft": f"takes {config.reference.share:g} of the policy every {config.reference.interval} steps",
        "hard": f"becomes the policy every {config.reference.interval} steps",
    }[config.reference.update]
    shown.note(f"reference: a second model in memory, {path}; it {moves}")
    return found


def _stored(
    ready: Prepared, scorer: Engine, shown: Progress, log: RunLog, steps: int, end: int | None
) -> ReferenceStore:
    """Open the store and fill it, with the policy as it stands or with the other model the user named."""
    config = ready.run
    path = config.reference.path if config.reference.kind == "path" else config.model.path
    if config.reference.kind == "path":
        model.require_model_dir(path)
    world = scorer.world
    weights = world.lead(lambda: model.weights_hash(path))
    quantized = "/nf4" if config.adapter.kind == "qlora" and config.reference.kind == "initial" else ""
    computed_in = f"{config.model.dtype}/{config.engine.products}{quantized}"
    root = Path(config.reference.store)
    store = ReferenceStore(root, weights, computed_in, engine.VERSION, on_disk=world.leads)
    for name in store.rejected:
        shown.note(f"reference: stored block {name} was damaged; it is computed again")
    chunks = reference_chunks(ready, steps, end)
    groups = [group for chunk in chunks for group in chunk]
    if world.size > 1:
        store.take(world.lead(lambda: store.held(groups)))
    if config.reference.kind == "path" or (config.run.resume and store.missing(groups)):
        other = config.model.model_copy(update={"path": path})
        if store.missing(groups):
            scorer = make_engine(_frozen(other, ready, world), config, world)[0]
            model.cast_for_compute(scorer.policy)
    began = time.perf_counter()
    computed = reference.fill(store, chunks, scorer, shown.stage("reference log-probs"))
    took = time.perf_counter() - began
    stored = len({id(group) for group in groups}) - computed
    shown.note(
        f"reference: {path} (weights {weights[:12]}), {config.model.dtype}; {computed} groups computed, "
        f"{stored} taken from the store" + (f", {took:.1f} s" if computed else "")
    )
    log.append("reference", weights=weights, computed=computed, stored=stored, seconds=took)
    return store


def reference_chunks(ready: Prepared, steps: int, end: int | None) -> list[list[EncodedGroup]]:
    """The groups this run will meet, each once, divided as its steps will meet them; then those held out."""
    per_step, seen, chunks = ready.run.optim.groups_per_step, set[int](), []
    for step in range(steps):
        indices = step_indices(step, len(ready.train), per_step, ready.run.seed, end)
        if not seen.issuperset(indices):
            chunks.append([ready.train[i] for i in dict.fromkeys(indices)])
            seen.update(indices)
        if ready.loss.needs("mismatched"):
            chunks.append(mismatched([ready.train[i] for i in indices], ready.train))
    held = [ready.evaluation]
    if ready.loss.needs("mismatched"):
        held.append(mismatched(ready.evaluation, ready.train))
    return chunks + [chunk for chunk in held if chunk]
