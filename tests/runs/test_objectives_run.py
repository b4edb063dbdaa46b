"""Every objective of the table trains through the command line, the same whatever the microbatches."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from burnish.objectives import TABLE
from tests.runs.cli import burnish, train
from tests.zoo import save_model_dir

SETTINGS = ["optim.steps=2", "optim.groups_per_step=3", "optim.lr=1e-4"]
VARIANTS = [(name, []) for name, row in TABLE.items() if row.view != "rollouts"] + [
    ("rpo", ["objective.nll=token_mean"]),
    ("cpo", ["objective.nll=token_mean"]),
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_dir(tmp_path_factory.mktemp("model") / "llama", "llama", "plain")


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups of two, three and four scored answers of unequal lengths."""
    path = tmp_path_factory.mktemp("data") / "ranked.jsonl"
    rows = [
        {"prompt": f"Say {i}. ", "completions": [
            {"text": f"{i}" + " yes" * (k + i % 2), "score": float((k * 7 + i) % 5)} for k in range(2 + i % 3)
        ]}
        for i in range(6)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "labelled.jsonl"
    rows = [{"prompt": f"Say {i}. ", "completion": f"{i}" + " yes" * (i % 4), "label": i % 3 > 0} for i in range(7)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("name", "more"), VARIANTS, ids=[name + "".join(more) for name, more in VARIANTS])
def test_one_microbatch_is_many(
    name: str, more: list[str], model_dir: Path, ranked: Path, labelled: Path, tmp_path: Path
) -> None:
    """The step's loss and gradient do not depend on the token budget: every term is divided by the step's own count."""
    runs: list[list[dict[str, Any]]] = []
    for budget in ("100000", "1"):
        settings = [f"objective.name={name}", f"engine.token_budget={budget}", "pairs.rule=all", *SETTINGS, *more]
        data = labelled if TABLE[name].view == "labels" else ranked
        steps, _ = train(model_dir, data, tmp_path / budget, *settings)
        runs.append(steps)
    steps_alike = 1 if name == "dpop" else 2  # dpop starts on a kink (a = 0), where rounding chooses the side
    for whole, split in list(zip(*runs, strict=True))[:steps_alike]:
        assert math.isfinite(whole["loss"]) and whole["grad_norm"] > 0
        assert split["loss"] == pytest.approx(whole["loss"], rel=2e-4, abs=2e-6)
        if name != "dpop":
            assert split["grad_norm"] == pytest.approx(whole["grad_norm"], rel=2e-3)


def test_a_setting_that_leaves_no_number_is_refused_at_the_start(
    model_dir: Path, ranked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [f"model.path={model_dir}", f"data.train={ranked}", f"run.dir={tmp_path / 'run'}", "objective.name=hinge"]
    assert burnish("train", *places, *SETTINGS, "objective.margin=3e38", "objective.beta=3e38") == 3
    assert "not its closed form" in (message := capsys.readouterr().err) and "margin=3e+38" in message
