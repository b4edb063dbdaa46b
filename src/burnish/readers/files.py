"""Files, folders and hub data sets -> rows with their place (`file:row`). Every fault is a sentence."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from burnish.errors import DataError

SUFFIXES = (".jsonl", ".json", ".parquet", ".ndjson")


def rows(path: str, split: str) -> Iterator[tuple[str, Any]]:
    """(`file:row`, object) of every row of a file, a folder, or a hub data set."""
    local = Path(path)
    if local.is_file():
        yield from _file(local)
    elif local.is_dir():
        files = sorted(p for p in local.rglob("*") if p.is_file() and _plain_suffix(p) in SUFFIXES)
        if not files:
            raise DataError(f"{path} is a folder without {', '.join(SUFFIXES)} files")
        for file in files:
            yield from _file(file)
    elif path.startswith((".", "/", "~")) or path.count("/") != 1 or _plain_suffix(local) in SUFFIXES:
        raise DataError(f"there is no file or folder {path}")
    else:
        yield from _hub(path, split)


def _plain_suffix(file: Path) -> str:
    return Path(file.stem).suffix if file.suffix in (".gz", ".zst") else file.suffix


def _hub(name: str, split: str) -> Iterator[tuple[str, Any]]:
    from datasets import load_dataset

    try:
        found = load_dataset(name, split=split)
    except Exception as error:  # the library raises a dozen kinds; all mean the same to the user
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{name} is no local file, and could not be loaded as a hub data set: {reason}") from error
    for number, row in enumerate(found):
        yield f"{name}:{number + 1}", row


def _file(file: Path) -> Iterator[tuple[str, Any]]:
    if _plain_suffix(file) == ".parquet":
        yield from _parquet(file)
        return
    with _open(file) as stream:
        start = stream.read(1)
        while start and start.isspace():
            start = stream.read(1)
        stream.seek(0)
        if start == "<":
            raise DataError(f"{file} is an HTML or XML page, not data; it looks like a failed download")
        if start == "[":
            yield from _array(file, stream.read())
        elif _plain_suffix(file) == ".json":
            yield from _json(file, stream.read())
        else:
            yield from _lines(file, stream)


def _open(file: Path) -> io.TextIOBase:
    """The file's text, unpacked; decoding and unpacking faults become sentences where they are met."""
    raw = file.read_bytes()
    try:
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        elif raw[:4] == b"\x28\xb5\x2f\xfd":
            import zstandard

            raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read()
    except Exception as error:
        raise DataError(f"{file} cannot be unpacked ({error}); it may be cut short") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{file} is UTF-16; save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{file}:{row}: not UTF-8 (byte {raw[error.start]:#04x})") from None
    return io.StringIO(text, newline="\n")


def _lines(file: Path, stream: Any) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield f"{file}:{number}", _parsed(line, f"{file}:{number}")


def _array(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    found = _parsed(text, str(file))
    if not isinstance(found, list):
        raise DataError(f"{file}: not a list of rows")
    for number, row in enumerate(found, 1):
        yield f"{file}:{number}", row


def _json(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    found = _parsed(text, str(file))
    if isinstance(found, Mapping) and isinstance(found.get("data"), list):
        found = found["data"]
    elif isinstance(found, Mapping) and found and all(isinstance(v, list) for v in found.values()):
        raise DataError(f"{file} holds columns, not rows; write one object per row")
    for number, row in enumerate(found if isinstance(found, list) else [found], 1):
        yield f"{file}:{number}", row


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        hint = "; is it a CSV file?" if "," in text[:200] and "{" not in text[:200] else ""
        raise DataError(f"{where}: not JSON: {error}{hint}") from None


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} is not a Parquet file: {str(error).splitlines()[0]}") from None
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{file}:{number}", row
