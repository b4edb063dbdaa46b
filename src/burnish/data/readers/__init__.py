"""Files and hub data sets in the field's formats -> groups.

A row's format is recognised by its columns, and reported. A row that cannot be read is a `Fault`: a sentence with file
and row. A row that is whole but useless (an empty answer, two equal answers, transcripts with different prompts) is
`Skipped`, counted and reported.

In what order to read it:

    values      a JSON text -> its value, or a Fault
    folders     which files of a folder hold its rows
    ballot      a ballot's file -> its voted pairs
    files       files, folders and hub data sets -> rows with their places
    messages    messages and tools as files hold them -> as chat templates take them
    shapes      the common formats: pairs, hh, ranked, unpaired, sft, corrections, burnish's record
    misspelt    columns that nearly have a name that is read
    columns     what the formats of single projects share
    formats     the formats of single projects; votes: two answers and a vote; factory: LLaMA-Factory's
    prompts     prompts without answers to learn from
    __init__    a source -> its groups: recognises the format, names groups, collects faults

How to add a format: a function `(row, where) -> Group` and the rule that recognises its rows, in a row of
`formats.FORMATS` (or `prompts.PROMPTS`). The rule must hold for no row of another format, which a test checks against
a sample row of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.data.readers.files import rows
from burnish.data.readers.formats import FORMATS
from burnish.data.readers.messages import columns_decoded, tools_of
from burnish.data.readers.misspelt import hint, misspelt, refuse_misspelt
from burnish.data.readers.prompts import PROMPTS
from burnish.data.readers.shapes import RECOGNISED, SHAPES, Row, Useless
from burnish.data.readers.values import Fault
from burnish.errors import DataError, did_you_mean
from burnish.findings import counted
from burnish.group import Group

READERS: dict[str, Callable[[Row, str], Group | list[Group]]] = {
    **SHAPES,
    **{name: reader for name, (_, reader) in FORMATS.items()},
    **{name: reader for name, (_, reader) in PROMPTS.items()},
}
SIGNS: dict[str, Callable[[Row], bool]] = {
    **RECOGNISED,
    **{name: sign for name, (sign, _) in FORMATS.items()},
    **{name: sign for name, (sign, _) in PROMPTS.items()},
}
FAULTS_LISTED = 5  # in a refusal; `burnish audit` lists more
SPECIAL_COLUMNS = ("source", "dataset", "subset")


@dataclass(frozen=True)
class Skipped:
    """A row left out, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class ReadResult:
    """What a source held."""

    groups: list[Group]
    format: str  # as which they were read
    skipped: tuple[Skipped, ...]  # rows left out
    note: str = ""  # how the format was chosen
    faults: tuple[Fault, ...] = ()  # rows that cannot be read


class Stream:
    """The groups of a source, at most `limit`, one by one, with skipped rows and faults in their places.

    `format` is known once the first row is read. Iterating raises DataError where the source cannot be read on.
    """

    def __init__(self, path: str, *, format: str = "auto", split: str = "train", limit: int | None = None) -> None:
        if format != "auto" and format not in READERS:
            formats = f"{', '.join(['auto', *READERS])}{did_you_mean(format, READERS)}"
            raise DataError(f"data.format = '{format}' is none of {formats}")
        self.path, self.format, self.split, self.limit = path, format, split, limit
        self.recognised = format == "auto"

    @property
    def note(self) -> str:
        return "(recognised by its fields)" if self.recognised else "(as data.format says)"

    def __iter__(self) -> Iterator[Group | Skipped | Fault]:
        read = 0
        for item in self._items():
            yield item
            read += isinstance(item, Group)
            if read == self.limit:
                return

    def _items(self) -> Iterator[Group | Skipped | Fault]:
        first = ""
        for number, (where, row) in enumerate(rows(self.path, self.split)):
            if isinstance(row, Fault):
                yield row
                continue
            if not isinstance(row, Mapping):
                yield Fault(where, f"{where}: a row must be an object with named fields, not a {type(row).__name__}")
                continue
            try:
                row = row if SIGNS["burnish"](row) else columns_decoded(row, where)
                if self.format == "auto":
                    self.format, first = detect(row, where), where
                if self.recognised or self.format != "prompts":  # else the prompts alone are asked for
                    refuse_misspelt(row, self.format, where)
                if self.recognised and not SIGNS[self.format](row):
                    _refuse_other_format(row, where)
                groups = READERS[self.format](row, where)
                tools = tools_of(row.get("tools"), where)
                _refuse_unread_columns(row, self.format, where)
            except Useless as useless:
                yield Skipped(where, str(useless))
            except DataError as error:
                yield Fault(where, f"{error}{self._misfit(row, where, first)}")
            except (
                KeyError,
                TypeError,
                AttributeError,
                IndexError,
                ValueError,
                OverflowError,
                RecursionError,
            ) as error:
                reason = f"{where}: not a row of the format '{self.format}': {type(error).__name__} {str(error)[:200]}"
                yield Fault(where, f"{reason}{self._misfit(row, where, first)}")
            else:
                yield from _named(groups, row, tools, self.path, number)

    def _misfit(self, row: Row, where: str, first: str) -> str:
        """What to add to a row's fault where another format would have read it: the file mixes shapes."""
        if not first or where == first or SIGNS[self.format](row):
            return ""
        return f" (the file is read as '{self.format}', as {first} is; this row has other fields: {_listed(row)})"


