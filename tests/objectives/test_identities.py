"""Identities between objectives, and the places where a careless formula loses its digits (float64)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.errors import ConfigError
from burnish.objectives import TABLE
from burnish.objectives.likelihood import log1mexp
from burnish.objectives.whole_step import step_of
from burnish.tensors import Pairs, Singles, SingleSums
from tests.objectives.test_properties import LENGTHS, draw, losses_of, pairs_of, scores_of

COUNT = len(LENGTHS) // 2


def gradient(name: str, params: dict[str, Any], pairs: Pairs | None = None) -> tuple[Tensor, Tensor]:
    policy, reference = draw()
    leaf = policy.clone().requires_grad_(True)
    values = losses_of(name, params, leaf, reference, pairs).values
    values.sum().backward()
    assert leaf.grad is not None
    return values.detach(), leaf.grad


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("f_dpo", {"divergence": "reverse_kl"}), ("dpo", {})),
        (("ld_dpo", {"alpha": 1.0}), ("dpo", {})),
        (("r_dpo", {"alpha": 0.0}), ("dpo", {})),
        (("dpop", {"lam": 0.0}), ("dpo", {})),
        (("rpo", {"alpha": 0.0}), ("dpo", {})),
        (("robust_dpo", {"label_smoothing": 0.0}), ("dpo", {})),
        (("cpo", {"nll_weight": 0.0}), ("cpo", {"nll_weight": 0.0, "nll": "token_mean"})),
    ],
    ids=lambda x: f"{x[0]}-{x[1]}",
)
def test_special_cases_coincide(left: Any, right: Any) -> None:
    for ours, theirs in zip(gradient(*left), gradient(*right), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_robust_is_unbiased_under_flips() -> None:
    """(1 - e) loss(pair) + e loss(pair turned round) = the clean DPO loss (2403.00409)."""
    e = 0.2
    index = 2 * torch.arange(COUNT)
    turned = Pairs(index + 1, index, torch.ones(COUNT, dtype=torch.float64))
    right, wrong = (
        gradient("robust_dpo", {"label_smoothing": e}),
        gradient("robust_dpo", {"label_smoothing": e}, turned),
    )
    for kind in (0, 1):
        torch.testing.assert_close((1 - e) * right[kind] + e * wrong[kind], gradient("dpo", {})[kind])


def test_ld_dpo_at_zero_cuts_both_answers_to_the_shorter() -> None:
    policy, reference = draw()
    losses = losses_of("ld_dpo", {"alpha": 0.0}, policy, reference).values
    for i in range(COUNT):
        m = min(LENGTHS[2 * i : 2 * i + 2])
        starts = [sum(LENGTHS[: 2 * i]), sum(LENGTHS[: 2 * i + 1])]
        a, b = ((policy - reference)[s : s + m].sum() for s in starts)
        assert losses[i].item() == pytest.approx(-math.log(1 / (1 + math.exp(-0.1 * float(a - b)))), rel=1e-12)


def test_a_completion_in_several_pairs_is_cut_for_each() -> None:
    """LD-DPO on a ranked group: the middle answer is cut at another length in each of its pairs."""
    policy, reference = draw([4, 7, 2])
    group = torch.zeros(3, dtype=torch.long)
    scores = scores_of(policy, reference, [4, 7, 2])
    scores = type(scores)(policy, reference, scores.completion_of, scores.lengths, group)
    both = Pairs(torch.tensor([1, 1]), torch.tensor([0, 2]), torch.ones(2, dtype=torch.float64))
    together = TABLE["ld_dpo"].function(scores, both, alpha=0.3).values
    for k in range(2):
        one = Pairs(both.chosen[k : k + 1], both.rejected[k : k + 1], both.weight[:1])
        assert TABLE["ld_dpo"].function(scores, one, alpha=0.3).values.item() == pytest.approx(together[k].item())


def test_token_mean_is_the_steps_whatever_the_microbatches() -> None:
    """RPO's likelihood per token of the step: pairs apart, each told the step's mean length, give the step's loss."""
    policy, reference = draw()
    chosen = [n for n in LENGTHS[::2]]
    mean = sum(chosen) / len(chosen)
    whole = losses_of("rpo", {"nll": "token_mean"}, policy, reference).values
    parts = []
    for i in range(COUNT):
        start, lengths = sum(LENGTHS[: 2 * i]), LENGTHS[2 * i : 2 * i + 2]
        rows = slice(start, start + sum(lengths))
        alone = pairs_of(1)
        told = Pairs(alone.chosen, alone.rejected, alone.weight, mean_length=mean)
        scores = scores_of(policy[rows], reference[rows], lengths)
        parts.append(TABLE["rpo"].function(scores, told, nll="token_mean").values)
    torch.testing.assert_close(torch.cat(parts).sum(), whole.sum(), rtol=1e-13, atol=0)
    nll = -policy.split(LENGTHS)[0].sum() - sum(float(p.sum()) for p in policy.split(LENGTHS)[2::2])
    dpo = losses_of("dpo", {}, policy, reference).values
    assert (whole - dpo).mean().item() == pytest.approx(float(nll) / sum(chosen), rel=1e-12)


