"""The reference that a run's configuration asks for: stored log-probs, filled before training, or a model in memory."""

from __future__ import annotations

import time
from pathlib import Path

from burnish.config import ModelConfig
from burnish.engine import loading, model
from burnish.engine.distributed import World
from burnish.engine.engine import VERSION, Engine
from burnish.engine.loading import make_engine
from burnish.engine.reference import Live, Stored, fill
from burnish.engine.reference_store import ReferenceStore, weights_hash
from burnish.errors import ModelError
from burnish.group import EncodedGroup
from burnish.loop.prepare import Prepared
from burnish.loop.schedule import step_indices
from burnish.objectives.feedback import mismatched
from burnish.runlog.log import RunLog
from burnish.runlog.progress import Progress
from burnish.runlog.records import ReferenceRecord


def reference_of(
    prepared: Prepared, engine: Engine, progress: Progress, log: RunLog, steps: int, end: int | None
) -> Stored | Live:
    """The reference as the configuration and the objective want it: stored log-probs, or a model in memory."""
    wanted, mixture = prepared.run.reference, prepared.mixture
    if mixture.needs("kl") and engine.plain_head:
        raise ModelError(f"{mixture.name} needs whole distributions, and what this model's head does is not known")
    if mixture.needs("kl") or wanted.update != "never" or wanted.scores == "live":
        return live(prepared, engine, progress)
    return Stored(stored(prepared, engine, progress, log, steps, end))


def frozen(source: ModelConfig, world: World) -> model.Policy:
    """A model that is not trained, divided as the policy is."""
    return loading.load(world, lambda place: model.load_policy(source, place=place), 0)


def live(prepared: Prepared, engine: Engine, progress: Progress) -> Live:
    """A model in memory: the policy with its adapter switched off, or a second model."""
    config = prepared.run
    if engine.policy.adapted and config.reference.kind == "initial":
        progress.note("reference: the model with the adapter switched off, computed in every step")
        return Live(engine, config.reference, {})
    path = config.reference.path if config.reference.kind == "path" else config.model.path
    source = config.model.model_copy(update={"path": path})
    second = make_engine(frozen(source, engine.world), config, engine.world)[0]
    second.router_aux_coef = 0.0
    reference = Live.of(second, config.reference)  # before the cast, or its weights would start rounded
    model.cast_for_compute(second.policy)
    second.policy.module.requires_grad_(False)
    second.policy.module.eval()
    interval = "step" if config.reference.interval == 1 else f"{config.reference.interval} steps"
    moves = {
        "never": "stands still",
        "ema": f"follows the policy, {config.reference.share:g} of it after every step",
        "soft": f"takes {config.reference.share:g} of the policy every {interval}",
        "hard": f"becomes the policy every {interval}",
    }[config.reference.update]
    progress.note(f"reference: a second model in memory, {path}; it {moves}")
    return reference


def live_for_answers(prepared: Prepared, engine: Engine, progress: Progress) -> Live:
    """The model in memory that fresh answers are measured against, once; training steps take up what was measured
    where the reference stands still and the objective wants no whole distributions."""
    reference = live(prepared, engine, progress)
    reference.carried = prepared.run.reference.update == "never" and not prepared.mixture.needs("kl")
    return reference


def live_for_evaluation(
    prepared: Prepared, engine: Engine, reference: Stored | Live | None, progress: Progress
) -> Live | None:
    """The model in memory that an offline run's answers are measured against; None where the run has no reference."""
    if isinstance(reference, Live):
        return reference
    return None if prepared.run.reference.kind == "none" else live(prepared, engine, progress)


def stored(
    prepared: Prepared, engine: Engine, progress: Progress, log: RunLog, steps: int, end: int | None
) -> ReferenceStore:
    """Open the store and fill it, with the policy as it stands or with the other model the user named."""
    config, world = prepared.run, engine.world
    path = config.reference.path if config.reference.kind == "path" else config.model.path
    source = config.model.model_copy(update={"path": path})
    digest = world.lead(lambda: weights_hash(source))
    store = _open_store(prepared, digest, world)
    for note in store.notes:
        progress.note(note)
    chunks = reference_chunks(prepared, steps, end)
    groups = [group for chunk in chunks for group in chunk]
    if world.size > 1:
        store.take(world.lead(lambda: store.held(groups)))
    moved_on = config.reference.kind == "path" or config.run.resume  # the policy is not, or no longer, the reference
    if moved_on and store.missing(groups):
        engine = make_engine(frozen(source, world), config, world)[0]
        model.cast_for_compute(engine.policy)
    began = time.perf_counter()
    computed = fill(store, chunks, engine, progress.stage("reference log-probs"))
    seconds = time.perf_counter() - began
    taken = len({id(group) for group in groups}) - computed
    groups_computed = f"{computed} group{'s' * (computed != 1)} computed"
    progress.note(
        f"reference: {path} (weights {digest[:12]}), {config.model.dtype}; {groups_computed}, "
        f"{taken} taken from the store" + (f", {seconds:.1f} s" if computed else "")
    )
    log.write(ReferenceRecord(weights=digest, computed=computed, stored=taken, seconds=seconds))
    return store


def _open_store(prepared: Prepared, digest: str, world: World) -> ReferenceStore:
    """The store of log-probs of these weights as this run computes with them."""
    config = prepared.run
    quantized = "/nf4" if config.adapter.kind == "qlora" and config.reference.kind == "initial" else ""
    computed_in = f"{config.model.dtype}/{config.engine.float32_matmul_precision}{quantized}"
    return ReferenceStore(Path(config.reference.store), digest, computed_in, VERSION, on_disk=world.leads)


def reference_chunks(prepared: Prepared, steps: int, end: int | None) -> list[list[EncodedGroup]]:
    """The groups this run will meet, each once, divided as its steps will meet them; then those held out."""
    per_step, seen, chunks = prepared.run.optim.groups_per_step, set[int](), []
    for step in range(steps):
        indices = step_indices(step, len(prepared.train), per_step, prepared.run.seed, end)
        if not seen.issuperset(indices):
            chunks.append([prepared.train[i] for i in dict.fromkeys(indices)])
            seen.update(indices)
        if prepared.mixture.needs("mismatched"):
            chunks.append(mismatched([prepared.train[i] for i in indices], prepared.train))
    held = [prepared.evaluation]
    if prepared.mixture.needs("mismatched"):
        held.append(mismatched(prepared.evaluation, prepared.train))
    return chunks + [chunk for chunk in held if chunk]
