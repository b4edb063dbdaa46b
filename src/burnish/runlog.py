"""A run's folder and its log: typed records, one JSON object a line, appended and flushed; this is the only writer.

    config.toml   the resolved configuration          log.jsonl     the records
    model/        what was trained                    checkpoints/  where it can go on from

Records carry `"record"`: "run" (one a start), "reference", "step", "completion", "eval", "note", "end".
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from burnish.config import Run, to_toml
from burnish.errors import StoreError

OURS = ("config.toml", "log.jsonl", "model", "checkpoints", "summary.txt", "summary.png")


def claim_run_dir(run: Run) -> Path:
    """Make `run.dir`, or take it over as the configuration allows. Raises StoreError where it holds another run."""
    folder = Path(run.run.dir)
    holds = folder.is_dir() and any((folder / name).exists() for name in OURS)
    if holds and not (run.run.resume or run.run.overwrite):
        raise StoreError(
            f"{folder} holds another run. Name another run.dir, go on with it (run.resume=true), "
            "or throw it away (run.overwrite=true)"
        )
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"run.dir = {folder} is a file; name a folder")
    if folder.is_dir() and not holds and any(folder.iterdir()) and run.run.overwrite:
        raise StoreError(f"{folder} holds files that are no run's; burnish does not delete them. Name another run.dir")
    try:
        if holds and run.run.overwrite:
            for name in OURS:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        settled = run.run.model_copy(update={"resume": False, "overwrite": False})  # wishes of this start alone
        (folder / "config.toml").write_text(to_toml(run.model_copy(update={"run": settled})), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"run.dir = {folder} cannot be written: {error.strerror}") from error
    return folder


class RunLog:
    """Appends records to `log.jsonl`. A log that cannot be written raises StoreError at once."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.jsonl"
        try:
            self._stream = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror}") from error

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def append(self, record: str, **fields: Any) -> None:
        line = {"record": record, "time": round(time.time(), 3), **{k: _plain(v) for k, v in fields.items()}}
        try:
            self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            if record != "completion":  # a step's record follows its completions and carries them to disk
                self._stream.flush()
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror}. Free some space") from error

    def cut_after(self, step: int) -> None:
        """Drop what was recorded after `step`, so that a resumed run repeats no record."""
        self._stream.close()
        kept = [r for r in read(self.path.parent) if int(r.get("step", 0)) <= step and r["record"] != "end"]
        temporary = self.path.with_suffix(".part")
        temporary.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept), encoding="utf-8")
        temporary.replace(self.path)
        self._stream = self.path.open("a", encoding="utf-8")


def _plain(value: Any) -> Any:
    """JSON has no infinities: they are written as strings, and read back as such."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a run, in order. A last line cut short by a crash is passed over."""
    with (folder / "log.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            try:
                record: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError:
                return
            yield record
