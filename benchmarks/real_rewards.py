"""Explicit and implicit reward on real pairs: reward models and DPO from one split, side by side on what is held out.

A tokenizer and a small Llama are made on the spot from the training texts; everything else is the command line.

    python benchmarks/real_rewards.py --data PAIRS.jsonl [--other OTHER.jsonl] --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from common import machine
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from burnish.cli import main as cli
from burnish.data import filters
from burnish.data.convert import write
from burnish.data.readers import read
from burnish.group import Group, Message

VOCABULARY, HIDDEN, LAYERS = 4096, 192, 3
HELD_OUT = 0.15
LENGTH = "data.max_length=256"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="pairs to divide into training and held-out prompts")
    parser.add_argument("--other", default="", help="judgements from elsewhere, scored with the same models")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--template", default="hh", help="how conversations are written out")
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    train, held = filters.split_by_prompt(read(given.data).groups, HELD_OUT, seed=0)
    write(train, str(out / "train.jsonl"), overwrite=True)
    write(held, str(out / "held.jsonl"), overwrite=True)
    make_model(train, out / "base")
    began = time.perf_counter()
    seconds = {}
    common = [f"data.train={out / 'train.jsonl'}", LENGTH, "model.dtype=float32", "optim.groups_per_step=32"]
    common += ["run.overwrite=true", "optim.schedule=cosine", f"data.template={given.template}"]
    for name, base, settings in (
        ("sft", out / "base", ["objective.name=sft", "optim.lr=2e-3", f"optim.epochs={given.epochs}"]),
        ("rm", out / "sft" / "model", ["objective.name=bradley_terry", "optim.lr=3e-4", "reward.members=3",
                                       f"optim.epochs={given.epochs}"]),
        ("dpo", out / "sft" / "model", ["objective.name=dpo", "optim.lr=2e-4", f"optim.epochs={given.epochs}"]),
    ):  # fmt: skip
        started = time.perf_counter()
        burnish("train", f"model.path={base}", f"run.dir={out / name}", *common, *settings)
        seconds[name] = round(time.perf_counter() - started, 1)
    scorers = [str(out / "rm"), str(out / "dpo")]
    burnish("reward-report", str(out / "held.jsonl"), *scorers, LENGTH, "--out", str(out / "report"))
    if given.other:
        burnish("reward-report", given.other, *scorers, LENGTH, "--out", str(out / "report-other"))
    found = json.loads((out / "report" / "report.json").read_text())
    figures = {"machine": machine(), "seconds": seconds, "all": round(time.perf_counter() - began, 1),
               "pairs": found["pairs"], "accuracy": found["accuracy"]["all"],
               "longer": found["accuracy"]["longer"], "words": found["accuracy"]["bag_of_words"]}  # fmt: skip
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


def burnish(*words: str) -> None:
    """The command line; a refusal ends the benchmark."""
    try:
        cli.main(list(words))
    except SystemExit as left:
        if left.code:
            raise


def make_model(groups: list[Group], folder: Path) -> None:
    """A byte-level BPE of the training texts, and a random Llama over it."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<eos>", "<pad>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    inner.train_from_iterator((text for group in groups for text in texts(group)), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=3 * HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True,
        eos_token_id=0, pad_token_id=1, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


def texts(group: Group) -> list[str]:
    """Prompt and answers as plain text."""

    def plain(turns: str | tuple[Message, ...]) -> str:
        return turns if isinstance(turns, str) else "\n".join(m.content for m in turns)

    return [plain(group.prompt), *(plain(c.messages) for c in group.completions)]


if __name__ == "__main__":
    main()
