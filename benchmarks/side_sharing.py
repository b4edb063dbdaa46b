"""Worker: steps of burnish's engine on ranked groups, in one layout or in two that take turns.

A step is packing, log-probs, `pl_dpo`, backward; the reference's log-probs are computed before the clock starts, as a
run has them from its store. The optimiser is left out: it costs the same in both layouts. Options: layouts, size (K),
prompt and completion (tokens), groups, rounds, vocabulary.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from common import Job, peak_megabytes, start_worker


def make_groups(job: Job) -> list[Any]:
    """Ranked groups of K completions, every one of the same length: the padded layout wastes nothing here."""
    from random_data import random_ids

    from burnish.group import EncodedGroup, Scores

    draw = random.Random(0)
    size, prompt, completion, vocabulary = (job.option(k, 0) for k in ("size", "prompt", "completion", "vocabulary"))
    groups = []
    for number in range(job.option("groups", 0)):
        answers = tuple(tuple(random_ids(draw, completion, vocabulary)) for _ in range(size))
        ids = tuple(random_ids(draw, prompt, vocabulary))
        scores = Scores(tuple(float(k) for k in range(size)))
        groups.append(EncodedGroup(str(number), ids, answers, (True,) * size, scores))
    return groups


class Stepper:
    """One layout's engine, and a step over the groups."""

    def __init__(self, job: Job, model: Path, layout: str, groups: list[Any]) -> None:
        from burnish import config
        from burnish.engine.loading import make_engine
        from burnish.engine.model import load_policy
        from burnish.loop import prepare

        keys = {
            "model.path": model,
            "model.dtype": "float32",
            "data.train": "none",
            "objective.name": "pl_dpo",
            "engine.layout": layout,
        }
        run = config.load(None, [f"{key}={value}" for key, value in keys.items()])
        self.groups = groups
        self.engine, self.line = make_engine(load_policy(run.model), run)
        self.loss = prepare.mixture_of(run).at(groups)
        self.module = self.engine.policy.module.train()
        plan = self.engine.plan(groups)
        self.reference = [self.engine.score_reference(batch) for batch in plan]
        self.microbatches = len(plan)
        self.tokens = sum(batch.input_ids.numel() for batch in plan)

    def step(self) -> tuple[float, float]:
        """(seconds, loss) of one step."""
        from burnish.engine.engine import token_scores

        self.module.zero_grad(set_to_none=True)
        began, total = time.perf_counter(), 0.0
        for batch, reference in zip(self.engine.plan(self.groups), self.reference, strict=True):
            scores = token_scores(self.engine.score(batch), reference, batch)
            value = self.loss.total(self.loss(scores, batch))
            value.backward()
            total += float(value.detach())
        return time.perf_counter() - began, total

    def gradient_norm(self) -> float:
        return sum(float(p.grad.square().sum()) for p in self.module.parameters() if p.grad is not None) ** 0.5


def main() -> None:
    job, work, _, result = start_worker()
    groups = make_groups(job)
    layouts = job.option("layouts", [])
    steppers = {name: Stepper(job, work / "model", name, groups) for name in layouts}
    loaded = peak_megabytes()
    seconds: dict[str, list[float]] = {name: [] for name in layouts}
    losses: dict[str, float] = {}
    for number in range(job.option("rounds", 1) + 1):
        for name in layouts if number % 2 else layouts[::-1]:  # neither always comes first
            spent, losses[name] = steppers[name].step()
            if number:  # the first round is a warm-up
                seconds[name].append(spent)
    answer = {
        name: {
            "layout": stepper.line,
            "tokens": stepper.tokens,
            "microbatches": stepper.microbatches,
            "seconds": seconds[name],
            "loss": losses[name],
            "gradient_norm": stepper.gradient_norm(),
        }
        for name, stepper in steppers.items()
    }
    # what the steps needed on top of library, model and reference pass
    result.write_text(json.dumps({"layouts": answer, "loaded_mb": loaded, "peak_mb": peak_megabytes()}))


if __name__ == "__main__":
    main()
