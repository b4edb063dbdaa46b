"""Files and hub data sets in the field's formats -> groups. What a row is, is decided by its shape and said.

A row that cannot be read is a sentence with file and row. Rows that are whole but useless (an empty answer, two equal
answers, a transcript whose prompts differ) are left out, counted, and reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from burnish.errors import DataError
from burnish.group import Group
from burnish.readers.files import rows
from burnish.readers.shapes import SHAPES, Row, Useless, detect


@dataclass(frozen=True)
class Skipped:
    """A row left out, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class ReadResult:
    """The groups of a source, the format they were read as, and the rows left out."""

    groups: list[Group]
    format: str
    skipped: tuple[Skipped, ...]
    note: str = ""


def read(path: str, *, format: str = "auto", split: str = "train", limit: int | None = None) -> ReadResult:
    """Read a file, a folder of files, or a hub data set. Raises DataError with file, row and reason."""
    if format != "auto" and format not in SHAPES:
        raise DataError(f"data.format = '{format}' is none of {', '.join(['auto', *SHAPES])}")
    chosen = format
    groups: list[Group] = []
    skipped: list[Skipped] = []
    for number, (where, row) in enumerate(rows(path, split)):
        if limit is not None and number >= limit:
            break
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: a row must be an object with named fields, not a {type(row).__name__}")
        if chosen == "auto":
            chosen = detect(row, where)
        try:
            group = SHAPES[chosen](row, where)
        except Useless as useless:
            skipped.append(Skipped(where, str(useless)))
            continue
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where}: not a row of the format '{chosen}': {error}") from None
        groups.append(_named(group, row, path, number))
    if not groups and not skipped:
        raise DataError(f"{path} holds no rows")
    return ReadResult(groups, chosen, tuple(skipped), "" if format != "auto" else "(recognised by its fields)")


def _named(group: Group, row: Row, path: str, number: int) -> Group:
    name = str(row.get("id") or f"{Path(path).name}:{number + 1}")
    return Group(
        group.prompt, group.completions, group.feedback, group.id or name, group.source or Path(path).name,
        group.where, group.tools or tuple(row.get("tools") or ()), group.meta,
    )  # fmt: skip
