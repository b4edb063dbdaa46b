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
    engine: Engine, reference: Stored | Live | None, prepared: Prepared, groups: Sequence[EncodedGroup]
) -> list[str]:
    """Policy and initial reference, same kernels, same microbatch: every log-ratio exactly 0, the loss its closed form;
    and the stored log-probs those of this very engine. Raises TrainingError otherwise. Returns the lines to show.
    """
    if reference is None:
        return []
    mixture, module = prepared.mixture, engine.policy.module
    module.train(prepared.run.adapter.dropout == 0)  # as in training, unless the user asked for noise
    batch = engine.plan(groups)[0]
    with torch.no_grad():
        given, head = reference.computed(batch) if isinstance(reference, Live) else reference.scores(batch, groups)
        policy = engine.score(batch, square=mixture.needs("square"), reference=head if mixture.needs("kl") else None)
    if prepared.run.reference.kind == "path":
        module.train()
        return ["start: the reference is another model, so margins do not start at 0"]
    if batch.idle and isinstance(reference, Live):
        module.train()
        return []
    live = engine.score_reference(batch) if isinstance(reference, Stored) else given
    module.train()
    gap = float((policy.logps - live).abs().max())
    if gap != 0.0:
        raise TrainingError(f"policy and reference differ by {gap:.3g} nats before the first update; not trained")
    if batch.idle:
        return []
    lines = ["start: policy = reference exactly in one pass (all margins 0)"]
    members = [groups[i] for i in batch.group_index]
    expected = mixture.closed_form(members)
    if expected is not None:
        step_loss = mixture.at(members)
        mean = float(step_loss.total(step_loss(token_scores(policy, live, batch), alone(batch))).double())
        if not abs(mean - expected) <= 1e-5 * max(1.0, abs(expected)):  # nor where it is no number
            raise TrainingError(
                f"the loss at the start is {mean:.9g}, not its closed form {expected:.9g}; not trained. "
                f"Is a setting of the objective beyond reason? {mixture.settings}"
            )
        lines[0] += f", loss {mean:.6f} = its closed form"
    if isinstance(reference, Stored):
        drift = float((given.to(live.device) - live).abs().max())
        if not drift <= STORED_TOLERANCE[engine.policy.dtype]:
            raise TrainingError(
                f"stored reference log-probs differ from this model's by {drift:.3g} nats a token: "
                f"delete {reference.store.folder} and run again"
            )
        lines.append(f"start: stored reference agrees to {drift:.1e} nats a token")
    return lines
