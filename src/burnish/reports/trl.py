"""Runs of TRL read as far as they go: `trainer_state.json`, and the logs of completions beside it.

    trainer_state.json           `log_history`: rewards/*, logps/*, entropy, kl, completions/*; eval_* for held-out data
    completions/*.parquet        GRPO's and RLOO's log_completions: step, prompt, completion, the rewards

TRL's `kl` is its estimate, nats a token, so that it is no KL of an answer and stands under its own name. What TRL does
not record (groups, seconds of a step, log-probs by completion) is missing, not 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.errors import DataError
from burnish.reports.history import History, no_completions
from burnish.runlog.records import EvalRecord, RefreshRecord, RunRecord, StepRecord

STATE = "trainer_state.json"
KEPT = ("max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "eval_steps", "save_steps")
RENAMED = {  # TRL's name of a figure of answers -> ours
    "reward": "reward", "reward_std": "reward/spread", "entropy": "entropy/token", "kl": "kl/token",
    "completions/mean_length": "length", "completion_length": "length", "frac_reward_zero_std": "no_signal",
    "objective/kl": "kl/answer", "objective/scores": "reward", "objective/entropy": "entropy/answer",
}  # fmt: skip


def state_file(folder: Path) -> Path | None:
    """The newest state in a trainer's output folder or in one of its checkpoints."""
    found = [folder / STATE] if (folder / STATE).exists() else list(folder.glob(f"checkpoint-*/{STATE}"))
    return max(found, key=lambda file: int(file.parent.name.rpartition("-")[2] or 0) if file.parent != folder else 0,
               default=None)  # fmt: skip


def read_trl(folder: Path, file: Path) -> History:
    """The history of a TRL run. Raises DataError for a file that is no state of transformers' Trainer."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        rows = [row for row in state["log_history"] if isinstance(row, dict)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is no trainer state that can be read: {error}") from None
    steps, evals, refreshes = [], [], []
    for row in rows:
        step = int(row.get("step", 0))
        if any(key.startswith("eval_") for key in row):
            evals.append(_eval(row, step))
        elif "loss" in row or "grad_norm" in row:
            steps.append(_step(row, step))
            if (figures := _figures(row)) is not None:
                refreshes.append(RefreshRecord(step=step, metrics=figures))
    planned, done = int(state.get("max_steps") or 0), int(state.get("global_step") or 0)
    settings = {f"trainer_state.{key}": state[key] for key in KEPT if key in state}
    return History(
        folder, "TRL", None, settings, "finished" if planned and done >= planned else "unfinished", no_completions(),
        starts=(RunRecord(objective=_objective(rows), steps=planned, first_step=0),), steps=tuple(steps),
        evals=tuple(evals), refreshes=tuple(refreshes), remarks=_remarks(folder, file),
    )  # fmt: skip


def _step(row: Mapping[str, Any], step: int) -> StepRecord:
    metrics = {name: float(value) for name, value in row.items() if "/" in name and _number(value)}
    if _number(row.get("entropy")):
        metrics["entropy"] = float(row["entropy"])
    return StepRecord(
        step=step, loss=_real(row.get("loss")), lr=_real(row.get("learning_rate")),
        grad_norm=_real(row.get("grad_norm")), tokens=0, metrics=metrics,
    )  # fmt: skip


def _eval(row: Mapping[str, Any], step: int) -> EvalRecord:
    metrics = {k.removeprefix("eval_"): float(v) for k, v in row.items() if k.startswith("eval_") and _number(v)}
    return EvalRecord(step=step, loss=metrics.pop("loss", math.nan), groups=0, metrics=metrics)


def _figures(row: Mapping[str, Any]) -> dict[str, float] | None:
    """What TRL says of the policy's own answers; None of a run that samples none."""
    found = {ours: float(row[name]) for name, ours in RENAMED.items() if _number(row.get(name))}
    if not {"reward", "length"} & set(found):
        return None
    if _number(row.get("completions/clipped_ratio")):
        found["finished"] = 1.0 - float(row["completions/clipped_ratio"])
    rewards = {n.removesuffix("/mean"): float(v) for n, v in row.items() if n.startswith("rewards/") and _number(v)}
    parts = {name.replace("rewards/", "reward/"): value for name, value in rewards.items() if "std" not in name}
    return {**found, **parts}


def _objective(rows: list[dict[str, Any]]) -> str:
    """What kind of trainer writes such figures."""
    names = {name for row in rows for name in row}
    if "rewards/chosen" in names:
        return "pairs (TRL)"
    if "reward" in names or "objective/scores" in names:
        return "policy gradient (TRL)"
    return "imitation or other (TRL)" if rows else ""


def _remarks(folder: Path, file: Path) -> tuple[str, ...]:
    lines = [f"read from {file}: TRL records no seconds, no tokens and no log-probs by completion"]
    logs = sorted((folder / "completions").glob("*.parquet"))
    if logs:
        lines.append(f"{len(logs)} logs of completions lie in {folder / 'completions'}")
    return tuple(lines)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _real(value: Any) -> float:
    return float(value) if _number(value) else math.nan
