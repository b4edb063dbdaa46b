"""Several objectives summed in one run: the sum is a sum, and every part is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import config, objectives
from burnish.engine import canary
from burnish.engine.engine import Engine, token_scores
from burnish.errors import ConfigError
from burnish.objectives.mixture import Mixture, WeightedObjective
from burnish.runlog.log import read_rows
from tests.objectives.test_distinct import groups, policy_of
from tests.runs.cli import BASE, burnish, rows
from tests.zoo import save_model_dir

ONE = [*BASE, "optim.steps=1", "optim.lr=1e-9"]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_dir(tmp_path_factory.mktemp("model") / "llama", "llama", "plain")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return path


def first_step(model_dir: Path, data: Path, out: Path, *settings: str) -> dict[str, Any]:
    places = [f"model.path={model_dir}", f"data.train={data}", f"run.dir={out}"]
    assert burnish("train", *places, *ONE, *settings) == 0
    return next(r for r in read_rows(out) if r["record"] == "step")


@pytest.mark.parametrize("budget", ["100000", "1"])
def test_the_loss_of_a_mixture_is_the_weighted_sum(model_dir: Path, data: Path, tmp_path: Path, budget: str) -> None:
    names = {"dpo": 0.8, "bco_pair": 0.2, "sft": 0.5}
    alone = {name: first_step(model_dir, data, tmp_path / name, f"objective.name={name}")["loss"] for name in names}
    listed = ", ".join(f'{{name = "{name}", weight = {weight}}}' for name, weight in names.items())
    mixed = first_step(model_dir, data, tmp_path / "m", f"objective=[{listed}]", f"engine.token_budget={budget}")
    assert mixed["loss"] == pytest.approx(sum(w * alone[n] for n, w in names.items()), rel=1e-5)
    for name, value in alone.items():
        assert mixed[f"loss/{name}"] == pytest.approx(value, rel=1e-5)


def test_a_mixture_is_written_in_toml_and_read_back(model_dir: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        f'[model]\npath = "{model_dir}"\n[data]\ntrain = "{data}"\n[run]\ndir = "{tmp_path / "run"}"\n'
        '[[objective]]\nname = "dpo"\nbeta = 0.3\n[[objective]]\nname = "sft"\nweight = 0.2\n'
    )
    run = config.load(str(file))
    assert [(one.name, one.weight, one.params) for one in run.objective] == [
        ("dpo", 1.0, {"beta": 0.3}),
        ("sft", 0.2, {}),
    ]
    again = tmp_path / "again.toml"
    again.write_text(config.to_toml(run))
    assert config.load(str(again)) == run
    with pytest.raises(ConfigError, match="lists several of"):
        config.load(str(file), ["objective.beta=0.1"])


def test_gradients_of_parts_add_up() -> None:
    """SGD-like: one AdamW step has no memory, so compare gradients through a mixture instead of weights."""

    policy = policy_of(scalar=False)
    assert canary.decide(policy, "auto").shared
    engine, step = Engine(policy, 1 << 20), groups()
    parts = tuple(
        WeightedObjective(objectives.find(name), objectives.find(name).validate({}), weight)
        for name, weight in (("dpo", 0.8), ("sft", 0.3))
    )

    def grads(some: tuple[WeightedObjective, ...]) -> torch.Tensor:
        (batch,) = engine.plan(step)
        scored = engine.score(batch)
        scores = token_scores(scored, scored.logps.detach() - 0.1 * torch.cos(scored.logps.detach()), batch)
        loss = Mixture(some).at(step)
        loss.total(loss(scores, batch)).backward()  # type: ignore[no-untyped-call]
        found = torch.cat([p.grad.flatten() for _, p in policy.trainable() if p.grad is not None])
        policy.module.zero_grad()
        return found

    torch.testing.assert_close(grads(parts), grads(parts[:1]) + grads(parts[1:]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ('[{name = "dpo"}, {name = "dpo", beta = 0.5}]', "listed twice"),
        ('[{name = "dpo"}, {name = "bradley_terry"}]', "cannot share one run"),
        ('[{name = "dpo"}, {weight = 0.2}]', "table with a name"),
        ("[]", "table with a name"),
        ('[{name = "dpo", weight = 0}]', "greater than 0"),
        ('[{name = "dpo"}, {name = "stf"}]', "did you mean 'sft'"),
    ],
)
def test_mixtures_that_cannot_be_meant(
    model_dir: Path, data: Path, tmp_path: Path, objective: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [f"model.path={model_dir}", f"data.train={data}", f"run.dir={tmp_path / 'run'}"]
    assert burnish("train", *places, f"objective={objective}") == 2
    assert told in capsys.readouterr().err
