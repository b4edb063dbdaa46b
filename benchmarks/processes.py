"""Two processes against one, on CPU: seconds a step, memory of each, and how evenly the groups fall.

    python benchmarks/processes.py --data PAIRS.jsonl --out benchmarks/results/processes.json

The same run of `burnish train`, in turns: one process with one thread, one process with two threads, two
processes with one thread each. Two processes do the same sums in the same memory each less half of the weights'
states; what they lose is what they say to each other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Shape, machine, versions

SHAPE = Shape(hidden=384, layers=6, mlp=1024, heads=6, kv_heads=2, vocabulary=8_192)
SIDES = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}


def command(work: Path, data: Path, folder: Path, processes: int, threads: int, steps: int, groups: int) -> list[str]:
    given = {
        "model.path": work / "model", "model.dtype": "float32", "data.train": data,
        "data.template": "plain" if data.parent == work else "hh", "data.limit": 400,
        "data.max_length": 512, "engine.threads": threads, "engine.token_budget": 4096,
        "optim.groups_per_step": groups, "optim.steps": steps, "run.dir": folder,
        "reference.store": work / f"store-{processes}",
    }  # fmt: skip
    start = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    return [sys.executable, *start, "-m", "burnish", "train", *(f"{name}={value}" for name, value in given.items())]


def watched(words: list[str]) -> int:
    """Run it; returns the largest resident memory of one of its training processes, in bytes."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    child = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0
    while child.poll() is None:
        time.sleep(0.2)
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (
                    b"burnish\0train" in (entry / "cmdline").read_bytes()
                    and str(words[-1]).encode() in (entry / "cmdline").read_bytes()
                ):
                    status = (entry / "status").read_text()
                    peak = max(peak, *(int(x.split()[1]) * 1024 for x in status.splitlines() if x.startswith("VmHWM")))
            except (OSError, TypeError):
                continue
    if child.returncode:
        sys.exit(f"failed: {child.stderr.read() if child.stderr else ''}"[-2000:])
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="real pairs; without it random ones")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--groups", type=int, default=16)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from random_data import make_model, random_ids, text_of

    from burnish.runlog import log

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_model(SHAPE, work / "model")
        data = options.data
        if data is None:
            draw = random.Random(0)
            row: Any = lambda: text_of(random_ids(draw, draw.randint(20, 200), SHAPE.vocabulary))  # noqa: E731
            rows = [
                {"prompt": row(), "chosen": row(), "rejected": row()} for _ in range(options.groups * options.steps)
            ]
            data = work / "pairs.jsonl"
            data.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        found: dict[str, dict[str, Any]] = {side: {"seconds": [], "peak": 0, "imbalance": []} for side in SIDES}
        for number in range(options.rounds):
            for side, (processes, threads) in SIDES.items():
                out = work / f"run-{number}-{processes}-{threads}"
                words = command(work, data, out, processes, threads, options.steps, options.groups)
                peak = watched(words)
                steps = [r for r in log.read_rows(out) if r["record"] == "step"][1:]
                found[side]["seconds"] += [r["seconds"] for r in steps]
                found[side]["imbalance"] += [r["imbalance"] for r in steps if "imbalance" in r]
                found[side]["peak"] = max(found[side]["peak"], peak)
    first = statistics.median(found["1 process, 1 thread"]["seconds"])
    for side, values in found.items():
        values["seconds_a_step"] = statistics.median(values.pop("seconds"))
        values["faster"] = first / values["seconds_a_step"]
        values["peak_mib"] = values.pop("peak") / 2**20
        uneven = values.pop("imbalance")
        values["imbalance"] = statistics.mean(uneven) if uneven else 0.0
        print(
            f"{side:28} {values['seconds_a_step']:6.2f} s a step, {values['faster']:.2f} times the first, "
            f"{values['peak_mib']:.0f} MiB a process, imbalance {values['imbalance']:.1%}"
        )
    if options.out is not None:
        told = {"made": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": versions(),
                "shape": vars(SHAPE), "groups_per_step": options.groups, "data": options.data is not None,
                "sides": found}  # fmt: skip
        options.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
