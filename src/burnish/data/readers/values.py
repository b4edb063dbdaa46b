"""A JSON text -> its value, or a `Fault` with place and reason; yes and no as files write them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """A row that cannot be read. Example: `Fault("a.jsonl:7", "a.jsonl:7: not JSON: Expecting value: ...")`."""

    where: str  # `file:row`
    message: str  # the sentence for the user, its place included


FLAGS = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}


def flag(value: Any) -> bool | None:
    """Yes or no: true and false, 1 and 0, and both as words (CSV has nothing else); None for anything else."""
    return FLAGS.get(str(value).strip().lower()) if isinstance(value, (bool, int, float, str)) else None


def parsed(line: bytes, where: str) -> Any:
    """The value of a line, or a Fault."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return Fault(where, f"{where}: not UTF-8 (byte {line[error.start]:#04x} at {error.start})")
    try:
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=object_of)
    except (ValueError, RecursionError) as error:
        return Fault(where, f"{where}: not JSON: {error}{_hint(text, error)}")


def _hint(text: str, error: Exception) -> str:
    if "," in text[:200] and "{" not in text[:200]:
        return "; is it a CSV file?"
    if str(error).startswith("Extra data"):
        return "; more than one JSON value in the line: are its line ends CR only?"
    if text.strip() in ("{", "[") or (text.startswith("{") and "}" not in text):
        return "; one whole object per line is wanted: this one is spread over lines, or cut short"
    if text.startswith("{'"):
        return "; single quotes: a Python dict, not JSON"
    return ""


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key: '{twice[:40]}' stands twice in one object, and which is meant is not guessed")
    return value


def no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")
