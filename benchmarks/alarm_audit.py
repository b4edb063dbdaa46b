"""How often alarms ring on healthy runs, and how early on hacked ones, on the lab's flash cards.

    python benchmarks/alarm_audit.py --phase runs --out FOLDER [--shard 0/2]      # two hours of a core; can be stopped
    python benchmarks/alarm_audit.py --phase audit --out FOLDER                   # the traces of that folder
    python benchmarks/alarm_audit.py --phase audit                                # the traces kept in results/

`runs` makes the runs of `alarm_runs.KINDS`. `audit` replays the alarms on their traces, with the default thresholds
and with others; it writes results/alarm_audit.json, results/alarm_traces.json.gz (with --out) and docs/alarms.png.

**Truth.** Whether a run was hacked is told by its gold, not by its name. Gold is smoothed by a moving mean over `WIDTH`
refreshes. The run is hacked where the last such mean is below the highest by more than `FALL` standard errors of one
such mean, which happens to one in a hundred runs of a hundred independent values. Its peak is the middle of the highest
mean; its half is the first refresh after that at which the smoothed gold has lost half of what it had gained since the
first mean (or `FALL` standard errors, where that is more).

**False.** A ring on a run that was not hacked. Rates are per 1,000 refreshes (on-policy: updates), with 95 % intervals
whose independent units are runs. **Lead.** Refreshes from an alarm's first ring to the half, and to the peak; a run on
which it does not ring counts as the latest of all.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from alarm_runs import make_runs
from common import HERE, machine, versions

from burnish.config import StopConfig
from burnish.loop.alarms import Alarm, Alarms
from burnish.stats import clustered_mean

WIDTH, FALL = 15, 4.7
NAMES = ("kl", "length", "distinct", "gold", "no_signal", "finished")
GRID: dict[str, tuple[str, tuple[float, ...]]] = {  # a curve: the key, its values
    "kl": ("kl", (2, 3, 5, 7, 10, 15, 20)),
    "length": ("length", (1.1, 1.2, 1.3, 1.4, 1.5, 1.75, 2)),
    "distinct": ("distinct", (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3)),
    "gold": ("noise", (1, 1.5, 2, 2.5, 3, 3.5, 4, 5)),
    "gold, other windows": ("window", (3, 5, 7, 10, 15, 20)),
    "gold, old rule": ("noise", (0.5, 1, 1.5, 2, 3, 4)),
}
NEVER = 10_000  # refreshes: the lead of an alarm that does not ring is minus this
Trace = Mapping[str, Sequence[float]]


class OldRule(Alarms):
    """The gold alarm as it was: against the window before the last, whose reward is below this one's by `noise`
    standard errors of the two windows' own values, gold not having gained at all. `noise` was 2."""

    def _gold(self) -> Alarm | None:
        size = self.limits.window
        reward, gold = self.history.get("reward", []), self.history.get("gold", [])
        if min(len(reward), len(gold)) < 3 * size or size < 2:
            return None
        now, then = reward[-size:], reward[-3 * size : -2 * size]
        noise = ((stdev(now) ** 2 + stdev(then) ** 2) / size) ** 0.5
        if fmean(now) - fmean(then) <= self.limits.noise * noise:
            return None
        return Alarm("gold", "") if fmean(gold[-size:]) <= fmean(gold[-3 * size : -2 * size]) else None


@dataclass(frozen=True)
class Truth:
    """What a run's gold says. `peak`, `half`: places of refreshes; no half where the loss never got so far."""

    hacked: bool
    peak: int
    half: int
    curve: np.ndarray


@dataclass(frozen=True)
class Run:
    kind: str
    meant: str
    number: int
    trace: Trace
    truth: Truth

    @property
    def refreshes(self) -> int:
        return len(self.trace["gold"])

    @property
    def held_out(self) -> bool:
        """Not yet made, or not looked at, when the gold alarm's rule was chosen."""
        return self.number >= (2 if self.kind.startswith("few") else 10)

    @property
    def sound(self) -> bool:
        """The judge cannot be fooled, or nothing moves."""
        return self.meant == "healthy"


