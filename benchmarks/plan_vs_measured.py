"""What `burnish plan` says against what a run takes, on CPU: bytes at the worst moment, operations, seconds of a step.

    python benchmarks/plan_vs_measured.py --out benchmarks/results/plan_vs_measured.json

Every case is a run of `burnish train` in a process of its own. Its peak is the largest resident memory while the loop
runs, less what the process held before the model was loaded (interpreter, libraries, data; a tiny run comes first, so
that all code is there). The plan's operations over the step's seconds are set against torch's own matrix products.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Shape, machine, versions

SHAPE = Shape(hidden=512, layers=8, mlp=1408, heads=8, kv_heads=4, vocabulary=8_192)
SMALL = Shape(hidden=32, layers=1, mlp=64, heads=2, kv_heads=1, vocabulary=512)
GROUPS, PROMPT, ANSWER = 12, (40, 160), (40, 160)
CASES: dict[str, list[str]] = {
    "float32": [],
    "float32, budget 4096": ["engine.token_budget=4096"],
    "float32, checkpointing": ["engine.gradient_checkpointing=true"],
    "bfloat16": ["model.dtype=bfloat16"],
    "float32, live reference": ["reference.scores=live"],
    "float32, moving reference": ["reference.update=ema"],
    "LoRA": ["adapter.kind=lora"],
    "LoRA, bfloat16, checkpointing": [
        "adapter.kind=lora", "model.dtype=bfloat16", "engine.gradient_checkpointing=true",
    ],
    "padded": ["engine.layout=padded"],
}  # fmt: skip


def resident(field: str) -> int:
    """Bytes: VmRSS now, or VmHWM, the most since it was last set back."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def settings(work: Path, shape: str, *more: str) -> list[str]:
    usual = {
        "model.path": work / shape, "model.dtype": "float32", "data.train": work / f"{shape}.jsonl",
        "data.template": "plain", "engine.token_budget": 2048, "engine.threads": 1, "optim.groups_per_step": GROUPS,
        "optim.steps": 2, "run.dir": work / f"run-{shape}", "run.overwrite": "true",
    }  # fmt: skip
    given = {word.partition("=")[0] for word in more}
    return [f"{name}={value}" for name, value in usual.items() if name not in given] + list(more)


def write(work: Path, shape: Shape, name: str) -> None:
    from random_data import make_model, random_ids, text_of

    make_model(shape, work / name)
    draw = random.Random(0)

    def text(lengths: tuple[int, int]) -> str:
        return text_of(random_ids(draw, draw.randint(*lengths), shape.vocabulary))

    rows = [{"prompt": text(PROMPT), "chosen": text(ANSWER), "rejected": text(ANSWER)} for _ in range(3 * GROUPS)]
    (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def one(work: Path, name: str) -> dict[str, Any]:
    """Plan and measure one case, in this process."""
    import torch

    from burnish import config
    from burnish.loop import train
    from burnish.loop.memory import devices, plan
    from burnish.runlog import log

    torch.set_num_threads(1)
    train.run(config.load(None, settings(work, "small", *CASES[name])), progress=False)
    run = config.load(None, settings(work, "large", *CASES[name]))
    found = plan.survey(run, fused=False)
    speed = devices.measured_speed()
    planned = plan.plan(found, devices.Device("cpu", 1 << 40, speed * 1e12, fused=False), mfu=1.0)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident("VmRSS")
    peak = []
    loop = train.loop

    def watched(trainer: Any, first: int) -> None:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back: what loading took is over
        loop(trainer, first)
        peak.append(resident("VmHWM") - before)

    train.loop = watched
    folder = train.run(run, progress=False)
    seconds = min(r["seconds"] for r in log.read_rows(folder) if r["record"] == "step")
    return {
        "case": name, "planned_mib": planned.total / 2**20, "measured_mib": peak[0] / 2**20,
        "ratio": planned.total / peak[0], "parts_mib": {k: v / 2**20 for k, v in planned.parts.items()},
        "tflop": planned.operations / 1e12, "seconds": seconds, "of_matrix_speed": planned.seconds / seconds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        sys.stdout.write("RESULT " + json.dumps(one(options.work, options.case)) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for shape, name in ((SHAPE, "large"), (SMALL, "small")):
            write(work, shape, name)
        # freed pieces go back at once, so that resident memory is memory in use
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
        rows = []
        print(f"{'case':32} planned   measured  ratio   TFLOP   s a step  of the matrix products' speed")
        for name in CASES:
            command = [sys.executable, __file__, "--case", name, "--work", str(work)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            told = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if not told:
                sys.exit(f"{name} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            row = json.loads(told[0].removeprefix("RESULT "))
            rows.append(row)
            print(
                f"{name:32} {row['planned_mib']:5.0f} MiB  {row['measured_mib']:5.0f} MiB {row['ratio']:6.2f} "
                f"{row['tflop']:7.3f} {row['seconds']:8.2f}   {row['of_matrix_speed']:.2f}",
                flush=True,
            )
    if options.out is not None:
        values = {"made": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": versions(),
                  "shape": vars(SHAPE), "rows": rows}  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
