"""burnish on a real model: the layouts agree with transformers, and training moves what it says it moves."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import config
from burnish.engine import canary, model
from burnish.engine.engine import Engine
from burnish.engine.scoring import by_completion
from burnish.group import EncodedGroup, Unjudged
from burnish.loop import train
from tests.loop.online.world import records

PAIRS = [
    ("What is the capital of France?", "The capital of France is Paris.", "Lyon, perhaps."),
    ("How many days has a week?", "A week has seven days.", "There are nine of them."),
    ("Name a colour of the rainbow.", "Red is a colour of the rainbow.", "The rainbow is very heavy."),
    ("What do bees make?", "Bees make honey.", "Bees make small cars out of tin."),
]


def tokens(tokenizer: Any, question: str, answer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(the prompt's tokens, the answer's with the token that ends its turn), as the chat template writes them."""
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
    )
    return tuple(asked), (*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id)


@torch.no_grad()
def logps(module: Any, prompt: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
    """transformers' own forward: the log-prob of every token of the answer."""
    logits = module(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]


def opened(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return module, AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("layout", ["shared", "padded"])
def test_log_probs_are_those_of_transformers(smollm2: Path, layout: str) -> None:
    module, tokenizer = opened(smollm2)
    encoded = [[tokens(tokenizer, question, text) for text in texts] for question, *texts in PAIRS]
    expected = [logps(module, *answer) for answers in encoded for answer in answers]
    policy = model.Policy(module, module, str(smollm2), torch.float32, module.config._attn_implementation)
    verdict = canary.decide(policy, layout)
    assert verdict.shared == (layout == "shared")
    engine = Engine(policy, 4096, shared=verdict.shared, plain_head=verdict.plain_head, pruned=verdict.pruned)
    groups = [
        EncodedGroup(str(i), answers[0][0], tuple(ids for _, ids in answers), (True, True), Unjudged())
        for i, answers in enumerate(encoded)
    ]
    with torch.no_grad():
        computed = by_completion(engine, groups, lambda batch: list(batch.split(engine.score(batch).logps)))
    for ours, stock in zip([row for rows in computed for row in rows], expected, strict=True):
        torch.testing.assert_close(ours, stock, rtol=0, atol=2e-4)


def test_dpo_moves_the_real_model_by_what_it_says(smollm2: Path, tmp_path: Path) -> None:
    """The margins of the log are those that transformers finds between the model before and the model after."""
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(
        json.dumps({"prompt": [{"role": "user", "content": question}],
                    "chosen": [{"role": "assistant", "content": good}],
                    "rejected": [{"role": "assistant", "content": bad}]}) + "\n"
        for question, good, bad in PAIRS
    ))  # fmt: skip
    beta, steps = 0.1, 4
    settings = [
        f"model.path={smollm2}", "model.dtype=float32", f"data.train={data}", f"data.eval={data}", "objective.name=dpo",
        f"objective.beta={beta}", f"optim.steps={steps}", "optim.groups_per_step=4", "optim.lr=1e-5", "optim.warmup=0",
        "optim.schedule=constant", f"run.dir={tmp_path / 'run'}", "engine.token_budget=512",
    ]  # fmt: skip
    folder = train.run(config.load(None, settings))
    losses = [record["loss"] for record in records(folder, "step")]
    assert losses[0] == pytest.approx(log(2), abs=1e-6)
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.6
    before, tokenizer = opened(smollm2)
    after, _ = opened(folder / "model")
    margins = []
    for question, good, bad in PAIRS:
        moved = [
            float(
                (
                    logps(after, *tokens(tokenizer, question, text)) - logps(before, *tokens(tokenizer, question, text))
                ).sum()
            )
            for text in (good, bad)
        ]
        margins.append(beta * (moved[0] - moved[1]))
    assert min(margins) > 0.1, "nats: every pair has moved, the right way"
    last = records(folder, "eval")[-1]
    assert sum(margins) / len(margins) == pytest.approx(last["rewards/margins"], rel=1e-3)
