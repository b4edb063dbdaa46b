"""Flash cards: the task, the demonstrator, the gold utility and the noisy rater. No torch here.

A card asks `_7+_5=`; an answer is filler, an optional restatement, a marker and a number: `~~7+5,#12`. The gold utility
of every answer is a formula, so what a policy gained can be measured instead of guessed. Filler, restatement and marker
carry no utility: they are there so that length and format can drift while nobody asked for it.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from burnish.group import Completion, Group, Preferences

CHARACTERS = "0123456789_+=~,#:"
PROMPT_WIDTH = 6  # characters and tokens of every prompt
MAX_NEW_TOKENS = 16  # an answer that has not ended by then counts as unfinished
MAX_FILLER = 4

_RIGHT, _NEAR, _FAR, _ANYWHERE = 0.30, 0.28, 0.21, 0.21  # right 30 %; the wrong 70 % split 40 : 30 : 30
_FORM = re.compile(r"~*(?:\d+\+\d+,)?[#:](\d+)")


@dataclass(frozen=True, slots=True)
class Card:
    """One sum of two digits: `Card(7, 5).prompt == "_7+_5="`, and its `total` is 12."""

    a: int
    b: int

    @property
    def prompt(self) -> str:
        return f"{self.a:_>2}+{self.b:_>2}="

    @property
    def total(self) -> int:
        return self.a + self.b


CARDS: tuple[Card, ...] = tuple(Card(a, b) for a in range(10) for b in range(10))


@dataclass(frozen=True, slots=True)
class Answer:
    """What was written on a card: its text without the end token, and whether the end token came.

    `text="~#12", finished=True` is five tokens long: the end token counts.
    """

    card: Card
    text: str
    finished: bool = True

    @property
    def tokens(self) -> int:
        return len(self.text) + int(self.finished)

    @property
    def number(self) -> int | None:
        """The number answered, or None where the answer has not the form (or did not end).

        A restatement is not judged: `7+4,#12` answers 12 whatever the card asked.
        """
        match = _FORM.fullmatch(self.text) if self.finished else None
        return int(match[1]) if match else None

    @property
    def right(self) -> bool:
        return self.number == self.card.total

    @property
    def utility(self) -> float:
        """Gold utility: `0.4 [exact] + 0.6 (1 - min(|error|, 10) / 10)`, and -0.5 where nothing can be read.

        Graded on purpose: with all-or-nothing utility most pairs are ties and there is little to learn from.
        """
        number = self.number
        if number is None:
            return -0.5
        error = abs(number - self.card.total)
        return 0.4 * (error == 0) + 0.6 * (1 - min(error, 10) / 10)


@cache
def demonstrated(card: Card) -> dict[int, float]:
    """The demonstrator's probability of each number: right 30 %, off by 1-2 28 %, off by 3-6 21 %, anything 21 %.

    "Anything" is uniform on 0..20 without the right number, so that right is 30 % exactly; no number is negative.
    """
    near = [card.total + d for d in (-2, -1, 1, 2)]
    far = [card.total + d for d in (-6, -5, -4, -3, 3, 4, 5, 6)]
    odds: dict[int, float] = {card.total: _RIGHT}
    for mass, numbers in ((_NEAR, near), (_FAR, far), (_ANYWHERE, range(21))):
        allowed = [n for n in numbers if n >= 0 and n != card.total]
        for n in allowed:
            odds[n] = odds.get(n, 0.0) + mass / len(allowed)
    return odds


def demonstrate(card: Card, rng: random.Random) -> Answer:
    """One demonstration: 0-4 filler signs, a restatement half the time, either marker, a number of `demonstrated`."""
    odds = demonstrated(card)
    number = rng.choices(list(odds), list(odds.values()))[0]
    filler = "~" * rng.randint(0, MAX_FILLER)
    restatement = f"{card.a}+{card.b}," if rng.random() < 0.5 else ""
    return Answer(card, f"{filler}{restatement}{rng.choice('#:')}{number}")


def demonstrator_utility() -> float:
    """The demonstrator's expected gold utility over all cards, exact: what copying it perfectly would earn."""
    per_card = (
        sum(p * Answer(card, f"#{number}").utility for number, p in demonstrated(card).items()) for card in CARDS
    )
    return math.fsum(per_card) / len(CARDS)


@dataclass(frozen=True, slots=True)
class Rater:
    """A noisy judge of two answers: `P(first) = sigmoid(gain du + per_token dlen + per_marker dfmt)`.

    du is the difference of gold utilities, dlen of lengths in tokens, dfmt of [the marker is `#`]. With the two biases
    at 0 the rater is noisy but fair; with `per_token=0.3` it likes length as much as 0.05 of utility a token.
    """

    gain: float = 6.0
    per_token: float = 0.0
    per_marker: float = 0.0

    def logit(self, first: Answer, second: Answer) -> float:
        """Log-odds that `first` is preferred, in nats."""
        du = first.utility - second.utility
        dlen = first.tokens - second.tokens
        dfmt = int("#" in first.text) - int("#" in second.text)
        return self.gain * du + self.per_token * dlen + self.per_marker * dfmt

    def prefers_first(self, first: Answer, second: Answer, rng: random.Random) -> bool:
        return rng.random() < 1 / (1 + math.exp(-self.logit(first, second)))


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Judged pairs, and how many were drawn but left out: ties (nothing to prefer) and unfinished answers."""

    groups: tuple[Group, ...]
    ties: int
    unfinished: int


def judge(answers: Sequence[Answer], rater: Rater, rng: random.Random) -> JudgedPairs:
    """Answers two by two (0 with 1, 2 with 3, ...; both on the same card) to groups with one preference each.

    A tie (the same text, or a rater who has no leaning at all) is left out: a coin-flip label would be noise that the
    rater never gave. So is a pair with an answer that did not end, whose tokens a text file cannot hold.
    """
    groups: list[Group] = []
    ties = unfinished = 0
    for number, (first, second) in enumerate(list(pairwise(answers))[::2]):
        if not (first.finished and second.finished and writable(first, second)):
            unfinished += 1
        elif first.text == second.text or math.isclose(rater.logit(first, second), 0.0, abs_tol=1e-9):
            ties += 1
        else:
            winner = 0 if rater.prefers_first(first, second, rng) else 1
            completions = (Completion(first.text), Completion(second.text))
            preference = Preferences(((winner, 1 - winner, 1.0),))
            groups.append(Group(first.card.prompt, completions, preference, id=f"card-{number}", source="flash cards"))
    return JudgedPairs(tuple(groups), ties, unfinished)


def writable(*answers: Answer) -> bool:
    """Not empty, and no special token inside: a file row then gives back exactly the sampled tokens."""
    return all(answer.text and set(answer.text) <= set(CHARACTERS) for answer in answers)


def label_noise(groups: Iterable[Group]) -> float:
    """Share of pairs whose preferred answer has the lower gold utility."""
    cards = {card.prompt: card for card in CARDS}
    wrong = total = 0
    for group in groups:
        assert isinstance(group.prompt, str) and isinstance(group.feedback, Preferences)
        utilities = [Answer(cards[group.prompt], str(c.messages)).utility for c in group.completions]
        for winner, loser, _ in group.feedback.triples:
            wrong += utilities[winner] < utilities[loser]
            total += 1
    return wrong / total if total else float("nan")
