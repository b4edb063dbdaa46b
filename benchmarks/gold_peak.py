"""Whether the report's interval of gold's peak holds the truth, on the lab's runs against a frozen reward model.

    python benchmarks/gold_peak.py --work FOLDER --out results/gold_peak.json [--seeds 12]

Each run (RLOO, no KL in the reward, 120 updates of 24 prompts with 4 answers; half of the seeds at half the rate) is
saved every 4 updates, and every checkpoint answers each of the hundred cards 15 times: gold's highest mean among them
is the truth. The report sees the run's own log alone: 96 answers a refresh. Two minutes a seed; goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

from common import machine, versions

BASES = 4  # worlds: a policy with its reward model each
EVERY = 4  # updates between two looks


def make_run(work: Path, seed: int) -> dict[str, Any]:
    """A run's own figures by refresh, and [step, KL, gold] of its checkpoints, densely measured."""
    import torch
    from alarm_runs import make_base
    from transformers import AutoModelForCausalLM

    from burnish import config
    from burnish.evals import ask
    from burnish.lab import world
    from burnish.lab.measure import evaluate
    from burnish.loop import train
    from burnish.runlog import log
    from burnish.runlog.records import RefreshRecord

    base, run = work / f"base-{seed % BASES}", work / f"run-{seed}"
    make_base(base, seed % BASES)
    train.run(config.load(None, [
        f"model.path={base / 'sft'}", "model.dtype=float32", f"run.dir={run}", "run.overwrite=true", "engine.threads=1",
        f"seed={500 + seed}", f"source.prompts={base / 'prompts.jsonl'}", "log.answers=false",
        f"source.max_new_tokens={world.MAX_NEW_TOKENS}", "log.completions=false",
        "gold.kind=verifier", "gold.name=burnish.lab.gold:utility",
        "optim.schedule=constant", "optim.warmup=0", "optim.steps=120", "objective.name=rloo", "source.refresh_every=1",
        "source.k=4", "optim.groups_per_step=24", f"optim.lr={'2.5e-4' if seed >= 6 else '5e-4'}",
        "objective.kl_in_reward=0", "judge.kind=reward_model", f"judge.path={base / 'rm'}", f"save.every={EVERY}",
        "save.keep=100",
    ]))  # fmt: skip
    refreshes = list(log.read(run, RefreshRecord))
    reference: Any = AutoModelForCausalLM.from_pretrained(base / "sft", dtype=torch.float32)
    dense = []
    for folder in sorted((run / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:])):
        (place,) = ask.places([str(folder)], config.load_partly(None, ["model.dtype=float32"]))
        measured = evaluate(ask.Respondent(place).engine.policy.base, reference, seed=7, answers_per_card=15)
        dense.append([int(folder.name[5:]), measured.kl.mean, measured.utility.mean])
    shutil.rmtree(run)
    columns = {name: [refresh.metrics[name] for refresh in refreshes] for name in ("kl/answer", "gold")}
    return {"kl": columns["kl/answer"], "gold": columns["gold"], "dense": dense}


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """The true peak and the report's interval, in sqrt(KL)."""
    import numpy as np

    from burnish.stats import gold_curve

    _, kl, gold = max(found["dense"], key=lambda row: row[2])
    curve = gold_curve(np.array(found["kl"]), np.array(found["gold"]))
    assert curve is not None
    truth = math.sqrt(kl)
    told = {} if curve.reason else {"peak": curve.peak, "low": curve.low, "high": curve.high}
    return {"truth": truth, "gold": gold, "form": curve.form, "reason": curve.reason, **told,
            "held": not curve.reason and curve.low <= truth <= curve.high}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=12)
    given = parser.parse_args()
    from burnish.lab.quickstart import quiet_transformers, single_thread

    given.work.mkdir(parents=True, exist_ok=True)
    rows = []
    with quiet_transformers(), single_thread():
        for seed in range(given.seeds):
            file = given.work / f"{seed}.json"
            if not file.exists():
                file.write_text(json.dumps(make_run(given.work, seed)))
            rows.append(judged(json.loads(file.read_text())))
            print(f"seed {seed}: {rows[-1]}", flush=True)
    held = sum(row["held"] for row in rows)
    print(f"the interval holds the peak in {held} of {len(rows)}, and {sum(not r['reason'] for r in rows)} were told")
    result = {"held": held, "seeds": len(rows), "rows": rows, "machine": machine(), "versions": versions()}
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
