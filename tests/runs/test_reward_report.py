"""`burnish reward-report` from end to end: explicit, combined and implicit rewards of models trained on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from burnish.reports.rewards import read
from tests.runs.cli import BASE, burnish
from tests.zoo import plain_logps, save_model_dir


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, pairs to train on, held-out groups, reward models (two members), DPO and SimPO runs."""
    out = tmp_path_factory.mktemp("report")
    model = save_model_dir(out / "llama", "llama", "plain")
    pairs = [
        {"prompt": f"Say {i}. ", "chosen": f"{i} please", "rejected": f"{i}" + " no" * (1 + i % 3)} for i in range(12)
    ]
    (out / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    answers = (("please.", 2.0), ("no", 0.0), ("well", 1.0))
    held = [
        {"prompt": f"Tell {i}. ", "completions": [{"text": f"{i} {text}", "score": score} for text, score in answers]}
        for i in range(8)
    ]
    (out / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
    for name, settings in (
        ("rm", ["objective.name=bradley_terry", "reward.members=2"]),
        ("dpo", ["objective.name=dpo", "objective.beta=0.2"]),
        ("simpo", ["objective.name=simpo"]),
        ("lora", ["objective.name=dpo_norm", "adapter.kind=lora", "adapter.rank=4"]),
    ):
        places = [f"model.path={model}", f"data.train={out / 'pairs.jsonl'}", f"run.dir={out / name}"]
        assert burnish("train", *places, *BASE, *settings) == 0
    return out


def test_every_reward_is_that_of_its_model(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, runs = str(folder / "held.jsonl"), [str(folder / name) for name in ("rm", "dpo", "simpo", "lora")]
    code = burnish(
        "reward-report", data, *runs, "--out", str(tmp_path / "r"), "--trained-on", data, "--no-words", "--probes", "3"
    )
    assert code == 0
    scored = read(tmp_path / "r" / "scored.jsonl")
    names = [one.name for one in scored.scorers]
    assert names[:2] == ["rm/member-0", "rm/member-1"] and names[-3:] == ["dpo", "simpo", "lora"]
    on_its_base = f"{folder / 'lora' / 'model'} on its base {(folder / 'llama').resolve()}"
    assert scored.scorers[-1].detail.endswith(on_its_base)
    assert names[2:5] == ["rm (mean)", "rm (worst)", "rm (uncertainty)"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "llama")
    base = AutoModelForCausalLM.from_pretrained(folder / "llama", dtype=torch.float32).eval()
    dpo = AutoModelForCausalLM.from_pretrained(folder / "dpo" / "model", dtype=torch.float32).eval()
    simpo = AutoModelForCausalLM.from_pretrained(folder / "simpo" / "model", dtype=torch.float32).eval()
    rm = AutoModelForSequenceClassification.from_pretrained(
        folder / "rm" / "member-1" / "model", num_labels=1, dtype=torch.float32
    ).eval()
    for group in scored.groups[:3]:
        prompt = tokenizer(group.prompt, add_special_tokens=False)["input_ids"]
        for k, text in enumerate(group.answers):
            ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            assert len(ids) == group.lengths[k]
            with torch.no_grad():
                reward = float(rm(input_ids=torch.tensor([prompt + ids])).logits[0, 0])
            assert group.rewards["rm/member-1"][k] == pytest.approx(reward, abs=1e-4)
            ratio = plain_logps(dpo, prompt, ids).sum() - plain_logps(base, prompt, ids).sum()
            assert group.rewards["dpo"][k] == pytest.approx(0.2 * float(ratio), abs=1e-3)
            mean = plain_logps(simpo, prompt, ids).mean()
            assert group.rewards["simpo"][k] == pytest.approx(2.0 * float(mean), abs=1e-3)
    shown = capsys.readouterr().out
    assert "does not predict win rate" in shown and "accuracy" in shown
    figures = json.loads((tmp_path / "r" / "report.json").read_text())
    assert figures["pairs"] == 24 and (tmp_path / "r" / "report.svg").stat().st_size > 10_000
    assert "<html" in (tmp_path / "r" / "report.html").read_text()


def test_a_report_is_drawn_again_from_its_records(folder: Path, tmp_path: Path) -> None:
    first, second = str(tmp_path / "a"), str(tmp_path / "b")
    assert burnish("reward-report", str(folder / "held.jsonl"), str(folder / "rm"), "--out", first, "--no-words") == 0
    assert burnish("reward-report", str(tmp_path / "a" / "scored.jsonl"), "--out", second, "--no-words") == 0
    assert (tmp_path / "a" / "report.json").read_text() == (tmp_path / "b" / "report.json").read_text()


def test_subsets_are_told_apart(folder: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Say {i}. ", "chosen": "please", "rejected": "no", "subset": "chat" if i % 2 else "safety", "id": i}
        for i in range(6)
    ]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "r"
    assert burnish("reward-report", str(tmp_path / "bench.jsonl"), str(folder / "dpo"), "--out", str(out)) == 0
    figures = json.loads((out / "report.json").read_text())
    assert {row["name"] for row in figures["accuracy"]["subsets"]} == {"chat", "safety"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Missing argument"),
        (["{held}"], "at least one scorer"),
        (["{held}", "nowhere"], "there is no folder"),
        (["{held}", "{llama}"], "is no reward model"),
        (["nothing.jsonl", "{dpo}"], "nothing.jsonl"),
        (["{held}", "{dpo}", "--trained-on", "{pairs}"], "no scores"),
    ],
)
def test_what_cannot_be_scored(
    folder: Path, tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"held": "held.jsonl", "llama": "llama", "dpo": "dpo", "pairs": "pairs.jsonl"}
    filled = [word.format(**{name: folder / file for name, file in places.items()}) for word in words]
    assert burnish("reward-report", *filled, "--out", str(tmp_path / "r")) == 2
    assert told in capsys.readouterr().err
