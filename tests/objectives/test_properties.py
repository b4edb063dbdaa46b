"""What every objective of pairs owes whatever the numbers: symmetries, closed forms, splits, gradients (float64)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.errors import ConfigError
from burnish.objectives import TABLE, find
from burnish.objectives.metrics import CalibrationError, Correlation, half_ties
from burnish.tensors import Losses, Metric, Pairs, Singles, TokenScores

PAIRWISE: list[Any] = [
    ("dpo", {}),
    ("dpo", {"label_smoothing": 0.1}),
    ("dpo_norm", {}),
    ("dpo_norm", {"label_smoothing": 0.2}),
    ("ipo", {}),
    ("ipo", {"normalize": "avg"}),
    ("simpo", {}),
    ("simpo", {"label_smoothing": 0.1, "gamma": 0.3}),
    ("r_dpo", {}),
    ("hinge", {}),
]
# what moves a margin by one coefficient for each side, and saturates far out: contract 1.3 and 1.5 hold to the letter
MARGINS = PAIRWISE[:]
PAIRWISE += [
    ("ld_dpo", {"ref": "policy"}),
    ("chi_po", {"clip": 0.15}),
    ("f_dpo", {"divergence": "forward_kl"}),
    ("f_dpo", {"divergence": "js"}),
    ("f_dpo", {"divergence": "alpha"}),
    ("rpo", {"nll": "seq_sum"}),
    ("slic_hf", {"reg_norm": "avg"}),
]
# objectives of the whole step, and of more than log-probs, have tests of their own (test_identities, test_positions)
ALONE = [name for name, row in TABLE.items() if row.view == "pairs" and row.needs <= {"reference"}]
PAIRWISE += [(name, {}) for name in ALONE if (name, {}) not in PAIRWISE]
LENGTHS = [3, 5, 1, 4, 6, 2, 7, 7, 2, 2]  # completions 2i and 2i + 1 are pair i
every_margin = pytest.mark.parametrize(("name", "params"), MARGINS)
every_pairwise = pytest.mark.parametrize(("name", "params"), PAIRWISE)


def scores_of(policy: Tensor, reference: Tensor | None, lengths: list[int]) -> TokenScores:
    sizes = torch.tensor(lengths)
    number = torch.arange(len(lengths))
    return TokenScores(policy, reference, number.repeat_interleave(sizes), sizes, number // 2)


def draw(lengths: list[int] = LENGTHS, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    policy = -3 * torch.rand(sum(lengths), generator=generator, dtype=torch.float64)
    return policy, policy - 0.3 * torch.randn(sum(lengths), generator=generator, dtype=torch.float64)


def pairs_of(count: int, weight: Tensor | None = None) -> Pairs:
    index = 2 * torch.arange(count)
    return Pairs(index, index + 1, torch.ones(count, dtype=torch.float64) if weight is None else weight)


def losses_of(
    name: str, params: dict[str, Any], policy: Tensor, reference: Tensor, pairs: Pairs | None = None
) -> Losses:
    scores = scores_of(policy, reference, LENGTHS)
    losses: Losses = TABLE[name].function(scores, pairs or pairs_of(len(LENGTHS) // 2), **params)
    return losses


@every_pairwise
def test_autograd_agrees_with_finite_differences(name: str, params: dict[str, Any]) -> None:
    policy, reference = draw()
    assert torch.autograd.gradcheck(
        lambda p: losses_of(name, params, p, reference).values, (policy.clone().requires_grad_(True),)
    )


@every_pairwise
@pytest.mark.parametrize("n", [(4, 4), (1, 9), (9, 1)])
def test_at_the_reference_the_loss_is_its_closed_form(name: str, params: dict[str, Any], n: tuple[int, int]) -> None:
    """log 2 for dpo and dpo_norm whatever the smoothing, 1/(4 tau^2) for ipo; none for simpo: it has no reference."""
    policy, _ = draw(list(n))
    row = TABLE[name]
    value = row.function(scores_of(policy, policy.clone(), list(n)), pairs_of(1), **params).values.item()
    expected = row.at_reference(row.validate(params))
    if name in ("simpo", "cpo", "orpo", "slic_hf", "r_dpo", "rpo", "sppo") or params.get("ref") == "policy":
        assert expected is None  # no reference, or a length or likelihood term that no closed form holds
    else:
        if name in ("ipo", "dpo", "dpo_norm", "robust_dpo"):
            assert expected == pytest.approx(25.0 if name == "ipo" else math.log(2), rel=1e-14)
        assert value == pytest.approx(expected, rel=1e-13)


@given(e=st.floats(0.01, 0.49), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_swapping_the_sides_maps_smoothing_e_to_1_minus_e(e: float, seed: int) -> None:
    """cdpo(e) of (w, l) = (1-e) f(z) + e f(-z) = cdpo(1-e) of (l, w), for dpo and dpo_norm."""
    policy, reference = draw(seed=seed)
    straight = pairs_of(len(LENGTHS) // 2)
    swapped = Pairs(straight.rejected, straight.chosen, straight.weight)
    for name in ("dpo", "dpo_norm"):
        ours = losses_of(name, {"label_smoothing": e}, policy, reference, straight).values
        theirs = losses_of(name, {"label_smoothing": 1 - e}, policy, reference, swapped).values
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("name", "params"), [case for case in PAIRWISE if case[0] != "ld_dpo"])  # it cuts by place
def test_token_order_within_a_completion_does_not_matter(name: str, params: dict[str, Any]) -> None:
    policy, reference = draw()
    starts = np.cumsum([0, *LENGTHS[:-1]])
    order = torch.cat([torch.arange(s, s + n).flip(0) for s, n in zip(starts, LENGTHS, strict=True)])
    ours = losses_of(name, params, policy, reference)
    theirs = losses_of(name, params, policy[order], reference[order])
    torch.testing.assert_close(ours.values, theirs.values, rtol=1e-12, atol=0)


@every_pairwise
def test_packing_order_permutes_losses_and_rewards_and_changes_no_metric(name: str, params: dict[str, Any]) -> None:
    """Completions packed in reverse, and pairs listed in reverse: the same numbers, in the other order."""
    policy, reference = draw()
    count = len(LENGTHS)
    pieces = [list(x.split(LENGTHS))[::-1] for x in (policy, reference)]
    scores = scores_of(torch.cat(pieces[0]), torch.cat(pieces[1]), LENGTHS[::-1])
    straight = pairs_of(count // 2)
    turned = Pairs(count - 1 - straight.chosen.flip(0), count - 1 - straight.rejected.flip(0), straight.weight)
    ours, theirs = losses_of(name, params, policy, reference), TABLE[name].function(scores, turned, **params)
    torch.testing.assert_close(ours.values, theirs.values.flip(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.rewards, theirs.rewards.flip(0), rtol=1e-12, atol=1e-14)
    for key, metric in ours.metrics.items():
        assert metric.mean == pytest.approx(theirs.metrics[key].mean, rel=1e-9, abs=1e-12, nan_ok=True), key


@every_pairwise
@given(cut=st.integers(1, len(LENGTHS) // 2 - 1))
@settings(max_examples=10, deadline=None)
def test_any_split_into_microbatches_gives_the_step(name: str, params: dict[str, Any], cut: int) -> None:
    """Sums of losses and gradients, and every metric (pooled ones too), add over microbatches."""
    policy, reference = draw()
    whole_policy = policy.clone().requires_grad_(True)
    whole = losses_of(name, params, whole_policy, reference)
    whole.values.sum().backward()
    here = sum(LENGTHS[: 2 * cut])
    total, gradients, metrics = 0.0, [], {}
    for rows, lengths in ((slice(0, here), LENGTHS[: 2 * cut]), (slice(here, None), LENGTHS[2 * cut :])):
        part_policy = policy[rows].clone().requires_grad_(True)
        scores = scores_of(part_policy, reference[rows], lengths)
        part = TABLE[name].function(scores, pairs_of(len(lengths) // 2), **params)
        part.values.sum().backward()
        total += part.values.sum().item()
        gradients.append(part_policy.grad)
        metrics = {k: metrics[k] + m if k in metrics else m for k, m in part.metrics.items()}
    assert total == pytest.approx(whole.values.sum().item(), rel=1e-12)
    torch.testing.assert_close(torch.cat(gradients), whole_policy.grad, rtol=1e-12, atol=1e-15)
    assert metrics.keys() == whole.metrics.keys()
    for key, metric in whole.metrics.items():
        assert type(metrics[key]) is type(metric)
        assert metrics[key].mean == pytest.approx(metric.mean, rel=1e-9, abs=1e-12, nan_ok=True), key


@every_margin
def test_one_coefficient_per_side_and_only_means_divide_it_by_the_length(name: str, params: dict[str, Any]) -> None:
    """`dL/dp_t` is equal for all tokens of a completion; the sides differ in sign, and by their n where means."""
    policy, reference = draw()
    policy.requires_grad_(True)
    losses_of(name, params, policy, reference).values.sum().backward()
    assert policy.grad is not None
    pieces = policy.grad.split(LENGTHS)
    means = name in ("dpo_norm", "simpo") or params.get("normalize") == "avg"
    for chosen, rejected in zip(pieces[::2], pieces[1::2], strict=True):
        assert all(torch.equal(side, side[:1].expand_as(side)) for side in (chosen, rejected))
        scale = (len(chosen), len(rejected)) if means else (1, 1)
        assert (chosen[0] * scale[0]).item() == pytest.approx(-(rejected[0] * scale[1]).item(), rel=1e-12)


def test_no_two_objectives_have_the_same_gradient() -> None:
    """A row of the table that computes its neighbour's loss would pass most other tests."""
    policy, reference = draw()
    gradients = []
    for name, params in PAIRWISE:
        if (name, params) == ("f_dpo", {}):
            continue  # under the reverse KL it is DPO
        leaf = policy.clone().requires_grad_(True)
        losses_of(name, params, leaf, reference).values.sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad / leaf.grad.norm())
    for i, left in enumerate(gradients):
        for right in gradients[:i]:
            assert float((left - right).norm()) > 1e-4


