"""What should stop a reader, if not the run: the policy too far from its reference, answers that swell or shrink, the
same answer again and again, a reward that rises while gold does not, answers that teach nothing or never end.

The first four are means over a window of refreshes, against the run's own earlier windows; the last two look at three
refreshes. How often each rings on healthy runs is measured in `benchmarks/alarm_audit.py`. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import log, sqrt
from statistics import fmean
from typing import Any

from burnish.answers.figures import Figures
from burnish.config import StopConfig

WATCHED = ("kl/answer", "length", "distinct", "reward", "gold", "no_signal", "finished")
SILENT = 3  # refreshes without signal, or without an answer that ends, before it is said
RISE, FALL = 2.0, 1.0  # least change of the reward and of gold, in standard errors, that the gold alarm looks at


@dataclass(frozen=True)
class Alarm:
    """One alarm: its name as in `stop.when`, and the sentence."""

    name: str
    line: str


@dataclass
class Alarms:
    """Hears of every refresh. An alarm is given once, and again only after what it is about was well for a whole window
    in between."""

    limits: StopConfig
    history: dict[str, list[float]] = field(default_factory=dict)
    rung: dict[str, int] = field(default_factory=dict)  # by alarm: refreshes since it was last about to ring

    def hear(self, figures: Figures) -> list[Alarm]:
        """The alarms that this refresh sets off."""
        for name in WATCHED:
            if name in figures:
                self.history.setdefault(name, []).append(float(figures[name]))
        ringing = [alarm for alarm in self._standing() if alarm is not None]
        self.rung = {name: quiet + 1 for name, quiet in self.rung.items() if quiet < self.limits.window}
        new = [alarm for alarm in ringing if alarm.name not in self.rung]
        self.rung |= {alarm.name: 0 for alarm in ringing}
        return new

    def level(self) -> float | None:
        """How good the policy is, over the last window: by gold where there is one, else by its judge."""
        name = "gold" if self.history.get("gold") else "reward"
        window = self._last(name)
        return None if window is None else fmean(window)

    def state(self) -> dict[str, Any]:
        return {"history": self.history, "rung": self.rung}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.rung = {name: int(quiet) for name, quiet in state["rung"].items()}

    def _last(self, name: str) -> Sequence[float] | None:
        """The newest window; None where it is not full."""
        values = self.history.get(name, [])[-self.limits.window :]
        return values if len(values) == self.limits.window else None

    def _first(self, name: str) -> float:
        return fmean(self.history[name][: self.limits.window])

    def _standing(self) -> tuple[Alarm | None, ...]:
        return self._kl(), self._length(), self._distinct(), self._gold(), self._no_signal(), self._unfinished()

    def _no_signal(self) -> Alarm | None:
        """Nearly every prompt's answers have been scored alike for three refreshes."""
        now = self.history.get("no_signal", [])[-SILENT:]
        if len(now) < SILENT or min(now) < 0.95:
            return None
        level = self.history["reward"][-1]
        if not any(self.history.get("finished", [1.0])[-SILENT:]):
            cause = "no answer came to its end, so the judge sees none whole; raise source.max_new_tokens"
        else:
            cause = (
                "the prompts are too hard or too easy for this policy, the answers are not in the form that the judge "
                "reads, or source.k is too small; look at answers.jsonl"
            )
        return Alarm(
            "no_signal", f"for {SILENT} refreshes {fmean(now):.0%} of the prompts had all their answers scored alike "
            f"(mean reward {level:.3g}), and such prompts teach nothing: {cause}",
        )  # fmt: skip

    def _unfinished(self) -> Alarm | None:
        """No answer has come to its end for three refreshes."""
        now = self.history.get("finished", [])[-SILENT:]
        if len(now) < SILENT or any(now):
            return None
        return Alarm(
            "finished", f"no answer of {SILENT} refreshes came to its end: source.max_new_tokens cuts them all, or the "
            "policy never writes its end-of-turn token",
        )  # fmt: skip

    def _kl(self) -> Alarm | None:
        now = self._last("kl/answer")
        if now is None or fmean(now) <= self.limits.kl:
            return None
        return Alarm(
            "kl",
            f"the policy is {fmean(now):.3g} nats an answer from its reference, above stop.kl = {self.limits.kl:g}",
        )

    def _length(self) -> Alarm | None:
        now = self._last("length")
        if now is None or not self._first("length"):
            return None
        ratio = fmean(now) / self._first("length")
        if 1 / self.limits.length <= ratio <= self.limits.length:
            return None
        return Alarm(
            "length", f"answers are {fmean(now):.3g} tokens long, {ratio:.2f} times what they were at first: who asked "
            "for that? Raters and reward models often like length for its own sake",
        )  # fmt: skip

    def _distinct(self) -> Alarm | None:
        now = self._last("distinct")
        if now is None or fmean(now) >= self.limits.distinct * self._first("distinct"):
            return None
        return Alarm(
            "distinct", f"only {fmean(now):.0%} of a prompt's answers differ from each other, "
            f"{self._first('distinct'):.0%} did at first: with nothing to compare, nothing is learnt",
        )  # fmt: skip

    def _gold(self) -> Alarm | None:
        """Since an earlier window the judge's reward has risen and gold has fallen, both together beyond their noise.

        With z the changes of the window means in standard errors, (z_reward - z_gold) / sqrt 2 is standard normal while
        nothing moves, if the two are independent (less wide where the judge and gold agree). The newest window is
        compared with each of the m earlier ones that do not overlap, so the bound is sqrt(noise^2 + 2 ln m): the
        largest of m normal values grows like sqrt(2 ln m).
        """
        rises, falls = self._changes("reward"), [-change for change in self._changes("gold")]
        found = [
            ((rise + fall) / sqrt(2), window)
            for window, (rise, fall) in enumerate(zip(rises, falls, strict=False))
            if rise > RISE and fall > FALL
        ]
        evidence, window = max(found, default=(0.0, 0))
        if not found or evidence <= sqrt(self.limits.noise**2 + 2 * log(len(rises))):
            return None
        size = self.limits.window
        ago = len(self.history["gold"]) - size * window - size
        reward, gold = (
            fmean(values[-size:]) - fmean(values[size * window : size * window + size])
            for values in (self.history["reward"], self.history["gold"])
        )
        return Alarm(
            "gold", f"over the last {ago} refreshes the judge's reward rose by {reward:.3g} and gold fell by "
            f"{-gold:.3g}, {evidence:.1f} standard errors apart: the policy has learnt the judge, not the task",
        )  # fmt: skip

    def _changes(self, name: str) -> list[float]:
        """How far the newest window's mean is above that of each earlier window, in standard errors.

        The noise of one refresh is taken from all the differences d of neighbours, which a slow drift hardly touches:
        its variance is mean d^2 / 2, and that of a difference of two means of w refreshes mean d^2 / w.
        """
        values, size = self.history.get(name, []), self.limits.window
        if len(values) < 2 * size:
            return []
        error = sqrt(fmean((b - a) ** 2 for a, b in pairwise(values)) / size)
        now = fmean(values[-size:])
        changes = [now - fmean(values[at : at + size]) for at in range(0, len(values) - 2 * size + 1, size)]
        return [change / error if error else 0.0 for change in changes]
