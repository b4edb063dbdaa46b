"""Whether a model may share prompts: tried on the model itself at load, and refused unless everything agrees.

A wrong yes would be silent: recurrent layers leak a branch into the next, old classes never call the kernel, a window
is dropped. Three things are demanded on two tiny packs. The kernel is called in every layer. Packed log-probs equal
those of the stock forward on each sequence alone. Changing a branch leaves its sibling unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.engine import attention, prune
from burnish.engine.engine import Engine
from burnish.engine.model import Policy
from burnish.errors import ModelError
from burnish.group import EncodedGroup, Unjudged
from burnish.tensors import wide, wide_type

ATTENTION_KINDS = {"full_attention", "sliding_attention"}
TOLERANCE = 2e-4  # nats per token, float32; a wrong layout is off by tenths


@dataclass(frozen=True)
class Verdict:
    """How a model is to be run, and the line that tells the user why."""

    shared: bool
    plain_head: bool
    line: str
    pruned: bool = False


def decide(policy: Policy, layout: str) -> Verdict:
    """Choose the layout of a freshly loaded model (float32 or float64, before casting). `layout` is `engine.layout`.

    Raises ModelError when the user demands the shared layout of a model that cannot have it, or when not even the
    padded path reproduces the stock forward.
    """
    reason = "asked for" if layout == "padded" else static_screen(policy)
    if reason is None:
        reason = _try_shared(policy)
        if reason is None:
            line = "prompts are computed once and shared by their completions (proved on this model)"
            return Verdict(True, False, line, _try_pruned(policy))
    if layout == "shared":
        raise ModelError(f"engine.layout = 'shared': this model cannot share prompts: {reason}")
    for plain_head in (False, True):
        error = _disagreement(Engine(policy, 1 << 20, shared=False, plain_head=plain_head))
        if error <= tolerance(policy):
            head = "; its head runs unfused, through the stock forward" if plain_head else ""
            return Verdict(False, plain_head, f"completions run as separate padded rows ({reason}){head}")
    raise ModelError(f"{policy.path}: log-probs differ from the model's own forward by {error:.2g} nats; not trained")


def adopt(policy: Policy, verdict: Verdict) -> None:
    """Give a new instance of the same model the layout that was decided."""
    if verdict.shared:
        attention.register()
        policy.base.set_attn_implementation(attention.NAME)
    layer = prune.last_layer(policy.decoder) if verdict.pruned else None
    if layer is not None:
        prune.install(layer)


def tolerance(policy: Policy) -> float:
    """Nats per token by which two kernels may differ. A quantised base computes in bfloat16, whose rounding shows."""
    half = policy.base.get_input_embeddings().weight.dtype in (torch.bfloat16, torch.float16)
    return 0.1 if half else TOLERANCE


def static_screen(policy: Policy) -> str | None:
    """Why this model cannot share prompts, as far as its configuration tells; None where it may."""
    config = policy.base.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or [])
    if kinds - ATTENTION_KINDS:
        return f"it has {', '.join(sorted(kinds - ATTENTION_KINDS))} layers, which would leak between completions"
    if getattr(config, "attention_chunk_size", None):
        return "it attends in chunks"
    if getattr(policy.base, "_is_stateful", False) or any(
        getattr(m, "_is_stateful", False) for m in policy.base.modules()
    ):
        return "it is recurrent"
    return None


def _try_shared(policy: Policy) -> str | None:
    """Try the shared layout: None where it is proved, else the reason, with the stock attention put back."""
    attention.register()
    try:
        policy.base.set_attn_implementation(attention.NAME)
        reason = _prove(policy)
    except (ModelError, ValueError, TypeError, RuntimeError, AttributeError, KeyError) as error:
        reason = f"its attention cannot be replaced: {str(error).strip().splitlines()[0] if str(error) else error!r}"
    if reason is not None:
        policy.base.set_attn_implementation(policy.stock_attention)
    return reason


def _try_pruned(policy: Policy) -> bool:
    """Whether the last layer may drop the rows that predict nothing: its shape is known, and the proof holds again."""
    layer = prune.last_layer(policy.decoder)
    if layer is None:
        return False
    prune.install(layer)
    try:
        if _prove(policy, pruned=True) is None:
            return True
    except (ValueError, TypeError, RuntimeError, AttributeError, KeyError):
        pass  # a layer of another kind; its forward is put back below
    prune.remove(layer)
    return False


def _prove(policy: Policy, *, pruned: bool = False) -> str | None:
    config = policy.base.config.get_text_config()
    engine = Engine(policy, 1 << 20, pruned=pruned)
    groups = probes(policy)
    packed, completion_of = numbers(engine, groups)
    layers = int(getattr(config, "num_hidden_layers", 1))
    calls = engine.last_layout.calls if engine.last_layout else 0
    if calls < layers:
        return f"only {calls} of its {layers} layers use the replaceable attention"
    window = getattr(config, "sliding_window", None)
    if window and engine.last_layout and engine.last_layout.windows == {None}:
        return f"its sliding window of {window} never reaches the replaceable attention"
    changed = [_with_first_branch_changed(groups[0]), *groups[1:]]
    moved, _ = numbers(engine, changed)
    sibling = (completion_of == 1).nonzero()[:, 0]
    leak = (packed[sibling] - moved[sibling]).abs().max().item()
    if leak > 1e-5:
        return f"one completion changes another's log-probs by {leak:.2g} nats"
    with policy.stock():
        expected = stock_numbers(policy, groups)
    error = (packed - expected).abs().max().item()
    return None if error <= tolerance(policy) else f"packed log-probs differ from the plain forward by {error:.2g} nats"


def _disagreement(engine: Engine) -> float:
    groups = probes(engine.policy)
    try:
        return float((numbers(engine, groups)[0] - stock_numbers(engine.policy, groups)).abs().max())
    except (ValueError, TypeError, RuntimeError, AttributeError, KeyError):
        return float("inf")


def probes(policy: Policy) -> list[EncodedGroup]:
    """Two small groups of pseudo-random tokens: unequal lengths, branches that share a first token, K = 3 and 1."""
    vocabulary = policy.base.get_input_embeddings().weight.shape[0]
    draw = torch.Generator().manual_seed(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, vocabulary, (n,), generator=draw).tolist())

    first = ids(1)
    branches = (first + ids(6), first + ids(3), ids(1))
    shape = [(ids(9), branches), (ids(4), (ids(5),))]
    return [EncodedGroup(str(i), p, c, (True,) * len(c), Unjudged()) for i, (p, c) in enumerate(shape)]


def _with_first_branch_changed(group: EncodedGroup) -> EncodedGroup:
    first = (group.completion_ids[0][0], *reversed(group.completion_ids[1]), *group.completion_ids[0][1:])[:7]
    return EncodedGroup(group.id, group.prompt_ids, (first, *group.completion_ids[1:]), group.ended, group.feedback)


def numbers(engine: Engine, groups: list[EncodedGroup]) -> tuple[Tensor, Tensor]:
    """(log-probs of every completion token, or rewards of every completion; the completion that each belongs to)."""
    with torch.no_grad():
        (batch,) = engine.plan(groups)
        values = engine.reward(batch)[0] if engine.policy.scalar else engine.score(batch).logps
    return values, batch.completion_of.to(values.device)


def stock_numbers(policy: Policy, groups: list[EncodedGroup]) -> Tensor:
    """`numbers` by the model's stock forward, each prompt + completion alone."""
    if not policy.scalar:
        return stock_logps(policy, groups)
    ids = [(*group.prompt_ids, *completion) for group in groups for completion in group.completion_ids]
    with torch.no_grad():
        rows = [policy.base(input_ids=torch.tensor([row], device=policy.device)).logits[0, 0] for row in ids]
    return torch.stack(rows).to(wide_type(policy.dtype))


def stock_logps(policy: Policy, groups: list[EncodedGroup]) -> Tensor:
    """Log-probs by the model's stock forward and its logits, each prompt + completion alone: the oracle."""
    out = []
    with torch.no_grad():
        for group in groups:
            for completion in group.completion_ids:
                ids = torch.tensor([[*group.prompt_ids, *completion]], device=policy.device)
                logits = wide(policy.base(input_ids=ids, use_cache=False).logits[0])
                rows = logits[len(group.prompt_ids) - 1 : -1].log_softmax(-1)
                out.append(rows.gather(1, torch.tensor(completion, device=policy.device)[:, None])[:, 0])
    return torch.cat(out)