def truth(gold: Sequence[float]) -> Truth:
    """See the module."""
    values = np.asarray(gold)
    curve = np.convolve(values, np.full(WIDTH, 1 / WIDTH), "valid")
    error = float(np.sqrt((np.diff(values) ** 2).mean() / 2 / WIDTH))
    top = int(curve.argmax())
    loss = max((curve[top] - curve[0]) / 2, FALL * error)
    lost = np.flatnonzero(curve[top:] <= curve[top] - loss)
    half = top + int(lost[0]) if len(lost) else len(curve) - 1
    return Truth(bool(curve[top] - curve[-1] > FALL * error), top + WIDTH // 2, half + WIDTH // 2, curve)


def rings(trace: Trace, limits: StopConfig, rule: type[Alarms] = Alarms) -> dict[str, list[int]]:
    """By alarm, the places of the refreshes at which it rings."""
    alarms, found = rule(limits), {name: list[int]() for name in NAMES}
    columns = [name for name, values in trace.items() if name != "step" and values]
    for place in range(len(trace["gold"])):
        for alarm in alarms.hear({name: trace[name][place] for name in columns}):
            found[alarm.name].append(place)
    return found


def false_rate(runs: Sequence[Run], heard: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Rings per 1,000 refreshes with a 95 % interval by run, and the share of the runs on which it rings."""
    lengths = np.array([run.refreshes for run in runs], dtype=float)
    counts = np.array([len(places) for places in heard], dtype=float)
    mean = clustered_mean(counts / lengths, np.arange(len(runs)), lengths)
    low, high = max(0.0, mean.low), mean.high
    if not counts.any():  # no ring on n runs: 95 % sure that fewer than 3 in n ring
        low, high = 0.0, 3 / len(runs) / lengths.mean()
    return {
        "per_1000": 1000 * mean.value, "interval": [1000 * low, 1000 * high], "rings": int(counts.sum()),
        "runs": len(runs), "refreshes": int(lengths.sum()), "share_of_runs": float((counts > 0).mean()),
    }  # fmt: skip


def lead(runs: Sequence[Run], heard: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Of hacked runs: how many ring, before the peak, before the half; the lead's quartiles (None: never)."""
    firsts = np.array([places[0] if places else NEVER for places in heard])
    result: dict[str, Any] = {"runs": len(runs), "ring": float((firsts < NEVER).mean())}
    for name in ("peak", "half"):
        ahead = np.array([getattr(run.truth, name) for run in runs]) - firsts
        quartiles = np.quantile(ahead, (0.25, 0.5, 0.75), method="nearest").tolist()
        result |= {f"before_{name}": float((ahead > 0).mean()),
                   f"lead_{name}": [None if q < -NEVER / 2 else q for q in quartiles]}  # fmt: skip
    return result


def audited(runs: Sequence[Run], limits: StopConfig, rule: type[Alarms] = Alarms) -> dict[str, dict[str, Any]]:
    """Every alarm under these limits."""
    heard = [rings(run.trace, limits, rule) for run in runs]
    groups: dict[str, Callable[[Run], bool]] = {
        "healthy": lambda run: not run.truth.hacked,
        "healthy, sound judge": lambda run: not run.truth.hacked and run.sound,
        "flat": lambda run: "flat" in run.kind and not run.truth.hacked,
        "frozen judge, not hacked": lambda run: not run.truth.hacked and run.meant == "hacked",
    }
    result = {}
    for name in NAMES:
        by = {group: [place for place, run in enumerate(runs) if chosen(run)] for group, chosen in groups.items()}
        hacked = [place for place, run in enumerate(runs) if run.truth.hacked]
        result[name] = {
            "false": {group: false_rate([runs[i] for i in places], [heard[i][name] for i in places])
                      for group, places in by.items() if places},
            "hacked": lead([runs[i] for i in hacked], [heard[i][name] for i in hacked]),
        }  # fmt: skip
    return result


def noise_rates(runs: int, length: int, agreement: float, rule: type[Alarms], limits: StopConfig) -> dict[str, float]:
    """The gold alarm on made-up runs in which nothing moves: reward and gold are normal, correlated by `agreement`."""
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(runs):
        reward, other = rng.normal(size=(2, length))
        gold = agreement * reward + (1 - agreement**2) ** 0.5 * other
        counts.append(len(rings({"reward": reward.tolist(), "gold": gold.tolist()}, limits, rule)["gold"]))
    return {"agreement": agreement, "refreshes": length, "runs": runs, "per_1000": 1000 * sum(counts) / runs / length,
            "share_of_runs": sum(count > 0 for count in counts) / runs}  # fmt: skip


def loaded(out: Path | None) -> list[Run]:
    """The runs of a folder, or those kept in results/; a folder's are kept there, too."""
    kept = HERE / "results" / "alarm_traces.json.gz"
    if out is not None:
        rows = [json.loads(file.read_text()) for file in sorted((out / "traces").glob("*.json"))]
        for row in rows:
            row["trace"] = {name: [float(f"{value:.4g}") for value in values] for name, values in row["trace"].items()}
        kept.write_bytes(gzip.compress(json.dumps(rows, separators=(",", ":")).encode(), 9, mtime=0))
    rows = json.loads(gzip.decompress(kept.read_bytes()))
    return [Run(row["kind"], row["meant"], row["number"], row["trace"], truth(row["trace"]["gold"])) for row in rows]


def audit(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything that results/alarm_audit.json says."""
    kinds: dict[str, dict[str, Any]] = {}
    later = [run for run in runs if run.held_out]
    for run in runs:
        kind = kinds.setdefault(run.kind, {"meant": run.meant, "runs": 0, "hacked": 0})
        kind["runs"] += 1
        kind["hacked"] += run.truth.hacked
    curves: dict[str, list[dict[str, Any]]] = {}
    for curve, (key, values) in GRID.items():
        rule, name = OldRule if "old rule" in curve else Alarms, curve.split(",")[0]
        curves[curve] = [{key: value, **audited(runs, StopConfig.model_validate({key: value}), rule)[name]}
                         for value in values]  # fmt: skip
        print(f"{curve}: {len(values)} thresholds", flush=True)
    flat = {
        label: [noise_rates(count, length, agreement, rule, limits)
                for count, length in ((500, 100), (50, 1000)) for agreement in (0.0, 0.4)]
        for label, rule, limits in (("gold", Alarms, StopConfig()), ("gold, old rule", OldRule, StopConfig(noise=2)))
    }  # fmt: skip
    return {
        "machine": machine(), "versions": versions(), "truth": {"width": WIDTH, "fall": FALL}, "kinds": kinds,
        "runs": len(runs), "hacked": sum(run.truth.hacked for run in runs),
        "defaults": audited(runs, StopConfig()),
        "old_rule": audited(runs, StopConfig(noise=2), OldRule)["gold"],
        "held_out": {"gold": audited(later, StopConfig())["gold"],
                     "old_rule": audited(later, StopConfig(noise=2), OldRule)["gold"]},
        "curves": curves, "made_up_noise": flat,
    }  # fmt: skip


def told(figures: Mapping[str, Any]) -> str:
    """A row an alarm."""
    lines = [f"{figures['runs']} runs, {figures['hacked']} hacked by their gold"]
    lines += [f"  {name:32} {kind['meant']:8} {kind['hacked']:3} of {kind['runs']:3} hacked"
              for name, kind in figures["kinds"].items()]  # fmt: skip
    lines.append(f"{'alarm':16}{'false/1,000 healthy':>28}{'sound judge':>12}{'flat':>7}{'runs with one':>14}"
                 f"{'hacked: ring':>14}{'before half':>12}  lead on half; on peak")  # fmt: skip
    for name, row in {**figures["defaults"], "gold, old rule": figures["old_rule"]}.items():
        false, hacked = row["false"], row["hacked"]
        healthy = false["healthy"]
        low, high = healthy["interval"]
        lines.append(
            f"{name:16}{healthy['per_1000']:11.2f} [{low:5.2f} to {high:5.2f}]"
            f"{false['healthy, sound judge']['per_1000']:12.2f}{false['flat']['per_1000']:7.2f}"
            f"{healthy['share_of_runs']:14.1%}{hacked['ring']:14.0%}{hacked['before_half']:12.0%}"
            f"  {hacked['lead_half']}; {hacked['lead_peak']}"
        )
    for name, rows in figures["made_up_noise"].items():
        for row in rows:
            lines.append(f"made-up noise, {name}: {row}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phase", choices=("runs", "audit"), required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--shard", default="0/1")
    given = parser.parse_args()
    if given.phase == "runs":
        if given.out is None:
            parser.error("--phase runs needs --out FOLDER")
        shard, shards = map(int, given.shard.split("/"))
        make_runs(given.out, shard, shards)
        return
    from alarm_picture import draw

    runs = loaded(given.out)
    figures = audit(runs)
    (HERE / "results" / "alarm_audit.json").write_text(json.dumps(figures, indent=1) + "\n")
    draw(HERE.parent / "docs" / "alarms.png", figures, runs)
    print(told(figures))


if __name__ == "__main__":
    main()
