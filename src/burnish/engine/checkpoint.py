"""Saving and finding checkpoints. A folder appears under its final name only when everything in it is on disk.

Tensors are saved in torch's distributed checkpoint format, which any number of processes can read; `manifest.json`
holds the rest. A thread writes from a copy, so that the next step does not wait for the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load as load_dcp
from torch.distributed.checkpoint.state_dict_saver import save as save_dcp
from torch.distributed.tensor import DTensor

from burnish.engine.distributed import ALONE, World
from burnish.errors import BurnishError, StoreError

MANIFEST = "manifest.json"


def write_folder(target: Path, fill: Callable[[Path], None], what: str) -> None:
    """Fill a temporary folder and rename it to `target`; an older `target` is replaced only then.

    Raises StoreError (disk full, no permission, a library that refuses) with the old folder untouched. Nothing
    temporary is left, whatever happens.
    """
    temporary = part_of(target)
    old = target.with_name(target.name + ".old")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fill(temporary)
        _as_open_as_the_folder(temporary)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
        os.replace(temporary, target)
        shutil.rmtree(old, ignore_errors=True)
    except BurnishError:
        raise
    except (Exception, CheckpointException) as error:  # libraries have many kinds, also for a full disk
        kept = f"; the last one saved is still in {target}" if target.exists() else ""
        full = isinstance(error, (OSError, RuntimeError, SafetensorError, CheckpointException))
        raise StoreError(
            f"the {what} could not be written to {target}: {reason_of(error)}{kept}{'. Free some space' * full}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _as_open_as_the_folder(folder: Path) -> None:
    """Give files the folder's own bits for reading and writing, which the umask decided: safetensors makes files that
    nobody but their owner reads, and a server may run as somebody else."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(folder.stat().st_mode & 0o666)


class Writer:
    """Writes `checkpoints/step-N` of a run in the background, and drops all but the newest `keep`."""

    def __init__(self, run_dir: Path, keep: int, world: World = ALONE) -> None:
        self.run_dir, self.keep, self.world = run_dir, keep, world
        self._thread: threading.Thread | None = None
        self._failed: StoreError | None = None

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, wait: bool = False) -> Path:
        """Copy everything now, and write it while the run goes on; with `wait` return when it is on disk.

        Raises StoreError where this checkpoint (with `wait`), or the one before it, could not be written.
        """
        self.join()
        if self.world.leads and not self.run_dir.is_dir():
            raise StoreError(f"{self.run_dir} is gone: it was deleted or moved while the run wrote into it")
        target = self.run_dir / "checkpoints" / f"step-{step}"
        if (target / MANIFEST).exists():  # a run resumed from this step and stopped again has nothing new to save
            return target
        copies = {name: on_host(tensor.detach(), self.world) for name, tensor in tensors.items()}
        manifest = json.dumps(facts, indent=1) + "\n"  # now: the next steps change what the facts are made of
        self._thread = threading.Thread(target=self._write, args=(target, copies, manifest), name="checkpoint")
        self._thread.start()
        if wait:
            self.join()
        return target

    def join(self) -> None:
        """Wait for what is being written. Raises StoreError where it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def _write(self, target: Path, tensors: dict[str, Tensor], manifest: str) -> None:
        def fill(folder: Path) -> None:
            self._save_tensors(tensors, folder)
            (folder / MANIFEST).write_text(manifest, encoding="utf-8")

        try:
            if not self.world.leads:  # every process writes its slices; the first process makes them a checkpoint
                self._save_tensors(tensors, part_of(target))
                return
            write_folder(target, fill, "checkpoint")
            for folder in folders(self.run_dir)[: -self.keep]:
                shutil.rmtree(folder, ignore_errors=True)
        except StoreError as error:
            self._failed = error
        except (Exception, CheckpointException) as error:  # a thread has nobody to raise to
            shutil.rmtree(part_of(target), ignore_errors=True)
            self._failed = StoreError(f"the checkpoint could not be written to {target}: {reason_of(error)}")

    def _save_tensors(self, tensors: dict[str, Tensor], folder: Path) -> None:
        alone = self.world.size == 1
        with warnings.catch_warnings():  # that a single process saves alone
            warnings.simplefilter("ignore")
            save_dcp(tensors, checkpoint_id=folder, process_group=self.world.disk, no_dist=alone)


def reason_of(error: BaseException) -> str:
    """What happened, in one line. torch's CheckpointException gathers the tracebacks of all processes: of those the
    last line of the first."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else repr(error)


def part_of(target: Path) -> Path:
    """The name of a folder until it is complete."""
    return target.with_name(target.name + ".part")


def on_host(tensor: Tensor, world: World) -> Tensor:
    """A copy on the CPU; of a divided tensor, a copy of this process's slice."""
    if not isinstance(tensor, DTensor):
        return tensor.to("cpu", copy=True)
    local = tensor.to_local().to("cpu", copy=True)
    return DTensor.from_local(
        local, world.host, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )


def folders(run_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    complete = [p for p in (run_dir / "checkpoints").glob("step-*") if (p / MANIFEST).exists() and "." not in p.name]
    return sorted(complete, key=lambda p: int(p.name.removeprefix("step-")))


def newest_step(run_dir: Path) -> int:
    """The steps done at the newest complete checkpoint; 0 where there is none."""
    return max((int(folder.name.removeprefix("step-")) for folder in folders(run_dir)), default=0)


def facts_of(folder: Path) -> dict[str, Any]:
    """The content of the manifest. Raises StoreError where it cannot be read."""
    try:
        facts: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder} cannot be read as a checkpoint: {error}") from error
    return facts


def load(folder: Path, into: dict[str, Tensor], world: World = ALONE) -> None:
    """Fill the tensors of `into`, by name and in place. Raises StoreError where they are not all there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_dcp(into, checkpoint_id=folder, process_group=world.disk, no_dist=world.size == 1)
    except (Exception, CheckpointException) as error:  # the latter gathers what happened on all ranks
        raise StoreError(f"{folder} cannot be read as a checkpoint of this run: {reason_of(error)}") from error


def names(folder: Path) -> frozenset[str]:
    """The tensors that a checkpoint holds. Raises StoreError where it cannot be read."""
    try:
        return frozenset(FileSystemReader(folder).read_metadata().state_dict_metadata)
    except Exception as error:  # a damaged pickle raises anything
        raise StoreError(f"{folder} cannot be read as a checkpoint: {error}") from error


def room_for(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """A copy of each tensor on the CPU, to be read into."""
    return {name: on_host(tensor, world) for name, tensor in tensors.items()}
