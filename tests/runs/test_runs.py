"""Whole runs through the real command line, in equivalence classes: what must not matter, does not."""

from __future__ import annotations

import importlib.util
import json
import math
import signal
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish.loop.schedule import order
from burnish.runlog import log
from tests.runs.cli import BASE, burnish, rows, same, signalled_after, train
from tests.zoo import save_model_dir

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_dir(tmp_path_factory.mktemp("model") / "llama", "llama", "plain")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "other",
    [
        ["engine.token_budget=1"],
        ["engine.layout=padded"],
        ["engine.gradient_checkpointing=true"],
        ["log.completions=false"],
    ],
    ids=lambda x: x[0],
)
def test_what_is_hardware_does_not_matter(model_dir: Path, data: Path, tmp_path: Path, other: list[str]) -> None:
    same(train(model_dir, data, tmp_path / "a"), train(model_dir, data, tmp_path / "b", *other), 2e-6)


def test_equal_runs_are_equal_to_the_bit_and_other_seeds_are_not(model_dir: Path, data: Path, tmp_path: Path) -> None:
    first, second = (train(model_dir, data, tmp_path / name) for name in "ab")
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])
    third = train(model_dir, data, tmp_path / "c", "seed=1")
    assert any(not torch.equal(first[1][name], third[1][name]) for name in first[1])


@pytest.mark.parametrize("objective", ["dpo", "dpo_norm", "ipo", "simpo", "sft"])
def test_every_objective_trains(model_dir: Path, data: Path, tmp_path: Path, objective: str) -> None:
    steps, _ = train(model_dir, data, tmp_path / "run", f"objective.name={objective}", "optim.steps=8")
    assert len(steps) == 8 and steps[-1]["step"] == 8
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_first_five_updates_equal_dpo_by_hand(model_dir: Path, data: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("dpo_by_hand", ROOT / "examples" / "dpo_by_hand.py")
    assert spec and spec.loader
    by_hand = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(by_hand)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    pairs = [by_hand.tokenize(tokenizer, row) for row in rows()]
    stream = [int(i) for epoch in range(3) for i in order(len(pairs), 0, epoch)]
    steps = [[pairs[i] for i in stream[4 * s : 4 * s + 4]] for s in range(5)]
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    losses = by_hand.train(model, steps, beta=0.1, lr=1e-3)
    ours = train(model_dir, data, tmp_path / "run")
    assert [r["loss"] for r in ours[0]] == pytest.approx(losses, abs=2e-6)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(ours[1][name], weight, rtol=0, atol=1e-5)
    assert len((ROOT / "examples" / "dpo_by_hand.py").read_text().splitlines()) <= 120


def test_lora_is_saved_as_an_adapter_and_merges(model_dir: Path, data: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    places = [f"model.path={model_dir}", f"data.train={data}", f"run.dir={tmp_path / 'run'}"]
    code = burnish("train", *places, *BASE, "adapter.kind=lora", "adapter.rank=4")
    assert code == 0
    adapted = PeftModel.from_pretrained(base, tmp_path / "run" / "model").eval()
    assert burnish("merge", str(tmp_path / "run"), str(tmp_path / "merged")) == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)
        with adapted.disable_adapter():
            assert not torch.allclose(adapted(ids).logits, merged(ids).logits, atol=1e-4)


def test_bfloat16_masters_move_where_bfloat16_alone_would_not(model_dir: Path, data: Path, tmp_path: Path) -> None:
    """Fifty updates of 2e-6 each are below one bfloat16 step, and add up to several on the masters."""
    settings = ["model.dtype=bfloat16", "optim.lr=2e-5", "optim.steps=30"]
    steps, weights = train(model_dir, data, tmp_path / "run", *settings)
    assert steps[-1]["rewards/margins"] > 0.001
    start = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).state_dict()
    assert any(not torch.equal(weights[n], start[n].bfloat16().float()) for n in weights)


def test_a_sweep_computes_the_reference_once(model_dir: Path, data: Path, tmp_path: Path) -> None:
    for name, settings in {"a": [], "b": ["objective.beta=0.5", "optim.lr=1e-4"], "c": ["objective.name=ipo"]}.items():
        train(model_dir, data, tmp_path / name, *settings)
    computed = {n: [r["computed"] for r in log.read_rows(tmp_path / n) if r["record"] == "reference"] for n in "abc"}
    assert computed == {"a": [12], "b": [0], "c": [0]}


def test_stopped_and_resumed_equals_unbroken(model_dir: Path, data: Path, tmp_path: Path) -> None:
    whole = train(model_dir, data, tmp_path / "whole")
    out = tmp_path / "cut"
    arguments = ["train", f"model.path={model_dir}", f"data.train={data}", f"run.dir={out}", *BASE]
    with signalled_after(3, signal.SIGINT):
        assert burnish(*arguments) == 130
    assert burnish(*arguments) == 2, "a folder that holds a run is not taken without being asked"
    for changed in ("seed=5", "objective.beta=0.5", "model.dtype=bfloat16", "optim.groups_per_step=2"):
        assert burnish("train", str(out / "config.toml"), "run.resume=true", changed) == 2, f"{changed} is another run"
    assert burnish("train", str(out / "config.toml"), "run.resume=true", "save.keep=3") == 0
    steps = [r for r in log.read_rows(out) if r["record"] == "step"]
    assert [r["step"] for r in steps] == [1, 2, 3, 4, 5]
    assert [r["loss"] for r in steps] == [r["loss"] for r in whole[0]]
    before = (out / "log.jsonl").read_bytes()
    assert burnish("train", str(out / "config.toml"), "run.resume=true") == 0, "so that whatever restarts it may end"
    assert (out / "log.jsonl").read_bytes() == before, "a finished run is not trained again"
    resumed = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32).state_dict()
    assert all(torch.equal(resumed[name], whole[1][name]) for name in resumed)


def test_check_proves_the_identities(model_dir: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert burnish("check", f"model.path={model_dir}", f"data.train={data}") == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 6 and all(line.startswith("ok") for line in lines)


def test_the_log_keeps_every_completion(model_dir: Path, data: Path, tmp_path: Path) -> None:
    steps, _ = train(model_dir, data, tmp_path / "run")
    records = [r for r in log.read_rows(tmp_path / "run") if r["record"] == "completion"]
    assert len(records) == 5 * 4 * 2
    last = [r for r in records if r["step"] == 5]
    margins = [a["reward"] - b["reward"] for a, b in zip(last[::2], last[1::2], strict=True)]
    assert sum(margins) / len(margins) == pytest.approx(steps[-1]["rewards/margins"], abs=1e-6)
    for r in last:
        assert r["reward"] == pytest.approx(0.1 * (r["logp"] - r["reference_logp"]), abs=1e-5)


@pytest.mark.parametrize("family", ["mamba", "gemma3", "qwen3_moe", "bloom", "lfm2", "gpt_oss"])
def test_families_train_in_the_default_type(tmp_path: Path, data: Path, family: str) -> None:
    folder = save_model_dir(tmp_path / "model", family, "plain")
    steps, _ = train(folder, data, tmp_path / "run", "model.dtype=bfloat16", "optim.steps=3", "optim.lr=1e-2")
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert steps[-1]["rewards/margins"] != 0
