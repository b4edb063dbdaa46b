"""Sweeps through the command line: a member is the run that `burnish train` makes, whatever becomes of the others."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from burnish.config.sweep import load_sweep, split_values
from burnish.errors import ConfigError
from burnish.runlog import log
from burnish.runlog.records import EndRecord, ReferenceRecord, StepRecord
from tests.runs.cli import BASE, burnish, rows
from tests.zoo import save_model_dir


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    save_model_dir(folder / "model")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return folder


def words(home: Path, *more: str) -> list[str]:
    held_out = f"data.eval={home / 'pairs.jsonl'}"
    data = [f"data.train={home / 'pairs.jsonl'}", held_out]
    return [f"model.path={home / 'model'}", *data, *BASE, "engine.threads=1", *more]


@pytest.fixture(scope="module")
def swept(home: Path) -> Path:
    """A sweep of two betas."""
    folder = home / "sweeps" / "a"
    assert burnish("sweep", *words(home, "objective.beta=0.1,1", f"sweep.dir={folder}", "optim.steps=3")) == 0
    return folder


def test_a_member_is_the_run_that_train_makes_and_one_pass_serves_all(home: Path, swept: Path, tmp_path: Path) -> None:
    alone = words(home, "objective.beta=1", "optim.steps=3", f"run.dir={tmp_path / 'alone'}")
    assert burnish("train", *alone) == 0
    ours = load_file(swept / "beta=1" / "model" / "model.safetensors")
    theirs = load_file(tmp_path / "alone" / "model" / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    first, second = (next(log.read(swept / name, ReferenceRecord)) for name in ("beta=0.1", "beta=1"))
    assert first.computed > 0 and second.computed == 0


def test_the_end_is_a_comparison_and_a_pick(swept: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((swept / "comparison.json").read_text())
    assert [run["name"] for run in found["runs"]] == ["beta=0.1", "beta=1"]
    assert [row["key"] for row in found["differing"]] == ["objective.beta"]
    lows = {name: value[1] for name, value in found["quality"]["held-out accuracy"].items()}
    assert lows[found["pick"]["run"]] == max(lows.values()) and found["pick"]["runner_up"] in lows
    assert (swept / "comparison.png").stat().st_size > 1000 and "<svg" in (swept / "comparison.html").read_text()
    before = {file: file.stat().st_mtime_ns for file in swept.glob("beta=*/model/*")}
    assert burnish("sweep", *words(home, "objective.beta=0.1,1", f"sweep.dir={swept}", "optim.steps=3")) == 0
    assert capsys.readouterr().out.count("finished before") == 2
    assert {file: file.stat().st_mtime_ns for file in swept.glob("beta=*/model/*")} == before
    assert burnish("sweep", *words(home, "objective.beta=0.1,1", f"sweep.dir={swept}", "optim.steps=4")) == 2
    assert "holds a run with another optim.steps than this sweep gives it" in capsys.readouterr().err


def test_a_member_that_fails_is_named_and_the_others_are_made(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home / "model", tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").write_bytes(b"no weights")
    models = f"model.path={home / 'model'},{tmp_path / 'other'}"
    _, *given = words(home, "optim.steps=2", f"sweep.dir={tmp_path / 's'}")
    assert burnish("sweep", *given, models) == 3
    said = capsys.readouterr().out
    assert said.count("FAILED") == 2 and "done in" in said
    finished = [folder for folder in (tmp_path / "s").glob("path=*") if (folder / "model").exists()]
    assert len(finished) == 1


def test_a_killed_sweep_goes_on(home: Path, tmp_path: Path) -> None:
    given = words(home, "objective.beta=0.1,1", f"sweep.dir={tmp_path / 's'}", "optim.steps=40", "save.every=5")
    command = [sys.executable, "-m", "burnish", "sweep", *given]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while not list((tmp_path / "s").glob("beta=*/checkpoints/step-*")) and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75 and b"goes on" in said
    assert not any(True for folder in (tmp_path / "s").glob("beta=1*/model"))
    assert burnish("sweep", *given) == 0
    folders = [tmp_path / "s" / name for name in ("beta=0.1", "beta=1")]
    assert all(any(True for _ in log.read(folder, EndRecord)) for folder in folders)


def test_halving_trains_the_best_in_full(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = words(home, "objective.beta=0.1,0.3,1", f"sweep.dir={tmp_path / 's'}", "optim.steps=5", "sweep.first=0.4")
    assert burnish("sweep", *given) == 0
    first = [tmp_path / "s" / "first" / name for name in ("beta=0.1", "beta=0.3", "beta=1")]
    assert [max(record.step for record in log.read(folder, StepRecord)) for folder in first] == [2, 2, 2]
    full = [folder.name for folder in (tmp_path / "s").glob("beta=*")]
    assert len(full) == 1 and f"in full: {full[0]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["objective.beta=0.1"], "nothing is swept"),
        (["objective.beta=0.1,0.1"], "has a value twice"),
        (["objective.beta=0.1,1", "objective.beta=2,3"], "given twice"),
        (["run.dir=a,b"], "cannot be swept"),
        (["optim.lr=1e-6,fast"], "lr=fast: optim.lr"),
        (["objective.bta=1,2", "sweep.first=2"], "sweep: first"),
        (["objective.beta=1,2", "sweep.frist=0.1"], "did you mean 'sweep.first'"),
        (["objective.beta=1,2", "sweep.keep=1"], "sweep.first, which is unset"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_first_run(home: Path, given: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence.replace(".", r"\.")):
        load_sweep(None, words(home, *given))


def test_commas_within_brackets_divide_nothing() -> None:
    assert split_values('["a", "b"],c') == ['["a", "b"]', "c"]
    assert split_values("{x = 1, y = 2}") == ["{x = 1, y = 2}"]
    assert split_values("0.1, 0.3,1") == ["0.1", "0.3", "1"]


def test_a_table_over_says_the_same_as_words(home: Path, tmp_path: Path) -> None:
    over = '"objective.beta" = [0.1, 1.0]\n"optim.schedule" = ["linear", "cosine"]\n'
    (tmp_path / "run.toml").write_text(f"[sweep.over]\n{over}")
    plan = load_sweep(str(tmp_path / "run.toml"), words(home))
    assert [member.name for member in plan.members][:2] == ["beta=0.1,schedule=linear", "beta=0.1,schedule=cosine"]
    assert plan.members[3].run.objective[0].params["beta"] == 1.0 and plan.members[3].run.optim.schedule == "cosine"
    assert burnish("train", str(tmp_path / "run.toml"), *words(home)) == 2
