"""Policy-gradient objectives and the functions beside them: golden vectors, and what must coincide (float64)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from burnish.engine.reference import tr_dpo_update
from burnish.errors import ConfigError
from burnish.objectives import TABLE
from burnish.objectives.advantages import (
    adaptive_coefficient,
    gae,
    group_advantages,
    overlong_penalty,
    rewards_with_kl,
    whiten,
)
from burnish.objectives.whole_step import beta_dpo_state
from burnish.tensors import Losses, Rollouts, TokenScores
from tests.objectives.vectors import cases_of, close, golden, input_of, number, tolerance_of

NAMES = ("pg", "reinforce", "kl_loss", "value_loss")


def flat(rows: list[list[Any]], dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor([number(x) for row in rows for x in row], dtype=dtype)


def rollouts_of(data: dict[str, Any], dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], TokenScores, Rollouts]:
    lengths = torch.tensor([len(row) for row in data["new"]])
    number_of = torch.arange(len(lengths)).repeat_interleave(lengths)
    leaves = {name: flat(data[name], dtype).requires_grad_(True) for name in ("new", "values")}
    group = torch.tensor(data["group"])
    scores = TokenScores(leaves["new"], flat(data["ref"], dtype), number_of, lengths, group)
    advantage = torch.tensor([number(x) for x in data["adv"]], dtype=dtype)[number_of]
    mask = flat(data["mask"], dtype) > 0
    old, back = flat(data["old_values"], dtype), flat(data["returns"], dtype)
    return leaves, scores, Rollouts(flat(data["old"], dtype), advantage, mask, leaves["values"], old, back)


def cases() -> list[Any]:
    return [pytest.param(kind, c, id=f"{c['id']}-{c['objective']}") for kind, c in cases_of(*NAMES)]


def step_loss(losses: Losses, completions: int) -> torch.Tensor:
    """Divided by the step's count of the unit."""
    units = completions if losses.unit == "completion" else len(losses.values)
    return losses.values.sum() / max(1, units)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("kind", "case"), cases())
def test_golden_of_rollouts(kind: str, case: dict[str, Any], dtype: torch.dtype) -> None:
    leaves, scores, rollouts = rollouts_of(input_of(case), dtype)
    losses = TABLE[case["objective"]].function(scores, rollouts, **case["params"])
    total = step_loss(losses, len(scores.lengths))
    expect = case["expect"]
    if expect.get("contract") == "signal":
        assert not math.isfinite(float(total.detach()))
        return
    total.backward()
    tolerance = tolerance_of(kind, dtype)
    assert close(float(total.detach()), expect["loss"], tolerance)
    if losses.unit == "completion" and len(expect["losses"]) == len(losses.values) > 1:
        assert all(close(a, b, tolerance) for a, b in zip(losses.values.tolist(), expect["losses"], strict=True))
    for name, rows in expect["grad"].items():
        grad = leaves[name].grad
        assert grad is not None
        theirs = [x for row in rows for x in row]
        assert all(close(a, number(b), tolerance) for a, b in zip(grad.tolist(), theirs, strict=True))
    if (expect.get("extra") or {}).get("kl_mean") is not None:
        assert close(losses.metrics["kl/mean"].mean, expect["extra"]["kl_mean"], tolerance)


def called(name: str, given: dict[str, Any]) -> Any:
    """The function of the golden file, with its arguments as tensors."""

    def rows(key: str) -> list[torch.Tensor]:
        return [torch.tensor([number(x) for x in row], dtype=torch.float64) for row in given[key]]

    def masks() -> list[torch.Tensor]:
        return [torch.tensor(row) > 0 for row in given["mask"]]

    if name == "adv_group":
        rest = {k: v for k, v in given.items() if k not in ("rewards", "groups")}
        rewards = torch.tensor([number(x) for x in given["rewards"]], dtype=torch.float64)
        return group_advantages(rewards, torch.tensor(given["groups"]), **rest).tolist()
    if name == "gae":
        found = gae(rows("rewards"), rows("values"), masks(), given["gamma"], given["lam"])
        return [[row.tolist() for row in side] for side in found]
    if name == "whiten":
        rest = {k: v for k, v in given.items() if k not in ("rows", "mask")}
        return [row.tolist() for row in whiten(rows("rows"), masks(), **rest)]
    if name == "kl_in_reward":
        scores = torch.tensor(given["scores"], dtype=torch.float64)
        return [row.tolist() for row in rewards_with_kl(scores, rows("new"), rows("ref"), masks(), given["coef"])]
    if name == "dapo_overlong_penalty":
        return overlong_penalty(**given)
    if name == "beta_dpo_state":
        return list(beta_dpo_state(**given))
    if name == "tr_dpo_update":
        sides = {k: torch.tensor(given[k], dtype=torch.float64) for k in ("ref", "pol")}
        return tr_dpo_update(**{**given, **sides}).tolist()
    if name == "from_logits":
        return from_logits(given)
    raise AssertionError(name)


