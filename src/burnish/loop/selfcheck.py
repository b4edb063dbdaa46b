"""What is asserted at the start of every run, on its own first groups and model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from burnish.engine.engine import Engine, alone, token_scores
from burnish.engine.reference import Live, Stored
from burnish.errors import TrainingError
from burnish.group import EncodedGroup
from burnish.loop.prepare import Prepared

# nats per token; some families compute parts in float32 whatever they are asked for
STORED_TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-3, torch.bfloat16: 0.3}


def at_start(
    engine: Engine, beside: Stored | Live | None, ready: Prepared, groups: Sequence[EncodedGroup]
) -> list[str]:
    """Policy and initial reference, same kernels, same microbatch: every log-ratio exactly 0, the loss its closed form;
    and the stored log-probs those of this very engine. Raises TrainingError otherwise. Returns the lines to show.
    """
    if beside is None:
        return []
    noisy = ready.run.adapter.dropout > 0
    engine.policy.module.train(not noisy)  # as in training, unless the user asked for noise
    batch = engine.plan(groups)[0]
    with torch.no_grad():
        stored, head = beside.computed(batch) if isinstance(beside, Live) else beside.scores(batch, groups)
        policy = engine.score(
            batch, square=ready.loss.needs("square"), reference=head if ready.loss.needs("kl") else None
        )
    if ready.run.reference.kind == "path":
        engine.policy.module.train()
        return ["start: the reference is another model, so margins do not start at 0"]
    if batch.idle and isinstance(beside, Live):
        engine.policy.module.train()
        return []
    live = engine.score_reference(batch) if isinstance(beside, Stored) else stored
    engine.policy.module.train()
    gap = float((policy.logps - live).abs().max())
    if gap != 0.0:
        raise TrainingError(f"policy and reference differ by {gap:.3g} nats before the first update; not trained")
    if batch.idle:
        return []
    lines = ["start: policy = reference exactly in one pass (all margins 0)"]
    here = [groups[i] for i in batch.group_index]
    expected = ready.loss.closed_form(here)
    if expected is not None:
        step = ready.loss.at(here)
        mean = float(step.total(step(token_scores(policy, live, batch), alone(batch))).double())
        if abs(mean - expected) > 1e-5 * max(1.0, abs(expected)):
            raise TrainingError(f"the loss at the start is {mean:.8f}, not its closed form {expected:.8f}; not trained")
        lines[0] += f", loss {mean:.6f} = its closed form"
    if isinstance(beside, Live):
        return lines
    drift = float((stored.to(live.device) - live).abs().max())
    if drift > STORED_TOLERANCE[engine.policy.dtype]:
        raise TrainingError(
            f"stored reference log-probs differ from this model's by {drift:.3g} nats a token: "
            f"delete {beside.store.folder} and run again"
        )
    lines.append(f"start: stored reference agrees to {drift:.1e} nats a token")
    return lines
