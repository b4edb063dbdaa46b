"""The command line in several processes at once, as torchrun starts them, without the seconds that torchrun takes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from burnish.cli import main
from burnish.errors import TrainingError
from burnish.loop import update

SERVER = multiprocessing.get_context("forkserver")  # children of a process with no threads: no lock is held for ever
SERVER.set_forkserver_preload(
    ["burnish.loop.members", "transformers.models.llama.modeling_llama", "peft", "torch.distributed.fsdp"]
)


class Harm(NamedTuple):
    """What befalls one of the processes, at the beginning of a step."""

    rank: int
    step: int
    kind: str  # "fail": an error of its own; or a signal's name


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def start(count: int, output: Path, *arguments: str, harm: Harm | None = None) -> list[BaseProcess]:
    """The same command in `count` processes; what process r prints goes to `output`-r."""
    port = free_port()
    children = [
        SERVER.Process(target=_command_line, args=(rank, count, port, f"{output}-{rank}", harm, *arguments))
        for rank in range(count)
    ]
    for child in children:
        child.start()
    return children


def _command_line(rank: int, count: int, port: int, output: str, harm: Harm | None, *arguments: str) -> None:
    told = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(told, 1)
    os.dup2(told, 2)
    if count > 1:
        known = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in known.items()}, MASTER_ADDR="localhost")
    if harm is not None and harm.rank == rank:
        _befall(harm)
    main.main(list(arguments))


def _befall(harm: Harm) -> None:
    untouched = update.learning_rate

    def learning_rate(step: int, *args: Any, **kwargs: Any) -> float:
        if step == harm.step and harm.kind == "fail":
            raise TrainingError("this one process has come to harm")
        if step == harm.step:
            os.kill(os.getpid(), signal.Signals[harm.kind])
        return untouched(step, *args, **kwargs)

    update.learning_rate = learning_rate


def ended(children: list[BaseProcess], seconds: float = 60) -> list[int | None]:
    """Exit codes, in the order of the ranks; None: still there after so many seconds."""
    for child in children:
        child.join(seconds)
    codes = [child.exitcode for child in children]
    for child in children:
        if child.exitcode is None:
            child.kill()
    return codes
