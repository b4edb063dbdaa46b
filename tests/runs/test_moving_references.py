"""References that follow the policy, live and stored ones, and what each refuses."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from burnish import config
from burnish.engine.canary import stock_logps
from burnish.engine.model import Policy
from burnish.loop.prepare import prepare
from burnish.runlog.log import read, read_rows
from burnish.runlog.records import CompletionRecord
from tests.runs.cli import BASE, burnish, rows
from tests.zoo import save_model_dir

EVEN = [{"prompt": f"Say {i}. ", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(12)]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_dir(tmp_path_factory.mktemp("model") / "llama", "llama", "plain")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return path


def run(model_dir: Path, data: Path, out: Path, *settings: str) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    places = [f"model.path={model_dir}", f"data.train={data}", f"run.dir={out}"]
    assert burnish("train", *places, *BASE, *settings) == 0
    weights = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32).state_dict()
    return [r for r in read_rows(out) if r["record"] == "step"], weights


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("adapter", [[], ["adapter.kind=lora", "adapter.rank=4"]], ids=["full", "lora"])
def test_live_is_stored(model_dir: Path, data: Path, tmp_path: Path, dtype: str, adapter: list[str]) -> None:
    """The reference scored in every step gives the run that its stored log-probs give, to the bit."""
    settings = [f"model.dtype={dtype}", *adapter]
    logs = []
    for name, more in (("stored", []), ("live", ["reference.scores=live"])):
        places = [f"model.path={model_dir}", f"data.train={data}", f"run.dir={tmp_path / name}"]
        assert burnish("train", *places, *BASE, *settings, *more) == 0
        logs.append([(r["loss"], r["grad_norm"]) for r in read_rows(tmp_path / name) if r["record"] == "step"])
    assert logs[0] == logs[1]


def test_a_reference_that_becomes_the_policy_after_every_step(model_dir: Path, data: Path, tmp_path: Path) -> None:
    """hard, every = 1: at every step policy = reference, so every loss is log 2 and every log-ratio 0."""
    steps, _ = run(model_dir, data, tmp_path / "run", "reference.update=hard", "reference.every=1")
    assert [r["loss"] for r in steps] == pytest.approx([math.log(2)] * 5, abs=1e-8)
    assert all(r["logratio/chosen"] == 0 for r in steps)


def test_hard_updates_come_every_so_many_steps(model_dir: Path, data: Path, tmp_path: Path) -> None:
    steps, _ = run(model_dir, data, tmp_path / "run", "reference.update=hard", "reference.every=2", "optim.steps=6")
    still = [r["logratio/chosen"] == 0 for r in steps]
    assert still == [True, False, True, False, True, False]


def test_the_moving_average_is_the_formula(model_dir: Path, data: Path, tmp_path: Path) -> None:
    """ema with alpha = 1 is hard with every = 1; a share of 0.25 lies between it and a reference that stands still."""
    hard, _ = run(model_dir, data, tmp_path / "hard", "reference.update=hard", "reference.every=1")
    full, _ = run(model_dir, data, tmp_path / "full", "reference.update=ema", "reference.alpha=1")
    assert [r["loss"] for r in hard] == [r["loss"] for r in full]
    part, _ = run(model_dir, data, tmp_path / "part", "reference.update=ema", "reference.alpha=0.25")
    fixed, _ = run(model_dir, data, tmp_path / "fixed")
    assert 0 < abs(part[2]["rewards/margins"]) < abs(fixed[2]["rewards/margins"])


def test_soft_updates_interpolate_in_float32(model_dir: Path, data: Path, tmp_path: Path) -> None:
    """After step 2 of soft(0.6, every 2) the reference is 0.6 policy + 0.4 initial: its recorded log-probs in step 3
    are those of that very model."""
    settings = ["reference.update=soft", "reference.every=2"]
    run(model_dir, data, tmp_path / "three", *settings, "optim.steps=3")
    _, moved = run(model_dir, data, tmp_path / "two", *settings, "optim.steps=2")
    mixed = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    state = mixed.state_dict()
    mixed.load_state_dict({name: 0.6 * moved[name] + 0.4 * state[name] for name in state})
    policy = Policy(mixed, mixed, "", torch.float32, mixed.config._attn_implementation)
    prepared = prepare(config.load(str(tmp_path / "three" / "config.toml")))
    groups = {group.id: group for group in prepared.train}
    found = {(r.group, r.index): r for r in read(tmp_path / "three", CompletionRecord) if r.step == 3}
    assert len(found) == 8
    for (name, k), record in found.items():
        one = replace(groups[name], completion_ids=groups[name].completion_ids[k : k + 1], ended=(True,))
        assert float(stock_logps(policy, [one]).sum()) == pytest.approx(record.reference_logp, abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [["reference.update=ema", "reference.alpha=0.2"], ["objective.name=beta_dpo"], ["objective.name=alpha_dpo"]],
    ids=["ema", "beta_dpo", "alpha_dpo"],
)
def test_what_moves_is_resumed(model_dir: Path, data: Path, tmp_path: Path, settings: list[str]) -> None:
    """A checkpoint holds moving references and running averages: cut and resumed equals unbroken, to the bit."""
    whole, weights = run(model_dir, data, tmp_path / "whole", *settings, "optim.steps=6")
    broken = tmp_path / "broken"
    run(model_dir, data, broken, *settings, "optim.steps=6", "save.every=3", "save.keep=9")
    shutil.rmtree(broken / "model")  # as if it had been killed after the checkpoint of step 3
    log = broken / "log.jsonl"
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines() if '"end"' not in line))
    assert (broken / "checkpoints" / "step-3").exists()
    assert burnish("train", str(broken / "config.toml"), "run.resume=true") == 0
    again = [r for r in read_rows(broken) if r["record"] == "step"]
    assert [(r["step"], r["loss"]) for r in again] == [(r["step"], r["loss"]) for r in whole]
    found = AutoModelForCausalLM.from_pretrained(broken / "model", dtype=torch.float32).state_dict()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["reference.update=soft", "reference.scores=stored"], "stands still"),
        (["reference.update=ema", "reference.store=somewhere"], "stands still"),
        (["reference.update=hard", "adapter.kind=lora"], "adapter switched off"),
        (["reference.update=hard", "reference.alpha=0.5"], "ignores it"),
        (["reference.every=5"], "ignores it"),
        (["reference.update=soft", "objective.name=simpo"], "has none"),
        (["reference.update=soft", "reference.kind=none"], "none to move"),
        (["objective.name=tdpo1", "reference.scores=stored"], "whole distributions"),
        (["reference.update=sfot"], "reference.update"),
    ],
)
def test_references_that_cannot_be_meant(
    model_dir: Path, data: Path, tmp_path: Path, settings: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [f"model.path={model_dir}", f"data.train={data}", f"run.dir={tmp_path / 'run'}"]
    assert burnish("train", *places, *settings) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
