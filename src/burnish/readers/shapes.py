"""Rows -> groups, by the shape of a row: one short function a format, and the rule that recognises each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from burnish.errors import DataError
from burnish.group import Completion, Feedback, Group, Labels, Message, Preferences, Scores, Unjudged, from_json, turns

Row = Mapping[str, Any]
TURN = re.compile(r"\n\n(Human|Assistant):[ ]?")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}


class Useless(Exception):
    """A row that is whole but teaches nothing; its text is the reason it is counted under."""


def detect(row: Row, where: str) -> str:
    """The format of a row by its fields. Raises DataError where two readings are possible or none is."""
    names = set(row)
    if {"chosen", "rejected"} <= names and "completions" in names:
        raise DataError(f"{where}: both chosen/rejected and completions: name data.format ('pairs' or 'ranked')")
    if {"chosen", "rejected"} <= names:
        texts = isinstance(row["chosen"], str) and isinstance(row["rejected"], str)
        is_hh = texts and "prompt" not in names and (TURN.match(row["chosen"]) or TURN.match(row["rejected"]))
        return "hh" if is_hh else "pairs"
    if isinstance(row.get("completions"), list):
        first = row["completions"][0] if row["completions"] else None
        return "burnish" if isinstance(first, Mapping) and "messages" in first else "ranked"
    if "completion" in names:
        return "unpaired" if "label" in names else "sft"
    if "messages" in names:
        return "sft"
    raise DataError(
        f"{where}: fields {', '.join(sorted(map(str, names))) or '(none)'} are no known format; "
        "for preferences give prompt, chosen and rejected"
    )


def _field(row: Row, name: str, where: str) -> Any:
    if row.get(name) is None:
        raise DataError(f"{where}: '{name}' is {'null' if name in row else 'missing'}")
    return row[name]


def _answer(value: Any, where: str, name: str) -> str | tuple[Message, ...]:
    found = turns(value, where, name)
    text = found if isinstance(found, str) else "".join(m.content for m in found)
    if not text.strip() and not (not isinstance(found, str) and any(m.extra for m in found)):
        raise Useless(f"an empty {name} answer")
    return found


def _pairs(row: Row, where: str) -> Group:
    chosen, rejected = _field(row, "chosen", where), _field(row, "rejected", where)
    if "prompt" not in row:
        return _implicit_prompt(row, chosen, rejected, where)
    prompt = turns(_field(row, "prompt", where), where, "prompt")
    sides = [_answer(x, where, name) for x, name in ((chosen, "chosen"), (rejected, "rejected"))]
    if not isinstance(prompt, str):
        sides = [_without_prompt(side, prompt) for side in sides]
    return _pair(row, prompt, sides, where)


def _without_prompt(side: str | tuple[Message, ...], prompt: tuple[Message, ...]) -> str | tuple[Message, ...]:
    """Some files repeat the prompt's messages in front of each answer."""
    repeated = not isinstance(side, str) and len(side) > len(prompt) and side[: len(prompt)] == prompt
    return side[len(prompt) :] if repeated else side


def _pair(row: Row, prompt: str | tuple[Message, ...], sides: list[Any], where: str) -> Group:
    for side, name in zip(sides, ("chosen", "rejected"), strict=True):
        if not isinstance(side, str) and side[0].role != "assistant":
            raise DataError(f"{where}: the {name} answer begins with a turn of the {side[0].role}, not the assistant")
    if sides[0] == sides[1]:
        raise Useless("chosen equals rejected")
    models = [row.get("chosen_model"), row.get("rejected_model")]
    completions = tuple(Completion(s, m if isinstance(m, str) else None) for s, m in zip(sides, models, strict=True))
    return Group(prompt, completions, Preferences(((0, 1, 1.0),)), where=where)


