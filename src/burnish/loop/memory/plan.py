"""What a run will need, before it starts: bytes by what they are for, operations and seconds a step, and what to change
where it does not fit. No weights are loaded: shapes come from the model's configuration (see `footprint.py`).
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from burnish.config import Run
from burnish.data import prompts
from burnish.engine import attention, canary, distributed, model, reward_model, sharding
from burnish.engine.distributed import World
from burnish.engine.pack import rows_needed
from burnish.errors import ConfigError
from burnish.group import EncodedGroup, Unjudged
from burnish.loop import prepare
from burnish.loop.memory.devices import GIB, Device, free_memory
from burnish.loop.memory.footprint import Footprint, footprint
from burnish.loop.prepare import Prepared

QUANTIZED = 0.5625  # bytes of a 4-bit weight: half a byte, and a float32 scale for every 64 of them
GRAIN = 256  # token budgets are multiples of it
CPU_SHARE = 0.8  # of the memory that is free on a machine without a GPU
ASSUMED = (256, 256, 2)  # prompt and completion tokens, completions, where the data is not known


@dataclass(frozen=True)
class Survey:
    """Of a run, all that its memory and time follow from."""

    run: Run
    trained: int  # parameters with gradient
    frozen: int
    outside: int  # parameters outside the transformer layers
    layer: int  # parameters of the largest layer
    foot: Footprint  # of one microbatch
    step_tokens: float  # input tokens of a step, all its groups
    longest: int  # input tokens of the longest group
    passes: int  # forward passes without gradient beside the policy's own: a live reference, a first look at the step
    line: str  # what the groups were taken from

    @property
    def width(self) -> int:
        """Bytes of a number in the computation."""
        return {"bfloat16": 2, "float32": 4, "float64": 8}[self.run.model.dtype]

    @property
    def wide(self) -> int:
        """Bytes of a number in the optimiser."""
        return max(4, self.width)


@dataclass(frozen=True)
class Plan:
    """Bytes of one process, by what they are for; operations and seconds of a step."""

    parts: dict[str, int]
    budget: int  # input tokens of a microbatch
    operations: float  # a step, all processes together
    seconds: float

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def survey(run: Run, ready: Prepared | None = None, *, fused: bool) -> Survey:
    """Look at a run's model and data. `fused`: for a GPU. Raises BurnishError for what the run itself would refuse."""
    groups, line = _groups(run, ready)
    mixture = prepare.mixture_of(run)
    policy = _shapes(run, scalar=mixture.needs("scalar"))
    shared = run.engine.layout != "padded" and canary.static_screen(policy) is None
    if shared:
        attention.register()
        policy.base.set_attn_implementation(attention.NAME)
    sizes = [rows_needed(group, shared=shared, whole=policy.scalar) for group in groups]
    longest = max(sizes)
    budget = max(longest, run.engine.token_budget if isinstance(run.engine.token_budget, int) else 8192)
    foot = footprint(policy, list(_filling(groups, sizes, budget)), shared=shared, fused_attention=fused)
    foot = foot.in_type(model.DTYPES[run.model.dtype].itemsize // policy.dtype.itemsize)
    layers = sharding.blocks(policy.decoder, int(policy.base.config.get_text_config().num_hidden_layers))
    inside = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    trained = sum(p.numel() for _, p in policy.trainable())
    every = sum(p.numel() for p in policy.module.parameters())
    live = mixture.needs("reference") and (_live(run) or mixture.needs("kl"))
    first = mixture.needs("step") or mixture.needs("mismatched")
    return Survey(
        run, trained, every - trained, every - sum(inside), max(inside), foot,
        sum(sizes) / len(sizes) * run.optim.groups_per_step, longest, int(live) + int(first) * (1 + int(live)), line,
    )  # fmt: skip


def _live(run: Run) -> bool:
    fresh = run.dialled and not run.once
    return run.reference.update != "never" or run.reference.scores == "live" or fresh


def _groups(run: Run, ready: Prepared | None) -> tuple[Sequence[EncodedGroup], str]:
    """The groups of the run's own data, or such as are assumed."""
    if ready is None and (run.data.train or run.source.prompts):
        ready = prepare.prepare(run)
    if ready is not None and ready.asked:
        most = run.source.max_new_tokens
        line = f"data: {len(ready.asked)} prompts, {run.source.k} answers each of at most {most} tokens"
        return [prompts.longest_group(run, [one]) for one in ready.asked], line
    if ready is not None:
        return ready.train, f"data: {len(ready.train)} groups of {run.data.train}"
    prompt, answer, count = ASSUMED
    ids = ((0,) * answer,) * count
    line = f"data: not given; assumed are prompts of {prompt} tokens and {count} answers of {answer}"
    return [EncodedGroup("assumed", (0,) * prompt, ids, (True,) * count, Unjudged())], line


def _filling(groups: Sequence[EncodedGroup], sizes: Sequence[int], budget: int) -> Iterator[EncodedGroup]:
    """Groups as they come, over and over, until a microbatch is full."""
    used = number = 0
    while used + sizes[number % len(groups)] <= budget:
        yield groups[number % len(groups)]
        used += sizes[number % len(groups)]
        number += 1
    if not used:
        yield max(groups, key=lambda group: len(group.prompt_ids) + sum(map(len, group.completion_ids)))


def _shapes(run: Run, *, scalar: bool) -> model.Policy:
    """The run's model on the meta device, in the types it computes in. Quantised weights stand as plain ones."""
    adapter = run.adapter.model_copy(update={"kind": "lora"}) if run.adapter.kind == "qlora" else run.adapter
    if scalar:
        base = model.load_base(run.model, quantize=False, scalar=True, place="nowhere")
        reward_model.require_head(base, run.model.path)
        module = base if adapter.kind == "none" else model.add_adapter(base, adapter, scalar=True)
        policy = model.Policy(module, base, run.model.path, model.DTYPES[run.model.dtype], "sdpa", scalar=True)
        if run.reward.train == "head":
            reward_model.train_head_only(module)
    else:
        policy = model.load_policy(run.model, adapter, place="nowhere")
    policy.module.to("meta")
    if getattr(policy.base.config.get_text_config(), "num_experts_per_tok", None):
        policy.dtype = torch.bfloat16  # on shapes the experts' grouped product knows no other type
    model.cast_for_compute(policy)
    policy.module.train()
    return policy


def plan(found: Survey, device: Device, *, shard: int = 1, replicate: int = 1, mfu: float = 0.4) -> Plan:
    """Bytes of each process and seconds a step. `mfu`: the share of the device's speed that needed products reach."""
    run = found.run
    budget = max(found.longest, run.engine.token_budget if isinstance(run.engine.token_budget, int) else 0)
    if run.engine.token_budget == "auto":
        budget = largest_budget(found, device.usable, shard=shard)
    share = -(-int(found.step_tokens) // (shard * replicate))  # no microbatch is larger than a process's share
    budget = min(budget, max(found.longest, share))
    parts = fixed_bytes(found, shard)
    parts["activations"] = activation_bytes(found, budget)
    checkpointing = run.engine.gradient_checkpointing
    one = found.foot.operations(checkpointing=checkpointing, passes=found.passes)
    operations = one * found.step_tokens / found.foot.tokens
    return Plan(parts, budget, operations, operations / (device.speed * mfu * shard * replicate))


def fixed_bytes(found: Survey, shard: int = 1) -> dict[str, int]:
    """What does not depend on the token budget, of one of `shard` processes.

    One process in bfloat16 keeps weights to compute with (2 bytes) beside float32 masters (4); divided weights are the
    masters, and two layers and the root at a time are put together in the type of the computation.
    """
    run, trained, frozen = found.run, found.trained, found.frozen
    divided, half = shard > 1, found.width == 2
    small = QUANTIZED if run.adapter.kind == "qlora" else float(found.width)
    outside = min(found.outside, frozen)  # an adapter leaves embedding and head alone, and 4 bits are for the layers
    frozen_bytes = outside * found.width + (frozen - outside) * small
    own = found.wide if divided else found.width
    parts = {
        "weights": (trained * own + frozen_bytes) / shard,
        "float32 masters": trained * 4 if half and not divided else 0,
        "gradients": trained * found.wide / shard,
        "optimiser": 2 * trained * found.wide / shard,
        "reference": reference_bytes(found, shard),
    }
    if divided:
        whole = (found.outside + 2 * found.layer) * found.width
        grads = (found.outside + found.layer) * (found.width + 4) if not frozen else 0
        parts["layers put together"] = whole + grads
    return {name: int(value) for name, value in parts.items()}


def reference_bytes(found: Survey, shard: int = 1) -> float:
    """A second model in memory, where the reference is live and no adapter is there to be switched off."""
    run = found.run
    mixture = prepare.mixture_of(run)
    if not mixture.needs("reference") or not (_live(run) or mixture.needs("kl")):
        return 0.0
    if run.adapter.kind != "none" and run.reference.kind == "initial":
        return 0.0
    count = found.trained + found.frozen if run.adapter.kind == "none" else found.frozen
    moving = found.wide if run.reference.update != "never" else 0  # kept in float32, or small steps would be lost
    return count * ((found.wide if shard > 1 else found.width) + moving) / shard


def activation_bytes(found: Survey, budget: int) -> int:
    """Of a microbatch of `budget` input tokens; in proportion to the one that was looked at."""
    return found.foot.at(budget).activations(checkpointing=found.run.engine.gradient_checkpointing)


def largest_budget(found: Survey, memory: int, *, shard: int = 1) -> int:
    """The largest token budget, in grains of 256, that fits into so many bytes; no larger than a step has use for.

    Raises ConfigError where not even the longest group fits.
    """
    room = memory - sum(fixed_bytes(found, shard).values())
    lacking = activation_bytes(found, found.longest) - room
    if lacking > 0:
        raise ConfigError(
            f"engine.token_budget = 'auto': {lacking / GIB:.2f} GiB are missing for the longest group alone "
            f"({found.longest} tokens). `burnish plan` with the same settings says what to change"
        )
    grains = range(1, -(-max(found.longest, int(found.step_tokens)) // GRAIN) + 1)
    fitting = bisect.bisect_right(grains, room, key=lambda n: activation_bytes(found, n * GRAIN))
    return max(fitting * GRAIN, found.longest)


def settled(ready: Prepared, world: World) -> Prepared:
    """The run with `engine.token_budget = "auto"` turned into a number; a line says which and why."""
    run = ready.run
    if run.engine.token_budget != "auto":
        return ready
    cuda = torch.cuda.is_available()
    found = survey(run, ready, fused=cuda)
    memory = free_memory()
    if not cuda:  # the machine's memory is everybody's
        memory = int(memory * CPU_SHARE) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    shards = distributed.shape(run, world.size)[1]
    budget = min(world.gather(largest_budget(found, memory, shard=shards)))
    line = f"engine.token_budget = auto: {budget} tokens, by the plan for {memory / GIB:.1f} GiB of free memory"
    return replace(ready, run=_engine(run, token_budget=budget), lines=[*ready.lines, line])


def advice(found: Survey, device: Device, *, shard: int = 1) -> list[tuple[str, int]]:
    """What would make the run smaller, the cheapest first: (what to do, bytes of a process that remain)."""
    run = found.run
    changes: list[tuple[str, Survey, int]] = []
    still = run.reference.update == "never" and (run.once or not run.dialled)  # a data set, and a reference that stands
    if found.passes and _live(run) and still and not prepare.mixture_of(run).needs("kl"):
        stored = run.reference.model_copy(update={"scores": "stored"})
        other = run.model_copy(update={"reference": stored})
        changes.append(
            ("reference.scores = 'stored': log-probs computed once, no second model", replace(found, run=other), shard)
        )
    if not run.engine.gradient_checkpointing:
        other = _engine(run, gradient_checkpointing=True)
        changes.append(
            ("engine.gradient_checkpointing = true: about a third more time", replace(found, run=other), shard)
        )
    try:
        fits = largest_budget(found, device.usable, shard=shard)
    except ConfigError:
        fits = found.longest
    if isinstance(run.engine.token_budget, int) and fits < run.engine.token_budget:
        changes.append(
            (
                f"engine.token_budget = {fits}: the result stays the same",
                replace(found, run=_engine(run, token_budget=fits)),
                shard,
            )
        )
    if run.adapter.kind == "none" and not prepare.mixture_of(run).needs("scalar"):
        lora = run.model_copy(update={"adapter": run.adapter.model_copy(update={"kind": "lora"})})
        changes.append(
            ("adapter.kind = 'lora': trains a small part of the weights", survey(lora, None, fused=device.fused), shard)
        )
    parts = next(
        (n for n in (2, 4, 8, 16, 32, 64) if n > shard and plan(found, device, shard=n).total <= device.usable), 0
    )
    if parts:
        changes.append((f"divide the weights over {parts} processes (torchrun --nproc-per-node {parts})", found, parts))
    now = plan(found, device, shard=shard).total
    results = [(words, plan(other, device, shard=n).total) for words, other, n in changes]
    return [(words, total) for words, total in results if total < now]


def _engine(run: Run, **changed: object) -> Run:
    return run.model_copy(update={"engine": run.engine.model_copy(update=changed)})
