"""A microbatch's feedback in the shape an objective looks at: pairs, lists, labels or winners, as indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from burnish.data.views import label_view, list_view, margins, offsets, pair_view, winner_view
from burnish.group import EncodedGroup
from burnish.objectives import Objective
from burnish.stats import seed_sequence
from burnish.tensors import (
    Drawn,
    Lists,
    PackedBatch,
    Pairs,
    PairSums,
    Rollouts,
    ScalarScores,
    Singles,
    SingleSums,
    TokenScores,
)

View = Pairs | Lists | Singles | Rollouts


@dataclass(frozen=True)
class StepSums:
    """What a first pass found of every completion of the step, in the step's order, and log-ratios of mismatched
    answers; each empty where no objective asks. Log-ratios are summed as such: the difference of two long sums would
    have lost their digits."""

    reference: Tensor  # [completions of the step]: the reference's summed log-probs, in float64
    logratios: Tensor
    lengths: Tensor
    mismatched: Tensor  # [mismatched answers]


@dataclass(frozen=True)
class StepGroups:
    """The groups of an optimiser step and the sums of its first pass. What is drawn, is drawn by `seed` and `step`."""

    groups: Sequence[EncodedGroup]
    sums: StepSums | None = None
    seed: int = 0
    step: int = 0


def view_of(objective: Objective, batch: PackedBatch, scores: TokenScores | ScalarScores, step: StepGroups) -> View:
    """The feedback on the groups that stand in this microbatch, as the objective sees it."""
    members = batch.group_index
    device = scores.lengths.device
    kind = scores.policy.dtype if isinstance(scores, TokenScores) else scores.rewards.dtype
    if objective.view == "pairs":
        return _pairs(objective, members, batch, step, device, kind)
    groups = [step.groups[i] for i in members]
    if objective.view == "lists":
        return _lists(groups, device, kind)
    if objective.view == "labels":
        return _labels(groups, step, device, whole="step" in objective.needs)
    if objective.view == "rollouts":
        assert isinstance(scores, TokenScores)
        return _rollouts(objective.name, groups, scores)
    return _winners(groups, device)


def _pairs(
    objective: Objective, members: Sequence[int], batch: PackedBatch, step: StepGroups, device: torch.device,
    kind: torch.dtype,
) -> Pairs:  # fmt: skip
    here = [step.groups[i] for i in members]
    triples = numbered(here)
    counts = [0, *np.cumsum([len(pair_view(group)) for group in step.groups]).tolist()]
    place = [k for i in members for k in range(counts[i], counts[i + 1])]
    whole = "step" in objective.needs
    sizes = [len(pair_view(group)) for group in here]
    share = [counts[-1] / (len(step.groups) * n) for n in sizes for _ in range(n)]
    known = [value for group in here for value in margins(group)]
    margin = torch.tensor(known, dtype=kind, device=device) if len(known) == len(triples) else None
    return Pairs(
        torch.tensor([t[0] for t in triples], dtype=torch.long, device=device),
        torch.tensor([t[1] for t in triples], dtype=torch.long, device=device),
        torch.tensor([t[2] for t in triples], dtype=kind, device=device),
        mean_length=_mean_length(step.groups),
        step=pair_sums(step.groups, step.sums) if whole and step.sums is not None else None,
        place=torch.tensor(place, dtype=torch.long, device=device) if whole and step.sums is not None else None,
        # the data's scores as log-odds, which is what a Bradley-Terry model of the raters makes of them
        wins=None if margin is None else (margin.sigmoid(), (-margin).sigmoid()),
        margin=margin,
        share=torch.tensor(share, dtype=kind, device=device),
        drawn=_drawn(triples, here, batch, step) if "draws" in objective.needs else None,
    )


def pair_sums(groups: Sequence[EncodedGroup], sums: StepSums) -> PairSums:
    """The step's sums by pair, in the order of `numbered`."""
    every = numbered(groups)
    device = sums.reference.device
    won, lost = (torch.tensor([t[side] for t in every], dtype=torch.long, device=device) for side in (0, 1))
    return PairSums(
        sums.reference[won], sums.reference[lost], sums.logratios[won], sums.logratios[lost], sums.lengths[won],
        sums.lengths[lost],
    )  # fmt: skip


def _drawn(
    triples: Sequence[tuple[int, int, float]], groups: Sequence[EncodedGroup], batch: PackedBatch,
    step: StepGroups,
) -> tuple[Drawn, Drawn]:  # fmt: skip
    """For each pair as many tokens of either answer as the shorter one has; of the longer one, drawn without
    replacement by (seed, step, group, pair): the same under any packing, and for policy and reference."""
    lengths = batch.lengths.tolist()
    starts = [0, *np.cumsum(lengths).tolist()]
    names = [(group.id, k) for group in groups for k in range(len(pair_view(group)))]
    found: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for number, ((winner, loser, _), (name, k)) in enumerate(zip(triples, names, strict=True)):
        count = min(lengths[winner], lengths[loser])
        draw = np.random.default_rng(seed_sequence(step.seed, step.step, k, name))
        for side, completion in enumerate((winner, loser)):
            n = lengths[completion]
            kept = range(n) if n == count else np.sort(draw.choice(n, count, replace=False)).tolist()
            found[side].extend((number, starts[completion] + place) for place in kept)
    device = batch.lengths.device
    sides = [torch.tensor(side, dtype=torch.long, device=device).reshape(-1, 2) for side in found]
    return Drawn(sides[0][:, 0], sides[0][:, 1]), Drawn(sides[1][:, 0], sides[1][:, 1])


