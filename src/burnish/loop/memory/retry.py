"""A step that does not fit into memory is done again with half the token budget, which changes no result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

import torch

from burnish.errors import out_of_memory
from burnish.group import EncodedGroup
from burnish.loop.build import Trainer
from burnish.objectives.feedback import generator
from burnish.runlog.records import NoteRecord


class Attempt:
    """A `with` block around a step's passes; it holds back an out-of-memory error that another attempt may avoid."""

    def __init__(self, trainer: Trainer, groups: Sequence[EncodedGroup]) -> None:
        self.trainer, self.groups = trainer, groups
        self.failed = False

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        engine = self.trainer.engine
        self.failed = (
            isinstance(error, (RuntimeError, MemoryError))
            and out_of_memory(error)
            and engine.world.size == 1
            and not engine.smallest(self.groups)
        )
        return self.failed


def attempts(trainer: Trainer, groups: Sequence[EncodedGroup], step: int) -> Iterator[Attempt]:
    """Attempts at one step, as many as are needed; each begins with no gradient and with the same draws of dropout."""
    engine = trainer.engine
    budget = engine.token_budget
    try:
        while True:
            # an adapter's dropout is a function of the step, so that a resumed run repeats it
            torch.manual_seed(generator(trainer.run.seed, step, f"dropout/{engine.world.rank}").initial_seed())
            attempt = Attempt(trainer, groups)
            yield attempt
            if not attempt.failed:
                return
            trainer.masters.clear_gradients()  # the error is gone by now, and with it the failed tensors
            engine.token_budget //= 2
            trainer.progress.note(
                f"step {step + 1}: out of memory; done again with engine.token_budget = {engine.token_budget}, "
                "which changes no result"
            )
            trainer.log.write(NoteRecord(step=step + 1, text="out of memory", token_budget=engine.token_budget))
    finally:
        engine.token_budget = budget
