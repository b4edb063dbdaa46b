"""The judges of a run, made from its tables, and a panel of several: weights, gates, each score logged apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.answers.judges import Judge, Reports, Stateful, human, llm, verifier
from burnish.answers.judges.sandbox import isolation as isolation  # for whoever tells it
from burnish.config import JudgeConfig
from burnish.errors import ConfigError
from burnish.group import Feedback, Group, Preferences, Scores, Unjudged


@dataclass(frozen=True)
class Panel:
    """Several judges, asked in order. The score is the sum of weight x score; an answer below a judge's gate gets
    nothing from the judges after it (format first, then correctness)."""

    judges: tuple[Judge, ...]
    weights: tuple[float, ...]
    gates: tuple[float | None, ...]
    name: str = "judges"

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """Scores, each judge's in `parts`; a group that any of the judges could not judge is Unjudged."""
        by_judge = [judge(groups) for judge in self.judges]
        return [self._joined([f[i] for f in by_judge], len(group.completions)) for i, group in enumerate(groups)]

    def report(self) -> dict[str, float]:
        """The figures of the judges that report figures."""
        reports = [judge.report() for judge in self.judges if isinstance(judge, Reports)]
        return {name: value for report in reports for name, value in report.items()}

    def state(self) -> dict[str, Any]:
        return {name: judge.state() for name, judge in self._stateful().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, judge in self._stateful().items():
            judge.restore(state[name])

    def _stateful(self) -> dict[str, Stateful]:
        named = zip(numbered([judge.name for judge in self.judges]), self.judges, strict=True)
        return {name: judge for name, judge in named if isinstance(judge, Stateful)}

    def _joined(self, feedback: Sequence[Feedback], count: int) -> Feedback:
        names = numbered([judge.name for judge in self.judges])
        total, open_ = [0.0] * count, [True] * count
        parts: dict[str, tuple[float, ...]] = {}
        for name, judged, weight, gate in zip(names, feedback, self.weights, self.gates, strict=True):
            scores = as_scores(judged, count)
            if isinstance(scores, Unjudged):
                return Unjudged(f"{name}: {scores.reason}")
            parts[name] = scores.values
            for k, value in enumerate(scores.values):
                total[k] += weight * value if open_[k] else 0.0
                open_[k] = open_[k] and (gate is None or value >= gate)
        return Scores(tuple(total), parts)


def as_scores(feedback: Feedback, count: int) -> Scores | Unjudged:
    """A number for each answer: of preferences, the share of its comparisons won (one half without comparisons)."""
    if isinstance(feedback, (Scores, Unjudged)):
        return feedback
    if isinstance(feedback, Preferences):
        won, compared = [0.0] * count, [0.0] * count
        for winner, loser, weight in feedback.triples:
            won[winner] += weight
            compared[winner] += weight
            compared[loser] += weight
        return Scores(tuple(w / s if s else 0.5 for w, s in zip(won, compared, strict=True)))
    return Scores(tuple(float(value) for value in feedback.values))


def make(tables: Sequence[JudgeConfig], cache: Path) -> Judge | None:
    """The judge of some tables; None where there is none. Raises ConfigError, DataError or ModelError before any weight
    loads and any request is sent."""
    judges = [_make(table, cache) for table in tables]
    if not judges:
        return None
    if len(judges) == 1:
        if tables[0].gate is not None or tables[0].weight != 1:
            raise ConfigError("judge.weight and judge.gate are about several judges, and there is one")
        return judges[0]
    if tables[-1].gate is not None:
        raise ConfigError("the last [[judge]] has a gate, and no judge comes after it")
    return Panel(tuple(judges), tuple(table.weight for table in tables), tuple(table.gate for table in tables))


def _make(table: JudgeConfig, cache: Path) -> Judge:
    if table.kind == "verifier":
        return verifier.make(table)
    if table.kind == "llm":
        return llm.make(table, Path(table.cache) if table.cache else cache)
    if table.kind == "human":
        return human.make(table)
    from burnish.answers.judges import reward  # torch and transformers, for this kind only

    return reward.make(table)


def numbered(names: Sequence[str]) -> list[str]:
    """Names made distinct: a, b, a#2."""
    counts: dict[str, int] = {}
    distinct = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        distinct.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return distinct
