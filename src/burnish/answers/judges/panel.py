"""The judges of a run, made from its tables, and several of them as one: weights, gates, each part logged apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.answers.judges import Judge, Reports, human, llm, verifier
from burnish.config import JudgeConfig
from burnish.errors import ConfigError
from burnish.group import Feedback, Group, Preferences, Scores, Unjudged


@dataclass(frozen=True)
class Panel:
    """Several judges, asked in order. The score is the sum of weight x score; an answer below a judge's gate gets
    nothing from the judges after it (format first, then correctness), whatever they say of it."""

    judges: tuple[Judge, ...]
    weights: tuple[float, ...]
    gates: tuple[float | None, ...]
    name: str = "judges"

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """Scores with every judge's own in `parts`; a group that one of them could not judge is Unjudged."""
        told = [judge(groups) for judge in self.judges]
        return [self._joined([one[i] for one in told], len(group.completions)) for i, group in enumerate(groups)]

    def report(self) -> dict[str, float]:
        """What the judges that have figures about themselves say."""
        return {name: value for one in self.judges if isinstance(one, Reports) for name, value in one.report().items()}

    def _joined(self, feedback: Sequence[Feedback], count: int) -> Feedback:
        names = numbered([judge.name for judge in self.judges])
        total, open_ = [0.0] * count, [True] * count
        parts: dict[str, tuple[float, ...]] = {}
        for name, one, weight, gate in zip(names, feedback, self.weights, self.gates, strict=True):
            scores = as_scores(one, count)
            if isinstance(scores, Unjudged):
                return Unjudged(f"{name}: {scores.reason}")
            parts[name] = scores.values
            for k, value in enumerate(scores.values):
                total[k] += weight * value if open_[k] else 0.0
                open_[k] = open_[k] and (gate is None or value >= gate)
        return Scores(tuple(total), parts)


def as_scores(feedback: Feedback, count: int) -> Scores | Unjudged:
    """One number an answer: of preferences, each answer's share of its comparisons won (one half without any)."""
    if isinstance(feedback, (Scores, Unjudged)):
        return feedback
    if isinstance(feedback, Preferences):
        won, seen = [0.0] * count, [0.0] * count
        for winner, loser, weight in feedback.triples:
            won[winner] += weight
            seen[winner] += weight
            seen[loser] += weight
        return Scores(tuple(w / s if s else 0.5 for w, s in zip(won, seen, strict=True)))
    return Scores(tuple(float(value) for value in feedback.values))


def make(tables: Sequence[JudgeConfig], cache: Path) -> Judge | None:
    """The judge of some tables; None where there is none. Raises ConfigError, DataError or ModelError before any weight
    loads and any request is sent."""
    judges = [_one(table, cache) for table in tables]
    if not judges:
        return None
    if len(judges) == 1:
        if tables[0].gate is not None or tables[0].weight != 1:
            raise ConfigError("judge.weight and judge.gate are about several judges, and there is one")
        return judges[0]
    if tables[-1].gate is not None:
        raise ConfigError("the last [[judge]] has a gate, and no judge comes after it")
    return Panel(tuple(judges), tuple(one.weight for one in tables), tuple(one.gate for one in tables))


def _one(table: JudgeConfig, cache: Path) -> Judge:
    if table.kind == "verifier":
        return verifier.make(table)
    if table.kind == "llm":
        return llm.make(table, Path(table.cache) if table.cache else cache)
    if table.kind == "human":
        return human.make(table)
    from burnish.answers.judges import reward  # torch and transformers, for this kind alone

    return reward.make(table)


def numbered(names: Sequence[str]) -> list[str]:
    """Names told apart: a, b, a#2."""
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        found.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return found
