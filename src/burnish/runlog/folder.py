"""A run's folder: whose it is, what of it may be thrown away, and whether a run in it can go on.

config.toml   the resolved configuration          log.jsonl     the records
model/        what was trained                    checkpoints/  where it can go on from
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from burnish.config import Run, load, to_toml
from burnish.config.keys import JUDGE_TABLES
from burnish.errors import ConfigError, StoreError
from burnish.runlog.log import read
from burnish.runlog.records import EndRecord

RUN_FILES = (
    "config.toml", "log.jsonl", "model", "checkpoints", "summary.txt", "summary.png", "defect.txt", "tensorboard",
    "wandb", "answers.jsonl", "answers.png", "report.html", "handed-over", "ballots",
)  # fmt: skip
CHANGEABLE = ("run", "save", "eval", "log", "engine", "scale")  # tables that may differ when a run goes on
ADDRESSES = ("source.url", "source.key_env")  # keys that may, too: where a server is changes no result
FIXED = ("engine.float32_matmul_precision",)  # the keys of these tables that may not: they change results
FREE = {  # keys of a judge that may differ, by its kind: how an endpoint is asked, whether votes are waited for
    "llm": ("key_env", "concurrency", "retries", "seconds", "budget", "price_in", "price_out", "cache"),
    "human": ("wait",),
}


def claim_run_dir(run: Run) -> Path:
    """Make `run.dir`, or take it over as the configuration allows. Raises StoreError where it holds another run."""
    folder = Path(run.run.dir)
    occupied = folder.is_dir() and any((folder / name).exists() for name in RUN_FILES)
    if occupied and not (run.run.resume or run.run.overwrite):
        raise StoreError(
            f"{folder} holds another run. Name another run.dir, go on with it (run.resume=true), "
            "or throw it away (run.overwrite=true)"
        )
    if (folder / "model.safetensors").exists() or (folder / "tokenizer.json").exists():
        raise StoreError(f"run.dir = {folder} is a model's folder; name a folder of the run's own")
    if occupied and run.run.overwrite:
        _spare_inputs(run, folder)
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"run.dir = {folder} is a file; name a folder")
    others = folder.is_dir() and any(path.name != "lock" for path in folder.iterdir())
    if others and not occupied and run.run.overwrite:
        raise StoreError(f"{folder} holds files that are no run's; burnish does not delete them. Name another run.dir")
    try:
        if occupied and run.run.overwrite:
            for name in RUN_FILES:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        lasting = run.run.model_copy(update={"resume": False, "overwrite": False})  # wishes of this start alone
        part = folder / "config.toml.part"
        try:  # a disk that is full leaves no half of it: the run may still be resumed
            part.write_text(to_toml(run.model_copy(update={"run": lasting})), encoding="utf-8")
            os.replace(part, folder / "config.toml")
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"run.dir = {folder} cannot be written: {error.strerror or error}") from error
    return folder


def _spare_inputs(run: Run, folder: Path) -> None:
    """Throwing a run away must not throw away what the new one is made from. Raises StoreError."""
    deleted = [(folder / name).resolve() for name in RUN_FILES]
    for key, paths in _inputs(run).items():
        for path in filter(None, paths):
            if any(Path(path).resolve().is_relative_to(part) for part in deleted):
                raise StoreError(
                    f"run.overwrite would delete {key} = {path}, which this run needs: it lies in the run "
                    "that would be thrown away. Name another run.dir"
                )


def _inputs(run: Run) -> dict[str, list[str]]:
    """The paths that a run reads, by the key that names them; some are empty."""
    data = [run.data.train] if isinstance(run.data.train, str) else run.data.train
    inputs = {"model.path": [run.model.path], "reference.path": [run.reference.path]}
    inputs |= {"data.train": list(data), "data.eval": [run.data.eval], "source.prompts": [run.source.prompts]}
    for table, judges in (("judge", run.judge), ("gold", run.gold)):
        for judge in judges:
            for name, paths in judge.inputs.items():
                inputs.setdefault(f"{table}.{name}", []).extend(paths)
    return inputs


def is_finished(run: Run) -> bool:
    """Whether `run.resume` asks to go on with a finished run. Raises StoreError where it asks to go on with another
    one's settings."""
    folder = Path(run.run.dir)
    if not run.run.resume:
        return False
    if (folder / "config.toml").exists():
        try:
            before = load(str(folder / "config.toml"))
        except ConfigError as error:
            raise StoreError(f"run.resume: {folder / 'config.toml'} cannot be taken up: {error}") from error
        changed = _changed(before.model_dump(), run.model_dump())
        if changed:
            keys = ", ".join("objective" if key == "objective.params" else key for key in changed)
            what = "that which" if len(changed) == 1 else "those that"
            raise StoreError(
                f"run.resume: {keys} would differ from {what} the run in {folder} began with; name another run.dir"
            )
    return (folder / "log.jsonl").exists() and any(True for _ in read(folder, EndRecord))


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The keys that differ and may not; a table that is a list of tables counts as one key.

    How a judge's endpoint is asked, what it may cost, and whether people's votes are waited for, changes no verdict.
    """
    before, now = _decisive(before), _decisive(now)
    changed = []
    for table, values in now.items():
        keys = values if isinstance(values, dict) else [table]
        for key in keys:
            name = f"{table}.{key}" if isinstance(values, dict) else table
            new, old = (values[key], before[table].get(key)) if isinstance(values, dict) else (values, before[table])
            free = (table in CHANGEABLE or name in ADDRESSES) and name not in FIXED
            if new != old and not free:
                changed.append(name)
    return changed


def _decisive(values: dict[str, Any]) -> dict[str, Any]:
    def of_judge(judge: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in judge.items() if key not in FREE.get(judge["kind"], ())}

    return {**values, **{table: [of_judge(judge) for judge in values[table]] for table in JUDGE_TABLES}}
