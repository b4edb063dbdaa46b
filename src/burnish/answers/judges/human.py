"""People's votes as a judge: a file of votes on answers, matched by the texts of prompt and answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.config import HumanConfig
from burnish.data.identity import prompt_key
from burnish.data.readers import read
from burnish.errors import ConfigError
from burnish.group import Feedback, Group, Preferences, Unjudged, last_text


@dataclass(frozen=True)
class Human:
    """`votes` by (prompt, winner's text, loser's text): summed weights."""

    name: str
    votes: dict[tuple[str, str, str], float]

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """A preference for every pair of a group's answers that was voted on; Unjudged where no pair was."""
        return [self._of(group) for group in groups]

    def _of(self, group: Group) -> Feedback:
        key = prompt_key(group)
        texts = [last_text(completion.messages) for completion in group.completions]
        triples = [
            (i, j, self.votes[key, a, b])
            for i, a in enumerate(texts)
            for j, b in enumerate(texts)
            if i != j and (key, a, b) in self.votes
        ]
        return Preferences(tuple(triples)) if triples else Unjudged("nobody has preferred one of these answers yet")


def make(config: HumanConfig) -> Human:
    """The judge of a votes file, in any format with preferences. Raises ConfigError or DataError."""
    if not config.votes:
        raise ConfigError("judge.votes is missing: name the file of votes, or a ballot")
    judge = of_ballot(config.votes)
    if not judge.votes:
        raise ConfigError(f"judge.votes = '{config.votes}' holds no preference between two answers")
    return judge


def of_ballot(path: str | Path) -> Human:
    """The judge of a ballot, or of any other file of votes. Raises DataError."""
    votes: dict[tuple[str, str, str], float] = defaultdict(float)
    for group in read(str(path)).groups:
        if isinstance(group.feedback, Preferences):
            texts = [last_text(completion.messages) for completion in group.completions]
            for winner, loser, weight in group.feedback.triples:
                votes[prompt_key(group), texts[winner], texts[loser]] += weight
    return Human("human", dict(votes))
