"""Objectives of single answers with a yes or a no, each against its formula (float64)."""

from __future__ import annotations

from math import log
from statistics import mean

import pytest
import torch
from pytest import approx

from burnish.group import EncodedGroup, Labels
from burnish.objectives.feedback import mismatched
from burnish.objectives.unpaired import apo_zero_unpaired, bco, kto
from burnish.tensors import Singles, SingleSums
from tests.objectives.microbatch import answers, s

POLICY = [[-1.0, -2.0], [-0.5], [-3.0, -0.25]]
REFERENCE = [[-1.25, -1.0], [-1.0], [-1.0, -0.5]]
YES = [True, False, True]
h = [sum(p) - sum(q) for p, q in zip(POLICY, REFERENCE, strict=True)]
SCORES = answers(POLICY, REFERENCE)


def singles(labels: list[bool], mismatched: list[float] | None = None) -> Singles:
    """These labels of the answers; the step's sums where there are log-ratios of mismatched answers."""
    desirable = torch.tensor(labels)
    step = None
    if mismatched is not None:
        step = SingleSums(SCORES.logratios, desirable, torch.tensor(mismatched, dtype=torch.float64))
    return Singles(torch.arange(len(labels)), desirable, step)


@pytest.mark.parametrize("mismatched", [[0.4, -0.1], [-2.0, 0.5]])
def test_kto(mismatched: list[float]) -> None:
    z0 = max(0, mean(mismatched))
    losses = kto(SCORES, singles(YES, mismatched), beta=0.3, desirable=1.2, undesirable=1.5)
    expected = [1.2 * s(-0.3 * (h[0] - z0)), 1.5 * s(-0.3 * (z0 - h[1])), 1.2 * s(-0.3 * (h[2] - z0))]
    assert losses.unit == "completion" and losses.values.tolist() == approx(expected)
    assert losses.metrics["kl/mismatched"].mean == approx(z0)
    with pytest.raises(ValueError, match="mismatched"):
        kto(SCORES, singles(YES))


def test_kto_has_no_baseline_where_there_is_one_prompt_only() -> None:
    losses = kto(SCORES, singles(YES, []), beta=0.3)
    assert losses.values.tolist() == approx([s(-0.3 * h[0]), s(0.3 * h[1]), s(-0.3 * h[2])])
    assert losses.metrics["kl/mismatched"].mean == 0.0


def test_a_mismatched_answer_is_any_other_prompts() -> None:
    """The next group of the step with another prompt; else the first in the data; none where there is one prompt."""

    def group(prompt: int, answer: int) -> EncodedGroup:
        return EncodedGroup(f"{answer}", (prompt,), ((answer,),), (True,), Labels((True,)))

    def partners(step: list[EncodedGroup], data: list[EncodedGroup]) -> list[tuple[int, int]]:
        return [(g.prompt_ids[0], g.completion_ids[0][0]) for g in mismatched(step, data)]

    a, b, c, d = group(1, 11), group(1, 12), group(2, 13), group(2, 14)
    assert partners([a, b, c], [a, b, c, d]) == [(1, 13), (1, 13), (2, 11)]
    assert partners([a, b], [a, b, d, c]) == [(1, 14), (1, 14)]
    assert partners([a, b], [a, b]) == []


def test_bco() -> None:
    """delta is the mean of the two classes' means; of one class its own mean; or what is set."""
    delta = 0.3 * (mean([h[0], h[2]]) + h[1]) / 2
    expected = [-log(s(0.3 * h[0] - delta)), -log(s(-(0.3 * h[1] - delta))), -log(s(0.3 * h[2] - delta))]
    assert bco(SCORES, singles(YES), beta=0.3).values.tolist() == approx(expected)
    shift = 0.3 * mean(h)
    assert bco(SCORES, singles([True] * 3), beta=0.3).values.tolist() == approx([-log(s(0.3 * x - shift)) for x in h])
    assert bco(SCORES, singles([False] * 3), beta=0.3, delta=0.2).values.tolist() == approx(
        [-log(s(-(0.3 * x - 0.2))) for x in h]
    )


def test_apo_zero_unpaired() -> None:
    expected = [s(-0.3 * h[0]), s(0.3 * h[1]), s(-0.3 * h[2])]
    assert apo_zero_unpaired(SCORES, singles(YES), beta=0.3).values.tolist() == approx(expected)
    assert kto(SCORES, singles(YES, [0.0]), beta=0.3).values.tolist() == approx(expected)
