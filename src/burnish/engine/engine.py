"""PackedBatch x model -> per-token log-probs. One forward a microbatch; only predicting rows reach the head.

Whether the model may use the shared layout is decided at load (`canary.py` proves it on the model itself). From then on
the layout is invisible: both layouts come in as `PackedBatch` and leave as log-probs in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from burnish.engine import attention
from burnish.engine.distributed import ALONE, World
from burnish.engine.divergence import HeadInput, kl_from_reference
from burnish.engine.logprob import log_square_sums, token_logprobs
from burnish.engine.model import Policy
from burnish.engine.pack import pack, rows_needed
from burnish.engine.prune import kept_rows
from burnish.group import EncodedGroup, Unjudged
from burnish.tensors import PackedBatch, ScalarScores, TokenScores, wide, wide_type

VERSION = 1  # part of the reference store's key: raise it when a change of the engine can change a log-prob


class ForwardPass(NamedTuple):
    """What a forward pass over a microbatch gives, by completion token unless a field names another shape."""

    logps: Tensor  # [tokens], nats, with gradient
    aux: Tensor | None = None  # the router loss of a mixture of experts: one number, a sum over the groups
    square: Tensor | None = None  # [tokens], log sum_v p(v)^2, where asked for
    kl: Tensor | None = None  # [tokens], KL(reference || policy), where asked for
    values: Tensor | None = None  # [tokens], of a value head


@runtime_checkable
class Critic(Protocol):
    """A value head: a number for every row that predicts a completion token, float32, with gradient."""

    def __call__(self, hidden: Tensor, batch: PackedBatch) -> Tensor: ...


@dataclass
class Engine:
    """Scores packed batches with a model."""

    policy: Policy
    token_budget: int  # the largest number of input tokens in a forward pass
    shared: bool = True  # the layout: shared prompts, or padded rows
    plain_head: bool = False  # the model's stock head instead of the fused one
    pruned: bool = False  # the last layer drops the rows that predict nothing
    pad_id: int = 0
    router_aux_coef: float = 0.0  # weight of a mixture of experts' router loss; 0 leaves it out
    world: World = ALONE
    temperature: float = 1.0  # divides the logits: the policy is then what a sampler at that temperature draws from
    critic: Critic | None = None  # a value head
    last_layout: attention.Layout | None = field(default=None, init=False)  # the canary reads its call count

    def plan(self, groups: Sequence[EncodedGroup]) -> list[PackedBatch]:
        """This process's microbatches of a step's groups; `group_index` counts over all groups of the step.

        Every process has the same number of microbatches, the last of them idle where it has fewer groups: each pass
        needs the weights of all processes.
        """
        indices = self.share(groups)
        batches = [
            replace(batch, group_index=tuple(indices[i] for i in batch.group_index))
            for batch in self._pack([groups[i] for i in indices])
        ]
        most = max(self.world.gather(len(batches)))
        return batches + [self._idle(groups[0])] * (most - len(batches))

    def share(self, groups: Sequence[EncodedGroup]) -> list[int]:
        """Indices of the groups that fall to this process, by their tokens."""
        return self.world.share([rows_needed(group, shared=self.shared) for group in groups])

    def smallest(self, groups: Sequence[EncodedGroup]) -> bool:
        """Whether a smaller token budget would divide these groups no further."""
        return len(self._pack(groups)) == len(groups)

    def _pack(self, groups: Sequence[EncodedGroup]) -> list[PackedBatch]:
        skip = frozenset(self.policy.pooled_over) if self.policy.scalar else None
        return pack(groups, self.token_budget, shared=self.shared, pad_id=self.pad_id, pooled_over=skip)

    def _idle(self, group: EncodedGroup) -> PackedBatch:
        few = group.prompt_ids[:1] or (0,)
        (batch,) = self._pack([EncodedGroup("", few, (few * 2,), (True,), Unjudged())])
        return replace(batch, group_index=())

    def score(self, batch: PackedBatch, *, square: bool = False, reference: HeadInput | None = None) -> ForwardPass:
        """Log-probs of every completion token, in nats, float32; the KL is taken from `reference` where it is given."""
        batch = to_device(batch, self.policy.device)
        if self.plain_head:
            return self._plain(batch, square, reference)
        scored: ForwardPass = self.policy.within(self._fused, batch, square, reference)
        return scored

    def _fused(self, batch: PackedBatch, square: bool, reference: HeadInput | None) -> ForwardPass:
        head, aux = self.head_input(batch)
        logps = token_logprobs(head.hidden, head.weight, batch.targets, head.bias, head.transform)
        squares = log_square_sums(head.hidden, head.weight, head.bias, head.transform) if square else None
        kl = None if reference is None else kl_from_reference(head, reference)
        return ForwardPass(logps, aux, squares, kl, None if self.critic is None else self.critic(head.hidden, batch))

    def head_and_values(self, batch: PackedBatch) -> tuple[HeadInput, Tensor | None]:
        """(the head's input, the critic's values where there is a critic), by completion token."""
        both: tuple[HeadInput, Tensor | None] = self.policy.within(self._head_and_values, batch)
        return both

    def _head_and_values(self, batch: PackedBatch) -> tuple[HeadInput, Tensor | None]:
        head = self.head_input(batch)[0]
        return head, None if self.critic is None else self.critic(head.hidden, batch)

    def score_reference(self, batch: PackedBatch) -> Tensor:
        """Log-probs by the initial policy (adapter switched off), without gradient."""
        with torch.no_grad(), self.policy.as_reference():
            return self.score(batch).logps

    def reference_head(self, batch: PackedBatch) -> HeadInput:
        """The head's input under the initial policy (adapter switched off), without gradient."""
        with torch.no_grad(), self.policy.as_reference():
            head: HeadInput = self.policy.within(self.head_input, to_device(batch, self.policy.device))[0]
        return head

    def reward(self, batch: PackedBatch) -> tuple[Tensor, Tensor | None]:
        """(rewards [completions], float32; the router loss)."""
        rewards, aux = self.policy.within(self._reward, to_device(batch, self.policy.device))
        return rewards, aux

    def _reward(self, batch: PackedBatch) -> tuple[Tensor, Tensor | None]:
        hidden, aux = self._hidden(batch)
        head = self.policy.scalar_head
        dtype = wide_type(hidden.dtype)
        bias = None if head.bias is None else head.bias.to(dtype)
        return torch.nn.functional.linear(hidden.to(dtype), head.weight.to(dtype), bias)[:, 0], aux

    def head_input(self, batch: PackedBatch) -> tuple[HeadInput, Tensor | None]:
        """(the output head's input for every completion token, the router loss)."""
        hidden, aux = self._hidden(batch)
        head = self.policy.head
        hidden = hidden.to(head.weight.dtype)  # some families end in a float32 norm
        transform = self.policy.transform
        if self.temperature != 1.0:
            transform = replace(transform, scale=transform.scale / self.temperature)
        return HeadInput(hidden, head.weight, getattr(head, "bias", None), transform), aux

    def _hidden(self, batch: PackedBatch) -> tuple[Tensor, Tensor | None]:
        """(hidden states of the rows that predict [tokens, width], the router loss)."""
        rows, keep = batch.predict_rows, None
        if self.pruned and batch.shared and not self.router_aux_coef:
            keep, rows = kept_rows(batch.predict_rows)
        output = self._forward(self.policy.decoder, batch, keep)
        hidden = output.last_hidden_state.flatten(0, 1).index_select(0, rows)
        return hidden, self._router_loss(output, batch) if self.router_aux_coef else None

    def _forward(self, module: Any, batch: PackedBatch, keep: Tensor | None = None) -> Any:
        options: dict[str, Any] = {"input_ids": batch.input_ids, "use_cache": False}
        if batch.shared:
            options[attention.KEYWORD] = self.last_layout = attention.Layout.of(batch)
            self.last_layout.keep = keep
            options["position_ids"] = batch.position_ids
        else:
            options["attention_mask"] = batch.attention_mask  # right padding: the stock positions are right
        if self.router_aux_coef:
            options["output_router_logits"] = True
        return module(**options)

    def _plain(self, batch: PackedBatch, square: bool, reference: HeadInput | None) -> ForwardPass:
        """Full logits through the stock forward: slow, and right for heads that no `HeadTransform` describes."""
        logps = self.logits(batch).log_softmax(-1)
        squares = (2 * logps.detach()).logsumexp(-1) if square else None
        kl = None
        if reference is not None:
            reference_logps = reference.log_probs(slice(None))[0]
            pointwise = reference_logps.exp() * (reference_logps - logps)
            kl = torch.where(reference_logps == -torch.inf, 0.0, pointwise).sum(-1)
        return ForwardPass(logps.gather(1, batch.targets[:, None])[:, 0], None, squares, kl)

    def logits(self, batch: PackedBatch) -> Tensor:
        """The model's own logits [tokens, vocabulary] of every completion token, in float32 or wider."""
        batch = to_device(batch, self.policy.device)
        logits = self._forward(self.policy.base, batch).logits.flatten(0, 1)
        return wide(logits.index_select(0, batch.predict_rows))

    def _router_loss(self, output: Any, batch: PackedBatch) -> Tensor:
        """Load-balancing loss (Switch, 2101.03961 eq. 4-6) per group, summed over groups.

        It is taken over the tokens of a group, so that no packing changes it. A prompt token counts once for each
        branch, as it would if the branches were computed apart.
        """
        config = self.policy.base.config.get_text_config()
        top = int(config.num_experts_per_tok)
        group_of, weight = multiplicity(batch)
        total = torch.zeros((), dtype=torch.float32, device=batch.input_ids.device)
        layers = [x for x in output.router_logits if x is not None]
        groups = int(batch.group_of.max()) + 1
        for logits in layers:
            share = logits.float().reshape(-1, logits.shape[-1]).softmax(-1)
            routed = torch.zeros_like(share).scatter_(1, share.topk(top, dim=-1).indices, 1.0)
            zero = share.new_zeros(groups, share.shape[-1])
            mass = share.new_zeros(groups).index_add(0, group_of, weight).clamp(min=1)[:, None]
            frequency = zero.index_add(0, group_of, routed * weight[:, None]) / mass
            probability = zero.index_add(0, group_of, share * weight[:, None]) / mass
            total = total + (frequency * probability).sum() * share.shape[-1]
        return self.router_aux_coef * total / max(len(layers), 1)


