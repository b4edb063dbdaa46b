"""Packing: every token once, nothing over budget, and the rows that predict each token are the right ones."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data.views import offsets
from burnish.engine.pack import divide, pack, rows_needed
from burnish.group import EncodedGroup, Unjudged

ids = st.integers(0, 40)
completion = st.lists(ids, min_size=1, max_size=9).map(tuple)
group_lists = st.lists(
    st.tuples(st.lists(ids, min_size=1, max_size=12).map(tuple), st.lists(completion, min_size=1, max_size=5)),
    min_size=1,
    max_size=8,
).map(lambda rows: [EncodedGroup(str(i), p, tuple(c), (True,) * len(c), Unjudged()) for i, (p, c) in enumerate(rows)])


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 60))
def test_divide_places_every_item_once_within_budget(sizes: list[int], budget: int) -> None:
    bins = divide(sizes, budget)
    assert sorted(i for members in bins for i in members) == list(range(len(sizes)))
    for members in bins:
        assert sum(sizes[i] for i in members) <= budget or len(members) == 1


@settings(max_examples=60, deadline=None)
@given(group_lists, st.integers(4, 200), st.booleans())
def test_each_completion_token_is_predicted_by_the_row_before_it(
    groups: list[EncodedGroup], budget: int, shared: bool
) -> None:
    seen = []
    for batch in pack(groups, budget, shared=shared, pad_id=99):
        here = [groups[i] for i in batch.group_index]
        seen += batch.group_index
        assert batch.targets.tolist() == [t for g in here for c in g.completion_ids for t in c]
        assert batch.lengths.tolist() == [len(c) for g in here for c in g.completion_ids]
        flat_ids, flat_positions = batch.input_ids.flatten(), batch.position_ids.flatten()
        at = 0
        for g in here:
            for c in g.completion_ids:
                whole = [*g.prompt_ids, *c]
                for k in range(len(c)):
                    row = int(batch.predict_rows[at])
                    position = len(g.prompt_ids) + k - 1
                    assert int(flat_ids[row]) == whole[position]
                    assert int(flat_positions[row]) == position
                    at += 1
        assert at == len(batch.predict_rows) == len(batch.completion_of)
    assert sorted(seen) == list(range(len(groups)))


@settings(max_examples=40, deadline=None)
@given(group_lists, st.integers(4, 200))
def test_shared_rows_hold_each_prompt_once_and_no_last_token(groups: list[EncodedGroup], budget: int) -> None:
    batches = pack(groups, budget, shared=True)
    needed = [len(g.prompt_ids) + sum(len(c) - 1 for c in g.completion_ids) for g in groups]
    assert [rows_needed(g, shared=True) for g in groups] == needed
    assert sum(b.input_ids.numel() for b in batches) == sum(needed)
    for batch in batches:
        assert batch.input_ids.numel() <= budget or len(batch.group_index) == 1


def test_offsets_number_completions_over_the_microbatch() -> None:
    groups = [
        EncodedGroup("a", (1,), ((2,), (3,)), (True, True), Unjudged()),
        EncodedGroup("b", (1,), ((2,),), (True,), Unjudged()),
    ]
    assert offsets(groups) == [0, 2]
    (batch,) = pack(groups, 100, shared=True)
    assert torch.equal(batch.group_of, torch.tensor([0, 0, 1]))


def test_the_example_of_the_docstring() -> None:
    group = EncodedGroup("a", (1, 9), ((5, 6, 2), (7, 2)), (True, True), Unjudged())
    (batch,) = pack([group], 100, shared=True)
    names = ("input_ids", "position_ids", "predict_rows", "targets", "lengths", "completion_of", "group_of")
    assert {name: getattr(batch, name).tolist() for name in names} == {
        "input_ids": [[1, 9, 5, 6, 7]], "position_ids": [[0, 1, 2, 3, 2]], "predict_rows": [1, 2, 3, 1, 4],
        "targets": [5, 6, 2, 7, 2], "lengths": [3, 2], "completion_of": [0, 0, 0, 1, 1], "group_of": [0, 0],
    }  # fmt: skip
    assert batch.group_index == (0,)
