"""When two groups have the same prompt or the same content, and draws that depend on content alone. No torch.

Texts are compared as a reader sees them: NFKC, lower case, runs of white space as one blank.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeGuard

from burnish.group import EncodedGroup, Group, Labels, Message, Preferences, Scores, Turns


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

    From Scores, else from the meta: `score_chosen` and `score_rejected`, or the `scores` of a pair that a rule made.
    """
    pair = pair_of(group)
    if pair is None:
        return None
    if isinstance(group.feedback, Scores):
        return group.feedback.values[pair[0]] - group.feedback.values[pair[1]]
    given = [group.meta.get("score_chosen"), group.meta.get("score_rejected")]
    made = group.meta.get("scores")
    if "pair_rule" in group.meta and isinstance(made, (list, tuple)):  # elsewhere it is unknown whose score comes first
        given = list(made)
    numbers = [float(x) for x in given if _is_score(x)]
    return numbers[0] - numbers[1] if len(given) == len(numbers) == 2 else None


def _is_score(value: Any) -> TypeGuard[float]:
    """Whether a value of the meta is a number that can be a score; NaN and infinity compare as neither near nor far."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e300


def fingerprint(groups: Sequence[EncodedGroup]) -> str:
    """Hash of the training groups in token space, in order."""
    digest = hashlib.sha256()
    for group in groups:
        digest.update(repr((group.prompt_ids, group.completion_ids, group.feedback)).encode())
    return digest.hexdigest()[:32]
