"""A run's folder and its log: typed records, one JSON object a line, appended and flushed; this is the only writer.

config.toml   the resolved configuration          log.jsonl     the records
model/        what was trained                    checkpoints/  where it can go on from
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TextIO

from burnish.config import Run, load, to_toml
from burnish.errors import DataError, StoreError
from burnish.runlog.records import CompletionRecord, EndRecord, R, Record, class_of, from_row, to_row

OURS = (
    "config.toml", "log.jsonl", "model", "checkpoints", "summary.txt", "summary.png", "defect.txt", "tensorboard",
    "wandb", "answers.jsonl", "answers.png", "handed-over",
)  # fmt: skip


def claim_run_dir(run: Run) -> Path:
    """Make `run.dir`, or take it over as the configuration allows. Raises StoreError where it holds another run."""
    folder = Path(run.run.dir)
    holds = folder.is_dir() and any((folder / name).exists() for name in OURS)
    if holds and not (run.run.resume or run.run.overwrite):
        raise StoreError(
            f"{folder} holds another run. Name another run.dir, go on with it (run.resume=true), "
            "or throw it away (run.overwrite=true)"
        )
    if (folder / "model.safetensors").exists() or (folder / "tokenizer.json").exists():
        raise StoreError(f"run.dir = {folder} is a model's folder; name a folder of the run's own")
    if holds and run.run.overwrite:
        _spare_inputs(run, folder)
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"run.dir = {folder} is a file; name a folder")
    if folder.is_dir() and not holds and any(folder.iterdir()) and run.run.overwrite:
        raise StoreError(f"{folder} holds files that are no run's; burnish does not delete them. Name another run.dir")
    try:
        if holds and run.run.overwrite:
            for name in OURS:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        settled = run.run.model_copy(update={"resume": False, "overwrite": False})  # wishes of this start alone
        (folder / "config.toml").write_text(to_toml(run.model_copy(update={"run": settled})), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"run.dir = {folder} cannot be written: {error.strerror or error}") from error
    return folder


def _spare_inputs(run: Run, folder: Path) -> None:
    """Throwing a run away must not throw away what the new one is made from. Raises StoreError."""
    data = [run.data.train] if isinstance(run.data.train, str) else run.data.train
    inputs = {"model.path": [run.model.path], "reference.path": [run.reference.path]}
    inputs |= {"data.train": list(data), "data.eval": [run.data.eval]}
    inputs["source.prompts"] = [run.source.prompts]
    for table, judges in (("judge", run.judge), ("gold", run.gold)):
        for judge in judges:
            for name in ("path", "votes", "schema_file", "template"):
                told = getattr(judge, name, "")
                inputs.setdefault(f"{table}.{name}", []).extend([told] if isinstance(told, str) else told)
    doomed = [(folder / name).resolve() for name in OURS]
    for key, paths in inputs.items():
        for path in filter(None, paths):
            if any(Path(path).resolve().is_relative_to(part) for part in doomed):
                raise StoreError(
                    f"run.overwrite would delete {key} = {path}, which this run needs: it lies in the run "
                    "that would be thrown away. Name another run.dir"
                )


HARMLESS = ("run", "save", "eval", "log", "engine", "scale")  # tables that may change when a run goes on, but for:
HARMFUL = ("engine.float32_matmul_precision",)  # it changes results


def refuse_resume(run: Run) -> None:
    """Raises StoreError where `run.resume` asks to go on with a finished run, or with another one's settings."""
    folder = Path(run.run.dir)
    if run.run.resume and (folder / "config.toml").exists():
        before, now = load(str(folder / "config.toml")).model_dump(), run.model_dump()
        changed = [
            f"{table}.{key}" if isinstance(value, dict) else table
            for table, value in now.items()
            for key in (value if isinstance(value, dict) else [table])
            if (table not in HARMLESS or f"{table}.{key}" in HARMFUL)
            and (value[key] if isinstance(value, dict) else value)
            != (before[table].get(key) if isinstance(value, dict) else before[table])
        ]
        if changed:
            named = ", ".join("objective" if key == "objective.params" else key for key in changed)
            raise StoreError(
                f"run.resume: {named} would differ from those the run in {folder} began with; name another run.dir"
            )
    if run.run.resume and (folder / "log.jsonl").exists() and any(read(folder, EndRecord)):
        raise StoreError(
            f"the run in {folder} is finished: its model is in {folder / 'model'}, nothing is left to resume"
        )


class Listener(Protocol):
    """Hears of every record once it is written, and of the log's end. It must not raise, and not wait for long."""

    def __call__(self, record: Record) -> None: ...

    def close(self) -> None: ...


class RunLog:
    """Appends records to `log.jsonl`. A log that cannot be written raises StoreError at once.

    Text that is no Unicode (half of a surrogate pair in somebody's data) is written as the JSON escape that it is.
    """

    def __init__(self, folder: Path, *, silent: bool = False) -> None:
        self.silent = silent  # one of several processes, of which another writes
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
            self._stream.write(json.dumps(to_row(record), ensure_ascii=False) + "\n")
            if not isinstance(record, CompletionRecord):  # a step's record follows them and carries them to disk
                self._stream.flush()
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror}. Free some space") from error
        for listener in self.listeners:
            listener(record)

    def cut_after(self, step: int) -> None:
        """Drop what was recorded after `step`, so that a resumed run repeats no record."""
        if self.silent:
            return
        self._stream.close()
        rows = [row for row in read_rows(self.path.parent) if row["record"] != EndRecord.kind]
        kept = [row for row in rows if int(row.get("step", 0)) <= step]
        temporary = self.path.with_suffix(".part")
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
        temporary.write_text(lines, encoding="utf-8", errors="backslashreplace")
        temporary.replace(self.path)
        self._stream = self._open()


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
        record = class_of(row)
        if record is not None and issubclass(record, kinds):
            try:
                yield from_row(row, record)
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
