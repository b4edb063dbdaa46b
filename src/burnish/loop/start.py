"""What is done once, before a run's first step: the start is proved, and a GPU's token budget is measured."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.group import EncodedGroup
from burnish.loop.build import Trainer
from burnish.loop.evaluate import own_answers
from burnish.loop.memory.measure import measured_budget
from burnish.loop.selfcheck import at_start


def before_first_step(trainer: Trainer, groups: Sequence[EncodedGroup], step: int) -> None:
    """`step` is 0, or where a resumed run goes on. Raises TrainingError where policy and reference do not agree."""
    if step == 0:
        if groups:
            for line in at_start(trainer.engine, trainer.reference, trainer.prepared, groups):
                trainer.progress.note(line)
        if trainer.eval_answerer is not None:
            own_answers(trainer, 0)
    on_one_gpu = trainer.world.size == 1 and trainer.engine.policy.device.type == "cuda"
    if trainer.run.engine.token_budget == "auto" and on_one_gpu and groups:
        trainer.engine.token_budget = measured_budget(trainer, groups)
        trainer.progress.note(f"engine.token_budget = auto: {trainer.engine.token_budget} tokens, measured on this GPU")
