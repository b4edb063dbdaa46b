"""The processes of a run: who they are, what they exchange, which groups each takes, and what happens when a process
fails.

`torchrun` starts the processes; each is a `World`. A single process is the world `ALONE`, in which every exchange is
the identity, so that the loop has a single path.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.rendezvous import rendezvous

from burnish.config import Run
from burnish.errors import BurnishError, ConfigError, TrainingError

T = TypeVar("T")

FAILED = "burnish/failed"  # key in the store: a process has failed
AXES = ("replicate", "shard")
GRACE = 5.0  # seconds that the others then have to leave by themselves
START = timedelta(minutes=10)  # longest wait for another process: they read and compile at different speeds
WORK = timedelta(days=30)  # longest wait while another process works: a large model takes hours to write


@dataclass(frozen=True)
class World:
    """A process among `size`. `mesh` is how weights are divided: (replicate, shard), by the names of its axes."""

    rank: int = 0
    size: int = 1
    mesh: Any = None  # DeviceMesh
    host: Any = None  # the same of their CPUs, for copies of slices
    objects: Any = field(default=None, repr=False)  # process group for small objects
    disk: Any = field(default=None, repr=False)  # process group of the threads that write checkpoints

    @property
    def leads(self) -> bool:
        """Whether this process writes the log and speaks to the user."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.objects)
        return values

    def lead(self, work: Callable[[], T]) -> T:
        """The result of `work`, which the first process does for all. A BurnishError in it is raised in all."""
        if self.size == 1:
            return work()
        outcome: list[Any] = [None, None]  # result, error
        if self.leads:
            try:
                outcome[0] = work()
            except BurnishError as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0, group=self.objects)
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    def share(self, sizes: Sequence[int]) -> list[int]:
        """Indices of the items that fall to this process."""
        return balance(sizes, self.size)[self.rank]


ALONE = World()


def balance(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Indices of `sizes` in `parts` lists of nearly equal sums: the longest first, each to the list with least so far
    (longest processing time, Graham 1969: at most 4/3 of the best). Each list keeps the items' order."""
    loads, shares = [0] * parts, [[] for _ in range(parts)]  # type: tuple[list[int], list[list[int]]]
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        least = min(range(parts), key=lambda part: (loads[part], part))
        loads[least] += sizes[index]
        shares[least].append(index)
    return [sorted(share) for share in shares]


def shape(run: Run, size: int) -> tuple[int, int]:
    """(replicas, shards of each) for so many processes. Raises ConfigError where they do not come out even."""
    if run.scale.tensor > 1:
        raise ConfigError(
            "scale.tensor: tensor parallelism is not supported: log-probs come from a head that must see the whole "
            "vocabulary. Divide the weights instead (scale.shard), which needs less memory of each process too"
        )
    replicate = run.scale.replicate
    shard = run.scale.shard or max(1, size // replicate)
    if replicate * shard != size:
        wanted = f"scale.replicate x scale.shard = {replicate} x {run.scale.shard or 'all'}"
        start = f"torchrun --nproc-per-node {replicate * shard} -m burnish train ..."
        raise ConfigError(f"{wanted}, but there {'is 1 process' if size == 1 else f'are {size} processes'}: {start}")
    return replicate, shard


@contextmanager
def joined(run: Run) -> Iterator[World]:
    """The world that torchrun started this process in; `ALONE` where it did not.

    It goes around the work of a verb. The process that fails first gives the reason, and the others end silently within
    `GRACE` seconds. Raises ConfigError where `scale` does not fit the number of processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        shape(run, 1)
        yield ALONE
        return
    store, rank, size = next(iter(rendezvous("env://", timeout=START)))
    peers = PeerWatch(store.clone())
    try:
        replicate, shard = shape(run, size)
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(_gpu_of(int(os.environ.get("LOCAL_RANK", "0"))))
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=PrefixStore("burnish", store), rank=rank, world_size=size, timeout=START)
        mesh = init_device_mesh("cuda" if cuda else "cpu", (replicate, shard), mesh_dim_names=AXES)
        groups = [dist.new_group(backend="gloo", timeout=WORK) for _ in range(2)]
        host = init_device_mesh("cpu", (replicate, shard), mesh_dim_names=AXES) if cuda else mesh
        if replicate == 1:
            mesh, host = mesh["shard"], host["shard"]
        yield World(rank, size, mesh, host, *groups)
    except KeyboardInterrupt as stopped:  # all stop together, and the first process reports it
        if rank == 0:
            raise
        raise SystemExit(getattr(stopped, "exit_code", 130)) from None
    except Exception as error:
        first = peers.first_to_fail()
        if os.environ.get("BURNISH_DEBUG"):
            raise
        if not first:
            raise SystemExit(1) from None
        if _lost_the_others(error):
            raise TrainingError(
                f"process {rank} of {size} lost the others: one of them was killed (out of memory?) or cannot be "
                "reached. What was saved is in the run's folder; go on with run.resume=true"
            ) from error
        raise
    finally:
        peers.stop()
    dist.destroy_process_group()


def _lost_the_others(error: Exception) -> bool:
    """Whether this is what a collective raises when another process has gone, and no failure of this process."""
    message = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError)
        and any(word in message for word in ("connection reset", "connection closed", "broken pipe"))
    )


class PeerWatch:
    """Ends this process when another process has failed: what it waits for would never come."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="burnish peers", daemon=True)
        self._thread.start()

    def first_to_fail(self) -> bool:
        """Whether no process has failed before this one; the first to fail reports its error."""
        self._done.set()
        try:
            return bool(self._store.add(FAILED, 1) == 1)
        except RuntimeError:  # the store went with the process that held it
            return False

    def stop(self) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.5):
            try:
                failed = self._store.check([FAILED])
            except RuntimeError:
                return
            if failed:
                if not self._done.wait(GRACE):
                    os._exit(1)
                return


def _gpu_of(local_rank: int) -> int:
    """The GPU of a process. Raises ConfigError where the machine has more processes than GPUs."""
    count = torch.cuda.device_count()
    if local_rank >= count:
        gpus = "1 GPU" if count == 1 else f"{count} GPUs"
        raise ConfigError(
            f"this machine has {gpus} and was asked for more processes, of which each needs a GPU: "
            f"torchrun --nproc-per-node {count}"
        )
    return local_rank


def advise() -> list[str]:
    """The advice for a user who started a single process on a machine with several GPUs."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < 2 or "WORLD_SIZE" in os.environ:
        return []
    return [f"this machine has {count} GPUs and one is used; for all: torchrun --nproc-per-node {count} -m burnish ..."]
