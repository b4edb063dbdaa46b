"""What computing a prompt once saves on ranked groups: burnish's shared layout against its padded one.

    python benchmarks/sharing.py --out benchmarks/results/sharing.json

Same model, groups, objective (pl_dpo) and engine; one process holds both layouts and alternates steps between them, so
that noise meets both. Lengths are equal within a case, so the padded layout pads nothing: what is saved is the prompt.
Peak memory is measured in a process for each layout. One pinned core, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Job, Shape, machine, run_job, versions, worker_environment
from random_data import make_model

SHAPE = Shape(hidden=256, layers=6, mlp=688, heads=4, kv_heads=2, vocabulary=8_192)
SIZES = (2, 4, 8)  # completions of a group
LENGTHS = ((256, 64), (64, 64), (64, 256))  # tokens of prompt and of completion
GROUPS = 4
SAME = 1e-4  # share by which loss and gradient norm of the layouts may differ


def measure(work: Path, size: int, prompt: int, completion: int, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one case; exits with a sentence where a worker fails or the layouts disagree."""
    given = {"size": size, "prompt": prompt, "completion": completion, "groups": GROUPS, "rounds": options.rounds}
    given["vocabulary"] = SHAPE.vocabulary

    def run(layouts: list[str], **more: Any) -> dict[str, Any]:
        job = Job("sharing", "sharing", "float32", options={**given, "layouts": layouts, **more})
        answer = run_job(job, work, "", options.core)
        if "error" in answer:
            raise SystemExit(f"K = {size}, {prompt}:{completion}: {answer['error']}")
        return answer

    both = run(["shared", "padded"])["layouts"]
    for name, kind in (("shared", "computed once"), ("padded", "separate padded rows")):
        if kind not in both[name]["layout"]:
            raise SystemExit(f"the {name} layout was asked for, and the engine says: {both[name]['layout']}")
    for figure in ("loss", "gradient_norm"):
        a, b = (both[name][figure] for name in ("shared", "padded"))
        if abs(a - b) > SAME * abs(b):
            raise SystemExit(f"K = {size}, {prompt}:{completion}: the layouts' {figure} are {a} and {b}")
    ratios = [s / p for s, p in zip(both["shared"]["seconds"], both["padded"]["seconds"], strict=True)]
    record: dict[str, Any] = {**given, "ratio": statistics.median(ratios), "ratio_range": [min(ratios), max(ratios)]}
    for name in ("shared", "padded"):
        alone = run([name], rounds=1)
        record[name] = {
            **both[name],
            "median_seconds": statistics.median(both[name]["seconds"]),
            "peak_mb": alone["peak_mb"],
            "steps_mb": alone["peak_mb"] - alone["loaded_mb"],
        }
    return record


def show(r: dict[str, Any]) -> None:
    s, p = r["shared"], r["padded"]
    low, high = r["ratio_range"]
    print(
        f"{r['size']:2} {r['prompt']:4}:{r['completion']:<4} {s['tokens']:6} {p['tokens']:6} "
        f"{s['tokens'] / p['tokens']:6.2f}   {s['median_seconds']:6.3f} {p['median_seconds']:6.3f} {r['ratio']:6.2f} "
        f"({low:.2f} to {high:.2f})   {s['peak_mb']:6.0f} {p['peak_mb']:6.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each layout, after one that is not")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core everything runs on")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    options = parser.parse_args()
    rows = []
    print(" K lengths      tokens        ratio   seconds a step  ratio (range)            peak MB")
    print("              shared padded          shared padded                         shared padded")
    with tempfile.TemporaryDirectory(prefix="burnish_bench_") as folder:
        os.environ.update(worker_environment(Path(folder)))
        make_model(SHAPE, Path(folder) / "model")
        for prompt, completion in LENGTHS:
            for size in SIZES:
                rows.append(measure(Path(folder), size, prompt, completion, options))
                show(rows[-1])
    widest = max(max(r["ratio_range"]) / min(r["ratio_range"]) - 1 for r in rows)
    print(f"largest spread of one ratio over {options.rounds} rounds: {widest:.0%}", file=sys.stderr)
    if options.out is not None:
        values = {"made": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": versions(),
                  "shape": vars(SHAPE), "rows": rows, "spread": widest}  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
