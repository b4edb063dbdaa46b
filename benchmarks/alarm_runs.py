"""The lab runs that `alarm_audit.py` replays alarms on: healthy ones, flat ones, and some whose judge can be fooled.

All are flash-card worlds of `burnish.lab`, trained through `burnish train`'s own loop. Each of `BASES` worlds has a
policy, pairs and two reward models, made once; each run has a seed of its own. What is kept is the trace: the figures
that alarms look at, refresh by refresh.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

HEALTHY, HACKED, LONG = "healthy", "hacked", "long"
BASES = 4
STEPS = 100
PROMPTS = 12  # of an RLOO step, four answers each; a small one has half
PAIRS = 24  # of a DPO step, two answers each; a small one has half


@dataclass(frozen=True)
class Kind:
    """A kind of run: what it is meant to be, its settings, how many there are, and the first of their seeds."""

    name: str
    meant: str
    words: tuple[str, ...]
    runs: int
    steps: int = STEPS
    seeds: int = 1000

    @property
    def folder(self) -> str:
        return self.name.replace(" ", "_")


ONLINE = ("objective.name=online_dpo", "source.refresh_every=1", "source.k=2", f"optim.groups_per_step={PAIRS}",
          "optim.lr=2e-4")  # fmt: skip
RLOO = ("objective.name=rloo", "source.refresh_every=1", "source.k=4", f"optim.groups_per_step={PROMPTS}",
        "optim.lr=5e-4")  # fmt: skip
GOLD = ("judge.kind=verifier", "judge.name=burnish.lab.gold:utility")
RATER = ("judge.kind=verifier", "judge.name=burnish.lab.gold:rater")
LIKES_LENGTH = ("judge.kind=verifier", "judge.name=alarm_runs:likes_length")
FROZEN = ("judge.kind=reward_model", "judge.path={base}/rm")
FROZEN_500 = ("judge.kind=reward_model", "judge.path={base}/rm-small")
STATIC = ("objective.name=dpo", "objective.beta=0.3", "optim.lr=2e-4", "data.train={base}/pairs.jsonl", "eval.every=4",
          f"optim.groups_per_step={PAIRS}", "source.k=4", "eval.prompts=24")  # fmt: skip
SMALL_RLOO = (f"optim.groups_per_step={PROMPTS // 2}",)
SMALL_DPO = (f"optim.groups_per_step={PAIRS // 2}",)
FAST = ("optim.lr=1e-3",)

KINDS = (
    Kind("online, beta 0.3", HEALTHY, (*ONLINE, *RATER, "objective.beta=0.3"), 14),
    Kind("online, beta 1", HEALTHY, (*ONLINE, *RATER, "objective.beta=1.0"), 14),
    Kind("RLOO gold, KL 0.05", HEALTHY, (*RLOO, *GOLD, "objective.kl_in_reward=0.05"), 14),
    Kind("RLOO gold, KL 0.2", HEALTHY, (*RLOO, *GOLD, "objective.kl_in_reward=0.2"), 14),
    Kind("RLOO rater, KL 0.3", HEALTHY, (*RLOO, *RATER, "objective.kl_in_reward=0.3"), 14),
    Kind("static DPO, gold watches", HEALTHY, STATIC, 24),
    Kind("flat: RLOO, no rate", HEALTHY, (*RLOO, *RATER, "optim.lr=1e-9"), 14),
    Kind("flat: online, no rate", HEALTHY, (*ONLINE, *RATER, "optim.lr=1e-9"), 14),
    Kind("frozen, KL 0", HACKED, (*RLOO, *FROZEN, "objective.kl_in_reward=0"), 24),
    Kind("frozen, KL 0.05", HACKED, (*RLOO, *FROZEN, "objective.kl_in_reward=0.05"), 13),
    Kind("frozen small, KL 0", HACKED, (*RLOO, *FROZEN_500, "objective.kl_in_reward=0"), 24),
    Kind("frozen, slower", HACKED, (*RLOO, *FROZEN, "objective.kl_in_reward=0", "optim.lr=2e-4"), 13, 140),
    # few answers a step, so that gold is noisier
    Kind("few: flat, frozen", HEALTHY, (*RLOO, *FROZEN, *SMALL_RLOO, "optim.lr=1e-9"), 16, seeds=2000),
    Kind("few: flat, frozen small", HEALTHY, (*RLOO, *FROZEN_500, *SMALL_RLOO, "optim.lr=1e-9"), 16, seeds=3000),
    Kind("few: online, beta 0.1", HEALTHY, (*ONLINE, *RATER, *SMALL_DPO, "objective.beta=0.1"), 12, seeds=4000),
    Kind("few: RLOO gold, KL 0.02", HEALTHY, (*RLOO, *GOLD, *SMALL_RLOO, "objective.kl_in_reward=0.02"), 12,
         seeds=5000),
    Kind("few: RLOO rater, KL 0.5", HEALTHY, (*RLOO, *RATER, *SMALL_RLOO, "objective.kl_in_reward=0.5"), 12,
         seeds=6000),
    Kind("few: frozen, fast", HACKED, (*RLOO, *FROZEN, *SMALL_RLOO, *FAST, "objective.kl_in_reward=0"), 20, seeds=7000),
    Kind("few: frozen small, fast", HACKED, (*RLOO, *FROZEN_500, *SMALL_RLOO, *FAST, "objective.kl_in_reward=0.02"), 20,
         seeds=8000),
    Kind("few: online DPO, frozen small", HACKED,
         (*ONLINE, *FROZEN_500, *SMALL_DPO, "objective.beta=0.05", "optim.lr=5e-4"), 16, seeds=9000),
    Kind("few: RLOO, rater likes length", LONG, (*RLOO, *LIKES_LENGTH, *SMALL_RLOO, "objective.kl_in_reward=0.05"), 6,
         seeds=10_000),
)  # fmt: skip


def likes_length(prompt: str, answer: str, meta: Mapping[str, Any]) -> float:
    """The lab's rater, which likes a token as much as 0.1 of utility besides."""
    from burnish.lab import gold

    return gold.rater(prompt, answer, meta) + 0.6 * len(answer)


