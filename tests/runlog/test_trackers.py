"""Trackers hear what the log says, and nothing that befalls them reaches the run."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from burnish import config
from burnish.errors import ConfigError
from burnish.runlog import trackers
from burnish.runlog.log import RunLog, read_rows
from burnish.runlog.records import (
    CompletionRecord,
    EndRecord,
    EvalRecord,
    ReferenceRecord,
    RunRecord,
    StepRecord,
)  # fmt: skip
from tests.runs.cli import BASE, burnish, rows
from tests.zoo import save_model_dir


class Good:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.run: trackers.TrackedRun | None = None
        self.finished: bool | None = None

    def start(self, run: trackers.TrackedRun) -> str:
        self.run = run
        return ""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.seen.append((step, dict(values)))

    def stop(self, finished: bool) -> None:
        self.finished = finished


class Failing(Good):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        raise ConnectionError("no route to host, key sk-0123456789abcdef0123456789abcdef0123")


class Blocking(Good):
    def start(self, run: trackers.TrackedRun) -> str:
        threading.Event().wait()
        return ""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_dir(tmp_path_factory.mktemp("model") / "llama", "llama", "plain")


def train(model_dir: Path, tmp_path: Path, *settings: str) -> int:
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    places = [f"model.path={model_dir}", f"data.train={data}", f"data.eval={data}", f"run.dir={tmp_path / 'run'}"]
    return burnish("train", *places, *BASE, *settings)


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a tracker of ours in tensorboard's place."""

    def put(tracker: trackers.Tracker) -> None:
        monkeypatch.setitem(trackers.TRACKERS, "tensorboard", lambda: tracker)
        monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: object())

    return put


def test_it_hears_every_step_and_evaluation(model_dir: Path, tmp_path: Path, one: Any) -> None:
    good = Good()
    one(good)
    assert train(model_dir, tmp_path, 'log.trackers=["tensorboard"]') == 0
    steps = [r for r in read_rows(tmp_path / "run") if r["record"] == "step"]
    told = [(step, values) for step, values in good.seen if "loss" in values]
    assert [step for step, _ in told] == [r["step"] for r in steps] and good.finished
    assert [values["loss"] for _, values in told] == [r["loss"] for r in steps]
    assert any("eval/loss" in values for _, values in good.seen)
    assert good.run is not None and good.run.config["optim.lr"] == 1e-3


@pytest.mark.parametrize(("kind", "told"), [(Failing, "failed: ConnectionError"), (Blocking, "is left")])
def test_what_befalls_it_does_not_reach_the_run(
    kind: type[Good], told: str, model_dir: Path, tmp_path: Path, one: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(trackers, "PATIENCE", 0.3)
    one(kind())
    began = time.perf_counter()
    assert train(model_dir, tmp_path, "log.trackers=tensorboard") == 0
    assert time.perf_counter() - began < 60
    out = capsys.readouterr().out
    assert out.count(told) == 1 and "sk-0123456789abcdef" not in out
    notes = [r for r in read_rows(tmp_path / "run") if r["record"] == "note"]
    assert any(told in r["text"] for r in notes) and any(r.get("lost") for r in notes)


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "WAITING", 5)
    monkeypatch.setattr(trackers, "PATIENCE", 0.1)
    said: list[str] = []
    run = config.load_partly(None, [f"run.dir={tmp_path}"])
    with RunLog(tmp_path) as log:
        log.listeners.append(trackers.Feeds(run, log, said.append, {"tensorboard": Blocking()}))
        log.write(RunRecord(objective="dpo", steps=100, first_step=0))
        began = time.perf_counter()
        for step in range(100):
            log.write(StepRecord(step=step + 1, loss=1.0))
        assert time.perf_counter() - began < 1.0
    assert any("100 of 100 records" in r["text"] for r in read_rows(tmp_path) if r["record"] == "note")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("tensorbord", "did you mean 'tensorboard'"),
        ('["wandb", "wandb"]', "twice"),
        ("mlflow", "pip install 'burnish[mlflow]'"),
    ],
)
def test_trackers_that_cannot_be_meant(value: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None if name == "mlflow" else object())
    with pytest.raises(ConfigError, match=told.replace("[", r"\[").replace("(", r"\(")):
        trackers.named(config.load_partly(None, [f"log.trackers={value}"]))


def test_secrets_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "verysecretvalue")
    assert trackers.scrub("at https://user:pass@host/x with verysecretvalue") == "at https://***@host/x with ***"
    assert trackers.flat({"a": {"b": [1, 2], "c": "verysecretvalue"}}) == {"a.b": "1, 2", "a.c": "***"}


class Told:
    """Stands for a tracker's whole package: every call, of whatever name, is written down by name and arguments."""

    url = "https://example.org/run"
    dir = "here/files"
    settings: Any

    def __init__(self, calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]], answers: Mapping[str, Any]) -> None:
        self.calls, self.answers = calls, answers

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            answer = self.answers.get(name, self)
            if isinstance(answer, Exception):
                raise answer
            return answer

        if name.startswith("__"):
            raise AttributeError(name)
        return call


