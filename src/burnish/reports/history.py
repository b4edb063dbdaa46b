"""What is known of a run, read from its folder: settings, records, and whether it is finished, still going, or cut off.

A log may end anywhere, be taken up again, hold NaN, and hold a million completions; those are kept as columns.
"""

from __future__ import annotations

import fcntl
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from burnish import config as configuration
from burnish.config import Run
from burnish.errors import ConfigError
from burnish.runlog import log
from burnish.runlog.records import (
    AlarmRecord,
    CompletionRecord,
    EndRecord,
    EvalRecord,
    NoteRecord,
    Record,
    ReferenceRecord,
    RefreshRecord,
    RunRecord,
    StepRecord,
    StoppedRecord,
)

State = Literal["finished", "running", "unfinished"]
RecordT = TypeVar("RecordT", bound=Record)
NUMBERS = ("length", "logp", "reference_logp", "reward")


@dataclass(frozen=True)
class Completions:
    """The completions that steps learned from, as columns [n]; NaN where a run records no such number.

    `group` numbers the groups by their first appearance; `groups` holds their ids.
    """

    step: NDArray[np.int64]
    group: NDArray[np.int64]
    index: NDArray[np.int64]
    length: NDArray[np.float64]
    logp: NDArray[np.float64]
    reference_logp: NDArray[np.float64]
    reward: NDArray[np.float64]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class History:
    """A run as its folder tells it. `run`: its settings, None where they cannot be read; `trainer`: who wrote it.

    `settings`: every key with its value, flat ("optim.lr"). `others`: records of kinds that have no list here.
    """

    folder: Path
    trainer: str
    run: Run | None
    settings: dict[str, Any]
    state: State
    completions: Completions
    starts: tuple[RunRecord, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    evals: tuple[EvalRecord, ...] = ()
    refreshes: tuple[RefreshRecord, ...] = ()
    alarms: tuple[AlarmRecord, ...] = ()
    notes: tuple[NoteRecord, ...] = ()
    references: tuple[ReferenceRecord, ...] = ()
    stopped: StoppedRecord | None = None
    remarks: tuple[str, ...] = field(default=())  # what could not be read, in sentences

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def objective(self) -> str:
        """As the run's first record names it; empty where it has none."""
        return self.starts[-1].objective if self.starts else ""

    @property
    def planned(self) -> int:
        """Optimiser steps that the run was to make in all; 0 where it does not say."""
        return self.starts[-1].steps if self.starts else 0


def read_history(folder: Path) -> History:
    """The history of a burnish run. Raises DataError where there is no log, or a line of it is no record."""
    records: dict[type[Record], list[Record]] = {}
    columns = _Columns()
    for record in log.read(folder, Record):
        if isinstance(record, CompletionRecord):
            columns.add(record)
        else:
            records.setdefault(type(record), []).append(record)

    def of(kind: type[RecordT]) -> tuple[RecordT, ...]:
        return tuple(record for record in records.get(kind, ()) if isinstance(record, kind))

    run, remarks = _settings(folder)
    state: State = "finished" if of(EndRecord) else "running" if _is_written(folder) else "unfinished"
    return History(
        folder, "burnish", run, {} if run is None else dict(flat(run.model_dump())), state, columns.completions(),
        of(RunRecord), of(StepRecord), of(EvalRecord), of(RefreshRecord), of(AlarmRecord), of(NoteRecord),
        of(ReferenceRecord), next(iter(of(StoppedRecord)[-1:]), None), remarks,
    )  # fmt: skip


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested tables with its dotted key; a table in a list has its number in the key."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, dict) for item in value):
            for number, item in enumerate(value):
                own = {**{k: v for k, v in item.items() if k != "params"}, **item.get("params", {})}  # of an objective
                yield from flat(own, f"{name}." if len(value) == 1 else f"{name}.{number + 1}.")
        else:
            yield name, value


def _settings(folder: Path) -> tuple[Run | None, tuple[str, ...]]:
    file = folder / "config.toml"
    if not file.exists():
        return None, (f"{file} is missing, so the run's settings are not known",)
    try:
        return configuration.load_partly(str(file)), ()
    except ConfigError as error:
        return None, (f"the run's settings cannot be read: {error}",)


def _is_written(folder: Path) -> bool:
    """Whether a process holds the run's lock right now; a file left by a process that died is no lock."""
    try:
        with (folder / "lock").open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class _Columns:
    """Completions, gathered number by number: a million of them take some 60 MB."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.whole = {name: array("q") for name in ("step", "group", "index")}
        self.real = {name: array("d") for name in NUMBERS}

    def add(self, record: CompletionRecord) -> None:
        self.whole["step"].append(record.step)
        self.whole["group"].append(self.ids.setdefault(record.group, len(self.ids)))
        self.whole["index"].append(record.index)
        for name, column in self.real.items():
            value = getattr(record, name)
            column.append(float("nan") if value is None else value)

    def completions(self) -> Completions:
        step, group, index = (np.array(self.whole[name], dtype=np.int64) for name in ("step", "group", "index"))
        length, logp, reference_logp, reward = (np.array(self.real[name], dtype=np.float64) for name in NUMBERS)
        return Completions(step, group, index, length, logp, reference_logp, reward, tuple(self.ids))


def no_completions() -> Completions:
    """The columns of a run that recorded none."""
    return _Columns().completions()