def test_a_shift_of_the_reference_cancels_between_equal_lengths() -> None:
    policy, reference = draw()
    equal = torch.tensor([a == b for a, b in zip(LENGTHS[::2], LENGTHS[1::2], strict=True)])
    assert equal.any() and not equal.all()
    for name in ("dpo", "ipo"):
        moved = losses_of(name, {}, policy, reference + 0.7).values - losses_of(name, {}, policy, reference).values
        assert moved[equal].abs().max() < 1e-12 and moved[~equal].abs().min() > 1e-3


def test_weights_multiply_the_losses_and_not_the_metrics() -> None:
    policy, reference = draw()
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    plain = losses_of("dpo", {}, policy, reference)
    weighted = losses_of("dpo", {}, policy, reference, pairs_of(5, weight))
    torch.testing.assert_close(weighted.values, plain.values * weight, rtol=1e-15, atol=0)
    assert weighted.metrics["rewards/margins"].mean == plain.metrics["rewards/margins"].mean


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("name", "params"), [case for case in MARGINS if case[0] != "ipo"])  # a square: no saturation
def test_the_contract_on_infinities(name: str, params: dict[str, Any], dtype: torch.dtype) -> None:
    """-inf on the chosen's policy side: loss +inf, gradient saturated. Mirrored, unsmoothed: 0 and 0. NaN passes on."""

    def run(at: int, value: float) -> tuple[float, Tensor]:
        policy = torch.full((4,), -1.0, dtype=dtype)
        policy[at] = value
        policy.requires_grad_(True)
        scores = scores_of(policy, torch.full((4,), -1.5, dtype=dtype), [2, 2])
        pair = Pairs(torch.tensor([0]), torch.tensor([1]), torch.ones(1, dtype=dtype))
        values = TABLE[name].function(scores, pair, **params).values
        values.sum().backward()
        assert policy.grad is not None
        return values.item(), policy.grad

    loss, gradient = run(0, -math.inf)
    assert loss == math.inf and bool(gradient.isfinite().all()) and bool((gradient[:2] < 0).all())
    loss, gradient = run(2, -math.inf)
    if params.get("label_smoothing"):
        assert loss == math.inf and bool(gradient.isfinite().all())
    else:
        assert loss == 0 and not gradient.any()
    assert math.isnan(run(1, math.nan)[0])


