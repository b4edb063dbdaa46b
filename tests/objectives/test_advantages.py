"""From rewards to advantages, method by method: the formulas, and that equal rewards say nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.objectives import TABLE, advantages
from burnish.objectives.advantages import Advantages, RolloutBatch, gae

LENGTHS = [3, 1, 4, 2, 2, 5]


def rows(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [-torch.rand(n, generator=generator, dtype=torch.float64) for n in LENGTHS]


def sample(rewards: list[float], **more: Any) -> RolloutBatch:
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    given = {"reference": rows(1), "values": rows(2), "limit": 6} | more
    return RolloutBatch(torch.tensor(rewards, dtype=torch.float64), groups, rows(0), **given)


def first(given: Advantages) -> list[float]:
    """Each answer's advantage, which stands at all of its tokens."""
    for row, n in zip(given.by_token, LENGTHS, strict=True):
        assert len(row) == n and bool((row == row[0]).all())
    return [float(row[0]) for row in given.by_token]


REWARDS = [1.0, 0.0, 0.5, 2.0, 2.5, 0.0]


def test_leave_one_out_is_each_reward_less_the_mean_of_the_others() -> None:
    drift = [float((p - q).sum()) for p, q in zip(rows(0), rows(1), strict=True)]
    r = [value - 0.3 * d for value, d in zip(REWARDS, drift, strict=True)]
    expected = [r[i] - (sum(r[g : g + 3]) - r[i]) / 2 for g in (0, 3) for i in range(g, g + 3)]
    assert first(advantages.rloo(sample(REWARDS), kl_in_reward=0.3)) == pytest.approx(expected, rel=1e-12)


def test_the_other_baselines() -> None:
    mean = sum(REWARDS) / 6
    assert first(advantages.reinforce(sample(REWARDS), kl_in_reward=0.0)) == pytest.approx([r - mean for r in REWARDS])
    means = [0.5] * 3 + [1.5] * 3
    assert first(advantages.dr_grpo(sample(REWARDS))) == pytest.approx(
        [r - m for r, m in zip(REWARDS, means, strict=True)]
    )
    spread = [0.5] * 3 + [float(torch.tensor([2.0, 2.5, 0.0]).std())] * 3
    expected = [(r - m) / (s + 1e-4) for r, m, s in zip(REWARDS, means, spread, strict=True)]
    assert first(advantages.grpo(sample(REWARDS))) == pytest.approx(expected)
    assert first(advantages.by_kind(sample(REWARDS), advantage="grpo")) == pytest.approx(expected)


@pytest.mark.parametrize("method", [advantages.grpo, advantages.dr_grpo, advantages.dapo, advantages.by_kind])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-9, -7.7])
def test_equal_rewards_give_an_advantage_of_exactly_nothing(
    method: Callable[[RolloutBatch], Advantages], value: float
) -> None:
    assert all(a == 0.0 for a in first(method(sample([value] * 6))))


@pytest.mark.parametrize("method", [advantages.rloo, advantages.reinforce])
def test_equal_rewards_without_a_kl_give_exactly_nothing(method: Callable[..., Advantages]) -> None:
    assert all(a == 0.0 for a in first(method(sample([1 / 3] * 6), kl_in_reward=0.0)))


def test_dapo_leaves_out_prompts_without_signal_and_counts_what_is_overlong() -> None:
    found = advantages.dapo(sample([1.0, 1.0, 1.0, 0.0, 1.0, 1.0]))
    assert found.kept is not None and found.kept.tolist() == [False] * 3 + [True] * 3
    # of six tokens, a buffer of three: 4 tokens cost 1/3, 5 cost 2/3
    punished = advantages.dapo(sample([1.0, 1.0, 1.0, 0.0, 1.0, 1.0]), overlong_buffer=3)
    assert punished.kept is not None and punished.kept.all()
    r = torch.tensor([1.0, 1.0, 1.0 - 1 / 3, 0.0, 1.0, 1.0 - 2 / 3])
    expected = torch.cat([(r[g] - r[g].mean()) / (r[g].std() + 1e-4) for g in (slice(0, 3), slice(3, 6))])
    assert first(punished) == pytest.approx(expected.tolist(), rel=1e-5)


def test_ppo_spreads_the_reward_by_generalised_advantages() -> None:
    given = sample(REWARDS)
    found = advantages.ppo(given, kl_in_reward=0.2, discount=0.9, lam=0.8, whitened=False)
    rewards = []
    for r, p, q in zip(REWARDS, rows(0), rows(1), strict=True):
        row = -0.2 * (p - q)
        row[-1] += r
        rewards.append(row)
    inside = [torch.ones(n, dtype=torch.bool) for n in LENGTHS]
    expected, returns = gae(rewards, rows(2), inside, 0.9, 0.8)
    assert found.returns is not None
    for ours, theirs in ((found.by_token, expected), (found.returns, returns)):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    whitened = torch.cat(list(advantages.ppo(given).by_token))
    assert abs(float(whitened.mean())) < 1e-12 and abs(float(whitened.var(correction=0)) - 1) < 1e-6


def test_the_adaptive_coefficient_goes_on_from_refresh_to_refresh() -> None:
    given = sample(REWARDS)
    kl = sum(float((p - q).sum()) for p, q in zip(rows(0), rows(1), strict=True)) / 6
    one = advantages.ppo(given, kl_in_reward=0.2, kl_target=1.0, kl_horizon=60)
    error = min(0.2, max(-0.2, kl / 1.0 - 1))
    assert one.state["kl_in_reward"] == pytest.approx(0.2 * (1 + error * 6 / 60), rel=1e-12)
    two = advantages.ppo(sample(REWARDS, state=one.state), kl_in_reward=0.2, kl_target=1.0, kl_horizon=60)
    assert two.metrics["kl_in_reward"] == one.state["kl_in_reward"]
    assert advantages.ppo(given, kl_in_reward=0.2).state == {}


def test_a_method_without_settings_is_its_paper() -> None:
    assert TABLE["grpo"].validate({})["kl_coef"] == 0.04
    assert TABLE["dapo"].validate({})["eps_high"] == 0.28
    assert (TABLE["gspo"].validate({})["eps_low"], TABLE["gspo"].validate({})["eps_high"]) == (3e-4, 4e-4)
    assert "std_eps" not in TABLE["dr_grpo"].settings
    for name in ("rloo", "reinforce", "ppo"):
        assert "kl_in_reward" in TABLE[name].advantage_settings
