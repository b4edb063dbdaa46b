"""Trackers (TensorBoard, Weights & Biases, trackio, MLflow): the log's numbers, for those who watch their runs there.

The log stays the truth. Everything a tracker does, importing it included, happens in a thread of its own behind a
bounded queue, so that a tracker that fails, blocks or has no network neither stops nor slows the run. Its first failure
is printed in one line and recorded; later ones are silent. What a full queue drops is counted and reported at the end.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import re
import sys
import threading
import time
import tomllib
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from burnish.config import Run, to_toml
from burnish.errors import ConfigError, did_you_mean
from burnish.runlog.log import RunLog
from burnish.runlog.records import (
    EndRecord,
    EvalRecord,
    NoteRecord,
    Record,
    RefreshRecord,
    RunRecord,
    StepRecord,
    scalars,
)  # fmt: skip

PROJECT = "burnish"  # where the tracker's own variable (WANDB_PROJECT, ...) names no other
WAITING = 1000  # records a tracker may be behind
PATIENCE = 10.0  # seconds that the end of a run waits for all trackers together
PREFIXES = {StepRecord: "", EvalRecord: "eval/", RefreshRecord: "refresh/"}  # of the names of what trackers are sent
SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
IN_ADDRESS = re.compile(
    r"(?<=://)[^/\s@]+(?=@)|(?<=[?&])[\w-]*(?:key|token|secret|password)[\w-]*=[^&\s]+", re.IGNORECASE
)
LIKE_A_KEY = re.compile(r"[A-Za-z0-9_-]{32,}")


@dataclass(frozen=True)
class TrackedRun:
    """The run, as a tracker opens it.

    Example: TrackedRun("runs/dpo", Path("runs/dpo"), {"optim.lr": 1e-6, "objective.name": "dpo"}, first_step=0)
    """

    name: str
    """The last two parts of its folder."""
    folder: Path
    """Where trackers that keep files may put them."""
    config: Mapping[str, Any]
    """The resolved configuration, flat, without secrets."""
    first_step: int = 0
    """Steps already done, where it was resumed."""


@runtime_checkable
class Tracker(Protocol):
    """One tracker. All three are called in the same thread, never the run's own; each may block, and may raise."""

    def start(self, run: TrackedRun) -> str:
        """Open a run; returns where to look at it, or an empty string where the tracker says so itself."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def stop(self, finished: bool) -> None: ...


class TensorBoard:
    """Event files in the run's folder, under `tensorboard/`."""

    def start(self, run: TrackedRun) -> str:
        from torch.utils.tensorboard import SummaryWriter

        where = run.folder / "tensorboard"
        repeated = run.first_step + 1 if run.first_step else None  # from here on a resumed run's steps replace others
        self.writer: Any = SummaryWriter(str(where), purge_step=repeated, flush_secs=10)
        lines = "".join(f"    {name} = {value!r}\n" for name, value in run.config.items())
        self.writer.add_text("config", lines, run.first_step)
        return f"tensorboard --logdir {where}"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def stop(self, finished: bool) -> None:
        self.writer.close()


class WandB:
    """Weights & Biases. Never asks for a key: a question from here would take the terminal from the run."""

    def start(self, run: TrackedRun) -> str:
        import wandb

        # its own limits too: at the end of the process wandb waits for itself, whatever thread it was used in
        settings = wandb.Settings(silent=True, console="off", init_timeout=2 * PATIENCE, finish_timeout=PATIENCE)
        mode = wandb.setup(settings=settings).settings.mode
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("no API key: `wandb login` once, or set WANDB_API_KEY, or WANDB_MODE=offline")
        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT, name=run.name, config=dict(run.config),
            dir=str(run.folder), reinit="create_new", settings=settings,
        )  # fmt: skip
        return self.run.url or f"wandb sync {Path(self.run.dir).parent}"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def stop(self, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)


class Trackio:
    """trackio, on this machine or, with TRACKIO_SPACE_ID, in a Space."""

    def start(self, run: TrackedRun) -> str:
        import trackio

        self.run: Any = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT") or PROJECT, name=run.name, config=dict(run.config),
            embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        return ""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def stop(self, finished: bool) -> None:
        self.run.finish()


class MLflow:
    """MLflow, where MLFLOW_TRACKING_URI says; an MLflow run belongs to the thread that started it."""

    def start(self, run: TrackedRun) -> str:
        import mlflow

        if not (os.environ.get("MLFLOW_EXPERIMENT_NAME") or os.environ.get("MLFLOW_EXPERIMENT_ID")):
            mlflow.set_experiment(PROJECT)
        mlflow.start_run(run_name=run.name)
        mlflow.log_params({name: str(value) for name, value in run.config.items()})
        return ""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        import mlflow

        mlflow.log_metrics(dict(values), step=step)

    def stop(self, finished: bool) -> None:
        import mlflow

        mlflow.end_run("FINISHED" if finished else "FAILED")


TRACKERS: dict[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
    "mlflow": MLflow,
}  # the name in the configuration, of the package, and of burnish's pip extra


def named(run: Run) -> list[str]:
    """The trackers of `log.trackers`, each known, installed and there once. Raises ConfigError."""
    names = [run.log.trackers] if isinstance(run.log.trackers, str) else list(run.log.trackers)
    for number, name in enumerate(names):
        if name not in TRACKERS:
            hint = did_you_mean(name.lower(), TRACKERS, cutoff=0.5) or f"; there are {', '.join(TRACKERS)}"
            raise ConfigError(f"log.trackers: there is no tracker '{name}'{hint}")
        if name in names[:number]:
            raise ConfigError(f"log.trackers lists {name} twice")
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"log.trackers: {name} is not installed. Install it (pip install 'burnish[{name}]') or leave it out"
            )
    return names


