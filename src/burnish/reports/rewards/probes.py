"""Edits that change an answer's form and not its worth, and how they change its reward.

The order of two answers needs no probe: a scorer sees a single answer at a time, so that the margin of (a, b) is minus
that of (b, a).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from burnish.reports.rewards.columns import Answers, Floats, PairMargins, figures
from burnish.reports.rewards.records import Probed
from burnish.reports.rewards.spread import within_sd
from burnish.stats import clustered_mean, clustered_share

ORDER = "the order of two answers cannot matter: each is scored alone, so the margin of (a, b) is minus that of (b, a)"
LIST = """

Key points:

- It is important to consider the question carefully.
- There are several aspects to keep in mind.
- Every situation is different."""
SORRY = "I apologize for any confusion, and I am sorry if this does not answer your question."
FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.M)
MARKS = (  # (what, what stays), outside of blocks of code
    (re.compile(r"^[ \t]*#{1,6}[ \t]+", re.M), ""),
    (re.compile(r"^([ \t]*)[-*+\u2022][ \t]+", re.M), r"\1"),
    (re.compile(r"^[ \t]*>[ \t]?", re.M), ""),
    (re.compile(r"(?<![\w*])\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<!`)`([^`\n]+)`(?!`)"), r"\1"),
    (re.compile(r"(?<!!)\[([^\]\n]{1,200})\]\([^)\s]{1,500}\)"), r"\1"),
)
BOUNDARY = re.compile(r"[.!?][\"'\u201d\u2019)\]]*\s+|[\u3002\uff01\uff1f]|\n")  # between two sentences
STOPS = ".!?\u3002\uff01\uff1f"
CLOSERS = "\"'\u201d\u2019)]*"
TAIL = 2000  # characters at the end that are searched for the last sentence


def padded(answer: str) -> str | None:
    """The answer with a list of three empty points; None for a blank answer."""
    return answer.rstrip() + LIST if answer.strip() else None


def stripped(answer: str) -> str | None:
    """The answer without marks of markdown (headers, bullets, quotes, bold, italics, code ticks, links); None where it
    has none. Blocks of code stay as they are."""
    lines = answer.split("\n")
    kept: list[str] = []
    plain: list[str] = []
    inside = False

    def flush() -> None:
        kept.extend(_unmarked("\n".join(plain)).split("\n") if plain else [])
        plain.clear()

    for line in lines:
        if FENCE.match(line):
            flush()
            inside = not inside
        elif inside:
            kept.append(line)
        else:
            plain.append(line)
    flush()
    text = "\n".join(kept)
    return text if text != answer and text.strip() else None


def _unmarked(text: str) -> str:
    for mark, stays in MARKS:
        text = mark.sub(stays, text)
    return text


def apologetic(answer: str) -> str | None:
    """The answer with an apology at the end; None for a blank answer."""
    return f"{answer.rstrip()}\n\n{SORRY}" if answer.strip() else None


def repeated(answer: str) -> str | None:
    """The answer with its last sentence twice; None where the answer does not end with a sentence."""
    text = answer.rstrip()
    body = text.rstrip(CLOSERS)
    words = body.rstrip(STOPS)
    if body == words or len(FENCE.findall(text)) % 2:
        return None
    first = max(0, len(words) - TAIL)
    start = max((boundary.end() for boundary in BOUNDARY.finditer(words, first)), default=first)
    if not words[start:].strip():
        return None
    space = "" if body[-1] in STOPS[3:] else " "
    return f"{text}{space}{text[start:].strip()}"


PROBES: dict[str, Callable[[str], str | None]] = {
    "list padding": padded,
    "markdown stripped": stripped,
    "trailing apology": apologetic,
    "sentence repeated": repeated,
}


def probed(answers: Answers, pairs: PairMargins, probes: Probed) -> dict[str, Any]:
    """For each probe and scorer: how the edit shifts the reward, and how often it turns a pair around.

    `shift` is the mean of (edited - original) over the answers that can be edited, in standard deviations within a
    prompt; `flips` is, of the pairs that the scorer ranks right and whose loser can be edited, the share (by weight)
    that it ranks wrong once the loser is edited (a tie counts one half); `pairs` is their number. Clustered by prompt.
    """
    figures_by_probe: dict[str, Any] = {}
    for probe, by_scorer in probes.items():
        rows = {}
        for name, edited in by_scorer.items():
            values = _flattened(edited)
            rows[name] = _shift(answers, values, name) | _flips(pairs, values, answers.rewards[name])
        figures_by_probe[probe] = rows
    return figures_by_probe


def _shift(answers: Answers, edited: Floats, name: str) -> dict[str, Any]:
    rewards = answers.rewards[name]
    known = np.isfinite(edited)
    sd = within_sd(rewards, answers)
    shift = None
    if known.any() and sd > 0:
        shift = figures(clustered_mean((edited - rewards)[known] / sd, answers.prompts[known]))
    return {"answers": int(known.sum()), "shift": shift}


def _flips(pairs: PairMargins, edited: Floats, rewards: Floats) -> dict[str, Any]:
    if not len(pairs):
        return {"pairs": 0, "flips": None}
    before = rewards[pairs.winners] - rewards[pairs.losers]
    after = rewards[pairs.winners] - edited[pairs.losers]
    known = np.isfinite(after) & (before > 0)
    turned = np.heaviside(-after[known], 0.5)
    share = clustered_share(turned, pairs.prompts[known], pairs.weights[known])
    return {"pairs": int(known.sum()), "flips": figures(share) if known.any() else None}


def _flattened(rows: Sequence[tuple[float | None, ...]]) -> Floats:
    """Edited rewards [answers], NaN where the edit does not apply."""
    return np.array([np.nan if value is None else value for row in rows for value in row], dtype=np.float64)
