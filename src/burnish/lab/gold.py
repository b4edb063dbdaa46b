"""The gold utility of a flash-card answer as a judge: `judge.name = "burnish.lab.gold:utility"`. No torch.

`noisy` is the rater that made the lab's pairs, as a score: two answers' difference is its preference's log-odds, up to
the coin it throws.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from functools import cache
from typing import Any

from burnish.lab.world import CARDS, Answer, Card


@cache
def _cards() -> dict[str, Card]:
    return {card.prompt: card for card in CARDS}


def utility(prompt: str, answer: str, meta: Mapping[str, Any]) -> float:
    """The utility from -0.5 (nothing to read, or not finished) to 1. Raises KeyError for a prompt that is no card."""
    return Answer(_cards()[prompt], answer, bool(meta.get("finished", True))).utility


def rater(prompt: str, answer: str, meta: Mapping[str, Any]) -> float:
    """A noisy judge: 6 x utility and Gumbel noise of the answer's own. The higher of two such scores is the first with
    probability sigmoid(6 x difference of utilities), exactly: the rater that labels the lab's pairs."""
    draw = random.Random(f"rater {meta['id']} {answer}").random()
    return 6.0 * utility(prompt, answer, meta) - math.log(-math.log(draw))
