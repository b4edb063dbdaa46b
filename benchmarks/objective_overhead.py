"""What each objective costs in a step of `burnish train`, as a multiple of `dpo` measured beside it.

    python benchmarks/objective_overhead.py --out benchmarks/results/objective_overhead.json

Every row of the table that trains on given data runs through `train.run`, as the command line does, beside a run of dpo
on the same pairs: the two take steps in turns, and each step's `seconds` in the log is divided by those of dpo's step
on the same groups. The median over steps counts; the middle half of the ratios is the spread. dpo beside dpo is the
control. What to expect: forward and backward are three forwards, so that a pass more costs a third. One pinned core.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from common import Shape, machine, versions, worker_environment

SHAPE = Shape(hidden=192, layers=4, mlp=512, heads=4, kv_heads=2, vocabulary=4_096)
GROUPS_PER_STEP = 8
PROMPT, ANSWER = (32, 96), (16, 80)  # tokens, shortest and longest
PASSES = {"step": "the step's sums first", "mismatched": "mismatched answers", "kl": "the reference in memory"}
OVER_VOCABULARY = {"kl": "a KL", "square": "log sum p^2"}  # more than one number at each position: no third, but more


def why_not(row: Any) -> str:
    """Why a row of the table cannot run here, or nothing."""
    if row.view == "rollouts":
        return "it trains on answers that the policy writes during the run"
    if "scalar" in row.needs:
        return "it trains a reward model, which is another computation than dpo's"
    return ""


def write_pairs(file: Path, count: int) -> None:
    """Random pairs: every view (pairs, lists, labels, winners) can be made of a preference."""
    from random_data import random_ids, text_of

    draw = random.Random(0)

    def text(lengths: tuple[int, int]) -> str:
        return text_of(random_ids(draw, draw.randint(*lengths), SHAPE.vocabulary))

    rows = [{"prompt": text(PROMPT), "chosen": text(ANSWER), "rejected": text(ANSWER)} for _ in range(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class Turns:
    """Lets two runs in two threads take steps in turns: whoever has written a step's record waits for the other's.

    The record holds the step's seconds already, so no waiting is counted.
    """

    def __init__(self) -> None:
        self.free = threading.Condition()
        self.whose = 0
        self.left: set[int] = set()
        self.me = threading.local()

    def enter(self, number: int) -> None:
        self.me.number = number
        with self.free:
            self.free.wait_for(lambda: self.whose == number)

    def pass_on(self) -> None:
        number = self.me.number
        with self.free:
            if 1 - number not in self.left:
                self.whose = 1 - number
                self.free.notify_all()
                self.free.wait_for(lambda: self.whose == number)

    def leave(self) -> None:
        number = self.me.number
        with self.free:
            self.left.add(number)
            self.whose = 1 - number
            self.free.notify_all()


def watch_steps(turns: list[Turns]) -> None:
    """Pass the turn on (of the last of `turns`) after each step's record is written."""
    from burnish.runlog.log import RunLog
    from burnish.runlog.records import Record, StepRecord

    write = RunLog.write

    def watched(self: RunLog, record: Record) -> None:
        write(self, record)
        if isinstance(record, StepRecord):
            turns[-1].pass_on()

    RunLog.write = watched  # type: ignore[method-assign]


def train(name: str, number: int, turn: Turns, work: Path, steps: int) -> list[float]:
    """Seconds of every step of a run, from its own log."""
    from burnish import config
    from burnish.loop import train as training
    from burnish.runlog import log

    keys = {
        "model.path": work / "model",
        "model.dtype": "float32",
        "data.train": work / "pairs.jsonl",
        "data.format": "pairs",
        "data.template": "plain",
        "objective.name": name,
        "optim.steps": steps,
        "optim.groups_per_step": GROUPS_PER_STEP,
        "engine.threads": 1,
        "reference.store": work / f"store{number}",
        "run.dir": work / f"run{number}",
        "run.overwrite": "true",
    }
    turn.enter(number)
    try:
        folder = training.run(config.load(None, [f"{key}={value}" for key, value in keys.items()]), progress=False)
        return [float(r["seconds"]) for r in log.read_rows(folder) if r["record"] == "step"]
    finally:
        turn.leave()


