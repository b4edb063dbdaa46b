"""Logs of runs as they could have been written: by a formula, with noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from burnish.config import load, to_toml
from burnish.group import Completion, Group, Scores, to_json
from burnish.runlog.log import RunLog
from burnish.runlog.records import EndRecord, RefreshRecord, RunRecord, StepRecord

Way = Callable[[float], float]  # from the share of the run that is done


def write_run(
    folder: Path, gold: Way | None, *, reward: Way = lambda t: t, kl: Way = lambda t: 4 * t, steps: int = 100,
    noise: float = 0.02, seed: int = 0, words: tuple[str, ...] = (), end: bool = True, answers: bool = False,
) -> Path:  # fmt: skip
    """A run with fresh answers at every step, of the objective rloo."""
    folder.mkdir(parents=True)
    run = load(None, ["model.path=m", f"run.dir={folder}", "objective.name=rloo", "source.refresh_every=1",
                      "source.prompts=p.jsonl", "judge.kind=verifier", "judge.name=gsm8k", "gold.kind=verifier",
                      "gold.name=gsm8k", *words])  # fmt: skip
    (folder / "config.toml").write_text(to_toml(run), encoding="utf-8")
    rng = np.random.default_rng(seed)
    with RunLog(folder) as log:
        log.write(RunRecord(objective=run.objective[0].name, steps=steps, first_step=0))
        for step in range(1, steps + 1):
            t = (step - 1) / max(1, steps - 1)
            level = {} if gold is None else {"gold": gold(t) + float(rng.normal(0, noise))}
            figures = {**level, "reward": reward(t) + float(rng.normal(0, noise)), "kl/answer": kl(t), "answers": 48.0,
                       "length": 20.0 + float(rng.normal(0, 0.5)), "distinct": 0.9}  # fmt: skip
            log.write(RefreshRecord(step=step, metrics=figures))
            log.write(
                StepRecord(step=step, loss=0.7 - 0.1 * t, lr=1e-6, grad_norm=1.0, tokens=1000, seconds=1.0, groups=12)
            )
        if end:
            log.write(EndRecord(step=steps))
    if answers and gold is not None:
        write_answers(folder, gold, steps, rng)
    return folder


def write_answers(folder: Path, gold: Way, steps: int, rng: np.random.Generator) -> None:
    """Answers to the same thirty prompts at the first and in the last refreshes, each scored by gold with noise."""
    rows = []
    for step in (0, *range(steps - 10, steps)):
        for prompt in range(30):
            scores = tuple(gold(step / steps) + 0.1 * (prompt % 3) + float(rng.normal(0, 0.05)) for _ in range(2))
            texts = tuple(Completion(f"answer {prompt} after {step} <b>") for _ in range(2))
            group = Group(f"prompt {prompt}", texts, Scores(scores), meta={"step": step, "gold": list(scores)})
            rows.append(json.dumps(to_json(group)))
    (folder / "answers.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
