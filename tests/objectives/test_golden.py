"""Every golden vector whose objective exists: losses and gradients per token, float64 and float32.

`BURNISH_GOLDEN=FILE` selects another file of the same format.
"""

from __future__ import annotations

import json
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.objectives import TABLE
from burnish.tensors import Drawn, Lists, Pairs, ScalarScores, Singles, SingleSums, TokenScores
from tests.shared import shared_folder


@cache
def golden() -> dict[str, Any]:
    named = os.environ.get("BURNISH_GOLDEN")
    folder = shared_folder()
    file = Path(named) if named else folder / "golden" / "visible.json" if folder else None
    if file is None or not file.exists():
        return {}
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def cases() -> list[Any]:
    found = [(kind, case) for kind in ("cases", "edge") for case in golden().get(kind, [])]
    rows = TABLE
    known = [
        (k, c)
        for k, c in found
        if c["objective"] in rows
        and rows[c["objective"]].view == "pairs"
        and "scalar" not in rows[c["objective"]].needs
    ]
    return [pytest.param(k, c, id=f"{c['id']}-{c['objective']}") for k, c in known]


def number(x: Any) -> float:
    return float(x) if isinstance(x, str) else x


def scores_of(data: dict[str, Any], dtype: torch.dtype) -> tuple[torch.Tensor, TokenScores, Pairs]:
    """Chosen and rejected of each pair as completions 2i and 2i + 1 of one microbatch."""
    rows = [row for pair in zip(data["pc"], data["pr"], strict=True) for row in pair]
    references = [row for pair in zip(data["rc"], data["rr"], strict=True) for row in pair]
    policy = torch.tensor([number(x) for row in rows for x in row], dtype=dtype, requires_grad=True)
    reference = torch.tensor([number(x) for row in references for x in row], dtype=dtype)
    lengths = torch.tensor([len(row) for row in rows])
    number_of = torch.arange(len(rows)).repeat_interleave(lengths)
    extras = [
        torch.tensor(
            [number(x) for pair in zip(data[c], data[r], strict=True) for row in pair for x in row], dtype=dtype
        )
        for c, r in (("qc", "qr"), ("kc", "kr"))
    ]
    extras[1].requires_grad_(True)
    scores = TokenScores(policy, reference, number_of, lengths, torch.arange(len(rows)) // 2, *extras)
    index = torch.arange(len(rows) // 2) * 2
    won, lost = (torch.tensor([number(x) for x in data[side]], dtype=dtype) for side in ("pw", "pl"))
    ones = torch.ones(len(index), dtype=dtype)
    return policy, scores, Pairs(index, index + 1, ones, wins=(won, lost), drawn=drawn_of(data, lengths))


def drawn_of(data: dict[str, Any], lengths: torch.Tensor) -> tuple[Drawn, Drawn]:
    """The file's drawn positions of both sides, as tokens of the microbatch."""
    starts = (lengths.cumsum(0) - lengths).tolist()
    sides = []
    for first, name in enumerate(("ic", "ir")):
        found = [(i, starts[2 * i + first] + place) for i, places in enumerate(data[name]) for place in places]
        rows = torch.tensor(found, dtype=torch.long).reshape(-1, 2)
        sides.append(Drawn(rows[:, 0], rows[:, 1]))
    return sides[0], sides[1]


def close(ours: float, theirs: Any, tolerance: float) -> bool:
    theirs = number(theirs)
    if not math.isfinite(theirs):
        return ours == theirs or (math.isnan(ours) and math.isnan(theirs))
    return abs(ours - theirs) <= tolerance * max(1.0, abs(theirs))


@pytest.mark.skipif(not golden(), reason="no golden file: set BURNISH_GOLDEN, or put shared/ beside the repository")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("kind", "case"), cases())
def test_golden(kind: str, case: dict[str, Any], dtype: torch.dtype) -> None:
    policy, scores, pairs = scores_of(golden()["inputs"][case["input"]], dtype)
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in case["params"].items()}
    losses = TABLE[case["objective"]].function(scores, pairs, **given)
    assert losses.unit == "pair"
    expect = case["expect"]
    total = losses.values.sum() / len(losses.values)
    if expect.get("contract") == "signal":
        assert not math.isfinite(float(total.detach()))
        return
    total.backward()
    tolerance = 1e-9 if dtype == torch.float64 else 5e-6 if kind == "cases" else 1e-4
    assert close(float(total.detach()), expect["loss"], tolerance)
    ours_by_item = losses.values.tolist()
    if case["objective"].startswith("aot"):  # the file gives these in the order of the sorted margins
        margins = scores.logps if case["objective"] == "aot_paired" else scores.logratios
        key = (
            margins[pairs.chosen] - margins[pairs.rejected]
            if case["objective"] == "aot_paired"
            else margins[pairs.chosen]
        )
        ours_by_item = [ours_by_item[i] for i in key.argsort(stable=True).tolist()]
    for ours, theirs in zip(ours_by_item, expect["losses"], strict=True):
        assert close(ours, theirs, tolerance)
    assert policy.grad is not None
    pieces = policy.grad.split(scores.lengths.tolist())
    assert "grad" in expect or "grad_sparse" in expect
    for side, first in (("pc", 0), ("pr", 1)):
        for ours, theirs in zip(pieces[first::2], expect.get("grad", {}).get(side, pieces[first::2]), strict=True):
            assert len(ours) == len(theirs)
            assert all(close(a, number(b), tolerance) for a, b in zip(ours.tolist(), theirs, strict=True))
        for ours, theirs in zip(pieces[first::2], expect.get("grad_sparse", {}).get(side, []), strict=False):
            n = len(ours)
            assert n == theirs["n"]
            for at, name in ((0, "first"), (n // 2, "mid"), (n - 1, "last")):
                assert close(float(ours[at]), theirs[name], tolerance)
            assert close(float(ours.double().sum()), theirs["sum"], tolerance)
    for side, first in (("kc", 0), ("kr", 1)):
        if side in expect.get("grad", {}):
            assert scores.kl is not None and scores.kl.grad is not None
            of_kl = scores.kl.grad.split(scores.lengths.tolist())[first::2]
            for ours, theirs in zip(of_kl, expect["grad"][side], strict=True):
                assert all(close(a, number(b), tolerance) for a, b in zip(ours.tolist(), theirs, strict=True))
    assert not scores.reference.requires_grad  # type: ignore[union-attr]


def cases_of(view: str) -> list[Any]:
    found = [c for kind in ("cases", "edge") for c in golden().get(kind, [])]
    known = [c for c in found if c["objective"] in TABLE and TABLE[c["objective"]].view == view]
    return [pytest.param(c, id=f"{c['id']}-{c['objective']}") for c in known]


@pytest.mark.skipif(not golden(), reason="no golden file: set BURNISH_GOLDEN, or put shared/ beside the repository")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", cases_of("labels"))
def test_golden_of_single_answers(case: dict[str, Any], dtype: torch.dtype) -> None:
    data = golden()["inputs"][case["input"]]
    policy = torch.tensor([number(x) for row in data["p"] for x in row], dtype=dtype, requires_grad=True)
    reference = torch.tensor([number(x) for row in data["r"] for x in row], dtype=dtype)
    lengths = torch.tensor([len(row) for row in data["p"]])
    index = torch.arange(len(lengths))
    scores = TokenScores(policy, reference, index.repeat_interleave(lengths), lengths, index)
    labels = torch.tensor(data["label"])
    kl = [
        sum(number(a) - number(b) for a, b in zip(ours, theirs, strict=True))
        for ours, theirs in zip(data["kp"], data["kr_"], strict=True)
    ]
    step = SingleSums(scores.logratios.detach(), labels, torch.tensor(kl, dtype=dtype))
    params = {k: v for k, v in case["params"].items()}
    losses = TABLE[case["objective"]].function(scores, Singles(index, labels, step), **params)
    tolerance = 1e-9 if dtype == torch.float64 else 5e-6
    total = losses.values.sum() / len(losses.values)
    total.backward()
    assert close(float(total.detach()), case["expect"]["loss"], tolerance)
    assert all(close(a, b, tolerance) for a, b in zip(losses.values.tolist(), case["expect"]["losses"], strict=True))
    assert policy.grad is not None
    theirs = [x for row in case["expect"]["grad"]["p"] for x in row]
    assert all(close(a, number(b), tolerance) for a, b in zip(policy.grad.tolist(), theirs, strict=True))
    if "z0" in case["expect"].get("extra", {}):
        assert losses.metrics["kl/mismatched"].mean == pytest.approx(case["expect"]["extra"]["z0"], abs=1e-6)


@pytest.mark.skipif(not golden(), reason="no golden file: set BURNISH_GOLDEN, or put shared/ beside the repository")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", cases_of("lists"))
def test_golden_of_ranked_groups(case: dict[str, Any], dtype: torch.dtype) -> None:
    data = golden()["inputs"][case["input"]]
    rows = [row for group in data["p"] for row in group]
    policy = torch.tensor([number(x) for row in rows for x in row], dtype=dtype, requires_grad=True)
    reference = torch.tensor([number(x) for group in data["r"] for row in group for x in row], dtype=dtype)
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
    losses = TABLE[case["objective"]].function(scores, lists, **case["params"])
    tolerance = 1e-9 if dtype == torch.float64 else 5e-6
    total = losses.values.sum() / len(losses.values)
    total.backward()
    assert close(float(total.detach()), case["expect"]["loss"], tolerance)
    # a group without a loss (online_dpo, all scored alike) is null in the file
    expected = [x for x in case["expect"]["losses"] if x is not None]
    assert all(close(a, b, tolerance) for a, b in zip(losses.values.tolist(), expected, strict=True))
    assert policy.grad is not None
    theirs = [x for group in case["expect"]["grad"]["p"] for row in group for x in row]
    assert all(close(a, number(b), tolerance) for a, b in zip(policy.grad.tolist(), theirs, strict=True))


def from_logits(data: dict[str, Any]) -> tuple[list[torch.Tensor], TokenScores, Pairs]:
    """Scores of `data`'s logits [B][T][V] by log-softmax; row t predicts label t. Float64."""
    leaves, policy, reference, square, kl = [], [], [], [], []
    for i in range(len(data["lc"])):
        for side in "cr":
            labels = torch.tensor(data[f"y{side}"][i])[:, None]
            logits = torch.tensor(data[f"l{side}"][i], dtype=torch.float64, requires_grad=True)
            fixed = torch.tensor(data[f"rl{side}"][i], dtype=torch.float64)
            leaves.append(logits)
            policy.append(logits.log_softmax(-1).gather(1, labels)[:, 0])
            reference.append(fixed.log_softmax(-1).gather(1, labels)[:, 0])
            p, q = logits.log_softmax(-1), fixed.log_softmax(-1)
            square.append((2 * p.detach()).logsumexp(-1))
            kl.append((q.exp() * (q - p)).sum(-1))
    lengths = torch.tensor([len(row) for row in policy])
    number_of = torch.arange(len(policy)).repeat_interleave(lengths)
    group_of = torch.arange(len(policy)) // 2
    scores = TokenScores(
        torch.cat(policy), torch.cat(reference), number_of, lengths, group_of, torch.cat(square), torch.cat(kl)
    )
    index = torch.arange(len(policy) // 2) * 2
    return leaves, scores, Pairs(index, index + 1, torch.ones(len(index), dtype=torch.float64))


def e2e_cases() -> list[Any]:
    found = [c for c in golden().get("cases", []) if c["objective"] == "e2e" and c["params"]["loss"] in TABLE]
    return [pytest.param(c, id=f"{c['id']}-{c['params']['loss']}") for c in found]


@pytest.mark.skipif(not golden(), reason="no golden file: set BURNISH_GOLDEN, or put shared/ beside the repository")
@pytest.mark.parametrize("case", e2e_cases())
def test_golden_from_logits(case: dict[str, Any]) -> None:
    """Gradients with respect to the logits, through log-softmax. These vectors take SimPO with gamma = 0."""
    row = TABLE[case["params"]["loss"]]
    given = {"gamma": 0.0, **case["params"]}
    leaves, scores, pairs = from_logits(golden()["inputs"][case["input"]])
    losses = row.function(scores, pairs, **{name: given[name] for name in row.settings if name in given})
    (losses.values.sum() / len(losses.values)).backward()
    assert all(close(a, b, 1e-9) for a, b in zip(losses.values.tolist(), case["expect"]["losses"], strict=True))
    for first, side in enumerate(("lc", "lr")):
        for leaf, theirs in zip(leaves[first::2], case["expect"]["grad"][side], strict=True):
            torch.testing.assert_close(leaf.grad, torch.tensor(theirs, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(not golden(), reason="no golden file: set BURNISH_GOLDEN, or put shared/ beside the repository")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_golden_of_reward_models(dtype: torch.dtype) -> None:
    found = [c for kind in ("cases", "edge") for c in golden()[kind] if c["objective"] == "bradley_terry"]
    assert found
    for case in found:
        data = golden()["inputs"][case["input"]]
        rows = [number(x) for pair in zip(data["sc"], data["sr"], strict=True) for x in pair]
        rewards = torch.tensor(rows, dtype=dtype, requires_grad=True)
        index = torch.arange(len(rows) // 2) * 2
        scores = ScalarScores(rewards, torch.ones(len(rows), dtype=torch.long), torch.arange(len(rows)) // 2)
        margin = torch.tensor([number(x) for x in data["margin"]], dtype=dtype)
        pairs = Pairs(index, index + 1, torch.ones(len(index), dtype=dtype), margin=margin)
        losses = TABLE["bradley_terry"].function(scores, pairs, **case["params"])
        total = losses.values.sum() / len(losses.values)
        total.backward()
        tolerance = 1e-9 if dtype == torch.float64 else 5e-6
        assert close(float(total.detach()), case["expect"]["loss"], tolerance)
        assert all(
            close(a, b, tolerance) for a, b in zip(losses.values.tolist(), case["expect"]["losses"], strict=True)
        )
        assert rewards.grad is not None
        for side, first in (("sc", 0), ("sr", 1)):
            ours = rewards.grad[first::2].tolist()
            assert all(close(a, number(b), tolerance) for a, b in zip(ours, case["expect"]["grad"][side], strict=True))


@pytest.mark.skipif(not golden(), reason="no golden file: set BURNISH_GOLDEN, or put shared/ beside the repository")
def test_pair_metrics_are_the_golden_ones() -> None:
    from burnish.objectives.metrics import pair_metrics

    for case in (c for c in golden()["functions"] if c["function"] == "pair_metrics"):
        won, lost, expect = case["args"]["rw"], case["args"]["rl"], case["expect"]
        rewards = torch.tensor([x for pair in zip(won, lost, strict=True) for x in pair], dtype=torch.float64)
        ones = torch.ones(len(rewards), dtype=torch.long)
        zeros = torch.zeros(len(rewards), dtype=torch.float64)
        scores = TokenScores(zeros, zeros, torch.arange(len(rewards)), ones, torch.arange(len(rewards)) // 2)
        index = torch.arange(len(won)) * 2
        found = pair_metrics(rewards, scores, Pairs(index, index + 1, torch.ones(len(won))))
        assert found["rewards/margins"].mean == pytest.approx(expect["margin_mean"], rel=1e-12)
        assert found["rewards/accuracies"].mean == pytest.approx(expect["accuracy_half_ties"], rel=1e-12)
        assert found["rewards/accuracies_strict"].mean == pytest.approx(expect["accuracy_strict"], rel=1e-12)
        assert found["calibration/nll"].mean == pytest.approx(expect["nll"], rel=1e-9)
        assert found["calibration/brier"].mean == pytest.approx(expect["brier"], rel=1e-9)
        assert found["calibration/ece"].mean == pytest.approx(expect["ece"], rel=1e-9)


def test_the_gate_has_the_golden_file() -> None:
    """Where the shared data is demanded, skipping the vectors above would hide their absence."""
    assert golden() or not os.environ.get("BURNISH_REQUIRE_SHARED")
