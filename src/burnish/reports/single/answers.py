"""The first and the last answers to each prompt, side by side, word by word."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.data.identity import digest, question_key
from burnish.errors import DataError
from burnish.group import Group, Scores, from_json, last_text, transcript

SHOWN = 40  # prompts, those that changed most
PROMPTS = 2000  # looked at, at most
LETTERS = 3000  # of an answer


@dataclass(frozen=True)
class _Kept:
    step: int
    text: str
    score: float | None


def answers(folder: Path) -> list[dict[str, Any]]:
    """The prompts that were answered at two steps at least, those whose answers differ most first.

    Each: `id` (a deep link), `prompt`, the first and last step with the scores there, `change` from 0 (the same) to 1,
    and `words`: (same, gone or new; text) in order. Lines that are cut short are passed over.
    """
    first: dict[str, tuple[str, _Kept]] = {}
    last: dict[str, _Kept] = {}
    for group, step in _groups(folder / "answers.jsonl"):
        key = digest(question_key(group)).hex()[:12]
        if key not in first and len(first) >= PROMPTS:
            continue
        values = group.feedback.values if isinstance(group.feedback, Scores) else (None,)
        kept = _Kept(step, last_text(group.completions[0].messages)[:LETTERS], values[0])
        first.setdefault(key, (transcript(group.prompt), kept))
        last[key] = kept
    rows = [_row(key, prompt, kept, last[key]) for key, (prompt, kept) in first.items() if last[key].step > kept.step]
    return sorted(rows, key=lambda row: -row["change"])[:SHOWN]


def _groups(file: Path) -> Iterator[tuple[Group, int]]:
    if not file.exists():
        return
    with file.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            try:
                row = json.loads(line)
                group, step = from_json(row, f"{file}:{number}"), int(row["meta"]["step"])
            except (ValueError, KeyError, TypeError, DataError):
                continue
            if group.completions:
                yield group, step


def _row(key: str, prompt: str, before: _Kept, after: _Kept) -> dict[str, Any]:
    a, b = before.text.split(" "), after.text.split(" ")
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    words: list[tuple[str, str]] = []
    for kind, i, j, k, n in matcher.get_opcodes():
        if kind == "equal":
            words.append(("same", " ".join(a[i:j])))
            continue
        words += [("gone", " ".join(a[i:j]))] if j > i else []
        words += [("new", " ".join(b[k:n]))] if n > k else []
    return {
        "id": f"answer-{key}", "prompt": prompt, "first": before.step + 1, "last": after.step + 1,
        "scores": [before.score, after.score], "change": 0.0 if a == b else 1.0 - matcher.ratio(), "words": words,
    }  # fmt: skip