def multiplicity(batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """For every input row [rows * width]: its group, and how many completions it serves (0 for padding)."""
    if not batch.shared:
        assert batch.attention_mask is not None
        width = batch.input_ids.shape[1]
        return batch.group_of.repeat_interleave(width), batch.attention_mask.flatten().float()
    group_of = torch.zeros(batch.input_ids.shape[1], dtype=torch.long)
    weight = torch.ones(batch.input_ids.shape[1])
    for number, group in enumerate(batch.spans):
        group_of[group.start : group.stop] = number
        weight[group.prompt.start : group.prompt.stop] = float(len(group.branches))
    device = batch.input_ids.device
    return group_of.to(device), weight.to(device)


def to_device(batch: PackedBatch, device: torch.device) -> PackedBatch:
    if device.type == "cpu":
        return batch
    names = ["input_ids", "position_ids", "predict_rows", "targets", "completion_of", "lengths", "group_of"]
    moved: dict[str, Any] = {name: getattr(batch, name).to(device, non_blocking=True) for name in names}
    if batch.attention_mask is not None:
        moved["attention_mask"] = batch.attention_mask.to(device, non_blocking=True)
    return replace(batch, **moved)


def alone(batch: PackedBatch) -> PackedBatch:
    """The batch with its groups numbered as if they were the whole step."""
    return replace(batch, group_index=tuple(range(len(batch.group_index))))


def token_scores(scored: ForwardPass, reference: Tensor | None, batch: PackedBatch) -> TokenScores:
    """A microbatch as objectives of log-probs see it."""
    device = scored.logps.device
    return TokenScores(
        scored.logps,
        None if reference is None else reference.to(device),
        batch.completion_of.to(device),
        batch.lengths.to(device),
        batch.group_of.to(device),
        scored.square,
        scored.kl,
        scored.values,
    )


def scalar_scores(rewards: Tensor, batch: PackedBatch) -> ScalarScores:
    """A microbatch as objectives of a reward model see it."""
    return ScalarScores(rewards, batch.lengths.to(rewards.device), batch.group_of.to(rewards.device))