def _implicit_prompt(row: Row, chosen: Any, rejected: Any, where: str) -> Group:
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise DataError(
            f"{where}: chosen and rejected are plain text without a prompt, and where the prompt ends is not guessed; "
            "add a 'prompt' field"
        )
    left, right = turns(chosen, where, "chosen"), turns(rejected, where, "rejected")
    common = 0
    while common < min(len(left), len(right)) - 1 and left[common] == right[common]:
        common += 1
    prompt = left[:common]
    if not prompt:
        raise DataError(f"{where}: chosen and rejected share no leading message, so there is no prompt")
    assert not isinstance(prompt, str)
    return _pair(row, prompt, [left[common:], right[common:]], where)


def _hh(row: Row, where: str) -> Group:
    sides = [_transcript(_field(row, name, where), where, name) for name in ("chosen", "rejected")]
    for side, name in zip(sides, ("chosen", "rejected"), strict=True):
        if side[-1].role != "assistant":
            raise Useless(f"the {name} transcript does not end with the assistant")
        if not side[-1].content.strip():
            raise Useless(f"an empty {name} answer")
    if sides[0][:-1] != sides[1][:-1]:
        raise Useless("the two transcripts have different prompts")
    return _pair(row, sides[0][:-1], [side[-1:] for side in sides], where)


def _transcript(text: Any, where: str, name: str) -> tuple[Message, ...]:
    if not isinstance(text, str) or not TURN.match(text):
        raise DataError(f"{where}: the {name} side is not a transcript that begins with '\\n\\nHuman:'")
    parts = TURN.split(text)[1:]
    found: list[Message] = []
    for speaker, content in zip(parts[::2], parts[1::2], strict=True):
        found.append(Message(SPEAKERS[speaker], content.strip()))
    return tuple(found)


def _ranked(row: Row, where: str) -> Group:
    prompt = turns(_field(row, "prompt", where), where, "prompt")
    answers, scores = [], []
    for c in _field(row, "completions", where):
        if isinstance(c, Mapping):
            text = c.get("text", c.get("content", c.get("messages")))
            answers.append(Completion(_answer(text, where, "completion"), c.get("model")))
            scores.append(c.get("score", -c["rank"] if isinstance(c.get("rank"), (int, float)) else None))
        else:
            answers.append(Completion(_answer(c, where, "completion")))
    scores = scores or list(row.get("scores") or [])
    given = [x for x in scores if x is not None]
    if given and len(given) != len(answers):
        raise DataError(f"{where}: {len(answers)} completions but {len(given)} scores or ranks")
    if any(isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x) for x in given):
        raise DataError(f"{where}: a score is not a finite number")
    feedback: Feedback = Scores(tuple(map(float, given))) if given else Unjudged()
    return Group(prompt, tuple(answers), feedback, where=where)


def _unpaired(row: Row, where: str) -> Group:
    label = row.get("label")
    if label not in (True, False, 0, 1) or isinstance(label, float):
        raise DataError(f"{where}: 'label' must be true or false, not {label!r}")
    prompt = turns(_field(row, "prompt", where), where, "prompt")
    answer = Completion(_answer(_field(row, "completion", where), where, "completion"))
    return Group(prompt, (answer,), Labels((bool(label),)), where=where)


def _sft(row: Row, where: str) -> Group:
    if "messages" in row:
        whole = turns(row["messages"], where, "conversation")
        if isinstance(whole, str) or whole[-1].role != "assistant" or len(whole) < 2:
            raise DataError(f"{where}: 'messages' must end with the assistant's answer to a prompt")
        return Group(whole[:-1], (Completion(whole[-1:]),), where=where)
    prompt = turns(_field(row, "prompt", where), where, "prompt")
    return Group(prompt, (Completion(_answer(_field(row, "completion", where), where, "completion")),), where=where)


SHAPES: dict[str, Callable[[Row, str], Group]] = {
    "burnish": from_json,
    "pairs": _pairs,
    "hh": _hh,
    "ranked": _ranked,
    "unpaired": _unpaired,
    "sft": _sft,
}