def from_logits(given: dict[str, Any]) -> dict[str, list[float]]:
    """Through the head's own functions: hidden states are the logits, the head the unit matrix."""
    from burnish.engine.divergence import HeadInput, kl_from_reference
    from burnish.engine.logprob import HeadTransform, log_square_sums, token_logprobs

    logits, reference = (torch.tensor(given[k], dtype=torch.float64) for k in ("logits", "ref_logits"))
    one = torch.eye(logits.shape[1], dtype=torch.float64)
    labels = torch.tensor(given["labels"])
    p, q = (HeadInput(x, one, None, HeadTransform()) for x in (logits, reference))
    log_p = p.log_probs(slice(None))[0]
    return {
        "logp": token_logprobs(logits, one, labels).tolist(),
        "ref_logp": token_logprobs(reference, one, labels).tolist(),
        "entropy": (-(log_p.exp() * log_p).sum(-1)).tolist(),
        "log_sum_sq": log_square_sums(logits, one).tolist(),
        "kl_ref_pol": kl_from_reference(p, q).tolist(),
        "kl_pol_ref": kl_from_reference(q, p).tolist(),
    }


def alike(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return set(ours) == set(theirs) and all(alike(ours[k], theirs[k]) for k in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(alike, ours, theirs))
    return close(ours, theirs, 1e-9)


FUNCTIONS = [f for f in golden()["functions"] if f["function"] != "pair_metrics"]


@pytest.mark.parametrize("case", FUNCTIONS, ids=lambda case: case["function"])
def test_golden_functions(case: dict[str, Any]) -> None:
    assert alike(called(case["function"], case["args"]), case["expect"])


LENGTHS = [3, 5, 1, 4]


def made(seed: int = 0, lengths: list[int] = LENGTHS, on_policy: bool = False) -> tuple[TokenScores, Rollouts]:
    draw = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    new = -2 * torch.rand(total, generator=draw, dtype=torch.float64)
    old = new.clone() if on_policy else new + 0.3 * torch.randn(total, generator=draw, dtype=torch.float64)
    ref = new + 0.3 * torch.randn(total, generator=draw, dtype=torch.float64)
    sizes = torch.tensor(lengths)
    number_of = torch.arange(len(lengths)).repeat_interleave(sizes)
    advantage = torch.randn(len(lengths), generator=draw, dtype=torch.float64)[number_of]
    scores = TokenScores(new.requires_grad_(True), ref, number_of, sizes, torch.arange(len(lengths)) // 2)
    return scores, Rollouts(old, advantage, torch.ones(total, dtype=torch.bool))


def gradient(name: str, scores: TokenScores, rollouts: Rollouts, **params: Any) -> torch.Tensor:
    losses = TABLE[name].function(scores, rollouts, **params)
    (found,) = torch.autograd.grad(step_loss(losses, len(scores.lengths)), scores.policy)
    return found


@pytest.mark.parametrize("agg", ["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const"])
def test_on_policy_the_clipped_gradient_is_reinforce(agg: str) -> None:
    scores, rollouts = made(on_policy=True)
    params = {"agg": agg, "l_max": 7 if agg == "const" else None}
    ours = gradient("pg", scores, rollouts, **params)
    torch.testing.assert_close(ours, gradient("reinforce", scores, rollouts, **params), rtol=1e-12, atol=0)


def test_gspo_and_its_token_form_have_one_gradient() -> None:
    scores, rollouts = made()
    wide = {"eps_low": 0.9, "eps_high": 9.0}
    ours, theirs = (gradient("pg", scores, rollouts, level=level, **wide) for level in ("sequence", "sequence_token"))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


def test_aggregations_coincide_at_equal_lengths() -> None:
    scores, rollouts = made(lengths=[4, 4, 4])
    found = [
        gradient("pg", scores, rollouts, agg=agg, l_max=4 if agg == "const" else None)
        for agg in ("token_mean", "seq_mean_token_mean", "const")
    ]
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["pg", "reinforce", "kl_loss"])
@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan, 1000.0])
def test_masked_is_removed(name: str, poison: float) -> None:
    """Whatever stands at a masked token, loss and gradients are those without it."""
    scores, rollouts = made(lengths=[4, 3])
    keep = torch.tensor([True, False, True, True, True, True, False])
    policy = scores.policy.detach().clone()
    policy[~keep] = poison
    leaf = policy.requires_grad_(True)
    params = {"kl_coef": 0.1} if name == "pg" else {}
    scored = TokenScores(leaf, scores.reference, scores.completion_of, scores.lengths, scores.group_of)
    masked = Rollouts(rollouts.behavior, rollouts.advantage, keep)
    losses = TABLE[name].function(scored, masked, **params)
    step_loss(losses, 2).backward()
    assert leaf.grad is not None and torch.equal(leaf.grad[~keep], torch.zeros(2, dtype=torch.float64))
    assert scores.reference is not None
    short = scores.policy.detach()[keep].requires_grad_(True)
    fewer = TokenScores(
        short, scores.reference[keep], scores.completion_of[keep], torch.tensor([3, 2]), scores.group_of
    )
    bare = Rollouts(rollouts.behavior[keep], rollouts.advantage[keep], torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(gradient(name, fewer, bare, **params), leaf.grad[keep], rtol=1e-12, atol=0)


@pytest.mark.parametrize("level", ["token", "sequence_sum"])
@pytest.mark.parametrize("advantage", [0.0, 1.0])
def test_a_huge_ratio_without_effect_leaves_no_trace(level: str, advantage: float) -> None:
    """A = 0, or a positive A beyond the clip: rho is infinite, the gradient exactly 0."""
    scores, _ = made(lengths=[2])
    behavior = scores.policy.detach() - torch.tensor([900.0, 0.0], dtype=torch.float64)
    rollouts = Rollouts(behavior, torch.full((2,), advantage, dtype=torch.float64), torch.ones(2, dtype=torch.bool))
    losses = TABLE["pg"].function(scores, rollouts, level=level)
    losses.values.sum().backward()
    assert losses.values.isfinite().all() and scores.policy.grad is not None
    assert float(scores.policy.grad[0]) == 0.0


def test_equal_rewards_are_no_advantage() -> None:
    rewards = torch.tensor([0.1] * 3 + [0.7, 0.3] + [5.0], dtype=torch.float32)
    groups = torch.tensor([0, 0, 0, 1, 1, 2])
    for kind in ("rloo", "grpo", "dr_grpo"):
        found = group_advantages(rewards, groups, kind, eps=1e-9)  # type: ignore[arg-type]
        assert found[:3].tolist() == [0, 0, 0] and float(found[5]) == 0 and float(found[3]) == -float(found[4]) > 0


def test_microbatches_add_up() -> None:
    scores, rollouts = made()
    whole = TABLE["pg"].function(scores, rollouts, agg="token_mean", kl_coef=0.1).values.sum()
    parts = torch.zeros((), dtype=torch.float64)
    starts = [0, 3, 8, 9, 13]
    for i, n in enumerate(LENGTHS):
        rows = slice(starts[i], starts[i + 1])
        assert scores.reference is not None
        one = TokenScores(
            scores.policy[rows],
            scores.reference[rows],
            torch.zeros(n, dtype=torch.long),
            torch.tensor([n]),
            torch.zeros(1).long(),
        )
        own = Rollouts(rollouts.behavior[rows], rollouts.advantage[rows], rollouts.mask[rows])
        parts = parts + TABLE["pg"].function(one, own, agg="token_mean", kl_coef=0.1).values.sum()
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)


def test_finite_differences_and_settings_that_do_not_fit() -> None:
    scores, rollouts = made()

    def total(p: torch.Tensor) -> torch.Tensor:
        moved = TokenScores(p, scores.reference, scores.completion_of, scores.lengths, scores.group_of)
        return TABLE["pg"].function(moved, rollouts, kl_coef=0.2).values

    assert torch.autograd.gradcheck(total, (scores.policy,))
    with pytest.raises(ConfigError, match="give both"):
        TABLE["pg"].function(scores, rollouts, agg="const")
    with pytest.raises(ConfigError, match="in the reward"):
        TABLE["pg"].function(scores, rollouts, level="sequence_sum", kl_coef=0.1)


def test_the_kl_price_follows_its_target() -> None:
    assert adaptive_coefficient(0.1, 12.0, 6.0, 100, 1000) == pytest.approx(0.1 * (1 + 0.2 * 0.1))
    assert adaptive_coefficient(0.1, 5.4, 6.0, 100, 1000) == pytest.approx(0.1 * (1 - 0.1 * 0.1))
