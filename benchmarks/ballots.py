"""Simulated ballots: does the interval hold while one looks after every vote, and how many votes does a decision take?

    python benchmarks/ballots.py [--ballots 10000] --out results/ballots.json [--picture ../docs/how_many_votes.png]

A ballot has one vote a prompt. Looked at after each: burnish's confidence sequence (`stats.sequential`), and beside it
what people do without one, a fixed 95 % interval (mean +- 1.96 standard errors, from the twentieth vote on) that is
looked at until it excludes one half. The fixed test looks once, at the number of votes that its power asks for.

The truth that an interval is to hold is the mean of the votes' chances so far, which moves where raters drift. The
sequence holds it after t votes exactly where the wealth there is below 1/0.05 (`stats.anytime.log_wealth`). That wealth
depends on how many votes were wins and ties and not on their order, so it is computed once for each such count that
occurs; at one half a tie costs nothing, and the wealth there depends on wins and losses alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, versions
from numpy.typing import NDArray

from burnish.stats.anytime import _PRIOR, _STAKES, LEVEL, log_wealth, sequential  # as the library bets
from burnish.stats.predicted import asking_order, chances, predicted_win_rate, unsure_first

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
FIRST = 20  # votes before a fixed interval is looked at
LONGEST = 3000  # votes of a ballot
Z, POWERS = 1.959964, {0.8: 0.841621, 0.9: 1.281552}
RATES = (0.5, 0.52, 0.55, 0.6, 0.65, 0.7, 0.8)


@dataclass(frozen=True)
class Ballots:
    """A kind of ballot: each vote is a tie with chance `ties`, else a win with chance `rate(t)`, t from 0 to 1."""

    name: str
    rate: Callable[[float], float]
    ties: float = 0.0
    votes: int = 1000

    def mean(self, place: int) -> float:
        """The mean outcome of the vote at this place."""
        return self.ties / 2 + (1 - self.ties) * self.rate(place / self.votes)


def steady(rate: float) -> Callable[[float], float]:
    return lambda _: rate


KINDS = (
    Ballots("alike", steady(0.5)),
    Ballots("alike, 30 % ties", steady(0.5), 0.3),
    Ballots("60 %", steady(0.6)),
    Ballots("60 %, 30 % ties", steady(0.6), 0.3),
    Ballots("95 %", steady(0.95)),
    Ballots("drifts from 70 % to 30 %", lambda t: 0.7 - 0.4 * t),
    Ballots("drifts from 30 % to 70 %, 30 % ties", lambda t: 0.3 + 0.4 * t, 0.3),
    Ballots("turns from 90 % to 20 % at a third", lambda t: 0.9 if t < 1 / 3 else 0.2),
)


@dataclass
class Seen:
    """What was seen of many ballots: whether an interval ever lost the truth, and after how many votes each decided
    that the rate is not one half (0: never) and on which side."""

    lost: NDArray[np.bool_]
    lost_fixed: NDArray[np.bool_]
    stop: NDArray[np.int64]
    above: NDArray[np.bool_]
    stop_fixed: NDArray[np.int64]
    above_fixed: NDArray[np.bool_]


def watched(kind: Ballots, count: int, seed: int, *, holds: bool = True) -> Seen:
    """So many ballots of a kind, looked at after every vote; without `holds` only their decisions."""
    rng = np.random.default_rng(seed)
    needed = _needed(kind.votes)
    wins, ties, truth = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64), 0.0
    lost, lost_fixed, above, above_fixed = (np.zeros(count, dtype=bool) for _ in range(4))
    stop, stop_fixed = (np.zeros(count, dtype=np.int64) for _ in range(2))
    for place in range(kind.votes):
        won = rng.random(count) < kind.rate(place / kind.votes)
        tied = rng.random(count) < kind.ties
        wins += won & ~tied
        ties += tied
        votes = place + 1
        truth += (kind.mean(place) - truth) / votes
        mean = (wins + ties / 2) / votes
        if holds:
            lost |= _outside(wins, ties, votes, truth)
        decided = votes - ties
        _note(np.maximum(wins, decided - wins) >= needed[decided], stop, above, votes, mean)
        if votes >= FIRST:
            half = Z * np.sqrt(np.maximum((wins + ties / 4) / votes - mean**2, 0) / (votes - 1))
            lost_fixed |= np.abs(mean - truth) > half
            _note(np.abs(mean - 0.5) > half, stop_fixed, above_fixed, votes, mean)
    return Seen(lost, lost_fixed, stop, above, stop_fixed, above_fixed)


def _outside(wins: Counts, ties: Counts, votes: int, mean: float) -> NDArray[np.bool_]:
    """Whether the sequence of ballots with so many wins and ties excludes this mean."""
    cells, places = np.unique(wins * (votes + 1) + ties, return_inverse=True)
    wealth = _PRIOR + np.outer(cells // (votes + 1), np.log1p(_STAKES)) + np.outer(
        cells % (votes + 1), np.log1p(_STAKES / 2)
    )  # fmt: skip
    out: NDArray[np.bool_] = (log_wealth(wealth, votes, mean) >= -math.log(LEVEL))[places]
    return out


@cache
def _needed(votes: int) -> Counts:
    """How many of n votes without ties the better side must win until one half is excluded, for n = 0 ... votes."""
    needed = np.full(votes + 1, votes + 1, dtype=np.int64)
    for n in range(1, votes + 1):
        low, high = n // 2, n + 1  # no and yes
        while high - low > 1:
            middle = (low + high) // 2
            wealth = _PRIOR + middle * np.log1p(_STAKES)
            low, high = (low, middle) if float(log_wealth(wealth, n, 0.5)) >= -math.log(LEVEL) else (middle, high)
        needed[n] = high
    return needed


def _note(out: NDArray[np.bool_], stop: NDArray[np.int64], above: NDArray[np.bool_], votes: int, mean: Floats) -> None:
    new = out & (stop == 0)
    stop[new] = votes
    above[new] = mean[new] > 0.5


def coverage(count: int) -> list[dict[str, Any]]:
    """How often an interval held the truth at every one of a thousand looks."""
    rows = []
    for number, kind in enumerate(KINDS):
        seen = watched(kind, count, number)
        rows.append(
            {"ballots": kind.name, "looks": kind.votes, "sequence holds": float(1 - seen.lost.mean()),
             "fixed interval holds": float(1 - seen.lost_fixed.mean())}
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def decisions(count: int) -> list[dict[str, Any]]:
    """After how many votes it is decided which of two models is better, at several rates, without and with ties."""
    rows = []
    for ties in (0.0, 0.2):
        for number, rate in enumerate(RATES):
            kind = Ballots(f"{rate:.0%}", steady(rate), ties, LONGEST)
            seen = watched(kind, count, 100 + number, holds=False)
            row: dict[str, Any] = {"rate": kind.mean(0), "ties": ties, "at most": LONGEST}
            for name, stop, above in (
                ("sequence", seen.stop, seen.above), ("peeking", seen.stop_fixed, seen.above_fixed)
            ):  # fmt: skip
                stops = np.where(stop == 0, LONGEST, stop)
                row[name] = {
                    "median": float(np.median(stops)), "mean": float(stops.mean()),
                    "10 %": float(np.quantile(stops, 0.1)), "80 %": float(np.quantile(stops, 0.8)),
                    "90 %": float(np.quantile(stops, 0.9)),
                    "decided": float((stop > 0).mean()), "for the worse": float(((stop > 0) & ~above).mean()),
                }  # fmt: skip
            if rate == 0.5:
                looks = [20, 50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000]
                row["decided by"] = {
                    "votes": looks,
                    **{name: [float(((stop > 0) & (stop <= n)).mean()) for n in looks]
                       for name, stop in (("sequence", seen.stop), ("peeking", seen.stop_fixed))},
                }  # fmt: skip
            else:
                row["one look"] = {f"power {power}": one_look(kind, z, count) for power, z in POWERS.items()}
            rows.append(row)
            print({name: value for name, value in row.items() if name != "decided by"}, flush=True)
    return rows


def one_look(kind: Ballots, z: float, count: int) -> dict[str, float]:
    """The votes that a test at 5 % with one look needs, and how often it then decides rightly (simulated)."""
    mean = kind.mean(0)
    spread = math.sqrt(mean * (1 - mean) - kind.ties / 4)
    votes = math.ceil(((Z * math.sqrt((1 - kind.ties) / 4) + z * spread) / (mean - 0.5)) ** 2)
    rng = np.random.default_rng(votes)
    shares = [kind.ties, (1 - kind.ties) * kind.rate(0), (1 - kind.ties) * (1 - kind.rate(0))]
    tied, won, _ = rng.multinomial(votes, shares, count).T
    score = (won + tied / 2 - votes / 2) / np.sqrt(np.maximum(votes - tied, 1) / 4)
    return {"votes": votes, "decided rightly": float((score > Z).mean())}


def with_a_judge(worlds: int) -> list[dict[str, Any]]:
    """Coverage of the win rate that people and a judge give together, and how many votes its votes are worth."""
    rows = []
    for prompts, votes in ((200, 50), (800, 50), (800, 200)):
        for agreement in (0.6, 0.75, 0.9):
            for spend in ("evenly", "unsure"):
                rows.append(judged(prompts, votes, agreement, spend == "unsure", worlds))
                print(rows[-1], flush=True)
    return rows


def judged(prompts: int, votes: int, agreement: float, unsure: bool, worlds: int) -> dict[str, Any]:
    """A judge of two orders: it agrees with people where it is sure more often than where its orders contradict.

    `worth` is how many evenly drawn votes alone would have its mean squared error; `told` is what the library says.
    """
    rng = np.random.default_rng(prompts + votes + round(100 * agreement) + unsure)
    rate, held, worth, errors, spent = 0.6, 0, [], [], "unsure first" if unsure else "evenly"
    for _ in range(worlds):
        people = (rng.random(prompts) < rate).astype(np.float64)
        easy = rng.beta(4, 4, prompts) * 2 * (agreement - 0.5) + 0.5  # chance that one order agrees
        orders = [np.where(rng.random(prompts) < easy, people, 1 - people) for _ in range(2)]
        verdicts = (orders[0] + orders[1]) / 2
        weights = unsure_first(verdicts) if unsure else np.ones(prompts)
        seen = np.full(prompts, math.nan)
        asked = asking_order(weights, rng)[:votes]
        seen[asked] = people[asked]
        both = predicted_win_rate(verdicts, seen, chances(weights, votes))
        held += both.low <= rate <= both.high
        worth.append(both.worth)
        errors.append((both.value - rate) ** 2)
    return {
        "prompts": prompts, "votes": votes, "an order agrees": agreement, "spent": spent,
        "holds": held / worlds, "worth": rate * (1 - rate) / float(np.mean(errors)), "told": float(np.median(worth)),
    }  # fmt: skip


def check() -> None:
    """The wealth that is followed here is the library's: its interval ends where the wealth is 1/0.05."""
    outcomes = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 200)
    wealth = _PRIOR + np.log1p(np.outer(outcomes, _STAKES)).sum(0)
    found = sequential(outcomes)
    for end in (found.low, found.high):
        assert abs(float(log_wealth(wealth, 200, end)) + math.log(LEVEL)) < 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ballots", type=int, default=10_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, help="draw the figures, too")
    options = parser.parse_args()
    check()
    began = time.perf_counter()
    found = {
        "machine": machine(), "versions": versions(), "ballots": options.ballots, "coverage": coverage(options.ballots),
        "decisions": decisions(options.ballots), "with a judge": with_a_judge(options.ballots),
    }  # fmt: skip
    found["seconds"] = round(time.perf_counter() - began)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.picture:
        from ballots_picture import draw

        draw(found, options.picture)


if __name__ == "__main__":
    main()
