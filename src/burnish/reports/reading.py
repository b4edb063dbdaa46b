"""The history of a run, whoever wrote it: burnish, or TRL."""

from __future__ import annotations

from pathlib import Path

from burnish.errors import DataError
from burnish.reports import trl
from burnish.reports.history import History, read_history


def read_any(folder: Path) -> History:
    """The history of the run in a folder. Raises DataError where there is none."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; name the folder of a run")
    if not (folder / "log.jsonl").exists() and (file := trl.state_file(folder)) is not None:
        return trl.read_trl(folder, file)
    return read_history(folder)
