"""`burnish eval` through the command line: what is measured, what is kept, what is refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from burnish.config import load_partly
from burnish.data.readers import read
from burnish.evals.ask import places
from burnish.group import Preferences
from burnish.reports.evals import moved
from burnish.reports.evals.records import SuiteOutcome, read_outcomes, read_results
from tests.runs.cli import burnish
from tests.zoo import save_model_dir

LONGER = "tests.evals.test_evaluate:longer"


def longer(prompt: str, answer: str, meta: Any) -> float:
    """A judge for these tests: the longer the better; it cannot judge the prompt about nothing."""
    return math.nan if "nothing" in prompt else float(len(answer))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of one tokenizer, a copy of the first, prompts, and texts."""
    folder = tmp_path_factory.mktemp("eval")
    save_model_dir(folder / "base")
    shutil.copytree(folder / "base", folder / "copy")
    shutil.copytree(folder / "base", folder / "other")
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder / "other")
    prompts = [{"id": f"p{i}", "prompt": f"What is {i}+{i}?"} for i in range(6)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    texts = [{"prompt": f"What is {i}+{i}?", "chosen": f"It is {2 * i}", "rejected": "No"} for i in range(5)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    return folder


def words(home: Path, out: Path, *more: str, **models: str) -> list[str]:
    named = models or {"base": "base", "other": "other"}
    paths = [f"models.{name}={path if '.' in path else home / path}" for name, path in named.items()]
    return [*paths, f"dir={out}", "model.dtype=float32", "engine.threads=1", *more]


def judged(home: Path, kind: str = "win_rate") -> list[str]:
    own = {
        "win_rate": ["suite.judge.kind=verifier", f"suite.judge.name={LONGER}"],
        "verifier": [f"suite.check={LONGER}"],
    }
    return [f"suite.kind={kind}", f"suite.prompts={home / 'prompts.jsonl'}", "suite.max_new_tokens=8", *own[kind]]


def panel(home: Path, *more: str) -> list[str]:
    return ["suite.kind=panel", f"suite.texts={home / 'texts.jsonl'}", "suite.max_new_tokens=8", *more]


def only(results: Any, model: str) -> Any:
    (suite,) = results["suites"]
    return suite["models"][model]


def test_a_model_against_its_copy_ties_every_pair_and_moves_nothing(home: Path, tmp_path: Path) -> None:
    assert burnish("eval", *words(home, tmp_path / "w", *judged(home), "suite.k=3", base="base", copy="copy")) == 0
    assert only(read_results(tmp_path / "w"), "copy")["raw"][0] == 0.5
    assert burnish("eval", *words(home, tmp_path / "p", *panel(home, "suite.k=2"), base="base", copy="copy")) == 0
    metrics = only(read_results(tmp_path / "p"), "copy")["metrics"]
    assert {row["difference"][0] for row in metrics.values()} == {0.0}  # the same draws: no habit differs, nor any KL
    assert not any(row["counts"] for row in metrics.values())


@torch.no_grad()
def test_kl_and_surprise_are_those_of_the_whole_vocabulary(home: Path, tmp_path: Path) -> None:
    assert burnish("eval", *words(home, tmp_path / "p", *panel(home))) == 0
    outcomes = [o for o in read_outcomes(tmp_path / "p") if o.model == "other"]
    kl = {o.prompt: o.value for o in outcomes if o.metric == moved.KL}
    nll = {o.prompt: o.value for o in outcomes if o.metric == moved.NLL}
    base, other = (AutoModelForCausalLM.from_pretrained(home / name) for name in ("base", "other"))
    (place,) = places([str(home / "base")], load_partly(None, []))
    for number, group in enumerate(read(str(home / "texts.jsonl")).groups):
        encoded = place.renderer().encode(group)
        ids = torch.tensor([[*encoded.prompt_ids, *encoded.completion_ids[0]]])
        start, count = len(encoded.prompt_ids), len(encoded.completion_ids[0])
        p, q = (model(ids).logits[0, start - 1 : -1].log_softmax(-1) for model in (other, base))
        assert kl[str(number)] == pytest.approx(float((p.exp() * (p - q)).sum()) / count, rel=1e-4)
        picked = p.gather(1, ids[0, start:, None])
        assert nll[str(number)] == pytest.approx(-float(picked.sum()) / count, rel=1e-4)


def test_what_was_had_before_is_not_asked_again(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An evaluation that was cut off, in the middle of a line, ends with the figures of the unbroken one."""
    arguments = words(home, tmp_path / "w", *judged(home, "verifier"), "suite.k=2", "suite.pass_mark=9")
    assert burnish("eval", *arguments) == 0
    whole = read_results(tmp_path / "w")
    file = tmp_path / "w" / "answers" / "other.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-2]) + lines[-2][:20])
    capsys.readouterr()
    assert burnish("eval", *arguments) == 0
    assert "other answers: 2/2" in (said := capsys.readouterr().out) and "base answers" not in said
    again = read_results(tmp_path / "w")
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}


def test_answers_already_had_stand_for_the_model(home: Path, tmp_path: Path) -> None:
    assert burnish("eval", *words(home, tmp_path / "m", *judged(home))) == 0
    assert burnish("eval-export", str(tmp_path / "m"), "alpaca", "--out", str(tmp_path)) == 0
    files = {"base": str(tmp_path / "base.json"), "other": str(tmp_path / "other.json")}
    assert burnish("eval", *words(home, tmp_path / "f", *judged(home), **files)) == 0
    assert only(read_results(tmp_path / "f"), "other") == only(read_results(tmp_path / "m"), "other")
    missing = tmp_path / "short.jsonl"
    missing.write_text('{"instruction": "What is 0+0?", "output": "0"}\n')
    code = burnish("eval", *words(home, tmp_path / "g", *judged(home), base="base", short=str(missing)))
    assert code == 2 and not (tmp_path / "g" / "answers").exists()


def test_what_cannot_be_judged_is_counted_and_bounds_the_rate(home: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}"} for i in range(8)] + [{"prompt": f"Say nothing {i}"} for i in range(2)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = [word.replace(str(home / "prompts.jsonl"), str(tmp_path / "prompts.jsonl")) for word in judged(home)]
    assert burnish("eval", *words(home, tmp_path / "w", *arguments)) == 0
    figures = only(read_results(tmp_path / "w"), "other")
    unjudged = figures["unjudged"]
    assert 0 < unjudged <= 2 and figures["pairs"] == 10 - unjudged
    low, high = figures["bounds"]
    assert low <= figures["raw"][1] and high > figures["raw"][2]
    assert figures["length_controlled"] == figures["raw"]  # no outcome differs, so that length explains none
    reasons = read_results(tmp_path / "w")["suites"][0]["unjudged_because"]
    assert sum(reasons.values()) == unjudged


def test_exports_are_what_other_readers_read(home: Path, tmp_path: Path) -> None:
    assert burnish("eval", *words(home, tmp_path / "w", *judged(home), "suite.k=2")) == 0
    for form in ("votes", "scores"):
        assert burnish("eval-export", str(tmp_path / "w"), form, "--out", str(tmp_path / "x")) == 0
    won = [o for o in read_outcomes(tmp_path / "w") if o.metric == "win"]
    groups = read(str(tmp_path / "x" / "win_rate.votes.jsonl")).groups
    decided = [group for group in groups if isinstance(group.feedback, Preferences)]
    assert len(decided) == sum(o.value != 0.5 for o in won)
    lines = [json.loads(line) for line in (tmp_path / "x" / "win_rate.other.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["value"]) for line in lines] == [(o.draw + 1, o.value) for o in won]
    assert {line["id"] for line in lines} == {f"p{i}" for i in range(6)}
    assert burnish("eval-export", str(tmp_path / "w"), "vote") == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["suite.prompts=nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["suite.baseline=bass"], "did you mean 'base'"),
        (["suite.judge.kind=vrifier"], "suite.judge.kind is missing or unknown"),
        (["suite.judge.name=no_such"], "there is no such check"),
        (["suite.k=2", "suite.temperature=0"], "would be the same answer"),
        (["suite.promts=x"], "there is no key 'suite.promts'"),
        (["models.third=./nowhere"], "there is no folder ./nowhere"),
        (["modles.third=./nowhere"], "did you mean 'models'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_weight_loads(
    home: Path, tmp_path: Path, change: list[str], sentence: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("burnish.evals.ask.model.open_policy", lambda *_: pytest.fail("weights were loaded"))
    assert burnish("eval", *words(home, tmp_path / "w", *judged(home), *change)) == 2
    assert sentence in capsys.readouterr().err


def test_a_difference_counts_beyond_the_noise_of_another_draw() -> None:
    def outcomes(model: str, values: list[float]) -> list[SuiteOutcome]:
        return [SuiteOutcome("s", "panel", model, str(i), "lists", value) for i, value in enumerate(values)]

    base = outcomes("base", [0.0, 1.0] * 10)
    quiet, loud = outcomes("again", [0.0, 1.0] * 10), outcomes("again", [1.0, 1.0, 1.0, 0.0] * 5)
    up = outcomes("m", [1.0] * 16 + [0.0, 1.0] * 2)
    assert moved.figures(up, base, quiet)["lists"]["counts"]
    row = moved.figures(up, base, loud)["lists"]
    assert row["floor"] > row["difference"][0] > 0 and not row["counts"]
    assert not moved.figures(base, base, quiet)["lists"]["counts"]
