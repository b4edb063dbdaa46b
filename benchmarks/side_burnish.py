"""Worker: burnish over the prepared pairs, through the same entry the command line uses (`train.run`).

Nothing of burnish is replaced. The clock hangs on the run's log: a step ends when its record is written, so everything
between two records (data, packing, log-probs, backward, update, log) is inside the timed span, as it is for TRL.
burnish shuffles by a pure function of the seed; the file is written in the order that makes its shuffled order the
prepared one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import (
    BETA,
    LEARNING_RATE,
    LORA,
    LORA_LEARNING_RATE,
    LORA_TARGETS,
    MAX_LENGTH,
    PAIRS_PER_STEP,
    WARMUP_STEPS,
    Job,
    Stamps,
    peak_megabytes,
    start_worker,
)

SEED = 0
KINDS = {  # self time of torch operators, by what they are for
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear", "mkldnn_linear", "matmul"),
    "optimiser": ("_fused_adamw_", "_foreach_norm", "_foreach_mul_", "linalg_vector_norm"),
    "casts and copies": ("copy_", "_to_copy", "clone", "cat", "index_select", "index_add_", "index", "fill_", "zero_"),
    "softmax": ("_softmax", "_log_softmax", "logsumexp", "exp_", "_softmax_backward_data", "masked_fill_"),
}


def write_in_order(work: Path, arrangement: str) -> tuple[Path, int]:
    """The pairs, laid out so that burnish's first epoch meets them in the prepared order."""
    from burnish.loop.schedule import order

    rows = [json.loads(line) for line in (work / f"{arrangement}.jsonl").open(encoding="utf-8")]
    places: list[str] = [""] * len(rows)
    for row, place in zip(rows, order(len(rows), SEED, 0), strict=True):
        places[int(place)] = json.dumps({key: row[key] for key in ("prompt", "chosen", "rejected")})
    path = work / f"burnish_{arrangement}.jsonl"
    path.write_text("\n".join(places) + "\n", encoding="utf-8")
    return path, len(rows)


def settings(job: Job, work: Path) -> list[str]:
    """What a user would type. Options: lora, beta, store, and `keys`, a mapping of further settings."""
    data, count = write_in_order(work, job.arrangement)
    keys: dict[str, Any] = {
        "model.path": work / "model",
        "model.dtype": job.dtype,
        "data.train": data,
        "data.format": "pairs",
        "data.template": "plain",
        "data.max_length": MAX_LENGTH,
        "objective.name": "dpo",
        "objective.beta": job.option("beta", BETA),
        "optim.lr": LORA_LEARNING_RATE if job.option("lora", False) else LEARNING_RATE,
        "optim.steps": job.option("steps", count // PAIRS_PER_STEP),
        "optim.groups_per_step": PAIRS_PER_STEP,
        "optim.schedule": "constant",
        "optim.warmup": 0.0,
        "optim.weight_decay": 0.0,
        "optim.max_grad_norm": 1.0,
        "engine.float32_matmul_precision": job.option("matmul", "highest"),
        "reference.store": work / "store" / job.option("store", "once"),
        "run.dir": work / "burnish_run",
        "run.overwrite": "true",
        "seed": SEED,
    }
    if job.option("lora", False):
        keys |= {"adapter.kind": "lora", "adapter.targets": json.dumps(list(LORA_TARGETS))}
        keys |= {f"adapter.{name}": value for name, value in LORA.items()}
    keys |= job.option("keys", {})
    return [f"{key}={value}" for key, value in keys.items()]


def watch_steps(at_step: Callable[[int], None]) -> None:
    """Call `at_step(number)` after each step's record is written."""
    from burnish.runlog.log import RunLog
    from burnish.runlog.records import Record, StepRecord

    write = RunLog.write

    def watched(self: RunLog, record: Record) -> None:
        write(self, record)
        if isinstance(record, StepRecord):
            at_step(record.step)

    RunLog.write = watched  # type: ignore[method-assign]


class Profile:
    """Where the time of the timed steps goes, by kind of operator, as fractions of the wall clock."""

    def __init__(self, stamps: Stamps) -> None:
        from torch.profiler import ProfilerActivity, profile

        self.stamps = stamps
        self.profiler = profile(activities=[ProfilerActivity.CPU])

    def at_step(self, number: int) -> None:
        if number == WARMUP_STEPS:
            self.profiler.start()

    def report(self) -> dict[str, float]:
        self.profiler.stop()
        wall = self.stamps.ends[-1] - self.stamps.ends[WARMUP_STEPS - 1]
        seconds: dict[str, float] = dict.fromkeys([*KINDS, "other operators"], 0.0)
        for event in self.profiler.key_averages():
            if not event.key.startswith("aten::"):
                continue
            name = event.key.removeprefix("aten::")
            kind = next((kind for kind, names in KINDS.items() if name in names), "other operators")
            seconds[kind] += event.self_cpu_time_total / 1e6
        seconds["outside torch"] = max(0.0, wall - sum(seconds.values()))
        return {kind: spent / wall for kind, spent in seconds.items()}


def main() -> None:
    job, work, _, result = start_worker()
    from burnish import config
    from burnish.loop import train
    from burnish.runlog import log

    if "store" not in (job.options or {}):
        shutil.rmtree(work / "store" / "once", ignore_errors=True)
    stamps = Stamps()
    profile = Profile(stamps) if job.option("profile", False) else None

    def at_step(number: int) -> None:
        stamps.end_of_step()
        if profile is not None:
            profile.at_step(number)

    watch_steps(at_step)
    folder = train.run(config.load(None, settings(job, work)), progress=False)
    where = profile.report() if profile is not None else None
    records = list(log.read_rows(folder))
    steps = [r for r in records if r["record"] == "step"]
    reference = [r for r in records if r["record"] == "reference"]
    answer = {
        **stamps.report(),
        "losses": [r["loss"] for r in steps],
        "logged_step_seconds": [r["seconds"] for r in steps],
        "peak_mb": peak_megabytes(),
        "reference_pairs": sum(r["computed"] for r in reference),
        "reference_seconds": sum(r["seconds"] for r in reference),
    }
    if where is not None:
        answer["where_time_goes"] = where
    result.write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
