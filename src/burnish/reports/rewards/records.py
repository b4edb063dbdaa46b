"""Records of scoring: groups of answers with a reward from each scorer, as JSONL. Reports are drawn from them alone.

A line holds an object: first `{"record": "scorers", ...}`, then `{"record": "scored", ...}` for each group.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from burnish.errors import DataError, StoreError

Kind = Literal["reward model", "ensemble", "implicit"]
# probe -> scorer -> for each group one reward an edited answer, None where the edit does not apply
Probed = Mapping[str, Mapping[str, Sequence[tuple[float | None, ...]]]]


@dataclass(frozen=True, slots=True)
class Scorer:
    """The source of rewards: `Scorer("rm-1b", "reward model", "runs/rm-1b/model", None)`.

    `beta` is that of an implicit reward, beta x log-ratio. `members` names the scorers that an ensemble combines; where
    those were scored too, the report has their disagreement.
    """

    name: str
    kind: Kind
    detail: str = ""
    beta: float | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A prompt's answers with the data's feedback and each scorer's rewards.

    Groups with the same `prompt` (its text, or a key) count as a cluster. `lengths` are in tokens. `pairs` are (winner,
    loser, weight) of the data's feedback, () where nothing was judged; `gold` are the data's scores. Raises DataError
    where the numbers do not fit the answers, or a reward is not finite.
    """

    id: str
    source: str
    subset: str
    prompt: str
    answers: tuple[str, ...]
    lengths: tuple[int, ...]
    pairs: tuple[tuple[int, int, float], ...]
    gold: tuple[float, ...] | None
    rewards: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        count = len(self.answers)
        columns = {"lengths": self.lengths, **{f"rewards of {name}": values for name, values in self.rewards.items()}}
        if self.gold is not None:
            columns["gold scores"] = self.gold
        for name, values in columns.items():
            if len(values) != count:
                raise DataError(f"scored group {self.id}: {len(values)} {name} for {count} answers")
            bad = next((k for k, value in enumerate(values) if not math.isfinite(value)), None)
            if bad is not None:
                raise DataError(
                    f"scored group {self.id}: {name}: answer {bad + 1} of {count} has {values[bad]}, no finite number; "
                    "score it again, or leave the group out"
                )
        for winner, loser, weight in self.pairs:
            sound = winner != loser and min(winner, loser) >= 0 and max(winner, loser) < count
            if not sound or not math.isfinite(weight) or weight <= 0:
                raise DataError(f"scored group {self.id}: pair {[winner, loser, weight]} does not fit {count} answers")


@dataclass(frozen=True, slots=True)
class ScoredGroups:
    """The records of a scoring. `trained_on`: gold scores of the chosen answers in the scorers' training data."""

    groups: tuple[ScoredGroup, ...]
    scorers: tuple[Scorer, ...]
    probes: Probed = field(default_factory=dict)
    trained_on: tuple[float, ...] | None = None


def refuse(scored: ScoredGroups) -> None:
    """Raises DataError where scorers, groups and probes do not fit together."""
    names = [scorer.name for scorer in scored.scorers]
    if not scored.groups or not names:
        raise DataError(f"{len(scored.groups)} groups and {len(names)} scorers: a report needs at least one of each")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"two scorers are named {twice}; give each its own name")
    for group in scored.groups:
        missing = next((name for name in names if name not in group.rewards), None)
        if missing is not None:
            raise DataError(f"scored group {group.id} has no rewards of {missing}; score all groups with every scorer")
    for scorer in scored.scorers:
        stranger = next((member for member in scorer.members if member not in names), None)
        if stranger is not None:
            raise DataError(f"{scorer.name} names {stranger} as a member, and no scorer has that name")
    for probe, by_scorer in scored.probes.items():
        for name, rows in by_scorer.items():
            fits = len(rows) == len(scored.groups) and all(
                len(row) == len(group.answers) for row, group in zip(rows, scored.groups, strict=True)
            )
            if name not in names or not fits:
                raise DataError(f"probe {probe} of {name} does not have one reward for each answer of each group")


def write(file: Path, scored: ScoredGroups) -> None:
    """Write all records. Raises StoreError where the file cannot be written, DataError as `refuse`."""
    refuse(scored)
    head: dict[str, Any] = {"record": "scorers", "scorers": [asdict(scorer) for scorer in scored.scorers]}
    if scored.trained_on is not None:
        head["trained_on"] = list(scored.trained_on)
    try:
        with file.open("w", encoding="utf-8") as out:
            out.write(json.dumps(head, allow_nan=False) + "\n")
            for index, group in enumerate(scored.groups):
                row = {"record": "scored", **asdict(group)}
                if scored.probes:
                    row["probes"] = {
                        probe: {name: rows[index] for name, rows in by_scorer.items()}
                        for probe, by_scorer in scored.probes.items()
                    }
                out.write(json.dumps(row, allow_nan=False) + "\n")
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror or error}") from error


def read(file: Path) -> ScoredGroups:
    """Read back what `write` wrote, equal. Raises DataError naming file and line."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    scorers: tuple[Scorer, ...] | None = None
    trained_on = None
    groups: list[ScoredGroup] = []
    probes: dict[str, dict[str, list[tuple[float | None, ...]]]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            row = json.loads(line)
            if row["record"] == "scorers":
                scorers = tuple(_scorer(scorer) for scorer in row["scorers"])
                trained_on = None if row.get("trained_on") is None else tuple(map(float, row["trained_on"]))
                continue
            groups.append(_group(row))
            for probe, by_scorer in row.get("probes", {}).items():
                for name, values in by_scorer.items():
                    probes.setdefault(probe, {}).setdefault(name, []).append(tuple(values))
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where}: no record of scored answers: {type(error).__name__} {error}") from None
    if scorers is None:
        raise DataError(f"{file} has no record of its scorers; it was not written by `burnish reward-report`")
    scored = ScoredGroups(tuple(groups), scorers, probes, trained_on)
    refuse(scored)
    return scored


def _scorer(row: Mapping[str, Any]) -> Scorer:
    if row["kind"] not in get_args(Kind):
        raise DataError(f"a scorer's kind is {row['kind']!r}, none of {', '.join(get_args(Kind))}")
    return Scorer(row["name"], row["kind"], row["detail"], row["beta"], tuple(row["members"]))


def _group(row: Mapping[str, Any]) -> ScoredGroup:
    return ScoredGroup(
        id=row["id"],
        source=row["source"],
        subset=row["subset"],
        prompt=row["prompt"],
        answers=tuple(row["answers"]),
        lengths=tuple(row["lengths"]),
        pairs=tuple((winner, loser, float(weight)) for winner, loser, weight in row["pairs"]),
        gold=None if row["gold"] is None else tuple(map(float, row["gold"])),
        rewards={name: tuple(map(float, values)) for name, values in row["rewards"].items()},
    )
