"""What can be told from an answer's text alone: how long it is, whether it refuses, lists, or repeats itself, and in
which writing it is.

Each habit is a number in [0, 1] of one answer, so that a mean over answers is a share.
"""

from __future__ import annotations

import importlib.util
import unicodedata
from collections import Counter
from collections.abc import Callable

from burnish.answers.judges.ifeval import language_of
from burnish.audit.bias import FEATURES

SPAN = 4  # words of a run that counts as repeated
LEAST_LETTERS = 8  # of a text whose writing is told
LEAST_TOLD = 60  # characters of a text whose language is told


def refuses(prompt: str, text: str) -> float:
    """Whether the answer opens as a refusal or an apology."""
    return float(bool(FEATURES["refusals"].match(text)))


def lists(prompt: str, text: str) -> float:
    """Whether the answer has a list of two points or more."""
    return float(len(FEATURES["lists"].findall(text)) >= 2)


def repeats(prompt: str, text: str) -> float:
    """The share of the answer's runs of four words that stood in it before."""
    words = text.lower().split()
    runs = Counter(tuple(words[i : i + SPAN]) for i in range(len(words) - SPAN + 1))
    count = sum(runs.values())
    return (count - len(runs)) / count if count else 0.0


def switches_writing(prompt: str, text: str) -> float:
    """Whether most letters of the answer are of another writing (Latin, Cyrillic, Han ...) than the prompt's."""
    asked, written = _writing(prompt), _writing(text)
    return float(bool(asked and written) and asked != written)


def switches_language(prompt: str, text: str) -> float:
    """Whether the answer is in another language than the prompt, where langdetect knows both."""
    asked, written = (language_of(t) if len(t) >= LEAST_TOLD else None for t in (prompt, text))
    return float(bool(asked and written) and asked != written)


HABITS: dict[str, Callable[[str, str], float]] = {
    "refusals": refuses, "lists": lists, "repetition": repeats, "other writing": switches_writing,
}  # fmt: skip
if importlib.util.find_spec("langdetect") is not None:
    HABITS["other language"] = switches_language


def _writing(text: str) -> str:
    """The writing of most letters, by the first word of their Unicode names; empty for a text with few."""
    letters = [c for c in text[:2000] if c.isalpha()]
    if len(letters) < LEAST_LETTERS:
        return ""
    return Counter(unicodedata.name(c, "?").split(" ")[0].split("-")[0] for c in letters).most_common(1)[0][0]