def test_minus_infinity_in_policy_and_reference_is_not_hidden() -> None:
    policy, reference = draw()
    policy[0] = reference[0] = -math.inf
    for name in ("dpo", "dpo_norm", "ipo"):
        assert not math.isfinite(losses_of(name, {}, policy, reference).values.sum().item())


def test_an_empty_completion_stays_finite() -> None:
    for name, params in PAIRWISE:
        for lengths in ([0, 3], [3, 0]):
            policy, reference = draw(lengths)
            policy.requires_grad_(True)
            losses = TABLE[name].function(scores_of(policy, reference, lengths), pairs_of(1), **params)
            losses.values.sum().backward()
            assert policy.grad is not None
            assert losses.values.isfinite().all() and policy.grad.isfinite().all()
            assert losses.rewards is not None
            if name not in ("chi_po", "f_dpo"):  # their scores are not 0 at a log-ratio of 0
                assert losses.rewards[lengths.index(0)] == 0


def test_rewards_are_those_inside_the_loss() -> None:
    policy, reference = draw()
    scores = scores_of(policy, reference, LENGTHS)
    a, s, n = scores.logratios, scores.logps, torch.tensor(LENGTHS, dtype=torch.float64)
    inside = {"dpo": 0.1 * a, "dpo_norm": 5 * a / n, "ipo": 0.1 * a, "simpo": 2 * s / n}
    for name, rewards in inside.items():
        losses = losses_of(name, {}, policy, reference)
        torch.testing.assert_close(losses.rewards, rewards, rtol=1e-14, atol=0)
        assert losses.metrics["rewards/chosen"].mean == pytest.approx(rewards[::2].mean().item(), rel=1e-12)
        assert losses.metrics["rewards/accuracies"].mean == (rewards[::2] > rewards[1::2]).double().mean().item()
    assert losses_of("dpo", {}, policy, reference).metrics["calibration/nll"].mean == pytest.approx(
        losses_of("dpo", {}, policy, reference).values.mean().item(), rel=1e-12
    )


