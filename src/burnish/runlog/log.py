"""A run's log: the only writer and the only reader of `log.jsonl`, one record a line, appended and flushed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TextIO

from burnish.errors import DataError, StoreError
from burnish.runlog import records
from burnish.runlog.lock import Lock
from burnish.runlog.records import AlarmRecord, CompletionRecord, EndRecord, R, Record, RefreshRecord


class Listener(Protocol):
    """Called with every record once it is written, and closed with the log. It must neither raise nor wait for long."""

    def __call__(self, record: Record) -> None: ...

    def close(self) -> None: ...


class RunLog:
    """Appends records to `log.jsonl`. A log that cannot be written raises StoreError at once.

    Text that is no Unicode (half of a surrogate pair in somebody's data) is written as the JSON escape that it is.
    `lock`: the folder's, which is looked at with each record that is no completion's.
    """

    def __init__(self, folder: Path, *, silent: bool = False, lock: Lock | None = None) -> None:
        self.silent = silent  # one of several processes, of which another writes
        self.lock = lock
        self.path = Path(os.devnull) if silent else folder / "log.jsonl"
        self.listeners: list[Listener] = []
        try:
            if not silent:
                _drop_cut_line(self.path)
            self._stream = self._open()
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror}") from error

    def _open(self) -> TextIO:
        return self.path.open("a", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for listener in self.listeners:
                listener.close()
        finally:
            self._stream.close()

    def write(self, record: Record) -> None:
        """Append a record, with the time. Raises StoreError."""
        record = replace(record, time=round(time.time(), 3))
        try:
            self._stream.write(json.dumps(records.to_row(record), ensure_ascii=False) + "\n")
            if not isinstance(record, CompletionRecord):  # a step's record follows them and carries them to disk
                self._stream.flush()
                self.path.stat()
                if self.lock is not None:
                    self.lock.hold()
        except FileNotFoundError:
            gone = self.path if self.path.parent.is_dir() else self.path.parent
            raise StoreError(f"{gone} is gone: it was deleted or moved while the run wrote into it") from None
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror}. Free some space") from error
        for listener in self.listeners:
            listener(record)

    def cut_after(self, step: int, refresh: int | None = None) -> None:
        """Drop what was recorded after `step`, so that a resumed run repeats no record. `refresh`: the last step whose
        refresh is kept, with its alarms; None: `step`, too. Raises StoreError."""
        if self.silent:
            return
        self._stream.close()
        limits = {kind: step if refresh is None else refresh for kind in (RefreshRecord.kind, AlarmRecord.kind)}
        rows = [row for row in read_rows(self.path.parent) if row["record"] != EndRecord.kind]
        kept = [row for row in rows if int(row.get("step", 0)) <= limits.get(row["record"], step)]
        rewrite(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), "backslashreplace")
        self._stream = self._open()


def rewrite(file: Path, text: str, errors: str) -> None:
    """Replace a file's whole text at once: who is killed meanwhile leaves the old one. `errors`: what becomes of half a
    surrogate pair, as Python names it. Raises StoreError."""
    part = file.with_suffix(".part")
    try:
        try:
            part.write_text(text, encoding="utf-8", errors=errors)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}. Free some space") from error


def _drop_cut_line(file: Path) -> None:
    """A crash may leave half a line; what is appended next must not become part of it."""
    if file.exists():
        with file.open("rb+") as stream:
            end = stream.seek(0, os.SEEK_END)
            while end and stream.seek(end - 1) >= 0 and stream.read(1) != b"\n":
                end -= 1
            stream.truncate(end)


def read(folder: Path, *kinds: type[R]) -> Iterator[R]:
    """The records of some kinds in a run's log, in order: `read(folder, StepRecord)`; `Record` stands for all kinds.

    Kinds that this version does not know are passed over, and so is a last line cut short by a crash.

    Raises DataError where there is no log, or a line other than the last is no record.
    """
    for number, row in enumerate(read_rows(folder), 1):
        record = records.class_of(row)
        if record is not None and issubclass(record, kinds):
            try:
                yield records.from_row(row, record)
            except ValueError as error:
                raise DataError(f"{folder / 'log.jsonl'}:{number}: {error}") from None


def read_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's log as they stand, of every kind. Raises DataError as `read` does."""
    file, number = folder / "log.jsonl", 0
    try:
        with file.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith("\n"):
                    return
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("record"), str):
                    raise DataError(f"{file}:{number}: not a record of a run's log")
                yield row
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Is {folder} the folder of a run?") from None
    except ValueError as error:
        raise DataError(f"{file}: line {number} or the next is not a record of a run's log: {error}") from None
