"""Files, folders and hub data sets -> rows with their place (`file:row`), one at a time. Every fault is a sentence.

A file is recognised by its first bytes, not by its name: gzip, zstd, bz2, xz, Parquet, Arrow, a ballot's SQLite, a
JSON array, or JSON lines; only CSV goes by its name. A fault of the container (a cut gzip stream, a web page) ends the
reading with a DataError. A fault of a row is a `Fault` in the row's place, so that a report can name many at once. At
most one row is held in memory, and no row may be longer than `LONGEST_ROW`.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from burnish.data.readers.ballot import MAGIC, ballot_rows
from burnish.data.readers.folders import SUFFIXES, files_of, plain_suffix
from burnish.data.readers.values import Fault, no_constant, object_of, parsed
from burnish.errors import DataError

LONGEST_ROW = 1 << 28  # bytes; a file without line ends would otherwise be read whole


Placed = tuple[str, Any]  # (`file:row`, the row's value or a Fault)


def rows(path: str, split: str) -> Iterator[Placed]:
    """Every row of a file, a folder, or a hub data set. Raises DataError where a source cannot be read on."""
    try:
        local = Path(path).expanduser()
        local.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path[:200]} cannot be looked at: {error}") from None
    if local.is_file():
        yield from _file(local)
    elif local.is_dir():
        for file in files_of(local):
            yield from _file(file)
    elif local.exists():
        raise DataError(f"{path} is neither a file nor a folder")
    elif path.startswith((".", "/", "~")) or path.count("/") != 1 or plain_suffix(local) in SUFFIXES:
        raise DataError(f"{path} does not exist: no such file or folder")
    else:
        yield from _hub(path, split)


def _hub(name: str, split: str) -> Iterator[Placed]:
    from datasets import load_dataset

    try:
        dataset = load_dataset(name, split=split)
    except Exception as error:  # the library raises a dozen kinds; all mean the same to the user
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{name} is no local file, and could not be loaded as a hub data set: {reason}") from error
    for number, row in enumerate(dataset):
        yield f"{name}:{number + 1}", _as_written(row)


def _file(file: Path) -> Iterator[Placed]:
    with _explained(file), file.open("rb") as raw:
        magic = raw.read(8)
        raw.seek(0)
        if magic.startswith(b"PAR1"):
            yield from _parquet(file)
        elif magic.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
            yield from _arrow(file)
        elif magic == MAGIC:
            yield from ballot_rows(file)
        elif magic.startswith(b"PK\x03\x04"):
            raise DataError(f"{file} is a ZIP archive (or an office document); unpack it first")
        else:
            yield from _text(file, _unpacked(raw, magic))


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Faults of reading and unpacking, as sentences."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{file}: the compressed stream is corrupt or cut short: {error}") from error
    except csv.Error as error:
        raise DataError(f"{file} is not sound CSV: {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _unpacked(raw: Any, magic: bytes) -> Any:
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw)
    if magic[:3] == b"BZh":
        return bz2.BZ2File(raw)
    if magic[:6] == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(raw)
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        return io.BufferedReader(_Zstd(raw))
    return raw


class _Zstd(io.RawIOBase):
    """A reader of zstd streams that notices a stream that ends early; zstandard's reader does not."""

    def __init__(self, raw: Any) -> None:
        import zstandard

        self.error = zstandard.ZstdError
        self.decoder = zstandard.ZstdDecompressor().decompressobj()
        self.raw, self.left, self.inside = raw, b"", False
        self.fresh = zstandard.ZstdDecompressor

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.left:
            piece = self.decoder.unused_data or self.raw.read(1 << 16)
            if not piece:
                if self.inside:
                    raise EOFError("unexpected end of the zstd stream")
                return 0
            if self.decoder.eof:
                self.decoder = self.fresh().decompressobj()
            try:
                self.left = self.decoder.decompress(piece)
            except self.error as error:
                raise EOFError(str(error)) from error
            self.inside = not self.decoder.eof
        size = min(len(buffer), len(self.left))
        buffer[:size], self.left = self.left[:size], self.left[size:]
        return size


# ----------------------------------------------------------------------------------------------------------- text


def _text(file: Path, stream: Any) -> Iterator[Placed]:
    reader = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
    start: bytes = reader.peek(64)[:64]
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{file}:1: the encoding is UTF-16; save the file as UTF-8")
    if start.startswith(b"\xef\xbb\xbf"):
        reader.read(3)
        start = start[3:]
    first = start.lstrip()[:1]
    if first == b"<":
        raise DataError(f"{file}:1: an HTML or XML page, not data; it looks like a failed download")
    if plain_suffix(file) in (".csv", ".tsv"):
        yield from _csv(file, reader, "\t" if plain_suffix(file) == ".tsv" else ",")
    elif first == b"[":
        yield from _array(file, reader)
    elif plain_suffix(file) == ".json":
        yield from _json(file, reader)
    else:
        yield from _lines(file, reader)


def _lines(file: Path, stream: Any) -> Iterator[Placed]:
    """JSON lines; a record separator (RFC 7464) before a record is taken off."""
    number = 0
    while line := stream.readline(LONGEST_ROW):
        number += 1
        where = f"{file}:{number}"
        if len(line) == LONGEST_ROW:
            raise DataError(f"{where}: a line of more than {LONGEST_ROW >> 20} MiB; are there line ends at all?")
        line = line.strip(b" \t\r\n\x1e")
        if line:
            yield where, parsed(line, where)


