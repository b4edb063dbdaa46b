"""The load-balancing loss of a mixture of experts: per group, a prompt token counted once for each branch it serves."""

from __future__ import annotations

import pytest
import torch

from burnish.engine import canary
from burnish.engine.engine import Engine, multiplicity
from burnish.engine.model import Policy
from burnish.engine.pack import pack
from tests.engine.forwards import groups
from tests.zoo import tiny


def engine_of(family: str, budget: int, layout: str) -> Engine:
    module = tiny(family)
    policy = Policy(module, module, family, torch.float32, module.config._attn_implementation)
    verdict = canary.decide(policy, layout)
    return Engine(policy, budget, shared=verdict.shared, pruned=verdict.pruned, router_aux_coef=0.5)


def total(engine: Engine) -> float:
    found = [engine.score(batch)[1] for batch in engine.plan(groups())]
    return sum(float(x.detach()) for x in found if x is not None)


def by_definition(engine: Engine) -> float:
    """E * sum_e f_e P_e over each group's branches computed apart (2101.03961, eq. 4-6), mean over layers."""
    config = engine.policy.base.config
    value = 0.0
    for group in groups():
        inputs = [[*group.prompt_ids, *c[:-1]] for c in group.completion_ids]
        with engine.policy.stock(), torch.no_grad():
            outputs = [
                engine.policy.decoder(input_ids=torch.tensor([ids]), use_cache=False, output_router_logits=True)
                for ids in inputs
            ]
        layers = len(outputs[0].router_logits)
        for layer in range(layers):
            share = torch.cat([o.router_logits[layer].reshape(-1, o.router_logits[layer].shape[-1]) for o in outputs])
            share = share.float().softmax(-1)
            chosen = torch.zeros_like(share).scatter_(1, share.topk(config.num_experts_per_tok, -1).indices, 1.0)
            value += 0.5 * share.shape[-1] * float((chosen.mean(0) * share.mean(0)).sum()) / layers
    return value


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
@pytest.mark.parametrize("budget", [10_000, 1])
@pytest.mark.parametrize("layout", ["auto", "padded"])
def test_router_loss_does_not_depend_on_packing(family: str, budget: int, layout: str) -> None:
    engine = engine_of(family, budget, layout)
    assert total(engine) == pytest.approx(by_definition(engine), rel=1e-4)


def test_multiplicity_counts_prompts_once_a_branch() -> None:
    (batch,) = pack(groups(), 10_000, shared=True)
    group_of, weight = multiplicity(batch)
    for number, group in enumerate(groups()):
        expected = sum(len(group.prompt_ids) + len(c) - 1 for c in group.completion_ids)
        assert float(weight[group_of == number].sum()) == expected
