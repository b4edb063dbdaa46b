"""Two rounds of iterative DPO on the flash cards, voted on through the browser: gold rises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from burnish.lab import gold, measure, policy, world
from burnish.vote.store import open_ballot
from tests.audit.test_page import browser  # noqa: F401  (a fixture)
from tests.runs.cli import burnish
from tests.vote.pages import press, served, tab

ROUNDS, STEPS = 2, 16
SETTINGS = [
    "model.dtype=float32", "judge.kind=human", "objective.name=dpo", "objective.beta=0.3", "source.k=2",
    f"source.refresh_every={STEPS}", "source.epochs=4", "source.max_new_tokens=12", "optim.groups_per_step=24",
    f"optim.steps={ROUNDS * STEPS}", "optim.lr=3e-4", "optim.warmup=0", "optim.schedule=constant", "engine.threads=1",
    "seed=1",
]  # fmt: skip


@pytest.mark.browser
def test_two_rounds_of_votes_raise_gold(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    """The run leaves with 76, a rater who likes what gold likes votes by keys, and it goes on; twice."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sft = policy.train_sft(0, 300)
    policy.save(sft, tmp_path / "sft")
    cards = "".join(json.dumps({"prompt": card.prompt}) + "\n" for card in world.CARDS)
    (tmp_path / "prompts.jsonl").write_text(cards, encoding="utf-8")
    run = tmp_path / "run"
    places = [f"model.path={tmp_path / 'sft'}", f"source.prompts={tmp_path / 'prompts.jsonl'}", f"run.dir={run}"]
    assert burnish("train", *places, *SETTINGS) == 76
    for number in range(ROUNDS):
        ballot = open_ballot(run / "ballots" / f"step-{number * STEPS:05d}.db")
        with served(ballot) as address, tab(browser, address) as page:
            while page.is_visible("#ballot"):
                press(page, _preferred(page))
            assert page.faults == []
        assert len(ballot.votes()) == sum(not pair["alike"] for pair in ballot.pairs())
        left = burnish("train", str(run / "config.toml"), "run.resume=true")
        assert left == (0 if number == ROUNDS - 1 else 76)
    torch.set_num_threads(threads)
    trained: Any = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32)
    before, after = (measure.evaluate(model, sft, seed=7, answers_per_card=20).utility for model in (sft, trained))
    assert after.mean - after.half > before.mean + before.half, (before, after)


def _preferred(page: Any) -> str:
    """The key that a rater presses who reads the prompt and both answers as the page shows them."""
    prompt = page.evaluate("document.getElementById('prompt').textContent.trim()")
    left, right = (gold.utility(prompt, page.evaluate(f"state.{side}.raw"), {}) for side in ("left", "right"))
    return "1" if left > right else "2" if right > left else "3"
