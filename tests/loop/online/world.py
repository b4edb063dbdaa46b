"""A policy of the flash cards with drawn weights, prompts, and runs on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file as load_file

from burnish import config
from burnish.lab import policy, world
from burnish.loop import train
from burnish.runlog import log

JUDGING = "tests.loop.online.judging"
JUDGE = f"{JUDGING}:digits"


def make(folder: Path) -> Path:
    """`sft/` and `prompts.jsonl`; returns the folder."""
    torch.manual_seed(0)
    model = policy.make_model(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)  # distributions that are not flat
    policy.save(model, folder / "sft")
    rows = [json.dumps({"prompt": card.prompt, "answer": str(card.total)}) for card in world.CARDS]
    (folder / "prompts.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def overrides(folder: Path, name: str, *more: str, steps: int = 6) -> list[str]:
    """A short on-policy run; later settings win over earlier ones."""
    given = [
        f"model.path={folder / 'sft'}", "model.dtype=float32", f"source.prompts={folder / 'prompts.jsonl'}",
        "source.refresh_every=1", "source.k=4", "source.max_new_tokens=8", "judge.kind=verifier",
        f"judge.name={JUDGE}", "objective.name=rloo", "optim.lr=1e-3", "optim.schedule=constant", "optim.warmup=0",
        f"optim.steps={steps}", "optim.groups_per_step=6", f"run.dir={folder / name}", "run.overwrite=true",
        "engine.threads=1", *more,
    ]  # fmt: skip
    last = {text.partition("=")[0]: text for text in given}
    return list(last.values())


def run(folder: Path, name: str, *more: str, steps: int = 6) -> Path:
    return train.run(config.load(None, overrides(folder, name, *more, steps=steps)))


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "model" / "model.safetensors")


def records(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """The log's records of a kind, without what clocks say."""
    found = [r for r in log.read_rows(run_dir) if r["record"] == kind]
    return [{k: v for k, v in r.items() if k != "time" and "seconds" not in k} for r in found]


def equal(one: Path, other: Path) -> bool:
    """Weights equal to the bit, and the logs of steps, refreshes and completions."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    same_weights = all(torch.equal(a[name], b[name]) for name in a)
    return same_weights and all(records(one, k) == records(other, k) for k in ("step", "refresh", "completion"))
