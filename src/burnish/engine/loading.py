"""Loading a policy: whole in a single process, or divided over several, from files or from the first process.

`Load` makes a model, given where its weights are to be: on the device, on the host, or nowhere yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from burnish.config import Run
from burnish.engine import adapters, canary, modalities, sharding
from burnish.engine.canary import Verdict
from burnish.engine.distributed import ALONE, World
from burnish.engine.engine import Engine
from burnish.engine.model import Policy
from burnish.engine.weights import Place
from burnish.errors import ModelError

USUAL_BUDGET = 8192  # tokens, where "auto" was asked of a verb that trains nothing
Load = Callable[[Place], Policy]


def load(
    world: World, make: Load, seed: int, *, straight: bool = True, tell: Callable[[str], None] = lambda line: None
) -> Policy:
    """The policy with its weights. With `straight` they may be read from the files row by row, as they are. `tell` gets
    the line for the user on how they were divided.

    Raises ModelError for what cannot be divided.
    """
    if world.size == 1:
        policy = make("device")
        adapters.initialise(policy.module, seed)
        _tell_unreached(policy, tell)
        return policy
    policy = make("nowhere")
    files = sharding.Files(_folder(policy.path))
    held = [*policy.module.named_parameters(remove_duplicate=False), *sharding.persistent(policy.base).items()]
    twins = {name for name, _ in held} - {name for name, _ in policy.module.named_parameters()}
    twins -= sharding.persistent(policy.base).keys()
    shapes = {_in_file(name): tensor.shape for name, tensor in held if name not in twins and not _adapter(name)}
    kind = policy.base.config.get_text_config().model_type
    as_they_lie = straight and not sharding.converted(kind) and files.hold(shapes, {_in_file(name) for name in twins})
    as_they_lie = all(world.gather(as_they_lie))
    full: dict[str, torch.Tensor] = {}
    if not as_they_lie and world.leads:
        policy = make("host")
        full = sharding.emptied(policy.module)
    else:
        sharding.emptied(policy.module)  # an adapter's weights are made with numbers
    sharding.shard(policy.base, policy.decoder, world, half=False)
    policy = replace(policy, sharded=True, anew=lambda: make("nowhere"))
    named = dict(policy.module.named_parameters())
    if len(set(world.gather(tuple(named)))) > 1:
        raise ModelError(f"{policy.path} is not the same model for all processes")
    if as_they_lie:
        for name, parameter in named.items():
            if not _adapter(name):
                files.fill(_in_file(name), parameter)
        for name, buffer in sharding.persistent(policy.base).items():
            buffer.copy_(files.whole(_in_file(name)))
    else:
        sharding.hand_out(named, full)
        values = world.lead(lambda: {name: buffer.cpu() for name, buffer in sharding.persistent(policy.base).items()})
        for name, buffer in sharding.persistent(policy.base).items():
            buffer.copy_(values[name])
    adapters.initialise(policy.module, seed)
    _tell_unreached(policy, tell)
    copies = world.mesh.size(0) if world.mesh.ndim > 1 else 1
    count = sum(parameter.numel() for parameter in named.values())
    how = "read by rows" if as_they_lie else "loaded by the first process and handed out"
    tell(
        f"processes: {world.size}, each with {count * copies / world.size / 1e6:.2f}M of the {count / 1e6:.2f}M "
        f"weights ({how})" + (f"; {copies} copies of them" if copies > 1 else "")
    )
    return policy


def _tell_unreached(policy: Policy, tell: Callable[[str], None]) -> None:
    if line := modalities.line(policy.base, adapted=policy.adapted):
        tell(line)


def for_compute(policy: Policy, verdict: Verdict, world: World) -> Policy:
    """The divided policy as it computes. In bfloat16 that is a new module around the same slices: FSDP fixes the type
    of the computation when it divides, and the layout was proved in float32. Frozen slices are kept in bfloat16."""
    policy.settle()
    if not policy.sharded or policy.dtype != torch.bfloat16:
        return policy
    assert policy.anew is not None
    frame = policy.anew()
    sharding.emptied(frame.module)
    trained = {name for name, _ in policy.trainable()}
    wide = trained if policy.adapted else trained | modalities.unreached_parameters(policy.base).keys()
    slices = dict(policy.module.named_parameters())
    sharding.shard(frame.base, frame.decoder, world, half=True)
    sharding.move_in(
        frame.module, {name: p if name in wide else p.detach().to(torch.bfloat16) for name, p in slices.items()}
    )
    for (_, source), (_, target) in zip(policy.base.named_buffers(), frame.base.named_buffers(), strict=True):
        target.copy_(source)
    frame.base._weight_conversions = policy.base._weight_conversions  # by which it is saved as the files were
    canary.adopt(frame, verdict)
    return replace(frame, sharded=True, folded=policy.folded)


def _folder(path: str) -> Path:
    folder = Path(path)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(path))


def _adapter(name: str) -> bool:
    return any(part.startswith("lora_") for part in name.split("."))


def _in_file(name: str) -> str:
    """A parameter's name in the model's files, without what peft adds to it."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def make_engine(policy: Policy, config: Run, world: World = ALONE) -> tuple[Engine, str]:
    """(an engine in the layout that the canary allows, proved before any cast; the line that tells the user why)."""
    verdict = canary.decide(policy, config.engine.layout)
    policy = for_compute(policy, verdict, world)
    pad = getattr(policy.base.config.get_text_config(), "pad_token_id", None)
    engine = Engine(
        policy,
        config.engine.token_budget if isinstance(config.engine.token_budget, int) else USUAL_BUDGET,
        shared=verdict.shared,
        plain_head=verdict.plain_head,
        pruned=verdict.pruned,
        pad_id=pad if isinstance(pad, int) and pad >= 0 else 0,
        router_aux_coef=config.model.router_aux_coef,
        world=world,
    )
    return engine, f"layout: {verdict.line}"