def package(monkeypatch: pytest.MonkeyPatch, name: str, **answers: Any) -> list[tuple[str, Any, Any]]:
    """Put a package that only listens in the place of a tracker's; returns the list of calls it will hear."""
    calls: list[tuple[str, Any, Any]] = []
    told = Told(calls, answers)
    told.settings = type("Settings", (), {"mode": "online"})
    module = ModuleType(name)
    module.__getattr__ = told.__getattr__  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, name, module)
    if name == "tensorboard":
        inside = ModuleType("torch.utils.tensorboard")
        inside.__getattr__ = told.__getattr__  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", inside)
    return calls


def followed(tmp_path: Path, name: str, *, end: bool = True, first: int = 0) -> list[str]:
    """A short run's log with one tracker; returns what was said."""
    said: list[str] = []
    run = config.load_partly(None, [f"run.dir={tmp_path}", f"log.trackers={name}", "optim.lr=1e-6", "model.path=m"])
    with RunLog(tmp_path) as log:
        trackers.attach(run, log, said.append)
        log.write(ReferenceRecord(weights="5f0c", computed=3, stored=0, seconds=0.1))
        log.write(RunRecord(objective="dpo", steps=2, first_step=first, notes=("a line",)))
        log.write(CompletionRecord(step=1, group="g", index=0, length=3))
        log.write(StepRecord(step=1, loss=0.5, lr=1e-6, metrics={"rewards/margins": 0.25}))
        log.write(StepRecord(step=2, loss=math.inf, lr=0.0))
        log.write(EvalRecord(step=2, loss=0.75, groups=4))
        if end:
            log.write(EndRecord(step=2))
    return said


COST = {"tokens": 0.0, "seconds": 0.0}
FIRST, SECOND = {"loss": 0.5, "lr": 1e-6, **COST, "rewards/margins": 0.25}, {"loss": math.inf, "lr": 0.0, **COST}
HELD_OUT = {"eval/loss": 0.75, "eval/groups": 4.0}


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_each_package_is_called_as_it_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    calls = package(monkeypatch, name, login=True)
    said = followed(tmp_path, name)
    log, start, stop = ("log_metrics", "start_run", "end_run") if name == "mlflow" else ("log", "init", "finish")
    logged = [(args[0], kwargs["step"]) for what, args, kwargs in calls if what == log]
    assert logged == [(FIRST, 1), (SECOND, 2), (HELD_OUT, 2)]
    (begun,) = [kwargs for what, _, kwargs in calls if what == start]
    told = begun["config"] if name != "mlflow" else next(args[0] for what, args, _ in calls if what == "log_params")
    assert float(told["optim.lr"]) == 1e-6 and told["model.path"] == "m" and told["objective.name"] == "dpo"
    assert calls[-1][0] == stop
    assert said == (["wandb: https://example.org/run"] if name == "wandb" else [])


@pytest.mark.parametrize(("end", "status"), [(True, "FINISHED"), (False, "FAILED")])
def test_a_run_that_broke_off_is_not_called_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bool, status: str
) -> None:
    calls = package(monkeypatch, "mlflow")
    (tmp_path / "m").mkdir()
    followed(tmp_path / "m", "mlflow", end=end)
    assert calls[-1][:2] == ("end_run", (status,))
    calls = package(monkeypatch, "wandb", login=True)
    followed(tmp_path, "wandb", end=end)
    assert calls[-1] == ("finish", (), {"exit_code": 0 if end else 1})


def test_wandb_without_a_key_does_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = package(monkeypatch, "wandb", login=False)
    (line,) = followed(tmp_path, "wandb")
    assert "no API key" in line and ("login", (), {"prompt": False, "verify": False}) in calls
    assert all(what != "init" for what, _, _ in calls)


@pytest.mark.parametrize("name", list(trackers.TRACKERS))
def test_packages_that_raise_at_every_call_say_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Broken(ModuleType):
        def __getattr__(self, attribute: str) -> Any:
            raise OSError("disk\nfull at https://me:hunter2@host")

    for module in {name, "torch.utils.tensorboard"} if name == "tensorboard" else {name}:
        monkeypatch.setitem(sys.modules, module, Broken(module))
    (line,) = followed(tmp_path, name)
    assert line.startswith(f"{name} could not start: ") and "\n" not in line and "hunter2" not in line
    notes = [r for r in read_rows(tmp_path) if r["record"] == "note"]
    assert [r.get("lost") for r in notes] == [None, 3] and notes[0]["text"] == line
    assert [r["record"] for r in read_rows(tmp_path) if r["record"] != "note"][-1] == "end"


def test_tensorboard_writes_event_files_that_tensorboard_reads(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install 'burnish[tensorboard]')")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (line,) = followed(tmp_path, "tensorboard")
    assert line == f"tensorboard: tensorboard --logdir {tmp_path / 'tensorboard'}"
    assert len(followed(tmp_path, "tensorboard", first=1)) == 1  # resumed after step 1, it does step 2 once more
    read_back = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in read_back.Scalars("loss")] == [(1, 0.5), (1, 0.5), (2, math.inf)]
    assert [e.step for e in read_back.Scalars("eval/loss")] == [2]
    assert read_back.Scalars("rewards/margins")[0].value == 0.25
    assert b"optim.lr = 1e-06" in read_back.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
