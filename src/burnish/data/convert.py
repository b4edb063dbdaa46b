"""Groups -> burnish's own files: JSON lines (plain, gzip or zstd) or Parquet, whole or not at all. No torch.

In Parquet the column `group_json` holds the line of a JSONL file and is all that is read back; the other columns are
for people and for queries. Every group is read back from its text before it is written, and refused where it would
come back changed.
"""

from __future__ import annotations

import gzip
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

from burnish.errors import ConfigError, DataError, did_you_mean
from burnish.group import Group, Scores, from_json, to_json, transcript, whole_text

COLUMN = "group_json"
BLOCK_ROWS = 4096  # of a Parquet row group, at most
BLOCK_BYTES = 32 << 20  # of JSON text in a row group, about; bounds the memory that writing takes
KINDS = ("scores", "labels", "preferences", "unjudged")  # keys of a group's JSON, of which it has one


def write(groups: Iterable[Group], path: str, *, overwrite: bool = False) -> int:
    """Write the groups to `path`, in the form that its suffix names; returns their number.

    The file appears under its name when it is complete. Until then, and where anything fails, an older file stays.
    Raises ConfigError for an unknown suffix; DataError for a file that exists (unless `overwrite`), a folder that
    cannot be written, a full disk, a group that would not read back as it is, and where there are no groups at all.
    """
    put = _form_of(Path(path).name)
    target = Path(os.path.realpath(Path(path).expanduser()))  # a link stays a link
    if target.is_dir():
        raise DataError(f"{path} is a folder; name a file in it")
    if not target.parent.is_dir():
        raise DataError(f"{path} cannot be written: the folder {target.parent} does not exist")
    if target.exists() and not overwrite:
        raise DataError(f"{path} exists already; name another file, or replace it (--overwrite)")
    with _replacing(target, overwrite) as raw:
        count = put(groups, raw)
        if not count:
            raise DataError(f"there are no groups to write, so {path} is not written")
    return count


def _form_of(name: str) -> Callable[[Iterable[Group], BinaryIO], int]:
    for suffix, put in FORMS.items():
        if name.lower().endswith(suffix):
            return put
    given = "".join(Path(name).suffixes[-2:]).lower()
    forms = f"{', '.join(FORMS)}{did_you_mean(given, FORMS)}"
    raise ConfigError(f"{name}: the end of the name says what to write, and must be one of {forms}")


@contextmanager
def _replacing(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """A temporary file that takes the target's name at the end, and is removed where anything fails."""
    part = target.with_name(f".burnish-{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())  # a name must not outlive a crash that its content does not
        if target.exists() and not overwrite:
            raise DataError(f"{target} has appeared in the meantime, and is left as it is")
        os.replace(part, target)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror or error}; nothing was changed") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def line_of(group: Group) -> str:
    """The group as a line of JSON that `group.from_json` reads back equal (but for `where`).

    Raises DataError for half characters, and for what JSON or burnish's reader would change: numbers that are not
    finite, dates, keys that are no text.
    """
    where = group.where or group.id or "a group"
    try:
        text = json.dumps(to_json(group), ensure_ascii=False, allow_nan=False)
        text.encode()
        back = from_json(json.loads(text), where)
    except UnicodeEncodeError:
        raise DataError(f"{where}: the text holds a lone surrogate, half a character; mend the row") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: the group cannot be written as JSON: {error}") from None
    changed = [f.name for f in fields(group) if f.name != "where" and not _same(group, back, f.name)]
    if changed:
        raise DataError(f"{where}: '{changed[0]}' would not read back as it is (a key that is no text, or a null?)")
    return text


def _same(left: Any, right: Any, name: str | int) -> bool:
    """Whether a part of two records, lists or objects is equal, a tuple being as good as a list."""
    a, b = (getattr(x, str(name)) if is_dataclass(x) else x[name] for x in (left, right))
    if a == b:
        return True
    if is_dataclass(a):
        return type(a) is type(b) and all(_same(a, b, f.name) for f in fields(a))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a, b, key) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_same(a, b, place) for place in range(len(a)))
    return name == "model" and not a and not b  # an empty name is no name


# -------------------------------------------------------------------------------------------------------------- forms


def _lines(groups: Iterable[Group], stream: Any) -> int:
    count = 0
    for group in groups:
        stream.write(line_of(group).encode() + b"\n")
        count += 1
    return count


def _gzip(groups: Iterable[Group], raw: BinaryIO) -> int:
    # neither name nor time in the header: the same groups are the same bytes
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as stream:
        return _lines(groups, stream)


def _zstd(groups: Iterable[Group], raw: BinaryIO) -> int:
    import zstandard

    with zstandard.ZstdCompressor(level=6).stream_writer(raw, closefd=False) as stream:
        return _lines(groups, stream)


def _parquet(groups: Iterable[Group], raw: BinaryIO) -> int:
    import pyarrow
    import pyarrow.parquet

    texts = pyarrow.list_(pyarrow.string())
    schema = pyarrow.schema(
        [
            pyarrow.field(COLUMN, pyarrow.string(), nullable=False),
            ("id", pyarrow.string()),
            ("source", pyarrow.string()),
            ("feedback", pyarrow.string()),
            ("prompt_text", pyarrow.string()),
            ("answer_texts", texts),
            ("models", texts),
            ("scores", pyarrow.list_(pyarrow.float64())),
        ]
    )
    count = size = 0
    block: list[dict[str, Any]] = []
    with pyarrow.parquet.ParquetWriter(raw, schema, compression="zstd") as writer:
        for group in groups:
            block.append(_columns(group))
            count, size = count + 1, size + len(block[-1][COLUMN])
            if len(block) == BLOCK_ROWS or size >= BLOCK_BYTES:
                writer.write_table(pyarrow.Table.from_pylist(block, schema))
                block, size = [], 0
        if block:
            writer.write_table(pyarrow.Table.from_pylist(block, schema))
    return count


def _columns(group: Group) -> dict[str, Any]:
    """A row of Parquet: the whole group as text, and what people look at and query by."""
    text = line_of(group)
    row = to_json(group)
    return {
        COLUMN: text,
        "id": group.id,
        "source": group.source,
        "feedback": next(kind for kind in KINDS if kind in row),
        "prompt_text": transcript(group.prompt, "\n"),
        "answer_texts": [whole_text(c.messages) for c in group.completions],
        "models": [c.model for c in group.completions],
        "scores": list(group.feedback.values) if isinstance(group.feedback, Scores) else None,
    }


FORMS: dict[str, Callable[[Iterable[Group], BinaryIO], int]] = {
    ".jsonl": _lines,
    ".jsonl.gz": _gzip,
    ".jsonl.zst": _zstd,
    ".parquet": _parquet,
}
