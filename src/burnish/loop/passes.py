"""The forward passes of a step: what the objective looks at in a microbatch, and its sums over the whole step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.engine.engine import scalar_scores, token_scores
from burnish.engine.scoring import by_completion
from burnish.group import EncodedGroup
from burnish.loop.build import Trainer
from burnish.objectives.feedback import StepSums, mismatched
from burnish.tensors import PackedBatch, ScalarScores, TokenScores, wide_type


def batch_scores(
    trainer: Trainer, batch: PackedBatch, groups: Sequence[EncodedGroup]
) -> tuple[TokenScores | ScalarScores, Tensor | None]:
    """(policy's and reference's numbers for a microbatch, the first with gradient; a mixture of experts' router
    loss)."""
    needs = trainer.prepared.mixture.needs
    if needs("scalar"):
        rewards, router_loss = trainer.engine.reward(batch)
        return scalar_scores(rewards, batch), router_loss
    reference, head = (None, None) if trainer.reference is None else trainer.reference.scores(batch, groups)
    scored = trainer.engine.score(batch, square=needs("square"), reference=head if needs("kl") else None)
    return token_scores(scored, reference, batch), scored.aux


@torch.no_grad()
def first_pass(trainer: Trainer, groups: Sequence[EncodedGroup]) -> StepSums | None:
    """Sums over the whole step, for an objective that needs them before its first loss; else None. Only what is asked
    for is computed: KTO wants mismatched answers alone."""
    needs = trainer.prepared.mixture.needs
    if not needs("step") and not needs("mismatched"):
        return None
    whole_step = list(groups) if needs("step") else []
    reference, logratios = _summed(trainer, whole_step)
    other = mismatched(groups, trainer.prepared.train) if needs("mismatched") else []
    lengths = torch.tensor([len(ids) for group in whole_step for ids in group.completion_ids], device=logratios.device)
    return StepSums(reference, logratios, lengths, _summed(trainer, other)[1])


def _summed(trainer: Trainer, groups: Sequence[EncodedGroup]) -> tuple[Tensor, Tensor]:
    """(the reference's summed log-probs in float64, summed log-ratios) of every completion of some groups, in order."""

    def sums(batch: PackedBatch) -> list[list[float]]:
        reference = None if trainer.reference is None else trainer.reference.scores(batch, groups)[0]
        scores = token_scores(trainer.engine.score(batch), reference, batch)
        both: list[list[float]] = torch.stack([scores.reference_logps, scores.logratios.double()], 1).tolist()
        return both

    policy = trainer.engine.policy
    rows = [both for group in by_completion(trainer.engine, groups, sums) for both in group]
    columns = torch.tensor(rows, dtype=torch.float64, device=policy.device).reshape(-1, 2).T.contiguous()
    return columns[0], columns[1].to(wide_type(policy.dtype))
