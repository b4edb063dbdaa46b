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
from burnish.engine import canary, distributed, sharding, weights
from burnish.engine.distributed import World
from burnish.engine.pack import rows_needed
from burnish.errors import ConfigError
from burnish.findings import counted
from burnish.group import EncodedGroup, Unjudged
from burnish.loop.memory.devices import GIB, Device, free_memory
from burnish.loop.memory.footprint import Footprint, footprint, shapes_of, with_shared_prompts
from burnish.loop.prepare import Prepared, prepare
from burnish.loop.refusals import mixture_of
from burnish.objectives.mixture import Mixture

QUANTIZED = 0.5625  # bytes of a 4-bit weight: half a byte, and a float32 scale for every 64 of them
GRAIN = 256  # token budgets are multiples of it
CPU_SHARE = 0.8  # of the memory that is free on a machine without a GPU
ASSUMED = (256, 256, 2)  # prompt and completion tokens, completions, where the data is not known


@dataclass(frozen=True)
class Survey:
    """Of a run, all that its memory and time follow from."""

    run: Run
    mixture: Mixture
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


def survey(run: Run, prepared: Prepared | None = None, *, fused: bool) -> Survey:
    """Look at a run's model and data. `fused`: for a GPU. Raises BurnishError for what the run itself would refuse."""
    groups, line = _groups(run, prepared)
    mixture = prepared.mixture if prepared is not None else mixture_of(run)
    policy = shapes_of(run, scalar=mixture.needs("scalar"))
    shared = run.engine.layout != "padded" and canary.static_screen(policy) is None
    if shared:
        with_shared_prompts(policy)
    sizes = [rows_needed(group, shared=shared, whole=policy.scalar) for group in groups]
    longest = max(sizes)
    budget = max(longest, run.engine.token_budget if isinstance(run.engine.token_budget, int) else 8192)
    foot = footprint(policy, list(_filling(groups, sizes, budget)), shared=shared, fused_attention=fused)
    foot = foot.in_type(weights.DTYPES[run.model.dtype].itemsize // policy.dtype.itemsize)
    layers = sharding.blocks(policy.decoder, int(policy.base.config.get_text_config().num_hidden_layers))
    inside = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    trained = sum(p.numel() for _, p in policy.trainable())
    every = sum(p.numel() for p in policy.module.parameters())
    live = mixture.needs("reference") and (_live(run) or mixture.needs("kl"))
    first = mixture.needs("step") or mixture.needs("mismatched")
    return Survey(
        run, mixture, trained, every - trained, every - sum(inside), max(inside), foot,
        sum(sizes) / len(sizes) * run.optim.groups_per_step, longest, int(live) + int(first) * (1 + int(live)), line,
    )  # fmt: skip


def _live(run: Run) -> bool:
    fresh = run.sampled and not run.sampled_once
    return run.reference.update != "never" or run.reference.scores == "live" or fresh


def _groups(run: Run, prepared: Prepared | None) -> tuple[Sequence[EncodedGroup], str]:
    """The groups of the run's own data, or such as are assumed."""
    if prepared is None and (run.data.train or run.source.prompts):
        prepared = prepare(run)
    if prepared is not None and prepared.prompts:
        most = run.source.max_new_tokens
        asked, each = counted(len(prepared.prompts), "prompt"), counted(run.source.k, "answer")
        line = f"data: {asked}, {each} each of at most {most} tokens"
        return [prompts.longest_group(run, [prompt]) for prompt in prepared.prompts], line
    if prepared is not None:
        return prepared.train, f"data: {counted(len(prepared.train), 'group')} of {run.data.train}"
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


def plan(size: Survey, device: Device, *, shard: int = 1, replicate: int = 1, mfu: float = 0.4) -> Plan:
    """Bytes of each process and seconds a step. `mfu`: the share of the device's speed that needed products reach."""
    run = size.run
    budget = max(size.longest, run.engine.token_budget if isinstance(run.engine.token_budget, int) else 0)
    if run.engine.token_budget == "auto":
        budget = largest_budget(size, device.usable, shard=shard)
    share = -(-int(size.step_tokens) // (shard * replicate))  # no microbatch is larger than a process's share
    budget = min(budget, max(size.longest, share))
    parts = fixed_bytes(size, shard)
    parts["activations"] = activation_bytes(size, budget)
    checkpointing = run.engine.gradient_checkpointing
    of_microbatch = size.foot.operations(checkpointing=checkpointing, passes=size.passes)
    operations = of_microbatch * size.step_tokens / size.foot.tokens
    return Plan(parts, budget, operations, operations / (device.speed * mfu * shard * replicate))


def fixed_bytes(size: Survey, shard: int = 1) -> dict[str, int]:
    """What does not depend on the token budget, of one of `shard` processes.

    One process in bfloat16 keeps weights to compute with (2 bytes) beside float32 masters (4); divided weights are the
    masters, and two layers and the root at a time are put together in the type of the computation.
    """
    run, trained, frozen = size.run, size.trained, size.frozen
    divided, half = shard > 1, size.width == 2
    small = QUANTIZED if run.adapter.kind == "qlora" else float(size.width)
    outside = min(size.outside, frozen)  # an adapter leaves embedding and head alone, and 4 bits are for the layers
    frozen_bytes = outside * size.width + (frozen - outside) * small
    width = size.wide if divided else size.width
    parts = {
        "weights": (trained * width + frozen_bytes) / shard,
        "float32 masters": trained * 4 if half and not divided else 0,
        "gradients": trained * size.wide / shard,
        "optimiser": 2 * trained * size.wide / shard,
        "reference": reference_bytes(size, shard),
    }
    if divided:
        gathered = (size.outside + 2 * size.layer) * size.width
        grads = (size.outside + size.layer) * (size.width + 4) if not frozen else 0
        parts["layers put together"] = gathered + grads
    return {name: int(value) for name, value in parts.items()}


def reference_bytes(size: Survey, shard: int = 1) -> float:
    """A second model in memory, where the reference is live and no adapter is there to be switched off."""
    run = size.run
    mixture = size.mixture
    if not mixture.needs("reference") or not (_live(run) or mixture.needs("kl")):
        return 0.0
    if run.adapter.kind != "none" and run.reference.kind == "initial":
        return 0.0
    count = size.trained + size.frozen if run.adapter.kind == "none" else size.frozen
    moving = size.wide if run.reference.update != "never" else 0  # kept in float32, or small steps would be lost
    return count * ((size.wide if shard > 1 else size.width) + moving) / shard


def activation_bytes(size: Survey, budget: int) -> int:
    """Of a microbatch of `budget` input tokens; in proportion to the one that was looked at."""
    return size.foot.at(budget).activations(checkpointing=size.run.engine.gradient_checkpointing)


def largest_budget(size: Survey, memory: int, *, shard: int = 1) -> int:
    """The largest token budget, in grains of 256, that fits into so many bytes; no larger than a step has use for.

    Raises ConfigError where not even the longest group fits.
    """
    room = memory - sum(fixed_bytes(size, shard).values())
    lacking = activation_bytes(size, size.longest) - room
    if lacking > 0:
        raise ConfigError(
            f"engine.token_budget = 'auto': {lacking / GIB:.2f} GiB are missing for the longest group alone "
            f"({size.longest} tokens). `burnish plan` with the same settings says what to change"
        )
    grains = range(1, -(-max(size.longest, int(size.step_tokens)) // GRAIN) + 1)
    fitting = bisect.bisect_right(grains, room, key=lambda n: activation_bytes(size, n * GRAIN))
    return max(fitting * GRAIN, size.longest)


def with_planned_budget(prepared: Prepared, world: World) -> Prepared:
    """The run with `engine.token_budget = "auto"` turned into a number; a line says which and why."""
    run = prepared.run
    if run.engine.token_budget != "auto":
        return prepared
    cuda = torch.cuda.is_available()
    size = survey(run, prepared, fused=cuda)
    memory = free_memory()
    if not cuda:  # the machine's memory is everybody's
        memory = int(memory * CPU_SHARE) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    shards = distributed.shape(run, world.size)[1]
    budget = min(world.gather(largest_budget(size, memory, shard=shards)))
    line = f"engine.token_budget = auto: {budget} tokens, by the plan for {memory / GIB:.1f} GiB of free memory"
    return replace(prepared, run=_engine(run, token_budget=budget), lines=[*prepared.lines, line])


def advice(size: Survey, device: Device, *, shard: int = 1) -> list[tuple[str, int]]:
    """What would make the run smaller, the cheapest first: (what to do, bytes of a process that remain)."""
    run = size.run
    changes: list[tuple[str, Survey, int]] = []
    still = run.reference.update == "never" and (run.sampled_once or not run.sampled)  # a data set, a fixed reference
    if size.passes and _live(run) and still and not size.mixture.needs("kl"):
        stored = run.reference.model_copy(update={"scores": "stored"})
        other = run.model_copy(update={"reference": stored})
        changes.append(
            ("reference.scores = 'stored': log-probs computed once, no second model", replace(size, run=other), shard)
        )
    if not run.engine.gradient_checkpointing:
        other = _engine(run, gradient_checkpointing=True)
        changes.append(
            ("engine.gradient_checkpointing = true: about a third more time", replace(size, run=other), shard)
        )
    try:
        fits = largest_budget(size, device.usable, shard=shard)
    except ConfigError:
        fits = size.longest
    if isinstance(run.engine.token_budget, int) and fits < run.engine.token_budget:
        changes.append(
            (
                f"engine.token_budget = {fits}: the result stays the same",
                replace(size, run=_engine(run, token_budget=fits)),
                shard,
            )
        )
    if run.adapter.kind == "none" and not size.mixture.needs("scalar"):
        lora = run.model_copy(update={"adapter": run.adapter.model_copy(update={"kind": "lora"})})
        changes.append(
            ("adapter.kind = 'lora': trains a small part of the weights", survey(lora, None, fused=device.fused), shard)
        )
    processes = next(
        (n for n in (2, 4, 8, 16, 32, 64) if n > shard and plan(size, device, shard=n).total <= device.usable), 0
    )
    if processes:
        how = f"divide the weights over {processes} processes (torchrun --nproc-per-node {processes})"
        changes.append((how, size, processes))
    now = plan(size, device, shard=shard).total
    results = [(words, plan(other, device, shard=n).total) for words, other, n in changes]
    return [(words, total) for words, total in results if total < now]


def _engine(run: Run, **changed: object) -> Run:
    return run.model_copy(update={"engine": run.engine.model_copy(update=changed)})
