"""The reference that a run's configuration asks for: stored log-probs, filled before training, or a model in memory."""

from __future__ import annotations

import time
from pathlib import Path

from burnish.config import ModelConfig
from burnish.engine import engine, loading, model, reference
from burnish.engine.distributed import World
from burnish.engine.engine import Engine
from burnish.engine.loading import make_engine
from burnish.engine.reference_store import ReferenceStore
from burnish.errors import ModelError
from burnish.group import EncodedGroup
from burnish.loop.prepare import Prepared, step_indices
from burnish.objectives.feedback import mismatched
from burnish.runlog.log import RunLog
from burnish.runlog.progress import Progress


def reference_of(
    ready: Prepared, scorer: Engine, shown: Progress, log: RunLog, steps: int, end: int | None
) -> reference.Stored | reference.Live:
    """The reference as the configuration and the objective want it: stored log-probs, or a model in memory."""
    wanted = ready.run.reference
    if ready.loss.needs("kl") and scorer.plain_head:
        raise ModelError(f"{ready.loss.name} needs whole distributions, and what this model's head does is not known")
    if ready.loss.needs("kl") or wanted.update != "never" or wanted.scores == "live":
        return live(ready, scorer, shown)
    return reference.Stored(stored(ready, scorer, shown, log, steps, end))


def frozen(source: ModelConfig, ready: Prepared, world: World) -> model.Policy:
    """A model that is not trained, divided as the policy is."""
    size = len(ready.tokenizer)
    return loading.load(world, lambda place: model.load_policy(source, tokenizer_size=size, place=place), 0)


def live(ready: Prepared, scorer: Engine, shown: Progress) -> reference.Live:
    """The adapter switched off, or a model of its own beside the policy."""
    config = ready.run
    if scorer.policy.adapted and config.reference.kind == "initial":
        shown.note("reference: the model with the adapter switched off, computed in every step")
        return reference.Live(scorer, config.reference, {})
    path = config.reference.path if config.reference.kind == "path" else config.model.path
    other = config.model.model_copy(update={"path": path})
    own = make_engine(frozen(other, ready, scorer.world), config, scorer.world)[0]
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


def stored(
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
    computed_in = f"{config.model.dtype}/{config.engine.float32_matmul_precision}{quantized}"
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
            scorer = make_engine(frozen(other, ready, world), config, world)[0]
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
