"""Everything that can be refused before a weight is loaded: data read, rendered, and matched with the objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from burnish import model as models
from burnish import objectives, render, tokens, views
from burnish.audit import Auditor, audit
from burnish.config import Run, lr_advice
from burnish.errors import ConfigError, DataError, ModelError
from burnish.gather import gather
from burnish.group import EncodedGroup, Group
from burnish.loss import StepLoss


@dataclass(frozen=True)
class Prepared:
    """A run's data in token space and its objective; `lines` is what the user is told before training."""

    run: Run
    tokenizer: Any
    train: list[EncodedGroup]
    evaluation: list[EncodedGroup]
    loss: StepLoss
    lines: list[str] = field(default_factory=list)


def prepare(run: Run) -> Prepared:
    """Read and render the data. Raises ConfigError, DataError or ModelError with a sentence; loads no weights."""
    objective = objectives.find(run.objective.name)
    params = objective.validate(dict(run.objective.params))
    if "reference" in objective.needs and run.reference.kind == "none":
        raise ConfigError(f"{objective.name} needs a reference, and reference.kind = 'none' leaves it without one")
    models.require_model_dir(run.model.path)
    if run.reference.kind == "path":
        models.require_model_dir(run.reference.path)
    tokenizer = tokens.load_tokenizer(run.model.path)
    renderer = render.Renderer(tokenizer, run.data.template, run.data.control_tokens)
    if renderer.template is not None:
        tokenizer.chat_template = renderer.template  # saved with the model, so that it is asked as it was trained
    lines = [renderer.describe()]
    found = gather(run, objective.view, renderer.answer_length)
    lines += found.lines
    look = Auditor(renderer, run.data.max_length, run.data.overlong, deep=False)
    held = Auditor(renderer, run.data.max_length, run.data.overlong, deep=False, against=look.scan)
    train = _encoded(run, renderer, found.train, objective, "train", lines, look)
    evaluation: list[EncodedGroup] = []
    if found.evaluation:
        evaluation = _encoded(run, renderer, found.evaluation, objective, "eval", lines, held)
    seen = audit(look, held if evaluation else None, probe=False)
    lines += [f"warning: {finding.line()}" for finding in seen.findings if finding.severity == "warn"]
    _refuse_beyond_context(run, [*train, *evaluation])
    lines.append(_objective_line(objective, params))
    advice = lr_advice(objective.name, run.optim.peak_lr, objective.lr_range, run.adapter.kind != "none")
    if advice:
        lines.append(advice)
    return Prepared(run, tokenizer, train, evaluation, StepLoss(objective, params), lines)


def _refuse_beyond_context(run: Run, groups: Sequence[EncodedGroup]) -> None:
    """No group may be longer than the model's positions; nor, where the rotary table depends on the longest text in a
    batch (longrope, dynamic), than the length up to which it does not: packing would then change the result.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            run.model.path, trust_remote_code=run.model.trust_remote_code
        ).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"model.path: the configuration of {run.model.path} cannot be read: {reason}") from error
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    limits = [getattr(config, "max_position_embeddings", None)]
    if rope.get("rope_type") in ("longrope", "dynamic"):
        limits += [
            rope.get("original_max_position_embeddings"),
            getattr(config, "original_max_position_embeddings", None),
        ]
    known = [limit for limit in limits if isinstance(limit, int) and limit > 0]
    longest = max(groups, key=lambda g: len(g.prompt_ids) + max(map(len, g.completion_ids)))
    size = len(longest.prompt_ids) + max(map(len, longest.completion_ids))
    if known and size > min(known):
        raise DataError(
            f"{longest.where or longest.id}: {size} tokens, and {run.model.path} is exact only up to {min(known)}: "
            f"set data.max_length={min(known)} (data.overlong says what happens to longer groups)"
        )


def _encoded(
    run: Run, renderer: render.Renderer, groups: Sequence[Group], objective: Any, name: str, lines: list[str],
    look: Auditor,
) -> list[EncodedGroup]:  # fmt: skip
    """The groups of one side in token space, those that teach this objective nothing left out; `lines` tell what."""
    used = [views.keep_used(group, objective.view) for group in groups]
    encoded, report = render.encode_all(
        renderer, used, max_length=run.data.max_length, overlong=run.data.overlong, look=look.take
    )
    unused = sum(len(a.completions) - len(b.completions) for a, b in zip(groups, used, strict=True))
    lines += [f"  {unused} answers set aside: {objective.name} does not look at them"] * bool(unused)
    lines += [f"  {line}" for line in report.lines()]
    refusal = views.missing_feedback(encoded, objective.view, objective.name)
    if refusal:
        raise DataError(refusal)
    usable = [g for g in encoded if views.usable(g, objective.view)]
    if len(usable) < len(encoded):
        lines.append(
            f"  {len(encoded) - len(usable)} groups left out: no answer in them is better than another, or good"
        )
    if not usable:
        told = "\n".join(line for line in lines if line.startswith((name, "  ")))
        raise DataError(f"data.{name}: nothing is left to train on:\n{told}")
    sizes = [len(c) for g in usable for c in g.completion_ids]
    prompts = [len(g.prompt_ids) for g in usable]
    lines.append(
        f"  {name}: {len(usable)} groups in use: prompts {np.mean(prompts):.0f} tokens on average (longest "
        f"{max(prompts)}), completions {np.mean(sizes):.0f} (longest {max(sizes)})"
    )
    return usable


def _objective_line(objective: Any, params: dict[str, Any]) -> str:
    values = ", ".join(f"{key} = {value}" for key, value in params.items())
    unit = f" (beta is {objective.beta_unit})" if objective.beta_unit else ""
    return f"objective: {objective.name} with {values or 'no settings'}{unit}; {objective.source}"


@lru_cache(maxsize=4)
def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch's groups: a pure function of (seed, epoch)."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def step_indices(step: int, count: int, per_step: int, seed: int, end: int | None = None) -> list[int]:
    """Groups of step `step` (from 0): a window on the endless sequence of shuffled epochs, cut at `end`."""
    first, last = step * per_step, (step + 1) * per_step
    positions = range(first, min(last, end) if end is not None else last)
    shuffled = {epoch: order(count, seed, epoch) for epoch in {p // count for p in positions}}
    return [int(shuffled[p // count][p % count]) for p in positions]


def total_steps(run: Run, count: int) -> tuple[int, int | None]:
    """(number of optimiser steps, number of groups at which an epoch-bounded run ends)."""
    if run.optim.steps is not None:
        return run.optim.steps, None
    end = round((run.optim.epochs or 1.0) * count)
    return max(1, -(-end // run.optim.groups_per_step)), max(1, end)