def _json(file: Path, stream: Any) -> Iterator[Placed]:
    """A .json file that is no array: JSON lines under another name, a single object, or {"data": [...]}."""
    head = stream.readline(LONGEST_ROW)
    body = head + stream.read(LONGEST_ROW)
    if not isinstance(parsed(head.strip() or b"?", ""), Fault) and body.strip() != head.strip():
        yield from _lines(file, io.BytesIO(body + stream.read()))
        return
    if len(body) >= LONGEST_ROW:
        raise DataError(f"{file}: one JSON object of more than {LONGEST_ROW >> 20} MiB; write one object per line")
    value = parsed(body.strip(), f"{file}:1") if body.strip() else None
    if isinstance(value, Mapping) and isinstance(value.get("data"), list):
        yield from ((f"{file}:{number}", row) for number, row in enumerate(value["data"], 1))
    elif isinstance(value, Mapping) and value and all(isinstance(column, list) for column in value.values()):
        names = ", ".join(map(str, value))
        raise DataError(
            f"{file}:1: columns ({names}), not rows: text was expected, a list found; write an object a row"
        )
    elif value is not None:
        yield f"{file}:1", value


def _array(file: Path, stream: Any) -> Iterator[Placed]:
    """The items of a JSON array, each read as it comes; the array is never held whole."""
    decoder = json.JSONDecoder(object_pairs_hook=object_of, parse_constant=no_constant)
    text = io.TextIOWrapper(stream, encoding="utf-8")
    buffer, at, number, size = "", 0, 0, 1 << 16
    expected = "["
    try:
        while True:
            while at < len(buffer) and buffer[at] in " \t\r\n":
                at += 1
            ended = False
            if at < len(buffer):
                if expected in "[,":
                    if buffer[at] == "]" and number:
                        _nothing_behind(buffer[at + 1 :], text)
                        return
                    if buffer[at] != expected:
                        raise ValueError(f"'{expected}' expected after item {number}")
                    at, expected = at + 1, "item"
                    continue
                if buffer[at] == "]" and not number:
                    _nothing_behind(buffer[at + 1 :], text)
                    return
                try:
                    row, at = decoder.raw_decode(buffer, at)
                    number, expected, size = number + 1, ",", 1 << 16
                    yield f"{file}:{number}", row
                    continue
                except json.JSONDecodeError:
                    ended = len(buffer) - at > LONGEST_ROW
                    size *= 2  # an item longer than what was read: twice as much next time, not bit by bit
            piece = "" if ended else text.read(size)
            if not piece:
                decoder.decode(buffer[at:] or "?")
                raise ValueError("the array does not end")
            buffer, at = buffer[at:] + piece, 0
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 after item {number} ({error.reason})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}:{number + 1}: the JSON array cannot be read on: {error}") from None


def _nothing_behind(rest: str, text: io.TextIOWrapper) -> None:
    """Raises ValueError where more than white space follows the end of an array."""
    while rest or (rest := text.read(1 << 16)):
        if rest.strip():
            raise ValueError("more follows behind the end of the array; write one array, or one object a line")
        rest = ""


def _csv(file: Path, stream: Any, delimiter: str) -> Iterator[Placed]:
    """Records of a CSV file with a header; the place is the line on which a record begins."""
    csv.field_size_limit(LONGEST_ROW)
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
        if len(set(names)) < len(names):
            raise DataError(f"{file}:1: a column name stands twice in the header: {', '.join(names)[:200]}")
        line = reader.line_num + 1
        for values in reader:
            where, line = f"{file}:{line}", reader.line_num + 1
            if values and len(values) != len(names):
                yield where, Fault(where, f"{where}: {len(values)} fields under {len(names)} column names")
            elif values:
                yield where, dict(zip(names, values, strict=True))
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 ({error.reason} after line {reader.line_num})") from None


# -------------------------------------------------------------------------------------------------------- columns


def _parquet(file: Path) -> Iterator[Placed]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            number = 0
            _columns_once(file, table.schema_arrow.names)
            for batch in table.iter_batches(batch_size=512):
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    number += 1
                    yield f"{file}:{number}", _as_written(row)
    except (pyarrow.ArrowException, OSError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{file} is not a sound Parquet file: {str(error).splitlines()[0]}") from None


def _as_written(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without the nulls that a columnar file puts in objects, whose fields are the same in all its rows.

    Null columns and null items of lists stay.
    """
    return {name: _without_nulls(value) for name, value in row.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _columns_once(file: Path, names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{file}: the column '{twice}' stands twice, and which is meant is not guessed")


def _arrow(file: Path) -> Iterator[Placed]:
    """Arrow's file form (feather), or its stream form, in which the datasets library saves."""
    import pyarrow

    try:
        source = pyarrow.memory_map(str(file))
        if source.read(6) == b"ARROW1":
            table = pyarrow.ipc.open_file(source)
            batches = (table.get_batch(index) for index in range(table.num_record_batches))
        else:
            source.seek(0)
            batches = iter(pyarrow.ipc.open_stream(source))
        number = 0
        for batch in batches:
            _columns_once(file, batch.schema.names)
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                number += 1
                yield f"{file}:{number}", _as_written(row)
    except (pyarrow.ArrowException, OSError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{file} is not a sound Arrow file: {str(error).splitlines()[0]}") from None
