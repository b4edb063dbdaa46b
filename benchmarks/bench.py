"""What is measured, in which order: the search for TRL's best, rounds, ablation, reuse of the reference."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common import KEEP_MEMORY, PAIRS_PER_STEP, WARMUP_STEPS, Job, run_job
from report import Row

Choices = dict[str, Any]

SEARCH: tuple[tuple[str, Choices], ...] = (
    ("allocator keeps memory", {"keep_memory": True}),
    ("medium matmul", {"matmul": "medium"}),
    ("eager attention", {"attention": "eager"}),
    ("micro-batch 4", {"micro_batch": 4}),
    ("micro-batch 2", {"micro_batch": 2}),
)
ABLATION = (
    ("padded rows, full logits, autocast", "autocast", "stored"),
    ("padded rows, full logits", "padded_logits", "stored"),
    ("+ head on completion rows only", "padded_head", "stored"),
    ("+ packed without padding", "packed", "stored"),
    ("+ shared prompt", "shared_head", "stored"),
    ("+ fused head", "fused", "stored"),
    ("  aside: fused head, live reference", "fused", "live"),
    ("  aside: shared prompt, full logits", "shared_logits", "stored"),
)


@dataclass
class Bench:
    """One comparison: its shape and precision, its work folder, its core, and the rows measured so far."""

    work: Path
    shape: str
    dtype: str
    lora: bool
    rounds: int
    core: int
    rows: dict[str, Row] = field(default_factory=dict)

    def run(self, job: Job) -> dict[str, Any]:
        return run_job(job, self.work, self.shape, self.core)

    def measure(self, job: Job) -> Row:
        """Run a job once and add the answer to its row. The caches of `datasets` are fresh each time: a later round
        would otherwise find TRL's reference computed, and its memory would not show."""
        with tempfile.TemporaryDirectory(dir=self.work, prefix="cache_") as fresh:
            environment = {**(job.environment or {}), "HF_DATASETS_CACHE": fresh}
            answer = self.run(replace(job, environment=environment))
        row = self.rows.setdefault(job.name, Row(job))
        row.rounds.append(answer)
        shown = answer.get("error") or f"{answer['pairs_per_second']:.2f} pairs/s, {answer['peak_mb']:.0f} MB"
        print(f"  {job.name:60} {shown}", file=sys.stderr, flush=True)
        return row

    def measure_in_rounds(self, jobs: Iterable[Job]) -> None:
        """Every job once per round, so that drift of the machine meets all alike."""
        jobs = list(jobs)
        for number in range(self.rounds):
            print(f"round {number + 1} of {self.rounds}", file=sys.stderr, flush=True)
            for job in jobs:
                self.measure(job)

    def trl(self, name: str, choices: Choices) -> Job:
        """A tuned TRL configuration; `choices` may hold keep_memory, matmul, attention, micro_batch."""
        options = {key: value for key, value in choices.items() if key != "keep_memory"}
        options |= {"checkpointing": False, "precompute": True, "lora": self.lora}
        return Job(name, "trl", self.dtype, "grouped", options, KEEP_MEMORY if choices.get("keep_memory") else {})

    def burnish(self, name: str, arrangement: str = "grouped", *, dtype: str = "", **options: Any) -> Job:
        options["lora"] = self.lora
        return Job(name, "burnish", dtype or self.dtype, arrangement, options)


def prepare(bench: Bench, data: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Tokenizer, model and pairs into the work folder. Returns facts about them, and the timed pairs."""
    facts = bench.run(Job("prepare", "prepare", options={"data": str(data.resolve())}))
    if "error" in facts:
        raise SystemExit(f"the pairs could not be prepared: {facts['error']}")
    with (bench.work / "grouped.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return facts, rows[WARMUP_STEPS * PAIRS_PER_STEP :]


def search_trl(bench: Bench) -> tuple[list[tuple[str, Choices]], dict[str, Row]]:
    """TRL configurations, fastest first, and their rows. Greedy: each setting is tried on top of the best so far.

    Reference precomputed, no gradient checkpointing, batches grouped by length throughout.
    """
    tried: list[tuple[float, str, Choices]] = []

    def attempt(name: str, choices: Choices) -> None:
        tried.append((bench.measure(bench.trl(name, choices)).rate, name, choices))

    print("searching for TRL's best configuration", file=sys.stderr, flush=True)
    attempt("trl: precomputed, grouped, batch 8", {})
    for label, change in SEARCH:
        _, name, choices = max(tried, key=lambda entry: entry[0])
        attempt(f"{name.split(', micro-batch')[0]}, {label}", {**choices, **change})
    tried.sort(key=lambda entry: -entry[0])
    found = {name: bench.rows.pop(name) for _, name, _ in tried}
    if tried[0][0] == 0.0:
        raise SystemExit(f"no TRL configuration ran: {next(iter(found.values())).error}")
    return [(name, choices) for _, name, choices in tried], found


def compared(bench: Bench, ranked: list[tuple[str, Choices]]) -> list[Job]:
    """What runs in rounds: TRL's two fastest, its defaults, burnish as it comes and under TRL's best settings."""
    winner = ranked[0][1]
    tuned = bench.burnish("burnish_tuned", matmul=winner.get("matmul", "highest"))
    tuned = replace(tuned, environment=KEEP_MEMORY if winner.get("keep_memory") else {})
    jobs = [bench.trl(name, choices) for name, choices in ranked[:2]] + [bench.burnish("burnish"), tuned]
    if bench.dtype == "bfloat16":
        jobs.append(Job("trl_defaults", "trl", "bfloat16", "mixed", {"lora": bench.lora}))
        jobs.append(bench.burnish("burnish_mixed", "mixed"))
    return jobs


def ablation(bench: Bench) -> tuple[dict[str, Row], dict[str, float]]:
    """Each idea on its own in interleaved rounds, ending with burnish itself; and where burnish's time goes."""
    jobs = [
        Job(name, "ablation", bench.dtype, "grouped", {"variant": variant, "reference": reference})
        for name, variant, reference in ABLATION
        if bench.dtype == "bfloat16" or variant != "autocast"
    ]
    jobs.append(bench.burnish("burnish train, whole"))
    bench.measure_in_rounds(jobs)
    profiled = bench.run(bench.burnish("profile", profile=True))
    return {job.name: bench.rows.pop(job.name) for job in jobs}, profiled.get("where_time_goes", {})


def reuse(bench: Bench, best: Choices) -> list[dict[str, Any]]:
    """What a sweep pays for the reference: pairs sent through it by one-step runs in a row, each with one change.

    Both trainers keep what they keep between runs: burnish its store, TRL the caches of `datasets`. (TRL's key holds a
    function that closes over the whole configuration when `max_length` is set, which is its default; so any changed
    setting, beta included, makes a new key.)
    """
    changes: tuple[tuple[str, float, str], ...] = (
        ("first run", 0.1, "grouped"),
        ("the same again", 0.1, "grouped"),
        ("another beta", 0.3, "grouped"),
        ("the same pairs in another order", 0.1, "mixed"),
    )
    found = []
    for label, beta, arrangement in changes:
        for side in ("burnish", "trl"):
            job = bench.burnish("reuse", store="sweep") if side == "burnish" else bench.trl("reuse", best)
            options = {**(job.options or {}), "steps": 1, "beta": beta}
            answer = bench.run(replace(job, options=options, arrangement=arrangement))
            figures = {"pairs": answer.get("reference_pairs"), "error": answer.get("error")}
            found.append({"run": label, "trainer": side, **figures})
    return found