def attach(run: Run, log: RunLog, notify: Callable[[str], None]) -> None:
    """Send the numbers that `log` writes to the run's trackers; `notify` shows a line to the user."""
    names = named(run)
    if names:
        log.listeners.append(Feeds(run, log, notify, {name: TRACKERS[name]() for name in names}))


class Feeds:
    """The listener of a run's log: hands its numbers to every tracker, and reports what became of them."""

    def __init__(self, run: Run, log: RunLog, notify: Callable[[str], None], trackers: Mapping[str, Tracker]) -> None:
        self.log, self.notify = log, notify
        folder = Path(run.run.dir)
        name = "/".join(folder.resolve().parts[-2:]).lstrip("/")
        self.run = TrackedRun(name, folder, flat(tomllib.loads(to_toml(run))))
        self.feeds = [Feed(name, tracker) for name, tracker in trackers.items()]

    def __call__(self, record: Record) -> None:
        if isinstance(record, RunRecord):
            for feed in self.feeds:
                feed.begin(replace(self.run, first_step=record.first_step))
        elif isinstance(record, (StepRecord, EvalRecord, RefreshRecord)):
            prefix = PREFIXES[type(record)]
            values = {prefix + name: value for name, value in scalars(record).items()}
            for feed in self.feeds:
                feed.offer(record.step, values)
        elif isinstance(record, EndRecord):
            for feed in self.feeds:
                feed.finished = True
        self._report()

    def close(self) -> None:
        """Wait for all trackers together, for a limited time, and leave those that do not come to an end."""
        deadline = time.monotonic() + PATIENCE
        for feed in self.feeds:
            feed.end(deadline)
        self._report()
        for feed in self.feeds:
            if feed.lost:
                text = f"{feed.name}: {feed.lost} of {feed.offered} records did not reach it; log.jsonl has them all"
                self.log.write(NoteRecord(text=text, tracker=feed.name, lost=feed.lost))
                if not feed.failed:
                    self.notify(text)

    def _report(self) -> None:
        """In the run's own thread: the lines that the trackers' threads have left."""
        for feed in self.feeds:
            while feed.lines:
                text = feed.lines.popleft()
                self.notify(text)
                self.log.write(NoteRecord(text=text, tracker=feed.name))


class Feed:
    """One tracker behind its queue. `lost` counts the records that it did not take."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker = name, tracker
        self.lines: deque[str] = deque()  # for the run's thread to report
        self.failed = self.finished = False
        self.offered = self.taken = 0
        self._queue: queue.Queue[tuple[int, Mapping[str, float]] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> int:
        return self.offered - self.taken

    def begin(self, run: TrackedRun) -> None:
        self._thread = threading.Thread(target=self._work, args=(run,), name=f"burnish-{self.name}", daemon=True)
        self._thread.start()

    def offer(self, step: int, values: Mapping[str, float]) -> None:
        """Never waits: what does not fit is dropped and counted."""
        self.offered += 1
        with suppress(queue.Full):
            self._queue.put_nowait((step, values))

    def end(self, deadline: float) -> None:
        if self._thread is None:
            return
        with suppress(queue.Full):  # it is blocked then, and does not join
            self._queue.put(None, timeout=max(0.0, deadline - time.monotonic()))
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._fail(f"is not done {PATIENCE:g} s after the end of the run, and is left")

    def _work(self, run: TrackedRun) -> None:
        """The tracker's thread. A tracker that does not start takes nothing; one that stumbles is tried again."""
        started = self._try(partial(self._start, run), "could not start")
        while (item := self._queue.get()) is not None:
            if started and self._try(partial(self.tracker.log, *item), "failed"):
                self.taken += 1
        if started:
            self._try(partial(self.tracker.stop, self.finished), "could not be closed")

    def _start(self, run: TrackedRun) -> None:
        where = self.tracker.start(run)
        if where:
            self.lines.append(f"{self.name}: {scrub(where)}")

    def _try(self, call: Callable[[], Any], what: str) -> bool:
        try:
            call()
        except (Exception, SystemExit) as error:
            reason = scrub(" ".join(str(error).split()), keys=True)[:300]
            self._fail(f"{what}: {type(error).__name__}{': ' if reason else ''}{reason}")
            return False
        return True

    def _fail(self, what: str) -> None:
        if not self.failed:
            self.lines.append(f"{self.name} {what}. The run goes on; its own log has everything")
        self.failed = True


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """A nested configuration as `{"optim.lr": 1e-6, ...}`, without secrets."""
    if isinstance(values, Mapping):
        parts = [flat(inner, f"{prefix}.{name}" if prefix else str(name)) for name, inner in values.items()]
        return {name: value for part in parts for name, value in part.items()}
    if isinstance(values, list):
        if any(isinstance(inner, Mapping) for inner in values):
            return flat(dict(enumerate(values)), prefix)
        return {prefix: ", ".join(scrub(str(inner)) for inner in values)}
    return {prefix: scrub(values) if isinstance(values, str) else values}


def scrub(text: str, *, keys: bool = False) -> str:
    """`text` without the values of secret-looking environment variables and without what addresses carry of them;
    `keys`: also without anything that looks like a key, for messages whose origin nobody knows."""
    secrets = {v for name, v in os.environ.items() if SECRET_NAME.search(name) and len(v) >= 8}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = IN_ADDRESS.sub("***", text)
    return LIKE_A_KEY.sub("***", text) if keys else text
