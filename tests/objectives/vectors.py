"""The golden vectors: exact losses and gradients, from sixty-digit arithmetic, with the inputs that they belong to.

They lie in `golden/`, a file for each shape of input. `BURNISH_GOLDEN=FILE` takes another file of the same format: an
object of `inputs` by name, `cases` and `edge` ({objective, input, params, expect}), and `functions` ({function, args,
expect}). Ragged lists hold a number for each token; "inf", "-inf" and "nan" are strings.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from burnish.tensors import Drawn, Pairs, TokenScores

FOLDER = Path(__file__).with_name("golden")


@cache
def golden() -> dict[str, Any]:
    """All vectors as one object."""
    chosen = os.environ.get("BURNISH_GOLDEN")
    files = [Path(chosen)] if chosen else sorted(FOLDER.glob("*.json"))
    merged: dict[str, Any] = {"inputs": {}, "cases": [], "edge": [], "functions": []}
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        merged["inputs"] |= content.get("inputs", {})
        for section in ("cases", "edge", "functions"):
            merged[section] += content.get(section, [])
    return merged


def input_of(case: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = golden()["inputs"][case["input"]]
    return data


def cases_of(*objectives: str) -> list[tuple[str, dict[str, Any]]]:
    """(section, case) of these objectives."""
    return [(kind, c) for kind in ("cases", "edge") for c in golden()[kind] if c["objective"] in objectives]


def number(x: Any) -> float:
    return float(x) if isinstance(x, str) else x


def close(value: float, expected: Any, tolerance: float) -> bool:
    """Within `tolerance` x max(1, |expected|); what is not finite must be the same."""
    expected = number(expected)
    if not math.isfinite(expected):
        return value == expected or (math.isnan(value) and math.isnan(expected))
    return abs(value - expected) <= tolerance * max(1.0, abs(expected))


def agree(values: Sequence[float], expected: Sequence[Any], tolerance: float) -> None:
    assert len(values) == len(expected)
    assert all(close(a, b, tolerance) for a, b in zip(values, expected, strict=True)), (values, expected)


def column_of(rows: Sequence[Sequence[Any]], dtype: torch.dtype) -> torch.Tensor:
    """The numbers of ragged rows in one tensor."""
    return torch.tensor([number(x) for row in rows for x in row], dtype=dtype)


def tolerance_of(kind: str, dtype: torch.dtype) -> float:
    """The vectors' promise: float64 to rounding; float32 to what float32 inputs allow."""
    if dtype == torch.float64:
        return 1e-9
    return 5e-6 if kind == "cases" else 1e-4


def scores_of(data: dict[str, Any], dtype: torch.dtype) -> tuple[torch.Tensor, TokenScores, Pairs]:
    """Chosen and rejected of each pair as completions 2i and 2i + 1 of one microbatch."""
    rows = [row for pair in zip(data["pc"], data["pr"], strict=True) for row in pair]
    references = [row for pair in zip(data["rc"], data["rr"], strict=True) for row in pair]
    policy = column_of(rows, dtype).requires_grad_(True)
    reference = column_of(references, dtype)
    lengths = torch.tensor([len(row) for row in rows])
    number_of = torch.arange(len(rows)).repeat_interleave(lengths)
    square, kl = (_column(data, sides, dtype) for sides in (("qc", "qr"), ("kc", "kr")))
    if kl is not None:
        kl.requires_grad_(True)
    scores = TokenScores(policy, reference, number_of, lengths, torch.arange(len(rows)) // 2, square, kl)
    index = torch.arange(len(rows) // 2) * 2
    ones = torch.ones(len(index), dtype=dtype)
    wins = None
    if "pw" in data:
        wins = tuple(torch.tensor([number(x) for x in data[side]], dtype=dtype) for side in ("pw", "pl"))
    return policy, scores, Pairs(index, index + 1, ones, wins=wins, drawn=drawn_of(data, lengths))


def _column(data: dict[str, Any], sides: tuple[str, str], dtype: torch.dtype) -> torch.Tensor | None:
    """A number for every token; None where the input has none, for only some objectives read it."""
    if not all(side in data for side in sides):
        return None
    rows = [row for pair in zip(data[sides[0]], data[sides[1]], strict=True) for row in pair]
    return column_of(rows, dtype)


def drawn_of(data: dict[str, Any], lengths: torch.Tensor) -> tuple[Drawn, Drawn] | None:
    """The file's drawn positions of both sides, as tokens of the microbatch; None where it has none."""
    if "ic" not in data:
        return None
    starts = (lengths.cumsum(0) - lengths).tolist()
    sides = []
    for first, name in enumerate(("ic", "ir")):
        drawn = [(i, starts[2 * i + first] + place) for i, places in enumerate(data[name]) for place in places]
        rows = torch.tensor(drawn, dtype=torch.long).reshape(-1, 2)
        sides.append(Drawn(rows[:, 0], rows[:, 1]))
    return sides[0], sides[1]


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
