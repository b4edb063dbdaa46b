"""Runs that die go on to the bit: killed at any moment, pre-empted, stopped with nothing on disk, changed meanwhile."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from burnish.cli import main
from burnish.engine import checkpoint
from burnish.errors import StoreError
from burnish.loop.build import Trainer
from burnish.runlog.log import RunLog, read_rows
from burnish.runlog.records import Record, StepRecord
from tests.runs.cli import burnish, rows, signalled_after
from tests.zoo import save_model_dir

SETTINGS = [
    "model.dtype=float32", "optim.lr=1e-3", "optim.groups_per_step=4", "optim.steps=40", "save.every=3", "save.keep=2",
    "engine.threads=1",
]  # fmt: skip
KINDS = {
    "dpo": [],
    "ema": ["reference.update=ema", "reference.alpha=0.2"],
    "beta_dpo": ["objective.name=beta_dpo"],
    "bfloat16": ["model.dtype=bfloat16"],
    "dropout": ["adapter.kind=lora", "adapter.rank=4", "adapter.dropout=0.1"],
}
OFTEN = ("dpo", "dropout")  # else slow


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_dir(tmp_path_factory.mktemp("model") / "llama", "llama", "plain")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return path


SERVER = multiprocessing.get_context("forkserver")  # children of a process with no threads: no lock is held for ever
SERVER.set_forkserver_preload(["burnish.loop.members", "transformers.models.llama.modeling_llama", "peft"])


def started(*arguments: str) -> BaseProcess:
    """The command line in a process of its own."""
    child = SERVER.Process(target=_command_line, args=arguments)
    child.start()
    return child


def _command_line(*arguments: str) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    main.main(list(arguments))


def kill(child: BaseProcess, number: int = signal.SIGKILL) -> None:
    assert child.pid is not None
    os.kill(child.pid, number)


def ended(child: BaseProcess) -> int:
    """Its exit code; negative: the signal that killed it."""
    child.join(120)
    assert child.exitcode is not None
    return child.exitcode


def steps_done(out: Path) -> int:
    """How many steps the log of a run tells of; it may be growing."""
    return sum(r["record"] == "step" for r in read_rows(out)) if (out / "log.jsonl").exists() else 0


def outcome(out: Path) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Step records without what clocks say, and the final weights."""
    steps = [r for r in read_rows(out) if r["record"] == "step"]
    told = [{k: v for k, v in r.items() if k not in ("time", "seconds")} for r in steps]
    if (out / "model" / "adapter_config.json").exists():
        from safetensors.torch import load_file

        return told, load_file(out / "model" / "adapter_model.safetensors")
    return told, AutoModelForCausalLM.from_pretrained(out / "model").state_dict()


def same(left: Path, right: Path) -> None:
    ours, theirs = outcome(left), outcome(right)
    assert ours[0] == theirs[0] and [r["step"] for r in ours[0]] == list(range(1, 41))
    assert ours[1].keys() == theirs[1].keys()
    assert all(torch.equal(ours[1][name], theirs[1][name]) for name in ours[1])


