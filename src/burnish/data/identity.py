"""When two groups have the same prompt or the same content, and draws that depend on content alone. No torch.

Texts are compared as a reader sees them: NFKC, lower case, runs of white space as one blank.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from burnish.group import EncodedGroup, Group, Labels, Message, Preferences, Scores, Turns

SIDE_SCORES = (  # columns with the scores of a pair's answers
    ("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"), ("chosen_reward", "rejected_reward"), ("reward_chosen", "reward_rejected"),
)  # fmt: skip


def plain(text: str) -> str:
    """The text as a reader sees it: NFKC, lower case, runs of white space as one blank."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFKC", text)).lower().split())


def prompt_key(group: Group) -> str:
    """The key of a prompt: its messages with roles and tool calls, normalised by `plain`.

    A prompt of plain text and the same text as the user's only message are the same prompt.
    """
    return _normalised(group.prompt, "user", plain)


def _normalised(turns: Turns, role: str, form: Callable[[str], str]) -> str:
    messages = (Message(role, turns),) if isinstance(turns, str) else turns
    lines = []
    for message in messages:
        extra = json.dumps(dict(message.extra), sort_keys=True, default=str) if message.extra else ""
        lines.append(f"{message.role}: {form(message.content)}{extra}")
    return "\n".join(lines)


def answers_of(group: Group) -> list[str]:
    """The answers normalised; unchanged where two different answers would become the same (`yes` and `YES`)."""
    keys = [_normalised(c.messages, "assistant", plain) for c in group.completions]
    if len(set(keys)) == len(keys):
        return keys
    return [_normalised(c.messages, "assistant", repr) for c in group.completions]


def question_key(group: Group) -> str:
    """The key of prompt and tools: `prompt_key` with the tools on offer."""
    tools = json.dumps([dict(t) for t in group.tools], sort_keys=True, default=str) if group.tools else ""
    return f"{prompt_key(group)}\n{tools}"


def identity(group: Group) -> bytes:
    """Digest of prompt, tools, answers and feedback, normalised; the order of the answers does not matter."""
    answers = answers_of(group)
    feedback = group.feedback
    judged: list[Any] = sorted(answers)
    if isinstance(feedback, (Scores, Labels)):
        judged = sorted(zip(answers, feedback.values, strict=True))
    elif isinstance(feedback, Preferences):
        judged += sorted((answers[w], answers[l], weight) for w, l, weight in feedback.triples)
    return digest(type(feedback).__name__, question_key(group), repr(judged))


def digest(*parts: str) -> bytes:
    """Sixteen bytes of a hash of the parts; where a part ends and the next begins makes a difference."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        coded = part.encode("utf-8", "surrogatepass")
        hashed.update(len(coded).to_bytes(8, "big") + coded)
    return hashed.digest()


def draw(seed: int, *parts: str) -> float:
    """A random number in [0, 1) that is a function of seed and parts, on every machine."""
    return int.from_bytes(digest(str(seed), *parts)[:6], "big") / 2**48


def by_lot(groups: Sequence[Group], places: Iterable[int], seed: int, purpose: str) -> list[int]:
    """The places in an order drawn by the seed and by the content of the groups there."""
    return sorted(places, key=lambda i: (draw(seed, purpose, identity(groups[i]).hex()), i))


def directions(group: Group) -> set[tuple[int, int]]:
    """(winner, loser) where the feedback compares just two answers; both ways round where it holds both."""
    feedback = group.feedback
    ways: set[tuple[int, int]] = set()
    if isinstance(feedback, Preferences):
        ways = {(w, l) for w, l, _ in feedback.triples}
    elif isinstance(feedback, (Scores, Labels)) and len(group.completions) == 2:
        left, right = feedback.values
        ways = {(0, 1)} if left > right else {(1, 0)} if right > left else set()
    return ways if len({frozenset(pair) for pair in ways}) == 1 else set()


def pair_of(group: Group) -> tuple[int, int] | None:
    """(winner, loser) where the feedback is exactly that an answer is better than another; else None."""
    ways = directions(group)
    return next(iter(ways)) if len(ways) == 1 else None


def score_gap(group: Group) -> float | None:
    """Score of a pair's winner minus score of its loser; None where the group is no pair or has no scores.

    From Scores, else from the meta: both of `SIDE_SCORES`, or the `scores` of a pair that a rule made.
    """
    pair = pair_of(group)
    if pair is None:
        return None
    if isinstance(group.feedback, Scores):
        return group.feedback.values[pair[0]] - group.feedback.values[pair[1]]
    made = group.meta.get("scores")
    if "pair_rule" in group.meta and isinstance(made, (list, tuple)):  # elsewhere it is unknown whose score comes first
        return gap_between(*made) if len(made) == 2 else None
    return side_score_gap(group.meta)


def side_score_gap(meta: Mapping[str, Any]) -> float | None:
    """Score of the chosen answer minus score of the rejected one, by the first of `SIDE_SCORES` in the meta."""
    return next((gap_between(meta[c], meta[r]) for c, r in SIDE_SCORES if c in meta and r in meta), None)


def gap_between(left: Any, right: Any) -> float | None:
    """The difference of two scores, numbers also written as text; None where one is no number of at most 1e300."""
    numbers = [_score(left), _score(right)]
    return None if numbers[0] is None or numbers[1] is None else numbers[0] - numbers[1]


def _score(value: Any) -> float | None:
    """NaN and infinity are none: they compare as neither near nor far."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= 1e300 else None


def fingerprint(groups: Sequence[EncodedGroup]) -> str:
    """Hash of the training groups in token space, in order."""
    digest = hashlib.sha256()
    for group in groups:
        digest.update(repr((group.prompt_ids, group.completion_ids, group.feedback)).encode())
    return digest.hexdigest()[:32]
