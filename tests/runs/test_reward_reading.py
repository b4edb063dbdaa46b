"""Where a reward is read: as `AutoModelForSequenceClassification` reads the chat template's full rendering."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from burnish.answers.judges import reward
from burnish.config import RewardModelConfig
from burnish.engine.reward_model import ABOUT, FULL, TURN, reads_full
from burnish.group import Completion, Group, Message, Scores
from tests.runs.cli import BASE, burnish
from tests.zoo import save_model_dir

QUESTIONS = ["What is 7+5?", "hello, there", "the quick brown fox"]
ANSWERS = ["It is 12.", "no", "jumps over the lazy dog and so on"]
GROUPS = [
    Group((Message("user", question),), tuple(Completion((Message("assistant", a),)) for a in ANSWERS))
    for question in QUESTIONS
]
TAILLESS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def scores(folder: Path) -> torch.Tensor:
    """By burnish: the judge's numbers."""
    feedback = reward.make(RewardModelConfig(kind="reward_model", path=str(folder)))(GROUPS)
    assert all(isinstance(f, Scores) for f in feedback)
    return torch.tensor([value for f in feedback if isinstance(f, Scores) for value in f.values])


def scores_by_transformers(folder: Path, side: str) -> torch.Tensor:
    """All conversations in one padded batch, as the field's scoring renders them."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=side)
    conversations = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q in QUESTIONS for a in ANSWERS
    ]
    batch: Any = tokenizer.apply_chat_template(conversations, padding=True, return_dict=True, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits[:, 0]


def language_model(folder: Path, template: str | None, pad: str) -> Path:
    save_model_dir(folder, "llama", "chatml")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template or tokenizer.chat_template
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", pad
    tokenizer.save_pretrained(folder)
    return folder


def reward_model_by_others(folder: Path, template: str | None, pad: str) -> Path:
    """A random classifier whose configuration names the tokenizer's padding token, as the field's trainers leave it."""
    language_model(folder, template, pad)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", ["<|im_end|>", "<|endoftext|>"])
@pytest.mark.parametrize("template", [None, TAILLESS])
def test_a_model_by_others_is_read_where_transformers_reads_it(
    template: str | None, pad: str, side: str, tmp_path: Path
) -> None:
    folder = reward_model_by_others(tmp_path, template, pad)
    torch.testing.assert_close(scores(folder), scores_by_transformers(folder, side), rtol=1e-4, atol=1e-4)


def trained(tmp_path: Path, model: Path) -> Path:
    rows = [{"prompt": q, "chosen": ANSWERS[0], "rejected": a} for q in QUESTIONS for a in ANSWERS[1:]]
    tmp_path.mkdir(exist_ok=True)
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = [f"model.path={model}", f"data.train={data}", f"run.dir={tmp_path / 'run'}"]
    assert burnish("train", *places, *BASE, "objective.name=bradley_terry", "optim.steps=2") == 0
    return tmp_path / "run" / "model"


@pytest.mark.parametrize("pad", ["<|im_end|>", "<|endoftext|>"])
@pytest.mark.parametrize("template", [None, TAILLESS])
def test_a_model_of_ours_is_read_so_by_transformers(template: str | None, pad: str, tmp_path: Path) -> None:
    folder = trained(tmp_path, language_model(tmp_path / "base", template, pad))
    expected = scores_by_transformers(folder, "right")
    torch.testing.assert_close(scores(folder), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores_by_transformers(folder, "left"), expected, rtol=1e-4, atol=1e-4)
    about = json.loads((folder / ABOUT).read_text())
    assert about["reads"] == FULL and about["pooled_over"] == []
    assert json.loads((folder / "config.json").read_text())["reward_reads"] == FULL
    assert f"at {FULL}" in (folder / "README.md").read_text()


def test_an_older_model_of_ours_is_read_at_the_end_of_the_turn(tmp_path: Path) -> None:
    """Its `reward.json` has no rule; the stock model over the text without the line feed gives its numbers."""
    folder = trained(tmp_path, language_model(tmp_path / "base", None, "<|endoftext|>"))
    about = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps({"pad_token_id": about["pad_token_id"], "mean": 0.0, "sd": 1.0}))
    assert not reads_full(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = tokenizer.chat_template.replace("'<|im_end|>' + '\n'", "'<|im_end|>'")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32).eval()
    values = []
    for q in QUESTIONS:
        for a in ANSWERS:
            text = f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>"
            with torch.no_grad():
                values.append(model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, 0])
    torch.testing.assert_close(scores(folder), torch.stack(values), rtol=1e-4, atol=1e-4)
    assert trained(tmp_path / "further", folder) and TURN in (tmp_path / "further/run/model/README.md").read_text()


def test_answers_of_a_policy_end_where_generation_ends(tmp_path: Path) -> None:
    """Only reward models are given the line feed."""
    from burnish.data.render import Renderer

    tokenizer = AutoTokenizer.from_pretrained(language_model(tmp_path, None, "<|endoftext|>"))
    policy, scored = (Renderer(tokenizer, full=full).encode(GROUPS[0]) for full in (False, True))
    line_feed = tuple(tokenizer("\n")["input_ids"])
    assert scored.completion_ids == tuple(ids + line_feed for ids in policy.completion_ids)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.vocab_size >= max(map(max, scored.completion_ids))
