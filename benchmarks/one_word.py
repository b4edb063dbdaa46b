"""One fault of a real model, mended from forty corrections: what is mended, and what that costs.

    python benchmarks/one_word.py --model FOLDER --work FOLDER --out results/one_word.json [--methods "sft;dpo"]

The model answers "What is the capital of Peru? Answer in one word." in a sentence. A correction is the word. Each
method is an ordinary `burnish train` of a LoRA; then, greedily, 95 or so questions that were not corrected, and fifty
of them without the request (near misses, whose answers should stay as they were).

    fault       share of answers that are not one word
    right       share that hold the right word
    spilled     share of the near misses answered in one word
    near right  share of the near misses that hold the right word
    the same    share of the near misses answered to the letter as before
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import machine
from one_word_facts import Fact, facts

from burnish.answers.sampler import Decoding
from burnish.config.evaluation import load_evaluation
from burnish.evals.models import models_of
from burnish.group import Group, Message

NEAR = 50
TOKENS = 40


@dataclass(frozen=True)
class Method:
    """`pairs`: whether the model's own answer is the worse side of a pair; `near`: whether its own answers to the
    questions without the request are imitated, too (an anchor)."""

    objective: str
    rate: str
    steps: int
    pairs: bool = False
    near: bool = True


METHODS = {
    "dpo": Method('objective=[{name="dpo"}]', "1e-4", 24, pairs=True, near=False),
    "sft": Method('objective=[{name="sft"}]', "1e-4", 24, near=False),
    "sft, anchored": Method('objective=[{name="sft"}]', "1e-4", 36),
    "sft, anchored, 4e-4": Method('objective=[{name="sft"}]', "4e-4", 48),
    "sft, anchored, 1e-3": Method('objective=[{name="sft"}]', "1e-3", 32),
}  # fmt: skip


def answers(model: str, prompts: Sequence[str], work: Path) -> list[str]:
    """Greedy answers."""
    words = [f"models.m={model}", "suite.kind=panel", "suite.prompts=unused", f"dir={work / 'eval'}"]
    respondent = models_of(load_evaluation(None, [*words, "model.dtype=float32"]))["m"]
    groups = [Group((Message("user", prompt),), ()) for prompt in prompts]
    texts = [own[0].text.strip() for own in respondent(groups, 1, Decoding(TOKENS, 0.0), 0)]
    respondent.release()
    return texts


def is_one_word(text: str) -> bool:
    return len(re.sub(r"[^\w' -]", "", text).split()) == 1


def holds(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def figures(own: Sequence[str], near: Sequence[str], before: Sequence[str], unseen: Sequence[Fact]) -> dict[str, float]:
    """The figures of the head of this file."""
    of_near = unseen[:NEAR]
    return {
        "fault": sum(not is_one_word(text) for text in own) / len(own),
        "right": sum(holds(text, fact.answer) for text, fact in zip(own, unseen, strict=True)) / len(own),
        "spilled": sum(map(is_one_word, near)) / len(near),
        "near right": sum(holds(text, fact.answer) for text, fact in zip(near, of_near, strict=True)) / len(near),
        "the same": sum(text == other for text, other in zip(near, before, strict=True)) / len(near),
    }


def written(method: Method, corrected: Sequence[Fact], own: Sequence[str], near: Sequence[str], file: Path) -> None:
    """The training data of a method."""
    rows: list[dict[str, Any]] = []
    for fact, text in zip(corrected, own, strict=True):
        if text != fact.answer:
            rows.append(_row(fact.asked, [fact.answer, text] if method.pairs else [fact.answer]))
    if method.near:
        rows += [_row(fact.question, [text]) for fact, text in zip(corrected, near, strict=True) if text]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _row(prompt: str, texts: Sequence[str]) -> dict[str, Any]:
    completions = [{"messages": [{"role": "assistant", "content": text}]} for text in texts]
    feedback = {"preferences": [[0, 1, 1.0]]} if len(texts) == 2 else {"labels": [True]}
    return {"prompt": [{"role": "user", "content": prompt}], "completions": completions, **feedback}


def trained(model: str, method: Method, data: Path, out: Path, seed: int) -> float:
    """Seconds that the run took."""
    began = time.perf_counter()
    words = [f"model.path={model}", f"data.train={data}", f"run.dir={out}", "run.overwrite=true", "adapter.kind=lora",
             "model.dtype=float32", method.objective, f"optim.lr={method.rate}", f"optim.steps={method.steps}",
             "optim.groups_per_step=16", f"seed={seed}"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "burnish", "train", *words], check=True, capture_output=True)
    return round(time.perf_counter() - began, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", default=";".join(METHODS), help="names, with ; between them")
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    corrected, unseen = facts()
    own = answers(options.model, [fact.asked for fact in corrected], options.work)
    own_near = answers(options.model, [fact.question for fact in corrected], options.work)
    before = answers(options.model, [fact.asked for fact in unseen], options.work)
    near = answers(options.model, [fact.question for fact in unseen[:NEAR]], options.work)
    rows: list[dict[str, Any]] = [{"method": "before", **figures(before, near, near, unseen)}]
    print(rows[-1], flush=True)
    for name in options.methods.split(";"):
        for seed in map(int, options.seeds.split(",")):
            method, run = METHODS[name], options.work / f"{re.sub('[^a-z0-9]+', '-', name)}-{seed}"
            written(method, corrected, own, own_near, run.with_suffix(".jsonl"))
            seconds = trained(options.model, method, run.with_suffix(".jsonl"), run, seed)
            after = answers(str(run), [fact.asked for fact in unseen], options.work)
            after_near = answers(str(run), [fact.question for fact in unseen[:NEAR]], options.work)
            found = figures(after, after_near, near, unseen)
            rows.append({"method": name, "seed": seed, **found, "seconds": seconds})
            print(rows[-1], flush=True)
            result = {"machine": machine(), "corrections": len(corrected), "unseen": len(unseen), "rows": rows}
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
