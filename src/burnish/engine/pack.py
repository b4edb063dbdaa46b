"""Groups -> microbatches under a token budget: the prompt once, its K branches behind it, several groups in a row.

How many tokens share a forward pass is hardware and never changes a result: which groups make an optimiser step is
decided before packing, and every loss is divided by the step's counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from burnish.group import EncodedGroup
from burnish.tensors import GroupSpans, PackedBatch, Span


def rows_needed(group: EncodedGroup, *, shared: bool, whole: bool = False) -> int:
    """Input rows of a group. A completion's last token is only a target and needs no row, unless `whole`."""
    branches = [max(len(ids) - (not whole), 0) for ids in group.completion_ids]
    prompts = 1 if shared else len(branches)
    return len(group.prompt_ids) * prompts + sum(branches)


def divide(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of `sizes` in bins of at most `budget` (first fit, largest first); an oversized item has a bin to itself.

    Bins keep the items' original order, so equal input gives equal output whatever the budget splits off.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        for which, left in enumerate(room):
            if sizes[index] <= left:
                bins[which].append(index)
                room[which] -= sizes[index]
                break
        else:
            bins.append([index])
            room.append(budget - sizes[index])
    return [sorted(members) for members in bins]


def pack(
    groups: Sequence[EncodedGroup], token_budget: int, *, shared: bool, pad_id: int = 0,
    pooled_over: frozenset[int] | None = None,
) -> list[PackedBatch]:  # fmt: skip
    """Divide a step's groups into microbatches of at most `token_budget` input tokens.

    In the shared layout a microbatch is one flat row; in the padded layout it is `[completions, longest]`, and the
    budget counts padding. A group larger than the budget gets a microbatch to itself; it is never cut.

    With `pooled_over` the batch is a reward model's. The last token of a completion is then an input, too, and
    `predict_rows` has a single row for each completion: that of its last token that is not in `pooled_over` (padding
    ids, as a model that pads with its end token was trained).
    """
    if shared:
        bins = divide([rows_needed(g, shared=True, whole=pooled_over is not None) for g in groups], token_budget)
        return [_flat_row([groups[i] for i in members], members, pooled_over) for members in bins]
    return [
        _padded_rows([groups[i] for i in members], members, pad_id, pooled_over)
        for members in _rectangles(groups, token_budget, pooled_over is not None)
    ]


def pooled_at(group: EncodedGroup, k: int, skip: frozenset[int]) -> int:
    """Position, in prompt + completion k, of the last token that is not in `skip`; 0 if there is none."""
    ids = (*group.prompt_ids, *group.completion_ids[k])
    return next((i for i in range(len(ids) - 1, -1, -1) if ids[i] not in skip), 0)


def _rectangles(groups: Sequence[EncodedGroup], budget: int, whole: bool) -> list[list[int]]:
    """Bins for the padded layout: sorted by width, so that a bin's rectangle wastes little."""

    def width(i: int) -> int:
        longest = max((len(ids) for ids in groups[i].completion_ids), default=1)
        return len(groups[i].prompt_ids) + max(longest - (not whole), 0)

    bins: list[list[int]] = []
    widest = height = 0
    for index in sorted(range(len(groups)), key=lambda i: (-width(i), i)):
        rows = len(groups[index].completion_ids)
        if not bins or widest * (height + rows) > budget:
            bins.append([])
            widest, height = width(index), 0
        bins[-1].append(index)
        height += rows
    return [sorted(members) for members in bins]


def _flat_row(
    groups: Sequence[EncodedGroup], members: Sequence[int], pooled_over: frozenset[int] | None
) -> PackedBatch:
    ids: list[int] = []
    positions: list[int] = []
    spans: list[GroupSpans] = []
    predict: list[int] = []
    for group in groups:
        prompt = Span(len(ids), len(group.prompt_ids))
        ids += group.prompt_ids
        positions += range(prompt.length)
        branches = []
        for k, completion in enumerate(group.completion_ids):
            given = completion[:-1] if pooled_over is None else completion
            branch = Span(len(ids), len(given))
            if pooled_over is not None:
                place = pooled_at(group, k, pooled_over)
                inside = place < prompt.length
                predict.append(prompt.start + place if inside else branch.start + place - prompt.length)
            elif completion:
                predict.append(prompt.stop - 1)  # the prompt's last row predicts every branch's first token
                predict += range(branch.start, branch.stop)
            ids += given
            positions += range(prompt.length, prompt.length + branch.length)
            branches.append(branch)
        spans.append(GroupSpans(prompt, tuple(branches)))
    return _batch(groups, members, [ids], [positions], None, tuple(spans), predict, pooled_over is not None)


def _padded_rows(
    groups: Sequence[EncodedGroup], members: Sequence[int], pad_id: int, pooled_over: frozenset[int] | None
) -> PackedBatch:
    rows = [(group.prompt_ids, completion) for group in groups for completion in group.completion_ids]
    inputs = [(*p, *(c[:-1] if pooled_over is None else c)) for p, c in rows]
    lengths = [len(given) for given in inputs]
    width = max(lengths)
    ids = [[*given, *[pad_id] * (width - n)] for given, n in zip(inputs, lengths, strict=True)]
    mask = [[1] * n + [0] * (width - n) for n in lengths]
    positions = [list(range(width)) for _ in rows]
    predict: list[int] = []
    for row, (prompt, completion) in enumerate(rows):
        first = row * width + len(prompt) - 1
        predict += range(first, first + len(completion) * (pooled_over is None))
    if pooled_over is not None:
        places = [pooled_at(group, k, pooled_over) for group in groups for k in range(len(group.completion_ids))]
        predict = [row * width + place for row, place in enumerate(places)]
    return _batch(groups, members, ids, positions, mask, (), predict, pooled_over is not None)


def _batch(
    groups: Sequence[EncodedGroup],
    members: Sequence[int],
    ids: list[list[int]],
    positions: list[list[int]],
    mask: list[list[int]] | None,
    spans: tuple[GroupSpans, ...],
    predict: list[int],
    pooled: bool,
) -> PackedBatch:
    completions = [completion for group in groups for completion in group.completion_ids]
    lengths = torch.tensor([len(completion) for completion in completions], dtype=torch.long)
    per_completion = torch.ones_like(lengths) if pooled else lengths
    targets = [token for c in completions for token in ((c or (0,))[-1:] if pooled else c)]
    sizes = torch.tensor([len(group.completion_ids) for group in groups], dtype=torch.long)
    return PackedBatch(
        input_ids=torch.tensor(ids, dtype=torch.long),
        position_ids=torch.tensor(positions, dtype=torch.long),
        attention_mask=None if mask is None else torch.tensor(mask, dtype=torch.long),
        spans=spans,
        predict_rows=torch.tensor(predict, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        completion_of=torch.repeat_interleave(torch.arange(len(completions)), per_completion),
        lengths=lengths,
        group_of=torch.repeat_interleave(torch.arange(len(groups)), sizes),
        group_index=tuple(members),
    )