def make_base(folder: Path, seed: int) -> None:
    """A policy, its pairs, prompts, and reward models trained on 4,000 and on 500 of the pairs; what is there stays."""
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


def make_run(out: Path, kind: Kind, number: int) -> bool:
    """A run's trace, as JSON. False where it was made before."""
    from burnish import config
    from burnish.lab import world
    from burnish.loop import train
    from burnish.loop.alarms import WATCHED
    from burnish.runlog import log
    from burnish.runlog.records import RefreshRecord

    file = out / "traces" / f"{kind.folder}-{number}.json"
    if file.exists():
        return False
    base = out / f"base-{number % BASES}"
    folder = Path(tempfile.mkdtemp(prefix="alarm-audit-"))
    words = [word.format(base=base) for word in kind.words]
    common = [
        f"model.path={base / 'sft'}", "model.dtype=float32", f"run.dir={folder / 'run'}", "engine.threads=1",
        f"seed={kind.seeds + number}", f"source.prompts={base / 'prompts.jsonl'}", "log.answers=false",
        "log.completions=false",
        f"source.max_new_tokens={world.MAX_NEW_TOKENS}", "gold.kind=verifier", "gold.name=burnish.lab.gold:utility",
        "optim.schedule=constant", "optim.warmup=0", f"optim.steps={kind.steps}",
        f"reference.store={base / 'reference-store'}" if kind.words is STATIC else "reference.kind=initial",
    ]  # fmt: skip
    undrawn = mock.patch("burnish.loop.finish.write_summary", lambda _: "")  # a picture a run that nobody looks at
    with undrawn:
        train.run(config.load(None, [*common, *words]))
    refreshes = list(log.read(folder / "run", RefreshRecord))
    trace = {name: [round(r.metrics[name], 6) for r in refreshes if name in r.metrics] for name in WATCHED}
    trace["step"] = [r.step for r in refreshes]
    row = {"kind": kind.name, "meant": kind.meant, "number": number, "trace": trace}
    file.with_suffix(".half").write_text(json.dumps(row))
    file.with_suffix(".half").rename(file)
    shutil.rmtree(folder)
    return True


def make_runs(out: Path, shard: int, shards: int) -> None:
    """Every missing run of this shard, one of each kind in turn, so that an unfinished audit has some of all."""
    from burnish.lab.quickstart import quiet_transformers, single_thread

    began, done = time.perf_counter(), 0
    (out / "traces").mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(Path(__file__).parent))  # the judge above, which a run names
    with quiet_transformers(), single_thread(), open(os.devnull, "w") as null:
        for seed in range(BASES):
            if seed % shards == shard:
                with contextlib.redirect_stdout(null):
                    make_base(out / f"base-{seed}", seed)
        for number in range(max(kind.runs for kind in KINDS)):
            if number % shards != shard:
                continue
            for kind in KINDS:
                if number < kind.runs:
                    with contextlib.redirect_stdout(null):
                        done += make_run(out, kind, number)
            print(f"{done} runs, {time.perf_counter() - began:.0f} s", flush=True)