def beside_dpo(name: str, work: Path, turns: list[Turns], options: argparse.Namespace) -> tuple[list[float], ...]:
    """(seconds of the objective's steps, seconds of dpo's on the same groups), warm-up left out, over all rounds."""
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(options.rounds):
        turns.append(Turns())
        first = number % 2  # neither always goes first
        said = io.StringIO()
        with redirect_stderr(said), redirect_stdout(said), ThreadPoolExecutor(2) as pool:
            runs = [
                pool.submit(train, which, place, turns[-1], work, options.steps)
                for which, place in ((name, first), ("dpo", 1 - first))
            ]
        if any(run.exception() for run in runs):
            print(said.getvalue()[-2000:], file=sys.stderr)  # what the runs said until then
        for kept, run in zip(spent, runs, strict=True):
            kept.extend(run.result()[options.warmup :])
    return spent


def summarise(name: str, needs: frozenset[str], own: Sequence[float], dpo: Sequence[float]) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(own, dpo, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    passes = [why for need, why in PASSES.items() if need in needs]
    wide = [why for need, why in OVER_VOCABULARY.items() if need in needs]
    return {
        "objective": name,
        "ratio": middle,
        "middle_half": [low, high],
        "seconds": statistics.median(own),
        "dpo_seconds": statistics.median(dpo),
        "needs": sorted(needs),
        "extra": passes + [f"{what} over the vocabulary" for what in wide],
        "expected": None if wide else round(1 + len(passes) / 3, 2),
        "ratios": ratios,
    }


def line(r: dict[str, Any]) -> str:
    low, high = r["middle_half"]
    expected = "" if r["expected"] is None else f"{r['expected']:.2f}"
    flag = "   ABOVE" if r["expected"] and low > 1.1 * r["expected"] else ""
    return (
        f"{r['objective']:24} {r['ratio']:5.2f}  ({low:.2f} to {high:.2f})   {expected:>6}  "
        f"{r['seconds']:.3f} {r['dpo_seconds']:.3f}  {', '.join(r['extra'])}{flag}"
    )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="of each run")
    parser.add_argument("--warmup", type=int, default=2, help="first steps of each run that do not count")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each objective")
    parser.add_argument("--only", nargs="*", help="these objectives; unset: every one that can run")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core everything runs on")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory(prefix="burnish_bench_") as folder:
        work = Path(folder)
        os.environ.update(worker_environment(work))  # before torch is imported
        os.sched_setaffinity(0, {options.core})
        from random_data import make_model

        from burnish.errors import BurnishError
        from burnish.objectives import TABLE

        skipped = {name: why_not(row) for name, row in TABLE.items() if why_not(row)}
        for name, reason in skipped.items():
            print(f"skipped: {name}: {reason}")
        names = [name for name in TABLE if name not in skipped and (options.only is None or name in options.only)]
        make_model(SHAPE, work / "model")
        write_pairs(work / "pairs.jsonl", GROUPS_PER_STEP * options.steps)
        turns: list[Turns] = []
        watch_steps(turns)
        print(f"{'objective':24} to dpo (middle half)  expected  seconds, dpo's  extra")
        rows = []
        for name in names:
            try:
                spent = beside_dpo(name, work, turns, options)
            except BurnishError as error:  # a row that this data cannot train
                skipped[name] = str(error)
                print(f"failed: {name}: {error}")
                continue
            rows.append(summarise(name, frozenset(TABLE[name].needs), *spent))
            print(line(rows[-1]), flush=True)
    steps = options.rounds * (options.steps - options.warmup)
    widest = max(rows, key=lambda r: r["middle_half"][1] - r["middle_half"][0])
    low, high = widest["middle_half"]
    print(f"{steps} steps each; widest middle half: {widest['objective']}, {low:.2f} to {high:.2f}")
    if options.out is not None:
        values = {"made": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": versions(),
                  "shape": vars(SHAPE), "groups_per_step": GROUPS_PER_STEP, "steps": steps,
                  "rows": rows, "skipped": skipped}  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
