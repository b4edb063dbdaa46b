"""Every golden vector: losses and gradients per token, float64 and float32 (`vectors.py` says where they are)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from burnish.objectives import TABLE
from burnish.objectives.metrics import pair_metrics
from burnish.tensors import Lists, Losses, Pairs, ScalarScores, Singles, SingleSums, TokenScores
from tests.objectives.vectors import (
    agree,
    cases_of,
    close,
    column_of,
    from_logits,
    golden,
    input_of,
    number,
    scores_of,
    tolerance_of,
)

BOTH = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def vectors(view: str, *, scalar: bool = False) -> pytest.MarkDecorator:
    """The cases of the objectives that look at this view; `scalar`: of reward models."""
    names = [row.name for row in TABLE.values() if row.view == view and ("scalar" in row.needs) == scalar]
    cases = [pytest.param(kind, c, id=f"{c['id']}-{c['objective']}") for kind, c in cases_of(*names)]
    return pytest.mark.parametrize(("kind", "case"), cases)


def losses_and_total(case: dict[str, Any], scores: Any, view: Any) -> tuple[Losses, torch.Tensor]:
    params = {k: tuple(v) if isinstance(v, list) else v for k, v in case["params"].items()}
    losses = TABLE[case["objective"]].function(scores, view, **params)
    return losses, losses.values.sum() / len(losses.values)


def agree_on_losses(values: Sequence[float], total: torch.Tensor, case: dict[str, Any], tolerance: float) -> None:
    assert close(float(total.detach()), case["expect"]["loss"], tolerance)
    expected = [x for x in case["expect"]["losses"] if x is not None]  # null: a group without a loss
    agree(values, expected, tolerance)


@BOTH
@vectors("pairs")
def test_pairs(kind: str, case: dict[str, Any], dtype: torch.dtype) -> None:
    policy, scores, pairs = scores_of(input_of(case), dtype)
    losses, total = losses_and_total(case, scores, pairs)
    expect, tolerance = case["expect"], tolerance_of(kind, dtype)
    assert losses.unit == "pair"
    if expect.get("contract") == "signal":
        assert not math.isfinite(float(total.detach()))
        return
    total.backward()
    agree_on_losses(in_the_order_of_the_file(case["objective"], losses, scores, pairs), total, case, tolerance)
    assert policy.grad is not None and not scores.reference.requires_grad  # type: ignore[union-attr]
    assert "grad" in expect or "grad_sparse" in expect
    pieces = policy.grad.split(scores.lengths.tolist())
    for side, first in (("pc", 0), ("pr", 1)):
        for piece, row in zip(pieces[first::2], expect.get("grad", {}).get(side, pieces[first::2]), strict=True):
            agree(piece.tolist(), row, tolerance)
        for piece, row in zip(pieces[first::2], expect.get("grad_sparse", {}).get(side, []), strict=False):
            n = len(piece)
            places = [piece[0], piece[n // 2], piece[-1], piece.double().sum()]
            assert n == row["n"]
            agree(list(map(float, places)), [row["first"], row["mid"], row["last"], row["sum"]], tolerance)
    for side, first in (("kc", 0), ("kr", 1)):
        if side in expect.get("grad", {}):
            assert scores.kl is not None and scores.kl.grad is not None
            of_kl = scores.kl.grad.split(scores.lengths.tolist())[first::2]
            for piece, row in zip(of_kl, expect["grad"][side], strict=True):
                agree(piece.tolist(), row, tolerance)


def in_the_order_of_the_file(name: str, losses: Losses, scores: TokenScores, pairs: Pairs) -> list[float]:
    """Losses by pair; the file gives those of aot in the order of the sorted margins."""
    values: list[float] = losses.values.tolist()
    if not name.startswith("aot"):
        return values
    margins = scores.logps[pairs.chosen] - scores.logps[pairs.rejected]
    key = margins if name == "aot_paired" else scores.logratios[pairs.chosen]
    return [values[i] for i in key.argsort(stable=True).tolist()]


@BOTH
@vectors("labels")
def test_labels(kind: str, case: dict[str, Any], dtype: torch.dtype) -> None:
    data = input_of(case)
    policy = column_of(data["p"], dtype).requires_grad_(True)
    lengths = torch.tensor([len(row) for row in data["p"]])
    index = torch.arange(len(lengths))
    scores = TokenScores(policy, column_of(data["r"], dtype), index.repeat_interleave(lengths), lengths, index)
    labels = torch.tensor(data["label"])
    mismatched = [
        sum(number(p) - number(q) for p, q in zip(policy_row, reference_row, strict=True))
        for policy_row, reference_row in zip(data.get("kp", []), data.get("kr_", []), strict=True)
    ]
    sums = SingleSums(scores.logratios.detach(), labels, torch.tensor(mismatched, dtype=dtype))
    losses, total = losses_and_total(case, scores, Singles(index, labels, sums))
    total.backward()
    tolerance = tolerance_of(kind, dtype)
    agree_on_losses(losses.values.tolist(), total, case, tolerance)
    assert policy.grad is not None
    agree(policy.grad.tolist(), [x for row in case["expect"]["grad"]["p"] for x in row], tolerance)
    if "z0" in case["expect"].get("extra", {}):
        assert close(losses.metrics["kl/mismatched"].mean, case["expect"]["extra"]["z0"], max(tolerance, 1e-6))


@BOTH
@vectors("lists")
def test_lists(kind: str, case: dict[str, Any], dtype: torch.dtype) -> None:
    data = input_of(case)
    rows = [row for group in data["p"] for row in group]
    policy = column_of(rows, dtype).requires_grad_(True)
    reference = column_of([row for group in data["r"] for row in group], dtype)
    lengths = torch.tensor([len(row) for row in rows])
    sizes = [len(group) for group in data["p"]]
    group_of = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    scores = TokenScores(policy, reference, torch.arange(len(rows)).repeat_interleave(lengths), lengths, group_of)
    width, starts = max(sizes), [sum(sizes[:i]) for i in range(len(sizes))]
    pad = [0] * width
    ranked = [([s + k for k in rank] + pad)[:width] for s, rank in zip(starts, data["rank"], strict=True)]
    marks = [([row[k] for k in rank] + pad)[:width] for row, rank in zip(data["score"], data["rank"], strict=True)]
    mask = torch.arange(width)[None, :] < torch.tensor(sizes)[:, None]
    lists = Lists(torch.tensor(ranked), mask, torch.tensor(marks, dtype=dtype))
    losses, total = losses_and_total(case, scores, lists)
    total.backward()
    tolerance = tolerance_of(kind, dtype)
    agree_on_losses(losses.values.tolist(), total, case, tolerance)
    assert policy.grad is not None
    agree(policy.grad.tolist(), [x for group in case["expect"]["grad"]["p"] for row in group for x in row], tolerance)


@BOTH
@vectors("pairs", scalar=True)
def test_reward_models(kind: str, case: dict[str, Any], dtype: torch.dtype) -> None:
    data = input_of(case)
    rewards = column_of(list(zip(data["sc"], data["sr"], strict=True)), dtype).requires_grad_(True)
    index = torch.arange(len(rewards) // 2) * 2
    scores = ScalarScores(rewards, torch.ones(len(rewards), dtype=torch.long), torch.arange(len(rewards)) // 2)
    margin = column_of([data["margin"]], dtype) if "margin" in data else None
    pairs = Pairs(index, index + 1, torch.ones(len(index), dtype=dtype), margin=margin)
    losses, total = losses_and_total(case, scores, pairs)
    total.backward()
    tolerance = tolerance_of(kind, dtype)
    agree_on_losses(losses.values.tolist(), total, case, tolerance)
    assert rewards.grad is not None
    for side, first in (("sc", 0), ("sr", 1)):
        agree(rewards.grad[first::2].tolist(), case["expect"]["grad"][side], tolerance)


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c['id']}-{c['params']['loss']}") for _, c in cases_of("e2e")])
def test_from_logits(case: dict[str, Any]) -> None:
    """Gradients with respect to the logits, through log-softmax. These vectors take SimPO with gamma = 0."""
    row = TABLE[case["params"]["loss"]]
    params = {"gamma": 0.0, **case["params"]}
    leaves, scores, pairs = from_logits(input_of(case))
    losses = row.function(scores, pairs, **{name: params[name] for name in row.settings if name in params})
    (losses.values.sum() / len(losses.values)).backward()
    agree(losses.values.tolist(), case["expect"]["losses"], 1e-9)
    for first, side in enumerate(("lc", "lr")):
        for leaf, gradient in zip(leaves[first::2], case["expect"]["grad"][side], strict=True):
            torch.testing.assert_close(leaf.grad, torch.tensor(gradient, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "case", [c for c in golden()["functions"] if c["function"] == "pair_metrics"], ids=lambda case: case["id"]
)
def test_pair_metrics(case: dict[str, Any]) -> None:
    won, lost, expect = case["args"]["rw"], case["args"]["rl"], case["expect"]
    rewards = column_of(list(zip(won, lost, strict=True)), torch.float64)
    ones = torch.ones(len(rewards), dtype=torch.long)
    zeros = torch.zeros(len(rewards), dtype=torch.float64)
    scores = TokenScores(zeros, zeros, torch.arange(len(rewards)), ones, torch.arange(len(rewards)) // 2)
    index = torch.arange(len(won)) * 2
    metrics = pair_metrics(rewards, scores, Pairs(index, index + 1, torch.ones(len(won))))
    names = {
        "rewards/margins": "margin_mean", "rewards/accuracies": "accuracy_half_ties",
        "rewards/accuracies_strict": "accuracy_strict", "calibration/nll": "nll", "calibration/brier": "brier",
        "calibration/ece": "ece",
    }  # fmt: skip
    agree([metrics[name].mean for name in names], [expect[name] for name in names.values()], 1e-9)