@pytest.mark.parametrize("x", [-1e-12, -1e-7, -0.3, -0.7, -30.0, -745.0, -5000.0])
def test_log1mexp_keeps_its_digits_and_its_gradient(x: float) -> None:
    """d/dx log(1 - e^x) = -1 / (e^-x - 1); the value is log(-expm1(x)) near 0 and -e^x far out."""
    leaf = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    value = log1mexp(leaf)
    value.sum().backward()
    expected = math.log(-math.expm1(x)) if x > -1 else math.log1p(-math.exp(x))
    assert value.item() == pytest.approx(expected, rel=1e-13, abs=1e-300)
    assert leaf.grad is not None
    slope = -1 / math.expm1(-x) if x > -700 else 0.0
    assert leaf.grad.item() == pytest.approx(slope, rel=1e-12, abs=1e-300)


def test_discopop_pushes_the_wrong_way_at_the_start() -> None:
    """Its published slope at D = 0 with beta = tau = 0.05 is +0.78 in r = beta D (a known trait, not a bug here)."""
    policy, _ = draw([4, 4])
    leaf = policy.clone().requires_grad_(True)
    TABLE["discopop"].function(scores_of(leaf, policy, [4, 4]), pairs_of(1)).values.sum().backward()
    assert leaf.grad is not None and float(leaf.grad[0]) / 0.05 == pytest.approx(0.78, abs=0.01)


@pytest.mark.parametrize("name", ["apo_zero", "apo_down", "exo_pair"])
@pytest.mark.parametrize("far", [-3000.0, 3000.0])
def test_bounded_losses_stay_finite_far_out(name: str, far: float) -> None:
    policy, reference = draw([4, 4])
    leaf = (policy + torch.tensor([far / 4] * 4 + [0.0] * 4)).requires_grad_(True)
    values = TABLE[name].function(scores_of(leaf, reference, [4, 4]), pairs_of(1)).values
    values.sum().backward()
    assert leaf.grad is not None and values.isfinite().all() and leaf.grad.isfinite().all()


def test_sppo_needs_chances_where_it_is_told_to_use_them() -> None:
    policy, reference = draw()
    with pytest.raises(ConfigError, match="chance of winning"):
        losses_of("sppo", {"soft": True}, policy, reference)


WHOLE = ["aot_paired", "aot_unpaired", "bco_pair_batch_shift", "beta_dpo"]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_first_pass_makes_microbatches_the_step(name: str, cut: int) -> None:
    """Loss and gradient of the parts, each told the whole step's sums, are those of the step in one piece."""
    policy, reference = draw()
    value, whole = gradient(name, {})
    index = 2 * torch.arange(COUNT)
    scores = scores_of(policy, reference, LENGTHS)
    step, _ = step_of(scores, pairs_of(COUNT))
    leaf = policy.clone().requires_grad_(True)
    total = torch.zeros((), dtype=torch.float64)
    for some in (index[:cut] // 2, index[cut:] // 2):
        ones = torch.ones(len(some), dtype=torch.float64)
        told = Pairs(2 * some, 2 * some + 1, ones, step=step, place=some)
        losses = TABLE[name].function(scores_of(leaf, reference, LENGTHS), told).values
        losses.sum().backward()
        total += losses.detach().sum()
    assert leaf.grad is not None
    torch.testing.assert_close(total, value.sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(leaf.grad, whole, rtol=1e-10, atol=1e-14)


def test_sorting_changes_nothing_where_both_are_sorted_alike() -> None:
    """AOT on one pair is DPO; on more, the sum is the least transport: never above that of any other matching."""
    policy, reference = draw([4, 3])
    one = [TABLE[n].function(scores_of(policy, reference, [4, 3]), pairs_of(1)).values for n in ("aot_paired", "dpo")]
    torch.testing.assert_close(*one, rtol=1e-12, atol=0)


def test_kto_is_the_papers_formula_and_needs_its_mismatched_answers() -> None:
    policy, reference = draw([3, 2, 4])
    index, labels = torch.arange(3), torch.tensor([True, False, True])
    scores = scores_of(policy, reference, [3, 2, 4])
    h = scores.logratios
    for kl in ([0.4, -0.1], [-2.0, 0.5]):
        z0 = max(0.0, sum(kl) / 2)
        step = SingleSums(h, labels, torch.tensor(kl, dtype=torch.float64))
        found = TABLE["kto"].function(scores, Singles(index, labels, step), beta=0.3, undesirable=1.5).values
        s = torch.sigmoid(-0.3 * torch.where(labels, h - z0, z0 - h))
        torch.testing.assert_close(found, torch.where(labels, 1.0, 1.5) * s)
    with pytest.raises(ValueError, match="mismatched"):
        TABLE["kto"].function(scores, Singles(index, labels))


def test_bco_of_one_class_uses_its_own_mean_and_apo_is_kto_without_a_baseline() -> None:
    policy, reference = draw([3, 2])
    scores, index = scores_of(policy, reference, [3, 2]), torch.arange(2)
    yes = torch.tensor([True, True])
    mean = 0.1 * scores.logratios.mean()
    found = TABLE["bco"].function(scores, Singles(index, yes)).values
    torch.testing.assert_close(found, -torch.nn.functional.logsigmoid(0.1 * scores.logratios - mean))
    mixed = Singles(index, torch.tensor([True, False]), SingleSums(scores.logratios, yes, torch.zeros(1).double()))
    apo, kto = (TABLE[name].function(scores, mixed).values for name in ("apo_zero_unpaired", "kto"))
    torch.testing.assert_close(apo, kto)
