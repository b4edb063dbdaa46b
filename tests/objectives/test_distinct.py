"""Every name trains something of its own: one step's gradient on one model, and no two of them alike."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from burnish.engine import canary, model, norms
from burnish.engine.divergence import HeadInput
from burnish.engine.engine import Engine, ForwardPass, scalar_scores, token_scores
from burnish.group import EncodedGroup, Preferences
from burnish.objectives import TABLE
from burnish.objectives.feedback import StepSums
from burnish.objectives.mixture import Mixture, WeightedObjective
from tests.zoo import tiny

# what section 12 of the formulas says: under reverse KL, f-DPO is DPO
SAME = {frozenset({"dpo", "f_dpo"})}
TRAINED = [name for name, row in TABLE.items() if row.view != "rollouts"]


def groups() -> list[EncodedGroup]:
    """Ranked groups of two and three answers of unequal lengths, every better answer preferred to every worse one."""
    draw = torch.Generator().manual_seed(3)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, 120, (n,), generator=draw).tolist())

    sizes = [(4, 7, 2), (5, 3), (1, 6, 6), (2, 8)]
    found = []
    for i, lengths in enumerate(sizes):
        pairs = tuple((w, l, 1.0) for w, l in combinations(range(len(lengths)), 2))
        margins = tuple(float(l - w) for w, l, _ in pairs)
        ended = (True,) * len(lengths)
        answers = tuple(ids(n) for n in lengths)
        found.append(EncodedGroup(str(i), ids(3 + i), answers, ended, Preferences(pairs, margins)))
    return found


def policy_of(scalar: bool) -> model.Policy:
    base = tiny("llama", torch.float64)
    if scalar:
        from transformers import LlamaForSequenceClassification

        config = base.config
        config.num_labels = 1
        torch.manual_seed(1)
        head = LlamaForSequenceClassification(config).to(torch.float64)
        head.model.load_state_dict(base.model.state_dict())
        base = head
    model.silence_dropout(base)
    norms.fuse(base)  # the stock ones round to float32
    return model.Policy(base, base, "", torch.float64, base.config._attn_implementation, scalar)


def gradient(name: str) -> torch.Tensor:
    """Of the step's mean loss by the objective's defaults, the reference moved off the policy by a fixed amount."""
    row = TABLE[name]
    policy = policy_of("scalar" in row.needs)
    verdict = canary.decide(policy, "auto")
    assert verdict.shared
    engine = Engine(policy, 1 << 20)
    step = groups()
    (batch,) = engine.plan(step)
    mixture = Mixture((WeightedObjective(row, row.validate({})),))
    if "scalar" in row.needs:
        loss = mixture.at(step)
        loss.total(loss(scalar_scores(engine.reward(batch)[0], batch), batch)).backward()  # type: ignore[no-untyped-call]
    else:
        head = engine.reference_head(batch)
        other = HeadInput(head.hidden + 0.3 * torch.cos(head.hidden), head.weight, head.bias, head.transform)
        scored: ForwardPass = engine.score(batch, square=True, reference=other)
        noise = torch.sin(1 + torch.arange(len(scored.logps), dtype=torch.float64))
        fixed = scored.logps.detach() - 2.0 * noise  # so far that the reference ranks the pairs otherwise
        scores = token_scores(scored, fixed, batch)
        sums = StepSums(
            scores.reference_logps,
            scores.logratios.detach(),
            batch.lengths,
            torch.tensor([0.7, -0.1], dtype=torch.float64),
        )
        _, ready = mixture.advance(mixture.start(), step, sums, 0, 1)
        loss = ready.at(step, sums, 0, 1)
        loss.total(loss(scores, batch)).backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten() for name, p in policy.trainable() if p.grad is not None and "embed" not in name])


def test_no_two_names_have_the_same_gradient() -> None:
    found = {name: gradient(name) for name in TRAINED}
    for name, value in found.items():
        assert value.isfinite().all() and value.norm() > 0, name
    for left, right in combinations(TRAINED, 2):
        a, b = found[left], found[right]
        alike = a.shape == b.shape and torch.allclose(a, b, rtol=1e-6, atol=1e-12)
        assert alike == (frozenset({left, right}) in SAME), (left, right)


@pytest.mark.parametrize("name", ["dpo", "kto", "sampo", "tdpo2"])
def test_the_gradient_is_the_same_twice(name: str) -> None:
    """What is drawn, is drawn by (seed, step)."""
    assert torch.equal(gradient(name), gradient(name))
