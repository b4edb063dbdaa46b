"""From measured rounds to rows, ratios, bars and a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from common import Job

TOLERANCE = {"bfloat16": 1e-3, "float32": 1e-5}
SPEED_BARS = {("S1", "bfloat16", False): 3.2, ("S1", "float32", False): 2.4, ("S2", "bfloat16", False): 6.0}
LORA_BAR, DEFAULTS_BAR, MEMORY_BAR = 2.9, 12.0, 0.42


@dataclass
class Row:
    """One configuration and all its measurements."""

    job: Job
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def error(self) -> str | None:
        found = [r["error"] for r in self.rounds if "error" in r]
        return found[0] if found else None

    @property
    def rate(self) -> float:
        """Median pairs per second; 0 where any round failed."""
        return 0.0 if self.error or not self.rounds else median(r["pairs_per_second"] for r in self.rounds)

    @property
    def peak(self) -> float:
        return 0.0 if self.error or not self.rounds else median(r["peak_mb"] for r in self.rounds)

    @property
    def losses(self) -> list[float]:
        return [] if self.error or not self.rounds else list(self.rounds[0]["losses"])

    def record(self) -> dict[str, Any]:
        job = asdict(self.job)
        return {
            **job,
            "pairs_per_second": self.rate,
            "peak_mb": self.peak,
            "losses": self.losses,
            "rounds": [{k: v for k, v in r.items() if k != "losses"} for r in self.rounds],
        }


def gap(left: Sequence[float], right: Sequence[float]) -> float:
    """Largest difference of two runs' losses, step by step; nan where one is missing."""
    if not left or len(left) != len(right):
        return float("nan")
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


def compare(rows: Mapping[str, Row], best: str, *, shape: str, dtype: str, lora: bool) -> list[dict[str, Any]]:
    """The bars: what was asked, what was measured, whether it holds (None where nothing was asked)."""
    ours, theirs = rows["burnish"], rows[best]
    bars: list[dict[str, Any]] = []

    def add(what: str, value: float, bar: float | None, *, at_most: bool = False) -> None:
        holds = None if bar is None else bool(value <= bar if at_most else value >= bar)
        bars.append({"what": what, "value": value, "bar": bar, "at_most": at_most, "holds": holds})

    speed = LORA_BAR if lora else SPEED_BARS.get((shape, dtype, lora))
    add("pairs/s against TRL's best", _ratio(ours.rate, theirs.rate), speed)
    add("the same with TRL's best allocator and matmul settings", _ratio(rows["burnish_tuned"].rate, theirs.rate), None)
    add("peak memory against TRL's best", _ratio(ours.peak, theirs.peak), MEMORY_BAR, at_most=True)
    add("largest loss difference, step by step", gap(ours.losses, theirs.losses), TOLERANCE[dtype], at_most=True)
    if "trl_defaults" in rows:
        defaults, mixed = rows["trl_defaults"], rows["burnish_mixed"]
        bar = DEFAULTS_BAR if shape == "S1" and not lora else None
        add("pairs/s against TRL's defaults, random batches", _ratio(mixed.rate, defaults.rate), bar)
        add("largest loss difference there", gap(mixed.losses, defaults.losses), TOLERANCE[dtype], at_most=True)
    if "burnish_float32" in rows:
        exact = rows["burnish_float32"].losses
        add("loss error of burnish against its own float32", gap(ours.losses, exact), None)
        add("loss error of TRL against the same", gap(theirs.losses, exact), None)
    return bars


def _ratio(upper: float, lower: float) -> float:
    return upper / lower if lower else float("nan")


def table(rows: Mapping[str, Row], base: Row, roof_gflops: float, gflop_per_pair: float) -> str:
    """One line a row, against `base`. `of roof`: needed operations a second over the measured matrix-product rate."""
    head = f"{'':62}{'pairs/s':>9}{'x':>7}{'peak MB':>9}{'x':>7}{'of roof':>9}{'rounds':>8}"
    lines = [head, "-" * len(head)]
    for name, row in rows.items():
        if row.error:
            lines.append(f"{name:62}{row.error[:70]}")
            continue
        fraction = " " * 9
        if row.job.dtype == base.job.dtype:
            fraction = f"{row.rate * gflop_per_pair / roof_gflops:9.1%}"
        speed = f"{row.rate:9.2f}{_ratio(row.rate, base.rate):7.2f}"
        memory = f"{row.peak:9.0f}{_ratio(row.peak, base.peak):7.2f}"
        mark = "  <- base" if row.job == base.job else ""
        lines.append(f"{name:62}{speed}{memory}{fraction}{len(row.rounds):8d}{mark}")
    return "\n".join(lines)


def bar_lines(bars: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for bar in bars:
        verdict = ""
        if bar["bar"] is not None:
            side = "at most" if bar["at_most"] else "at least"
            verdict = f"  ({side} {bar['bar']:g}: {'holds' if bar['holds'] else 'MISSED'})"
        lines.append(f"  {bar['what']:58}{bar['value']:12.5g}{verdict}")
    return "\n".join(lines)


def reuse_lines(runs: Sequence[Mapping[str, Any]]) -> str:
    """One line a run, the trainers side by side."""
    by_run: dict[str, list[str]] = {}
    for run in runs:
        by_run.setdefault(run["run"], []).append(f"{run['trainer']} {run['error'] or run['pairs']}")
    return "\n".join(f"  {label:58}{'   '.join(figures)}" for label, figures in by_run.items())


def spread(rows: Mapping[str, Row]) -> float:
    """Largest relative spread of any row's rounds; a warning that the machine was not quiet."""
    worst = 0.0
    for row in rows.values():
        rates = [r["pairs_per_second"] for r in row.rounds if "error" not in r]
        if len(rates) > 1:
            worst = max(worst, (max(rates) - min(rates)) / median(rates))
    return worst
