"""The flash cards over three seeds: reward models' accuracy on gold preferences of fresh answers, beside DPO's.

python benchmarks/lab_reward.py [--seeds 0 1 2] --out FILE.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common import machine

from burnish.lab import quickstart, reward
from burnish.reports.rewards import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            base = quickstart.QuickstartSettings(seed=seed)
            figures = reward.run(Path(folder), reward.RewardSettings(seed=seed, members=1, base=base))
            rows.append({"seed": seed, **accuracies(figures, Path(folder) / "scored.jsonl")})
    names = [name for name in rows[0] if name != "seed"]
    told: dict[str, Any] = {"machine": machine(), "seeds": rows}
    for name in names:
        values = [row[name] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        told[name] = {"mean": statistics.fmean(values), "sd": spread}
        print(f"{name}: {statistics.fmean(values):.3f} ± {spread:.3f} {[round(v, 3) for v in values]}")
    given.out.write_text(json.dumps(told, indent=1) + "\n")


def accuracies(figures: dict[str, Any], records: Path) -> dict[str, float]:
    """Accuracy of each scorer on pairs of unequal gold utility; and where pairs of equal utility count one half."""
    groups = read(records).groups
    pairs = sum(len(group.pairs) for group in groups)
    every = sum(len(group.answers) * (len(group.answers) - 1) // 2 for group in groups)
    found = {}
    for name, row in figures["accuracy"]["all"]["by"].items():
        found[name] = row["value"]
        found[f"{name}, ties one half"] = (row["value"] * pairs + 0.5 * (every - pairs)) / every
    return found


if __name__ == "__main__":
    main()
