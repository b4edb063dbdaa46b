"""Runs through the real command line: settings of a short run, its rows, its records and weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from burnish.cli import main
from burnish.runlog import log
from burnish.runlog.records import Record, StepRecord

BASE = [
    "model.dtype=float32",
    "optim.lr=1e-3",
    "optim.groups_per_step=4",
    "optim.steps=5",
    "optim.warmup=0",
    "optim.schedule=constant",
]


def rows(count: int = 12) -> list[dict[str, str]]:
    return [
        {
            "prompt": f"What is {i}+{i}? ",
            "chosen": f"It is {2 * i}" + " indeed" * (i % 3),
            "rejected": "I do not know" + "." * (i % 4),
        }
        for i in range(count)
    ]


def burnish(*arguments: str) -> int:
    """Exit code of the command line."""
    with pytest.raises(SystemExit) as left:
        main.main(list(arguments))
    return int(left.value.code or 0)


def train(model: Path, data: Path, out: Path, *settings: str) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """A run's step records, and its final weights as a reloaded model has them."""
    code = burnish("train", f"model.path={model}", f"data.train={data}", f"run.dir={out}", *BASE, *settings)
    assert code == 0
    steps = [r for r in log.read_rows(out) if r["record"] == "step"]
    loaded = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32)
    return steps, loaded.state_dict()


def same(left: Any, right: Any, tolerance: float) -> None:
    for a, b in zip(left[0], right[0], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=tolerance)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
        assert a["rewards/margins"] == pytest.approx(b["rewards/margins"], abs=10 * tolerance)
    for name, weight in left[1].items():
        torch.testing.assert_close(weight, right[1][name], rtol=0, atol=50 * tolerance)


@contextmanager
def signalled_after(step: int, number: int) -> Iterator[None]:
    """This process gets a signal when the record of that step is written."""
    write = log.RunLog.write

    def signalling(self: log.RunLog, record: Record) -> None:
        write(self, record)
        if isinstance(record, StepRecord) and record.step == step:
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log.RunLog, "write", signalling)
        yield
