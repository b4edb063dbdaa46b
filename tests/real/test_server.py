"""Runs against vLLM itself: what arrives is answered with, and what does not arrive is noticed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from burnish import config
from burnish.answers.sampler import Decoding
from burnish.answers.sampler.remote import ServerSampler
from burnish.errors import JudgeError, TrainingError
from burnish.loop import train
from tests.loop.online.world import JUDGE, records

QUESTIONS = [
    "What is the capital of France? Answer in one sentence.", "How many days has a week?",
    "Name three colours of the rainbow.", "Write a short sentence about the sea.",
]  # fmt: skip


def run(model: Path, url: str, folder: Path, *more: str) -> Path:
    """Three steps on fresh answers of the server."""
    prompts = folder / "prompts.jsonl"
    rows = [{"prompt": [{"role": "user", "content": question}]} for question in QUESTIONS]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        f"model.path={model}", "model.dtype=float32", f"source.prompts={prompts}", "source.refresh_every=1",
        "source.k=2", "source.max_new_tokens=24", "judge.kind=verifier", f"judge.name={JUDGE}", "objective.name=rloo",
        "optim.schedule=constant", "optim.warmup=0", "optim.steps=3", "optim.groups_per_step=2",
        f"run.dir={folder / 'run'}", "source.sampler=server", f"source.url={url}", "source.temperature=0.7", *more,
    ]  # fmt: skip
    return train.run(config.load(None, settings))


def test_the_check_passes_within_what_vllm_allows(server: str) -> None:
    ask = ServerSampler(server)
    for decoding in (Decoding(8), Decoding(8, 0.7, 0.9, 20), Decoding(8, 2.0)):
        ask.check(decoding)
    with pytest.raises(JudgeError, match=r"refused the request \(400\): temperature must be"):
        ask.check(Decoding(8, 2.5))


def test_adapters_arrive_and_mismatch_is_rounding(smollm2: Path, server: str, tmp_path: Path) -> None:
    settings = ["adapter.kind=lora", "source.update=lora", "optim.lr=1e-3", "source.top_k=50", "source.top_p=0.95"]
    refreshes = records(run(smollm2, server, tmp_path, *settings), "refresh")
    assert len(refreshes) == 3
    for record in refreshes:
        assert record["mismatch/mean"] < 1e-4 and record["mismatch/max_ratio"] < 1.01
    assert refreshes[-1]["kl/answer"] > 0.1, "the weights have moved, and the server's with them"


def test_the_old_tied_head_of_a_reload_is_noticed(smollm2: Path, server: str, tmp_path: Path) -> None:
    """The last test on this server, which computes with a mixture of two models from here on."""
    with pytest.raises(TrainingError, match="after step 1 have not arrived") as caught:
        run(smollm2, server, tmp_path, "source.update=reload", "optim.lr=1e-4")
    numbers = re.search(r"mean log-prob is (-[0-9.]+) nats, and the trainer's is (-[0-9.]+)", str(caught.value))
    assert numbers is not None and numbers[1] != numbers[2]
