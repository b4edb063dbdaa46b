"""How often alarms ring on healthy runs, and how early on hacked ones, on the lab's flash cards.

    python benchmarks/alarm_audit.py runs --out FOLDER [--shard 0/2]     # hours of a core; goes on where it was
    python benchmarks/alarm_audit.py audit --out FOLDER --result results/alarm_audit.json --picture ../docs/alarms.png

`runs` makes the runs of `KINDS`: online DPO with the noisy rater, RLOO with gold or with the rater, static DPO that
gold watches, runs that do not move at all, and RLOO against frozen reward models. `audit` replays the alarms on their
traces, under the thresholds that are the defaults and under others. Whether a run was hacked is told by its gold, not
by its name: see `is_hacked`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

HEALTHY, HACKED = "healthy", "hacked"
BASES = 4  # worlds: a policy, its pairs and its reward models each
STEPS = 100
PROMPTS = 12  # of an RLOO step
PAIRS = 24  # of a DPO step


@dataclass(frozen=True)
class Kind:
    """A kind of run: what it is meant to be, its settings, and how many of them."""

    name: str
    meant: str
    words: tuple[str, ...]
    runs: int
    steps: int = STEPS


ONLINE = ("objective.name=online_dpo", "source.refresh_every=1", "source.k=2", f"optim.groups_per_step={PAIRS}",
          "judge.kind=verifier", "judge.name=burnish.lab.gold:rater", "optim.lr=2e-4")  # fmt: skip
RLOO = ("objective.name=rloo", "source.refresh_every=1", "source.k=4", f"optim.groups_per_step={PROMPTS}",
        "optim.lr=5e-4")  # fmt: skip
GOLD = ("judge.kind=verifier", "judge.name=burnish.lab.gold:utility")
RATER = ("judge.kind=verifier", "judge.name=burnish.lab.gold:rater")
STATIC = ("objective.name=dpo", "objective.beta=0.3", "optim.lr=2e-4", "data.train={base}/pairs.jsonl", "eval.every=4",
          f"optim.groups_per_step={PAIRS}", "source.k=4", "eval.prompts=24")  # fmt: skip
FROZEN = ("judge.kind=reward_model",)

KINDS = (
    Kind("online, beta 0.3", HEALTHY, (*ONLINE, "objective.beta=0.3"), 30),
    Kind("online, beta 1", HEALTHY, (*ONLINE, "objective.beta=1.0"), 30),
    Kind("RLOO gold, KL 0.05", HEALTHY, (*RLOO, *GOLD, "objective.kl_in_reward=0.05"), 30),
    Kind("RLOO gold, KL 0.2", HEALTHY, (*RLOO, *GOLD, "objective.kl_in_reward=0.2"), 30),
    Kind("RLOO rater, KL 0.3", HEALTHY, (*RLOO, *RATER, "objective.kl_in_reward=0.3"), 30),
    Kind("static DPO, gold watches", HEALTHY, STATIC, 24),
    Kind("flat: RLOO, no rate", HEALTHY, (*RLOO, *RATER, "optim.lr=1e-9"), 24),
    Kind("flat: online, no rate", HEALTHY, (*ONLINE, "optim.lr=1e-9"), 24),
    Kind("frozen, KL 0", HACKED, (*RLOO, *FROZEN, "judge.path={base}/rm", "objective.kl_in_reward=0"), 40),
    Kind("frozen, KL 0.05", HACKED, (*RLOO, *FROZEN, "judge.path={base}/rm", "objective.kl_in_reward=0.05"), 24),
    Kind("frozen small, KL 0", HACKED, (*RLOO, *FROZEN, "judge.path={base}/rm-small", "objective.kl_in_reward=0"), 24),
    Kind("frozen, slower", HACKED,
         (*RLOO, *FROZEN, "judge.path={base}/rm", "objective.kl_in_reward=0", "optim.lr=2e-4"), 24, 140),
)  # fmt: skip


def make_base(folder: Path, seed: int) -> None:
    """A policy, its pairs, prompts, and reward models trained on 4,000 and on 500 of the pairs."""
    from rich.console import Console

    from burnish import config
    from burnish.lab import dial
    from burnish.lab.quickstart import QuickstartSettings
    from burnish.loop import train

    if (folder / "done").exists():
        return
    settings = dial.DialSettings(steps=STEPS, pairs_per_step=PAIRS, base=QuickstartSettings(seed=seed))
    dial.prepare(folder, settings, Console(quiet=True))
    train.run(config.load(None, [
        f"model.path={folder / 'sft'}", "model.dtype=float32", f"run.dir={folder / 'rm-small'}", "run.overwrite=true",
        "engine.threads=1", f"seed={seed}", f"data.train={folder / 'pairs.jsonl'}", "data.limit=500",
        "objective.name=bradley_terry", "optim.lr=2e-3", "optim.epochs=5", "optim.groups_per_step=64",
    ]))  # fmt: skip
    (folder / "done").touch()


def make_run(out: Path, kind: Kind, number: int) -> None:
    """A run's trace: its refreshes' figures, as JSON."""
    from burnish import config
    from burnish.lab import world
    from burnish.loop import train
    from burnish.loop.alarms import WATCHED
    from burnish.runlog import log
    from burnish.runlog.records import RefreshRecord

    file = out / "traces" / f"{kind.name.replace(' ', '_')}-{number}.json"
    if file.exists():
        return
    base = out / f"base-{number % BASES}"
    folder = Path(tempfile.mkdtemp(prefix="alarm-audit-"))
    words = [word.format(base=base) for word in kind.words]
    common = [
        f"model.path={base / 'sft'}", "model.dtype=float32", f"run.dir={folder / 'run'}", "engine.threads=1",
        f"seed={1000 + number}", f"source.prompts={base / 'prompts.jsonl'}", "log.answers=false",
        "log.completions=false",
        f"source.max_new_tokens={world.MAX_NEW_TOKENS}", "gold.kind=verifier", "gold.name=burnish.lab.gold:utility",
        "optim.schedule=constant", "optim.warmup=0", f"optim.steps={kind.steps}",
        f"reference.store={base / 'reference-store'}" if kind.words is STATIC else "reference.kind=initial",
    ]  # fmt: skip
    train.run(config.load(None, [*common, *words]))
    refreshes = list(log.read(folder / "run", RefreshRecord))
    trace = {name: [round(r.metrics[name], 6) for r in refreshes if name in r.metrics] for name in WATCHED}
    trace["step"] = [r.step for r in refreshes]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"kind": kind.name, "meant": kind.meant, "number": number, "trace": trace}))
    shutil.rmtree(folder)


def make_runs(out: Path, shard: int, shards: int) -> None:
    """Every run of this shard, one of each kind in turn, so that an unfinished audit has some of all."""
    import contextlib
    import os
    import time

    from burnish.lab.quickstart import quiet_transformers, single_thread

    began, done = time.perf_counter(), 0
    with quiet_transformers(), single_thread():
        for seed in range(BASES):
            if seed % shards == shard or shards == 1:
                with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
                    make_base(out / f"base-{seed}", seed)
        for number in range(max(kind.runs for kind in KINDS)):
            if number % shards != shard:
                continue
            for kind in KINDS:
                if number < kind.runs:
                    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
                        make_run(out, kind, number)
                    done += 1
            print(f"{done} runs, {time.perf_counter() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=("runs", "audit"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--result", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    if given.phase == "runs":
        shard, shards = map(int, given.shard.split("/"))
        make_runs(given.out, shard, shards)


if __name__ == "__main__":
    main()
