"""Trackers hear what the log says, and nothing that befalls them reaches the run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from burnish import config, trackers
from burnish.errors import ConfigError
from burnish.runlog import RunLog, read
from tests.runs.test_runs import BASE, burnish, rows
from tests.zoo import save_model_dir


class Good:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.about: trackers.About | None = None
        self.stopped = False

    def start(self, about: trackers.About) -> str:
        self.about = about
        return ""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.seen.append((step, dict(values)))

    def stop(self) -> None:
        self.stopped = True


class Failing(Good):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        raise ConnectionError("no route to host, key sk-0123456789abcdef0123456789abcdef0123")


class Blocking(Good):
    def start(self, about: trackers.About) -> str:
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
    assert train(model_dir, tmp_path, 'log.to=["tensorboard"]') == 0
    steps = [r for r in read(tmp_path / "run") if r["record"] == "step"]
    told = [(step, values) for step, values in good.seen if "loss" in values]
    assert [step for step, _ in told] == [r["step"] for r in steps] and good.stopped
    assert [values["loss"] for _, values in told] == [r["loss"] for r in steps]
    assert any("eval/loss" in values for _, values in good.seen)
    assert good.about is not None and good.about.config["optim.lr"] == 1e-3


@pytest.mark.parametrize(("kind", "told"), [(Failing, "failed: ConnectionError"), (Blocking, "is left")])
def test_what_befalls_it_does_not_reach_the_run(
    kind: type[Good], told: str, model_dir: Path, tmp_path: Path, one: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(trackers, "PATIENCE", 0.3)
    one(kind())
    began = time.perf_counter()
    assert train(model_dir, tmp_path, "log.to=tensorboard") == 0
    assert time.perf_counter() - began < 60
    out = capsys.readouterr().out
    assert out.count(told) == 1 and "sk-0123456789abcdef" not in out
    notes = [r for r in read(tmp_path / "run") if r["record"] == "note"]
    assert any(told in r["text"] for r in notes) and any(r.get("lost") for r in notes)


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "WAITING", 5)
    monkeypatch.setattr(trackers, "PATIENCE", 0.1)
    said: list[str] = []
    run = config.load_partly(None, [f"run.dir={tmp_path}"])
    with RunLog(tmp_path) as log:
        log.listeners.append(trackers.Feeds(run, log, said.append, {"tensorboard": Blocking()}))
        log.append("run", first_step=0)
        began = time.perf_counter()
        for step in range(100):
            log.append("step", step=step + 1, loss=1.0)
        assert time.perf_counter() - began < 1.0
    assert any("100 of 100 records" in r["text"] for r in read(tmp_path) if r["record"] == "note")


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
        trackers.named(config.load_partly(None, [f"log.to={value}"]))


def test_numbers_that_are_not_finite_and_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    found = trackers.scalars({"record": "step", "step": 1, "time": 2.0, "loss": "nan", "lr": 1, "name": "x"}, "")
    assert set(found) == {"loss", "lr"} and found["loss"] != found["loss"]
    monkeypatch.setenv("WANDB_API_KEY", "verysecretvalue")
    assert trackers.scrub("at https://user:pass@host/x with verysecretvalue") == "at https://***@host/x with ***"
    assert trackers.flat({"a": {"b": [1, 2], "c": "verysecretvalue"}}) == {"a.b": "1, 2", "a.c": "***"}