def read(
    path: str, *, format: str = "auto", split: str = "train", limit: int | None = None, keep_faults: bool = False
) -> ReadResult:
    """Read a file, a folder of files, or a hub data set.

    Raises DataError with file, row and reason for each row that cannot be read; with `keep_faults` those rows are
    returned as faults instead.
    """
    stream = Stream(path, format=format, split=split, limit=limit)
    groups: list[Group] = []
    skipped: list[Skipped] = []
    faults: list[Fault] = []
    for item in stream:
        if isinstance(item, Fault):
            faults.append(item)
        elif isinstance(item, Skipped):
            skipped.append(item)
        else:
            groups.append(item)
    if faults and not keep_faults:
        raise DataError(refusal(faults))
    if not groups and not skipped and not faults:
        raise DataError(f"{path} is empty: it holds no rows")
    return ReadResult(groups, stream.format, tuple(skipped), stream.note, tuple(faults))


def refusal(faults: list[Fault]) -> str:
    """The message about rows that cannot be read: the first few of them, and how to go on without them."""
    more = f"\n... and {len(faults) - FAULTS_LISTED} more" if len(faults) > FAULTS_LISTED else ""
    count = counted(len(faults), "row")
    way = f"\n{count} cannot be read; mend the file, or leave such rows out with data.bad_rows=skip"
    return "\n".join(fault.message for fault in faults[:FAULTS_LISTED]) + more + way


def detect(row: Row, where: str) -> str:
    """The format of a row by its fields. Raises DataError where several formats fit, or none does."""
    fitting = [name for name, sign in SIGNS.items() if sign(row)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        ways = " or ".join(f"data.format={name}" for name in fitting)
        raise DataError(
            f"{where}: fields {_listed(row)} can be read as {' and as '.join(fitting)}, and which is meant is not "
            f"guessed; say {ways}"
        )
    alone = "; to take the prompts alone, say data.format=prompts" if "prompt" in row else ""
    raise DataError(
        f"{where}: fields {_listed(row)} are no known format; for preferences give the columns prompt, chosen and "
        f"rejected{hint(misspelt(row)) or alone}"
    )


def _refuse_other_format(row: Row, where: str) -> None:
    """Raises DataError for a row that has the fields of a format, which is not that of its file."""
    others = [name for name, sign in SIGNS.items() if sign(row)]
    if others:
        raise DataError(f"{where}: a row of the format {' or '.join(others)}")


def _listed(row: Row) -> str:
    names = ", ".join(repr(str(name)[:40]) for name in list(row)[:12])
    return f"{names}, ..." if len(row) > 12 else names or "(none)"


def _refuse_unread_columns(row: Row, format: str, where: str) -> None:
    """Columns that would change the prompt, in a format that does not read them. Raises DataError."""
    if format not in SHAPES or format == "burnish":
        return
    for name in ("system", "image", "images", "videos", "audios"):
        if row.get(name):
            way = "make it the first message of the prompt" if name == "system" else "only text is trained on"
            raise DataError(f"{where}: the column '{name}' would be passed over: {way}")


def _named(
    read: Group | list[Group], row: Row, tools: tuple[Mapping[str, Any], ...], path: str, number: int
) -> Iterator[Group]:
    """The groups with ids, sources and tools where the format's function set none. `meta.subset` is the row's subset
    (RewardBench, LLMBar), even where that is the source, too."""
    groups = read if isinstance(read, list) else [read]
    name = str(row.get("id") or f"{Path(path).name}:{number + 1}")
    given = next((row[key] for key in SPECIAL_COLUMNS if isinstance(row.get(key), str) and row[key]), "")
    subset = {"subset": row["subset"]} if isinstance(row.get("subset"), str) and row["subset"] else {}
    for index, group in enumerate(groups):
        yield replace(
            group,
            id=group.id or (name if len(groups) == 1 else f"{name}/{index + 1}"),
            source=group.source or given or Path(path).name,
            tools=group.tools or tools,
            meta={**subset, **group.meta},
        )
