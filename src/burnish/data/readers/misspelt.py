"""Columns whose names are nearly those that a format reads: no row is read without what they hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

from burnish.data.identity import SIDE_SCORES
from burnish.errors import DataError

WORD = re.compile(r"[^\W_]+")
NEAR = 0.8  # difflib's ratio: `lable` for `label`
PAIR = ("prompt", "chosen", "rejected")
BESIDE = ("tools", "system")  # columns that any format may have
COLUMNS: dict[str, tuple[str, ...]] = {  # what the rows of a format may hold, besides `BESIDE`
    "pairs": (*PAIR, "margin", *chain(*SIDE_SCORES)),
    "hh": PAIR,
    "ranked": ("prompt", "completions", "scores"),
    "unpaired": ("prompt", "completion", "messages", "label"),
    "sft": ("prompt", "completion", "messages", "label"),
    "corrections": ("prompt", "better", "worse"),
    "prompts": (*PAIR, "completion", "completions", "messages", "label"),
}
ANY = tuple(dict.fromkeys(chain(*COLUMNS.values())))


def _scalar(value: Any) -> bool:
    return not isinstance(value, (list, Mapping))


KINDS: dict[str, Callable[[Any], bool]] = {  # columns whose values tell them from others with such a name
    "label": _scalar,
    "scores": lambda value: isinstance(value, list),
    "messages": lambda value: isinstance(value, list),
    "tools": lambda value: not _scalar(value) or str(value).lstrip()[:1] in ("[", "{"),
    **dict.fromkeys(("margin", *chain(*SIDE_SCORES)), lambda value: _scalar(value) and not isinstance(value, bool)),
}


def misspelt(row: Mapping[str, Any], format: str = "") -> dict[str, str]:
    """Column -> the name that it nearly has, of those that the format (by default any) reads and the row lacks.

    A name with another number of words (`prompt_id`) is another name.
    """
    names: dict[str, str] = {}
    for name, value in row.items():
        if name in ANY or name in BESIDE or value is None or value == "":
            continue
        for near in _near(str(name), format):
            if row.get(near) is None and near not in names.values() and KINDS.get(near, lambda _: True)(value):
                names[str(name)] = near
                break
    return names


def refuse_misspelt(row: Mapping[str, Any], format: str, where: str) -> None:
    """Raises DataError for a row of one of the formats of `COLUMNS` in which a column is misspelt."""
    if format in COLUMNS and (names := misspelt(row, format)):
        raise DataError(f"{where}: a column would be passed over{hint(names)}")


def hint(names: Mapping[str, str]) -> str:
    """`; did you mean 'prompt' by 'promt'?`, or nothing."""
    listed = ", ".join(f"'{near}' by '{name[:40]}'" for name, near in names.items())
    return f"; did you mean {listed}?" if listed else ""


@lru_cache(maxsize=4096)
def _near(name: str, format: str) -> list[str]:
    """The names of a format's columns that are like this one, the likest first."""
    plain = name.strip().lower()
    known = [column for column in (*COLUMNS.get(format, ANY), *BESIDE) if _words(column) == _words(plain)]
    return difflib.get_close_matches(plain, known, cutoff=NEAR)


def _words(name: str) -> int:
    return len(WORD.findall(name))