def _lists(groups: Sequence[EncodedGroup], device: torch.device, kind: torch.dtype) -> Lists:
    ranked = [
        [(start + k, score) for k, score in list_view(group)]
        for start, group in zip(offsets(groups), groups, strict=True)
    ]
    width = max(map(len, ranked))
    padded = [row + [(0, 0.0)] * (width - len(row)) for row in ranked]
    sizes = torch.tensor([len(row) for row in ranked], device=device)
    return Lists(
        torch.tensor([[k for k, _ in row] for row in padded], dtype=torch.long, device=device),
        torch.arange(width, device=device)[None, :] < sizes[:, None],
        torch.tensor([[score for _, score in row] for row in padded], dtype=kind, device=device),
    )


def _labels(groups: Sequence[EncodedGroup], step: StepGroups, device: torch.device, *, whole: bool) -> Singles:
    """`whole`: with the log-ratios of all answers of the step, where a first pass found them."""
    index, desirable = _labelled(groups, device)
    if step.sums is None:
        return Singles(index, desirable)
    sums = step.sums
    every, labels = _labelled(step.groups if whole else (), sums.logratios.device)
    return Singles(index, desirable, SingleSums(sums.logratios[every], labels, sums.mismatched))


def _winners(groups: Sequence[EncodedGroup], device: torch.device) -> Singles:
    winners = [start + k for start, group in zip(offsets(groups), groups, strict=True) for k in winner_view(group)]
    return Singles(
        torch.tensor(winners, dtype=torch.long, device=device),
        torch.ones(len(winners), dtype=torch.bool, device=device),
    )


def _rollouts(name: str, groups: Sequence[EncodedGroup], scores: TokenScores) -> Rollouts:
    """What the answers were sampled with and what they are worth, token by token. The ratio's denominator is the
    trainer's own log-prob when the answer was sampled: what separates it from the sampler's is in the advantage."""
    known = [group.rollout for group in groups if group.rollout is not None]
    if len(known) < len(groups):
        raise ValueError(f"{name} learns from answers that the policy has just given, and one of these is not")

    def row(pieces: Sequence[Sequence[Sequence[float]]]) -> Tensor:
        flat = [value for answers in pieces for one in answers for value in one]
        return torch.tensor(flat, dtype=scores.policy.dtype, device=scores.policy.device)

    nothing = torch.zeros_like(scores.policy, requires_grad=False)
    valued = bool(known) and bool(known[0].values)
    return Rollouts(
        row([one.policy for one in known]),
        row([one.advantages[name] for one in known]) if known and name in known[0].advantages else nothing,
        torch.ones_like(scores.policy, dtype=torch.bool),
        scores.values,
        row([one.values for one in known]) if valued else None,
        row([next(iter(one.returns.values())) for one in known]) if known and known[0].returns else None,
        max((one.limit for one in known), default=0),
    )


def numbered(groups: Sequence[EncodedGroup]) -> list[tuple[int, int, float]]:
    """The pairs of some groups, completions numbered through all of them."""
    return [
        (start + winner, start + loser, weight)
        for start, group in zip(offsets(groups), groups, strict=True)
        for winner, loser, weight in pair_view(group)
    ]


def _labelled(groups: Sequence[EncodedGroup], device: torch.device) -> tuple[Tensor, Tensor]:
    """(completions with a yes or a no, the answer), numbered through all of the groups."""
    found = [
        (start + k, yes) for start, group in zip(offsets(groups), groups, strict=True) for k, yes in label_view(group)
    ]
    index = torch.tensor([k for k, _ in found], dtype=torch.long, device=device)
    return index, torch.tensor([yes for _, yes in found], dtype=torch.bool, device=device)


def mismatched(groups: Sequence[EncodedGroup], data: Sequence[EncodedGroup]) -> list[EncodedGroup]:
    """Each group's prompt with another prompt's answers: what KTO estimates its KL on (2402.01306, 4.1).

    They are those of the step's next group with another prompt, by rotation, so they are the same under any
    microbatching. Where the whole step has one prompt they are those of the first group in the data with another one;
    empty where none has. Answers are cut where prompt and answer would be longer than the longest group of the step.
    """
    limit = max((len(g.prompt_ids) + max(map(len, g.completion_ids), default=0) for g in groups), default=0)
    pairs = []
    for i, own in enumerate(groups):
        others = chain(groups[i + 1 :], groups[:i], data)
        other = next((group for group in others if group.prompt_ids != own.prompt_ids), None)
        if other is None:
            return []
        pairs.append((own, other))
    return [
        EncodedGroup(
            f"{own.id}~{other.id}", own.prompt_ids,
            tuple(ids[: max(1, limit - len(own.prompt_ids))] for ids in other.completion_ids), other.ended,
            other.feedback, own.source, own.where,
        )
        for own, other in pairs
    ]  # fmt: skip


def _mean_length(step: Sequence[EncodedGroup]) -> float:
    """Tokens of a chosen completion, averaged over the step's pairs by their weights: the same number in each of its
    microbatches."""
    lengths = [(len(group.completion_ids[winner]), weight) for group in step for winner, _, weight in pair_view(group)]
    return sum(n * weight for n, weight in lengths) / sum(weight for _, weight in lengths) if lengths else 1.0


def generator(seed: int, step: int, name: str) -> torch.Generator:
    """Random numbers of (seed, step, name), whatever was drawn before."""
    words = seed_sequence(seed, step, name).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
