"""burnish against TRL's DPOTrainer: same model, pairs, order, steps and optimiser, one pinned core, real HH pairs.

    python benchmarks/dpo_vs_trl.py --data PAIRS.jsonl --shape S1 --dtype bfloat16 --rounds 3 --out RESULT.json

Each measurement is a process of its own (so peak memory is its own), held to one core and one thread. First TRL's best
configuration is searched, one setting at a time, each kept if it helps: the allocator told to keep memory, precision of
float32 products, attention, micro-batch; with the reference precomputed, no gradient checkpointing, and batches grouped
by length throughout. Then TRL's two fastest, TRL's defaults and burnish run in interleaved rounds; medians count.
Timed: 64 pairs in 8 optimiser steps after 2 warm-up steps, reference log-probs already there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from bench import Bench, Choices, ablation, compared, prepare, reuse, search_trl
from common import SHAPES, Job, machine, needed_flops, versions
from report import Row, bar_lines, compare, reuse_lines, spread, table

DATA_IN_SHARED = Path("data") / "hh" / "harmless_base_pairs.jsonl"


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("BURNISH_SHARED")
    default = Path(shared) / DATA_IN_SHARED if shared else None
    parser.add_argument("--data", type=Path, default=default, help="HH pairs: JSONL, chosen and rejected")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="S1", help="S1: 8k vocabulary, S2: 32k")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--lora", action="store_true", help="rank-16 adapters on all linear layers, for both trainers")
    parser.add_argument("--ablation", action="store_true", help="also measure each idea on its own, and a profile")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core everything runs on")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    options = parser.parse_args()
    if options.data is None or not options.data.is_file():
        parser.error(f"--data must name the HH pairs ({DATA_IN_SHARED}), or BURNISH_SHARED the folder that holds them")
    if options.ablation and options.lora:
        parser.error("--ablation covers full training; run it without --lora")
    return options


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory(prefix="burnish_bench_") as folder:
        bench = Bench(Path(folder), options.shape, options.dtype, options.lora, options.rounds, options.core)
        facts, timed = prepare(bench, options.data)
        flops = needed_flops(timed, SHAPES[bench.shape], lora=bench.lora) / len(timed)
        result: dict[str, Any] = {
            "machine": machine(),
            "versions": versions(),
            "shape": bench.shape,
            "dtype": bench.dtype,
            "lora": bench.lora,
            "facts": facts,
            "roof_gflops": bench.run(Job("gemm", "gemm", bench.dtype))["gflops"],
            "needed_gflop_per_pair": flops / 1e9,
        }
        ranked, searched = search_trl(bench)
        bench.measure_in_rounds(compared(bench, ranked))
        if bench.dtype == "bfloat16":
            bench.measure(bench.burnish("burnish_float32", dtype="float32"))
        compare_and_show(bench, result, ranked, searched)
        if options.ablation:
            ablate_and_show(bench, result)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def compare_and_show(
    bench: Bench, result: dict[str, Any], ranked: list[tuple[str, Choices]], searched: dict[str, Row]
) -> None:
    """Print the comparison and put it into `result`."""
    best, choices = max(ranked[:2], key=lambda entry: bench.rows[entry[0]].rate)
    bars = compare(bench.rows, best, shape=bench.shape, dtype=bench.dtype, lora=bench.lora)
    reused = reuse(bench, choices)
    result |= {
        "trl_best": best,
        "search": {name: row.record() for name, row in searched.items()},
        "rows": {name: row.record() for name, row in bench.rows.items()},
        "bars": bars,
        "reference_reuse": reused,
        "spread": spread(bench.rows),
    }
    roof, needed = result["roof_gflops"], result["needed_gflop_per_pair"]
    kind = f"{bench.shape}, {'LoRA, ' if bench.lora else ''}{bench.dtype}"
    processor = f"{result['machine']['cpu']}, one core"
    print(f"\n{kind}: {needed:.2f} GFLOP needed per pair; roof {roof:.0f} GFLOP/s ({processor})")
    print(", ".join(f"{name} {version}" for name, version in result["versions"].items()))
    print(f"\nsearch for TRL's best (one run each)\n{table(searched, searched[best], roof, needed)}")
    print(f"\ncomparison (medians)\n{table(bench.rows, bench.rows[best], roof, needed)}")
    print(f"\nagainst the bars\n{bar_lines(bars)}")
    print(f"  largest spread between rounds of one row: {result['spread']:.1%}")
    print(f"\npairs through the reference, in runs one after the other\n{reuse_lines(reused)}")


def ablate_and_show(bench: Bench, result: dict[str, Any]) -> None:
    rows, where = ablation(bench)
    first = next(row for row in rows.values() if not row.error)
    result |= {"ablation": {name: row.record() for name, row in rows.items()}, "where_time_goes": where}
    title = f"\nablation (medians; x is against {first.job.name!r})"
    print(f"{title}\n{table(rows, first, result['roof_gflops'], result['needed_gflop_per_pair'])}")
    print("\nwhere burnish's time goes (share of the timed steps under the profiler)")
    for kind, share in sorted(where.items(), key=lambda entry: -entry[1]):
        print(f"  {kind:24}{share:8.1%}")


if __name__ == "__main__":
    main()
