"""Templates that write the date: one time for all of a run, kept with it; the machine's time outside a run."""

from __future__ import annotations

import datetime
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from burnish.data import clock, templates, tokenizers
from burnish.engine import checkpoint
from burnish.group import Message
from burnish.loop import prepare
from tests import zoo
from tests.runs.cli import burnish, rows, signalled_after

TEMPLATE = "{% macro today() %}{{ strftime_now('%d %b %Y %H:%M:%S') }}{% endmacro %}Today: {{ today() }}\n" + zoo.CHATML
RUN = ["model.dtype=float32", "optim.lr=1e-3", "optim.groups_per_step=4", "optim.steps=4", "objective.name=dpo"]
MONDAY = datetime.datetime(2026, 3, 2, 23, 59, 58)


class Machine(datetime.datetime):
    """A clock that a second passes on at every look."""

    time = MONDAY

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        Machine.time += datetime.timedelta(seconds=1)
        return Machine.time


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "time", MONDAY)
    monkeypatch.setattr(clock, "datetime", Machine)
    monkeypatch.setattr(chat_template_utils, "datetime", Machine)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = zoo.save_model_dir(tmp_path / "dated")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return folder


@pytest.mark.parametrize("load", [tokenizers.load_tokenizer, tokenizers.load_light])
def test_a_template_is_given_one_time(load: Any, model: Path) -> None:
    question = [Message("user", "x")]
    chat = templates.ChatTemplate(load(str(model)))
    first, second = (chat.render(question, header=True) for _ in range(2))
    assert chat.dated and first == second and "Today: 02 Mar 2026 23:59:59\n" in first
    with clock.stopped(datetime.datetime(2020, 1, 1)):
        assert "01 Jan 2020 00:00:00" in templates.ChatTemplate(load(str(model))).render(question, header=True)
    assert first == chat.render(question, header=True)
    tokenizer = tokenizers.load_tokenizer(str(model))
    Machine.time = datetime.datetime(2026, 7, 1)
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert "01 Jul 2026" in asked, "whoever asks the saved model has the day"


def test_a_run_goes_on_another_day_with_the_same_tokens(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = []
    of_run = prepare.prepare

    def kept(*arguments: Any) -> prepare.Prepared:
        prepared = of_run(*arguments)
        tokens.append([(g.prompt_ids, g.completion_ids) for g in [*prepared.train, *prepared.evaluation]])
        return prepared

    monkeypatch.setattr("burnish.loop.build.prepare", kept)
    run = [f"model.path={model}", f"data.train={tmp_path / 'pairs.jsonl'}", *RUN]
    assert burnish("train", *run, f"run.dir={tmp_path / 'whole'}") == 0
    assert "it writes the time, here always 2026-03-02 23:59:59" in "".join(capsys.readouterr())
    Machine.time = MONDAY
    with signalled_after(2, signal.SIGTERM):
        assert burnish("train", *run, f"run.dir={tmp_path / 'parts'}") == 75
    (saved,) = checkpoint.folders(tmp_path / "parts")
    assert checkpoint.facts_of(saved)["began"] == "2026-03-02T23:59:59"
    Machine.time = MONDAY + datetime.timedelta(days=1)
    assert burnish("train", *run, f"run.dir={tmp_path / 'parts'}", "run.resume=true") == 0
    assert tokens[0] == tokens[1] == tokens[2]
    whole, parts = (tmp_path / name / "model" / "model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    assert clock.now() > MONDAY + datetime.timedelta(days=1), "the machine's clock goes on behind a run"
    assert burnish("train", *run, f"run.dir={tmp_path / 'next'}") == 0
    assert tokens[3] != tokens[0], "another run, another day"
    capsys.readouterr()
    Machine.time = datetime.datetime(2026, 5, 5)
    assert burnish("show", str(tmp_path / "pairs.jsonl"), "1", f"model.path={model}") == 0
    assert "05 May 2026" in capsys.readouterr().out