def test_each_side_is_measured_on_its_own() -> None:
    """Sums S and a, their per-token means, lengths, and the accuracies split by which side is longer."""
    policy, reference = draw()
    n = torch.tensor(LENGTHS, dtype=torch.float64)
    s, a = (torch.stack([row.sum() for row in x.split(LENGTHS)]) for x in (policy, policy - reference))
    means = {name: m.mean for name, m in losses_of("dpo", {}, policy, reference).metrics.items()}
    for side, rows in (("chosen", slice(0, None, 2)), ("rejected", slice(1, None, 2))):
        for name, values in (("logps", s), ("logratio", a)):
            assert means[f"{name}/{side}"] == pytest.approx(values[rows].mean().item(), rel=1e-12)
            assert means[f"{name}/{side}_per_token"] == pytest.approx((values / n)[rows].mean().item(), rel=1e-12)
        assert means[f"length/{side}"] == n[rows].mean().item()
    won, longer, shorter = a[::2] > a[1::2], n[::2] > n[1::2], n[::2] < n[1::2]
    assert means["rewards/accuracies_longer"] == won[longer].double().mean().item()
    assert means["rewards/accuracies_shorter"] == won[shorter].double().mean().item()
    assert means["length/longer_wins"] == (longer.double() + (1 - longer.double() - shorter.double()) / 2).mean().item()
    assert means["length/reward_correlation"] == pytest.approx(np.corrcoef(a, n)[0, 1], rel=1e-9)
    free = TABLE["simpo"].function(scores_of(policy, None, LENGTHS), pairs_of(len(LENGTHS) // 2))
    assert not any(name.startswith("logratio/") for name in free.metrics)


def test_sft_is_the_mean_nll_of_the_trained_tokens_only() -> None:
    policy, _ = draw()
    policy.requires_grad_(True)
    trained = torch.tensor([0, 3, 9])
    losses = TABLE["sft"].function(scores_of(policy, None, LENGTHS), Singles(trained, torch.ones(3, dtype=torch.bool)))
    assert losses.unit == "token" and len(losses.values) == sum(LENGTHS[i] for i in trained)
    losses.values.mean().backward()
    assert policy.grad is not None
    for i, gradient in enumerate(policy.grad.split(LENGTHS)):
        torch.testing.assert_close(gradient, torch.full_like(gradient, -1 / len(losses.values) if i in trained else 0))
    sums = torch.stack([row.sum() for row in policy.detach().split(LENGTHS)])
    assert losses.metrics["logps/chosen"].mean == pytest.approx(sums[trained].mean().item(), rel=1e-12)


def test_long_float32_sums_keep_their_digits() -> None:
    """S of 32 000 float32 tokens is right to the last place of a float32."""
    policy = torch.full((32_000,), -1.1, dtype=torch.float32)
    exact = 32_000 * policy[0].double().item()
    assert scores_of(policy, None, [32_000]).logps.item() == pytest.approx(exact, rel=6e-8)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_calibration_error_is_the_binned_formula(margins: list[float], cut: int) -> None:
    """sum_b |n_b| / N |conf_b - acc_b|, here bin by bin in numpy; and it pools over a split."""
    margin = np.array(margins)
    conf = 1 / (1 + np.exp(-abs(margin)))
    won = np.where(margin > 0, 1.0, np.where(margin < 0, 0.0, 0.5))
    bins = np.minimum(((conf - 0.5) * 20).astype(int), 9)
    expected = sum(
        (bins == b).mean() * abs(conf[bins == b].mean() - won[bins == b].mean()) for b in range(10) if (bins == b).any()
    )
    x = torch.tensor(margins, dtype=torch.float64)
    split = CalibrationError.of(x[:cut]) + CalibrationError.of(x[cut:])
    assert split.mean == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_correlation_is_pearsons_and_undefined_for_a_constant() -> None:
    x, y = (torch.randn(50, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (1, 2))
    y = y + x - 7
    pooled = Correlation.of_two(x[:13], y[:13]) + Correlation.of_two(x[13:], y[13:])
    assert pooled.mean == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-12)
    assert math.isnan(Correlation.of_two(torch.full((7,), 0.1), torch.arange(7)).mean)
    assert math.isnan(Correlation.of_two(torch.zeros(0), torch.zeros(0)).mean)


def test_a_metric_without_units_is_not_a_number_and_adds_nothing() -> None:
    assert math.isnan(Metric.of(torch.zeros(0)).mean) and (Metric.of(torch.zeros(0)) + Metric(3.0, 2.0)).mean == 1.5
    assert half_ties(torch.tensor([-1.0, 0.0, 2.0])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("name", "params", "told"),
    [
        ("dpo", {"betta": 1}, "did you mean 'objective.beta'"),
        ("dpo", {"zzz": 1}, "no setting 'objective.zzz'. Its settings: beta, label_smoothing"),
        ("sft", {"beta": 1}, "Its settings: none at all"),
        ("dpo", {"beta": 0}, "must be above 0"),
        ("dpo", {"beta": True}, "must be a finite number"),
        ("dpo", {"beta": math.nan}, "must be a finite number"),
        ("dpo", {"beta": 10**400}, "must be a finite number"),
        ("dpo", {"beta": 1e39}, "must be a finite number, as losses hold it: 1e-38 to 3e\\+38 or 0"),
        ("dpo", {"beta": 1e-39}, "must be a finite number"),
        ("chi_po", {"clip": 1e39}, "must be a finite number"),
        ("dpo", {"label_smoothing": 0.5}, "below 0.5"),
        ("ipo", {"normalize": "mean"}, "must be one of 'sum', 'avg'"),
        ("simpo", {"gamma": -1}, "must be at least 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name: str, params: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        find(name).validate(params)


def test_the_defaults_are_the_configuration() -> None:
    assert find("dpo").validate({}) == {"beta": 0.1, "label_smoothing": 0.0}
    assert find("dpo").validate({"beta": 1})["beta"] == 1.0
    with pytest.raises(ConfigError, match="did you mean 'dpo'"):
        find("dpoo")