@pytest.mark.parametrize("kind", [k if k in OFTEN else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_killed_at_any_moment_it_goes_on_to_the_bit(kind: str, model_dir: Path, data: Path, tmp_path: Path) -> None:
    places = [f"model.path={model_dir}", f"data.train={data}", *SETTINGS, *KINDS[kind]]
    assert burnish("train", *places, f"run.dir={tmp_path / 'whole'}") == 0
    draw, broken, kills = random.Random(kind), tmp_path / "broken", 0
    for target in (0, *sorted(draw.sample(range(2, 36), 4)), 1000):  # while it starts, after some steps, never
        resume = ["run.resume=true"] if (broken / "config.toml").exists() else []
        child = started("train", *places, f"run.dir={broken}", *resume)
        if target < 1000:
            while target and steps_done(broken) < target and child.is_alive():
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.03 if target else 0.5))
            kill(child)
        code = ended(child)
        kills += code == -signal.SIGKILL
    assert code == 0 and kills >= 4
    same(broken, tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_asked_to_stop_it_saves_and_says_so_by_its_code(
    number: signal.Signals, model_dir: Path, data: Path, tmp_path: Path
) -> None:
    places = [f"model.path={model_dir}", f"data.train={data}", *SETTINGS, "save.every=1000"]
    assert burnish("train", *places, f"run.dir={tmp_path / 'whole'}") == 0
    out = tmp_path / "run"
    child = started("train", *places, f"run.dir={out}")
    while not steps_done(out) and child.is_alive():
        time.sleep(0.005)
    kill(child, number)
    assert ended(child) == (130 if number == signal.SIGINT else 75)
    (last,) = checkpoint.folders(out)
    done = checkpoint.facts_of(last)["step"]
    assert 1 <= done < 40
    assert ended(started("train", *places, f"run.dir={out}", "run.resume=true")) == 0
    same(out, tmp_path / "whole")


def test_every_field_that_changes_is_in_the_checkpoint(model_dir: Path, data: Path, tmp_path: Path) -> None:
    """A new field of the trainer must be named here: as saved, or as a function of configuration and step."""
    saved = {"masters", "optimizer", "reference", "running", "moved", "source", "monitor", "best", "answerer"}
    saved |= {"judges"}
    derived = {"prepared", "engine", "log", "progress", "steps", "signals", "eval_answerer"}
    assert {f.name for f in dataclasses.fields(Trainer)} == saved | derived
    places = [f"model.path={model_dir}", f"data.train={data}", *SETTINGS, *KINDS["ema"], "optim.steps=4"]
    kept = tmp_path / "run"
    child = started("train", *places, f"run.dir={kept}", "save.every=2")
    assert ended(child) == 0
    (folder,) = checkpoint.folders(kept)
    names = checkpoint.names(folder)
    weights = {name.removeprefix("weights/") for name in names if name.startswith("weights/")}
    assert weights
    for name in weights:
        assert {f"optimizer/{name}/{m}" for m in ("step", "exp_avg", "exp_avg_sq")} | {f"reference/{name}"} <= names
    facts = checkpoint.facts_of(folder)
    named = {"seed", "running", "moved", "world_size", "data", "versions", "config", "best", "refreshes", "source"}
    assert facts["step"] == 2 and named | {"advantages", "monitor"} <= set(facts)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("optim.lr=2e-3", "optim.lr would differ"),
        ("objective.beta=0.5", "objective would differ"),
        ("seed=4", "seed would differ"),
        ("engine.float32_matmul_precision=medium", "engine.float32_matmul_precision would differ"),
        ("data", "not what it was"),
    ],
)
def test_a_run_that_was_changed_meanwhile_is_refused(
    changed: str, told: str, model_dir: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [f"model.path={model_dir}", f"data.train={data}", *SETTINGS, f"run.dir={tmp_path / 'run'}"]
    child = started("train", *places, "save.every=1")
    while not checkpoint.folders(tmp_path / "run") and child.is_alive():
        time.sleep(0.005)
    kill(child)
    ended(child)
    if changed == "data":
        text = data.read_text()
        data.write_text(text.replace("indeed", "in fact"))
    more = [] if changed == "data" else [changed]
    assert burnish("train", *places, "run.resume=true", *more) == 2
    assert told in capsys.readouterr().err
    if changed != "data":  # and what does not matter may change
        harmless = ["save.every=50", "engine.token_budget=64", "log.completions=false"]
        assert burnish("train", *places, "run.resume=true", *harmless) == 0


def test_runs_of_an_older_version_are_refused_by_what_they_are(
    model_dir: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint whose facts have another layout, and a configuration in the spelling of before."""
    out = tmp_path / "run"
    places = [f"model.path={model_dir}", f"data.train={data}", *SETTINGS, f"run.dir={out}"]
    with signalled_after(2, signal.SIGTERM):
        assert burnish("train", *places) == 75
    manifest = next(out.glob("checkpoints/*/manifest.json"))
    facts = json.loads(manifest.read_text())
    del facts["format"]
    manifest.write_text(json.dumps(facts))
    assert burnish("train", *places, "run.resume=true") == 2
    assert "the layout of another version" in capsys.readouterr().err
    config = out / "config.toml"
    config.write_text(config.read_text().replace("float32_matmul_precision", "products"))
    assert burnish("train", *places, "run.resume=true") == 2
    message = capsys.readouterr().err
    assert "config.toml cannot be taken up" in message and "engine.float32_matmul_precision" in message


def test_a_finished_run_has_nothing_to_resume_and_says_so_with_0(
    model_dir: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    places = ["train", f"model.path={model_dir}", f"data.train={data}", *SETTINGS, "optim.steps=2", f"run.dir={out}"]
    assert burnish(*places) == 0
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert burnish(*places, "run.resume=true") == 0
    assert "is finished: its model is in" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == files
    (out / "summary.txt").unlink()  # as if it was killed at its very end
    assert burnish(*places, "run.resume=true") == 0
    assert (out / "summary.txt").exists()
    assert burnish(*places, "run.resume=true", "optim.lr=1e-4") == 2
    shutil.rmtree(out / "model")
    capsys.readouterr()
    assert burnish(*places, "run.resume=true") == 2
    assert "is finished, but its model is gone" in capsys.readouterr().err


def test_a_second_process_is_refused(model_dir: Path, data: Path, tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "run"
    places = ["train", f"model.path={model_dir}", f"data.train={data}", *SETTINGS, "optim.steps=1000", f"run.dir={out}"]
    child = started(*places)
    while not steps_done(out) and child.is_alive():
        time.sleep(0.005)
    for more in ("run.resume=true", "run.overwrite=true"):
        assert burnish(*places, more) == 2
        assert f"is being written by process {child.pid}" in capfd.readouterr().err
    steps = steps_done(out)
    kill(child)
    ended(child)
    assert steps_done(out) >= steps > 0


def test_a_folder_deleted_while_the_run_goes_on_is_named(
    model_dir: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    places = ["train", f"model.path={model_dir}", f"data.train={data}", *SETTINGS, f"run.dir={out}"]
    write = RunLog.write

    def deleting(self: RunLog, record: Record) -> None:
        if isinstance(record, StepRecord) and record.step == 4:
            shutil.rmtree(out)
        write(self, record)

    monkeypatch.setattr(RunLog, "write", deleting)
    assert burnish(*places) == 2
    assert f"{out} is gone: it was deleted or moved" in capsys.readouterr().err
    assert not out.exists()
    monkeypatch.undo()
    assert burnish(*places, "run.resume=true", "optim.steps=2") == 0
    assert "holds no run (deleted, or of another name?): a new one begins" in capsys.readouterr().out


def test_a_full_disk_in_the_background_is_told_at_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = checkpoint.Writer(tmp_path, keep=2)
    writer.save(1, {"a": torch.ones(3)}, {"step": 1}, wait=True)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_dcp", full)
    writer.save(2, {"a": torch.ones(3)}, {"step": 2})
    with pytest.raises(StoreError, match="No space left"):
        writer.join()
    assert [p.name for p in checkpoint.folders(tmp_path)] == ["step-1"]


def test_what_is_saved_is_what_was_there_when_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on while the copy is written: weights move, and histories of alarms grow."""
    changed = threading.Event()

    def slow(*arguments: Any, **options: Any) -> None:
        assert changed.wait(10)
        save(*arguments, **options)

    save = checkpoint.save_dcp
    monkeypatch.setattr(checkpoint, "save_dcp", slow)
    writer, weight = checkpoint.Writer(tmp_path, keep=1), torch.arange(4.0)
    facts = {"step": 1, "monitor": {"history": {"length": [5.0]}}}
    writer.save(1, {"a": weight}, facts)
    weight.zero_()
    facts["monitor"]["history"]["length"].append(7.0)  # type: ignore[index]
    changed.set()
    writer.join()
    saved = checkpoint.facts_of(tmp_path / "checkpoints" / "step-1")
    assert saved == {"step": 1, "monitor": {"history": {"length": [5.0]}}}
    into = {"a": torch.empty(4)}
    checkpoint.load(tmp_path / "checkpoints" / "step-1", into)
    assert into["a"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    checkpoint.Writer(tmp_path, keep=1).save(1, {"a": torch.ones(3)}, {"step": 1}, wait=True)
    folder = tmp_path / "checkpoints" / "step-1"
    with pytest.raises(StoreError, match="cannot be read"):
        checkpoint.load(folder, {"b": torch.empty(3)})
    for file in folder.glob("*.distcp"):
        file.write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be read"):
        checkpoint.load(folder, {"a": torch.empty(3)})
    (folder / ".metadata").write_bytes(b"no")
    with pytest.raises(StoreError, match="cannot be read"):
        checkpoint.names(folder)
