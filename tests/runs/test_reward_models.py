"""Reward models through the command line: trained, saved in transformers' format, loaded back, many at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from burnish import config
from burnish.config import ModelConfig
from burnish.engine import canary
from burnish.engine.engine import Engine
from burnish.engine.reward_model import ABOUT, open_reward_model
from burnish.engine.scoring import rewards
from burnish.errors import ModelError
from burnish.group import EncodedGroup, Preferences, Unjudged
from burnish.loop.prepare import prepare
from burnish.runlog.log import read_rows
from tests.runs.cli import BASE, burnish
from tests.zoo import save_model_dir, tiny

FAMILIES = ["llama", "qwen3", "gemma3", "mistral", "gpt2", "mixtral", "qwen3_next"]
RM = ["objective.name=bradley_terry", *BASE]


def write_pairs(path: Path, count: int = 12) -> Path:
    """Pairs with scores; the better answer is the polite one, whatever its length."""
    lines = [
        {
            "prompt": f"What is {i}+{i}? ",
            "chosen": f"It is {2 * i}" + " indeed" * (i % 3),
            "rejected": "I do not know" + "." * (i % 4),
            "score_chosen": 3.0 + i % 2,
            "score_rejected": 1.0,
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl")


def train(model: Path, data: Path, out: Path, *settings: str) -> list[dict[str, Any]]:
    assert burnish("train", f"model.path={model}", f"data.train={data}", f"run.dir={out}", *RM, *settings) == 0
    return [r for r in read_rows(out) if r["record"] == "step"]


def encoded(out: Path) -> list[EncodedGroup]:
    return prepare(config.load(str(out / "config.toml"), ["run.overwrite=true"])).train


def ours(path: Path, groups: list[EncodedGroup]) -> torch.Tensor:
    policy = open_reward_model(ModelConfig(path=str(path), dtype="float32"))
    verdict = canary.decide(policy, "auto")
    engine = Engine(policy, 64, shared=verdict.shared, pruned=verdict.pruned)
    return torch.tensor([x for row in rewards(engine, groups) for x in row])


def theirs(model: Any, groups: list[EncodedGroup], pad: int) -> torch.Tensor:
    """transformers' own pooling, on one right-padded batch."""
    rows = [[*group.prompt_ids, *ids] for group in groups for ids in group.completion_ids]
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=mask).logits[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_learns_and_transformers_gives_the_same_scores(family: str, tmp_path: Path, data: Path) -> None:
    model = save_model_dir(tmp_path / family, family, "plain")
    steps = train(model, data, tmp_path / "run", "optim.steps=12")
    assert steps[-1]["loss"] < steps[0]["loss"]
    saved = tmp_path / "run" / "model"
    loaded = AutoModelForSequenceClassification.from_pretrained(saved, num_labels=1, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(saved)
    assert loaded.config.get_text_config().pad_token_id == tokenizer.pad_token_id is not None
    groups = encoded(tmp_path / "run")
    expected = theirs(loaded, groups, tokenizer.pad_token_id)
    torch.testing.assert_close(ours(tmp_path / "run", groups), expected, rtol=1e-4, atol=1e-4)
    assert float(expected[::2].mean()) > float(expected[1::2].mean())
    about = json.loads((saved / ABOUT).read_text())
    assert about["mean"] == pytest.approx(float(expected.mean()), abs=1e-3)
    assert about["sd"] == pytest.approx(float(expected.std(correction=0)), abs=1e-3)


def test_an_adapter_loads_merges_and_gives_the_same_scores(tmp_path: Path, data: Path) -> None:
    from peft import AutoPeftModelForSequenceClassification

    model = save_model_dir(tmp_path / "llama", "llama", "plain")
    train(model, data, tmp_path / "run", "adapter.kind=lora", "adapter.rank=4", "optim.steps=6")
    groups = encoded(tmp_path / "run")
    found = ours(tmp_path / "run", groups)
    pad = json.loads((tmp_path / "run" / "model" / ABOUT).read_text())["pad_token_id"]
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path / "run" / "model", num_labels=1, dtype=torch.float32
    )
    for group, row in zip(groups, found.split(2), strict=True):  # one at a time: the base names no padding token
        for ids, value in zip(group.completion_ids, row, strict=True):
            with torch.no_grad():
                alone = loaded.eval()(input_ids=torch.tensor([[*group.prompt_ids, *ids]])).logits[0, 0]
            assert float(alone) == pytest.approx(float(value), abs=1e-4)
    assert pad is None or isinstance(pad, int)
    assert burnish("merge", str(tmp_path / "run"), str(tmp_path / "merged")) == 0
    torch.testing.assert_close(ours(tmp_path / "merged", groups), found, rtol=1e-4, atol=1e-4)


def test_adapters_are_models_judges_and_references_and_their_bases_are_named(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_model_dir(tmp_path / "llama", "llama", "plain")
    train(model, data, tmp_path / "rm", "adapter.kind=lora", "adapter.rank=2", "optim.steps=1")
    sft = [f"model.path={model}", f"data.train={data}", f"run.dir={tmp_path / 'sft'}", "adapter.kind=lora"]
    assert burnish("train", *sft, *BASE, "objective.name=sft", "optim.steps=1") == 0
    capsys.readouterr()
    code = burnish(
        "train", f"model.path={tmp_path / 'sft' / 'model'}", f"source.prompts={data}", f"run.dir={tmp_path / 'run'}",
        *BASE, "objective.name=rloo", "objective.kl_in_reward=0.1", "source.refresh_every=1", "source.k=2",
        "source.max_new_tokens=3", "judge.kind=reward_model", f"judge.path={tmp_path / 'rm'}", "optim.steps=1",
        "reference.kind=path", f"reference.path={tmp_path / 'sft' / 'model'}",
    )  # fmt: skip
    said = "".join(capsys.readouterr())
    assert code == 0, said
    for role, folder in (("model", "sft"), ("reference", "sft"), ("judge", "rm")):
        assert f"{role}: the adapter {tmp_path / folder / 'model'} on its base {model.resolve()}" in said


def test_a_reward_model_by_others_that_pads_with_its_end_token(tmp_path: Path, data: Path) -> None:
    """transformers then reads one token before the end; so do we, for that is how it was trained."""
    from transformers import LlamaForSequenceClassification

    model = save_model_dir(tmp_path / "llama", "llama", "plain")
    base = tiny("llama", vocabulary=len(AutoTokenizer.from_pretrained(model)))
    base.config.num_labels, base.config.pad_token_id = 1, 1
    torch.manual_seed(0)
    foreign = LlamaForSequenceClassification(base.config)
    foreign.save_pretrained(tmp_path / "foreign")
    AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path / "foreign")
    groups = [
        EncodedGroup("a", (5, 6, 7), ((8, 9, 1), (10, 1), (11, 12, 13)), (True, True, False), Unjudged()),
        EncodedGroup("b", (5, 1), ((1,), (14, 1, 1)), (True, True), Unjudged()),
    ]
    torch.testing.assert_close(ours(tmp_path / "foreign", groups), theirs(foreign, groups, 1), rtol=1e-4, atol=1e-5)
    further = train(tmp_path / "foreign", data, tmp_path / "run", "optim.steps=2")
    assert len(further) == 2


def test_packing_and_padding_do_not_matter(tmp_path: Path, data: Path) -> None:
    model = save_model_dir(tmp_path / "llama", "llama", "plain")
    runs = [
        train(model, data, tmp_path / str(i), *more)
        for i, more in enumerate([[], ["engine.token_budget=1"], ["engine.layout=padded"]])
    ]
    for other in runs[1:]:
        assert [r["loss"] for r in other] == pytest.approx([r["loss"] for r in runs[0]], abs=2e-5)


def test_margins_centring_and_their_refusal(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Step 1 with margin m: -log s(d - m); centring adds c (r_w + r_l)^2; both against the plain run's own records."""
    model = save_model_dir(tmp_path / "llama", "llama", "plain")
    plain = train(model, data, tmp_path / "plain", "optim.steps=1")[0]
    records = [r for r in read_rows(tmp_path / "plain") if r["record"] == "completion"]
    by_group: dict[str, dict[int, float]] = {}
    for r in records:
        by_group.setdefault(r["group"], {})[r["index"]] = r["reward"]
    groups = {g.id: g for g in encoded(tmp_path / "plain")}
    wins = [(r[0], r[1], margin_of(groups[name])) for name, r in by_group.items()]
    w, l, m = torch.tensor(wins, dtype=torch.float64).T
    softplus = torch.nn.functional.softplus
    assert plain["loss"] == pytest.approx(float(softplus(l - w).mean()), rel=1e-5)
    margin = train(model, data, tmp_path / "margin", "optim.steps=1", "objective.use_margin=true")[0]
    assert margin["loss"] == pytest.approx(float(softplus(l - w + m).mean()), rel=1e-5)
    centred = train(model, data, tmp_path / "centred", "optim.steps=1", "objective.center=0.1")[0]
    assert centred["loss"] == pytest.approx(float((softplus(l - w) + 0.1 * (w + l) ** 2).mean()), rel=1e-5)
    smooth = train(model, data, tmp_path / "smooth", "optim.steps=1", "objective.label_smoothing=0.2")[0]
    assert smooth["loss"] == pytest.approx(float((0.8 * softplus(l - w) + 0.2 * softplus(w - l)).mean()), rel=1e-5)
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    places = [f"model.path={model}", f"data.train={bare}", f"run.dir={tmp_path / 'no'}"]
    assert burnish("train", *places, *RM, "objective.use_margin=true") == 2
    assert "says only which is" in capsys.readouterr().err


def margin_of(group: EncodedGroup) -> float:
    assert isinstance(group.feedback, Preferences)
    return group.feedback.margins[0]


@pytest.mark.parametrize("name", ["plackett_luce", "reward_regression"])
def test_rankings_and_scores_are_learnt(name: str, tmp_path: Path) -> None:
    path = tmp_path / "ranked.jsonl"
    answers = ["please, it is ten", "ten", "no", "go away now"]
    lines = [
        {"prompt": f"Say {i}. ", "completions": [{"text": f"{i} {a}", "score": 3.0 - k} for k, a in enumerate(answers)]}
        for i in range(8)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    model = save_model_dir(tmp_path / "llama", "llama", "plain")
    steps = train(model, path, tmp_path / "run", f"objective.name={name}", "optim.steps=40", "optim.lr=3e-3")
    assert steps[-1]["loss"] < 0.5 * steps[0]["loss"] and steps[-1]["rewards/accuracies"] > 0.9


def test_members_differ_in_seed_and_the_head_alone_trains(tmp_path: Path, data: Path) -> None:
    model = save_model_dir(tmp_path / "llama", "llama", "plain")
    places = [f"model.path={model}", f"data.train={data}", f"run.dir={tmp_path / 'run'}"]
    assert burnish("train", *places, *RM, "reward.members=3", "reward.train=head", "seed=7") == 0
    folders = [tmp_path / "run" / f"member-{i}" for i in range(3)]
    groups = encoded(folders[0])
    scores = torch.stack([ours(folder, groups) for folder in folders])
    assert len({tuple(row) for row in scores.tolist()}) == 3
    alone = tmp_path / "alone"
    assert burnish("train", *places[:2], f"run.dir={alone}", *RM, "reward.train=head", "seed=8") == 0
    assert torch.equal(ours(alone, groups), scores[1])  # a member is the run of its seed
    trunk = AutoModelForSequenceClassification.from_pretrained(folders[0] / "model", num_labels=1).model.state_dict()
    for name, value in tiny_trunk(model).items():
        assert torch.equal(trunk[name][: len(value)] if value.ndim else trunk[name], value), name
    assert burnish("train", str(folders[0].parent / "member-0" / "config.toml"), "run.resume=true") == 0


def tiny_trunk(model: Path) -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).model.state_dict()


def test_what_is_no_reward_model(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_model_dir(tmp_path / "llama", "llama", "plain")
    with pytest.raises(ModelError, match="without a scalar head"):
        open_reward_model(ModelConfig(path=str(model), dtype="float32"))
    base = tiny("llama")
    base.config.num_labels = 3
    from transformers import LlamaForSequenceClassification

    LlamaForSequenceClassification(base.config).save_pretrained(tmp_path / "three")
    AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path / "three")
    with pytest.raises(ModelError, match="3 classes"):
        open_reward_model(ModelConfig(path=str(tmp_path / "three"), dtype="float32"))
    places = [f"data.train={data}", f"run.dir={tmp_path / 'no'}"]
    bloom = save_model_dir(tmp_path / "lfm2", "lfm2", "plain")
    for settings, told in (
        ([f"model.path={model}", "reward.members=2", "objective.name=dpo"], "trains a language model"),
        ([f"model.path={model}", *RM, "reward.train=head", "adapter.kind=lora"], "nothing to adapt"),
        ([f"model.path={bloom}", *RM], "reward model"),
    ):
        assert burnish("train", *places, *settings) == 2
        assert told in capsys.readouterr().err


def test_prompts_shared_or_not_scores_are_the_same(tmp_path: Path, data: Path) -> None:
    """A group's answers in one packed row, in another order, or alone: one number each."""
    model = save_model_dir(tmp_path / "llama", "llama", "plain")
    train(model, data, tmp_path / "run", "optim.steps=4")
    groups = encoded(tmp_path / "run")
    whole = ours(tmp_path / "run", groups)
    turned = [replace(g, completion_ids=g.completion_ids[::-1]) for g in groups]
    torch.testing.assert_close(ours(tmp_path / "run", turned).view(-1, 2).flip(1).flatten(), whole, rtol=0, atol=1e-5)
    alone = [replace(g, completion_ids=(ids,)) for g in groups for ids in g.completion_ids]
    torch.testing.assert_close(ours(tmp_path / "run", alone), whole, rtol=0, atol=1e-5)


def test_check_proves_a_reward_model(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_model_dir(tmp_path / "gpt2", "gpt2", "plain")
    assert burnish("check", f"model.path={model}", f"data.train={data}", "objective.name=bradley_terry") == 0
    told = capsys.readouterr().out
    assert "rewards = transformers'" in told and "FAILED" not in told


def test_pairs_of_a_prompt_are_averaged_first(tmp_path: Path) -> None:
    """Groups of two and of four answers: one pair and six, and each group weighs one half; under any microbatching."""
    path = tmp_path / "ranked.jsonl"
    lines = [
        {"prompt": f"Say {k}. ", "completions": [{"text": f"{i} so" * (1 + i), "score": float(i)} for i in range(k)]}
        for k in (2, 4)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    model = save_model_dir(tmp_path / "llama", "llama", "plain")
    one = ["optim.steps=1", "optim.groups_per_step=2", "pairs.rule=all"]
    losses = {
        budget: train(
            model, path, tmp_path / budget, *one, "objective.per_prompt=true", f"engine.token_budget={budget}"
        )
        for budget in ("10000", "1")
    }
    rows: dict[str, dict[int, float]] = {}
    for r in read_rows(tmp_path / "1"):
        if r["record"] == "completion":
            rows.setdefault(r["group"], {})[r["index"]] = r["reward"]
    groups = {g.id: g for g in encoded(tmp_path / "1")}
    means = []
    for name, reward in rows.items():
        feedback = groups[name].feedback
        assert isinstance(feedback, Preferences)
        gaps = torch.tensor([reward[w] - reward[l] for w, l, _ in feedback.triples])
        means.append(float(torch.nn.functional.softplus(-gaps).mean()))
    assert sorted(len(row) for row in rows.values()) == [2, 4]
    for found in losses.values():
        assert found[0]["loss"] == pytest.approx(sum(means) / 2, rel=1e-5)
