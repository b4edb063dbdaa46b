"""What the formats of single projects share: texts, numbers and flags of a row, and its other columns as meta."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from burnish.data.readers.shapes import Row, _field
from burnish.data.readers.values import flag
from burnish.errors import DataError
from burnish.group import LARGEST, Group, trainable

# name -> (the rule that recognises a row by its columns, the function that reads it into one group or several)
Formats = dict[str, tuple[Callable[[Row], bool], Callable[[Row, str], Group | list[Group]]]]

IDS = ("id", "prompt_id", "question_id")
SOURCES = ("source", "dataset", "subset")
MEDIA = ("image", "images", "videos", "audios")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def absent(value: Any) -> bool:
    """Whether a column is empty: null, or an empty text, list or object (CSV has no null)."""
    return value is None or (isinstance(value, (str, list, tuple, Mapping)) and not value)


def text_of(row: Row, name: str, where: str) -> str:
    """The text in a column, which may be empty. Raises DataError where it is missing, null or no text."""
    value = _field(row, name, where)
    if not isinstance(value, str):
        raise DataError(f"{where}: '{name}' must be text, not of the type {type(value).__name__}")
    return value


def number_of(row: Row, name: str, where: str) -> float:
    """The number in a column, also written as text (as in CSV). Raises DataError for anything else, and for one that
    is too large to train on."""
    value = _field(row, name, where)
    finite = number(value)
    if finite is None or not trainable(finite):
        raise DataError(
            f"{where}: '{name}' must be a finite number, at most {LARGEST:g} in size, not {str(value)[:40]!r}"
        )
    return finite


def number(value: Any) -> float | None:
    """The value as a finite number, or None."""
    written = isinstance(value, str) and NUMBER.fullmatch(value.strip())
    if isinstance(value, bool) or not (written or isinstance(value, (int, float))):
        return None
    try:
        converted = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return converted if math.isfinite(converted) else None


def flag_of(row: Row, name: str, where: str) -> bool:
    """True or false, as `values.flag` reads it. Raises DataError for anything else."""
    value = flag(_field(row, name, where))
    if value is None:
        raise DataError(f"{where}: '{name}' must be true or false, not {str(row[name])[:40]!r}")
    return value


def parsed_json(text: str) -> Any:
    """The JSON value that a column holds as text, or None where it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def refuse_media(row: Row, where: str) -> None:
    """Raises DataError for a row with pictures or sound: without them its text would teach answers to nothing."""
    for name in MEDIA:
        if not absent(row.get(name)):
            raise DataError(f"{where}: the row comes with '{name}', and only text is trained on; leave such rows out")


def plain(value: Any) -> Any:
    """The value as JSON can hold it (Parquet has dates and bytes, and numbers that are not finite)."""
    if value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return str(value)


def about(group: Group, row: Row, *used: str) -> Group:
    """The group with the row's id and source, and in its meta every column that is neither empty nor in `used`.

    What the group has already (an id, a source, a key of its meta) stays.
    """
    name = next((key for key in IDS if isinstance(row.get(key), (str, int)) and not absent(row[key])), "")
    origin = next((key for key in SOURCES if isinstance(row.get(key), str) and row[key]), "")
    taken = {name, origin, *used}
    meta = {str(key): plain(value) for key, value in row.items() if key not in taken and not absent(value)}
    return replace(
        group,
        id=group.id or (str(row[name]) if name else ""),
        source=group.source or (row[origin] if origin else ""),
        meta={**meta, **group.meta},
    )
