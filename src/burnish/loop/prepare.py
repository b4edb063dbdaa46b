"""Everything that can be refused before a weight is loaded: data read, rendered, and matched with the objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from burnish import objectives
from burnish.audit import Auditor, audit
from burnish.config import Run, lr_advice
from burnish.data import prompts as asking
from burnish.data import render, tokenizers, views
from burnish.data.load import gather
from burnish.data.prompts import Asked
from burnish.engine import model as models
from burnish.errors import ConfigError, DataError, ModelError
from burnish.group import EncodedGroup, Group
from burnish.objectives.mixture import Part, Recipe
from burnish.runlog import trackers


@dataclass(frozen=True)
class Prepared:
    """A run's data in token space and its objective; `lines` is what the user is told before training."""

    run: Run
    tokenizer: Any
    train: list[EncodedGroup]
    evaluation: list[EncodedGroup]
    loss: Recipe
    terminal: frozenset[int]  # tokens that end an answer
    lines: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)  # prompts that the policy answers itself


def prepare(run: Run) -> Prepared:
    """Read and render the data. Raises ConfigError, DataError or ModelError with a sentence; loads no weights."""
    trackers.named(run)
    recipe = recipe_of(run)
    models.require_model_dir(run.model.path)
    if run.reference.kind == "path":
        models.require_model_dir(run.reference.path)
    tokenizer = tokenizers.load_tokenizer(run.model.path)
    renderer = render.Renderer(tokenizer, run.data.template, run.data.control_tokens)
    if renderer.template is not None:
        tokenizer.chat_template = renderer.template  # saved with the model, so that it is asked as it was trained
    lines = [renderer.describe()]
    asked: list[Asked] = []
    if run.sampled or run.monitored:
        asked, said = asking.prompts_of(run, renderer)
        lines += said
        _refuse_beyond_context(run, [asking.longest_group(run, asked)])
    train, evaluation = _static(run, renderer, recipe, lines)
    if train or evaluation:
        _refuse_beyond_context(run, [*train, *evaluation])
    lines += [_objective_line(part, len(recipe.parts) > 1) for part in recipe.parts]
    main = recipe.parts[0].objective
    advice = lr_advice(main.name, run.optim.peak_lr, main.lr_range, run.adapter.kind != "none")
    if advice:
        lines.append(advice)
    return Prepared(run, tokenizer, train, evaluation, recipe, frozenset(renderer.terminal), lines, asked)


def _static(
    run: Run, renderer: render.Renderer, recipe: Recipe, lines: list[str]
) -> tuple[list[EncodedGroup], list[EncodedGroup]]:
    """Groups that stand in files, to train on and held out; none to train on where all answers are fresh."""
    wanted = not run.sampled or run.source.fresh < 1
    if not wanted and not run.data.eval:
        return [], []
    view = "pairs" if "pairs" in recipe.views else recipe.views[0]
    found = gather(run if wanted else _eval_alone(run), view, renderer.answer_length)
    lines += found.lines
    look = Auditor(renderer, run.data.max_length, run.data.overlong, deep=False)
    held = Auditor(renderer, run.data.max_length, run.data.overlong, deep=False, against=look.scan)
    train = _encoded(run, renderer, found.train, recipe, "train", lines, look)
    evaluation: list[EncodedGroup] = []
    if found.evaluation:
        evaluation = _encoded(run, renderer, found.evaluation, recipe, "eval", lines, held)
    seen = audit(look, held if evaluation else None, probe=False)
    lines += [f"warning: {finding.line()}" for finding in seen.findings if finding.severity == "warn"]
    return (train, evaluation) if wanted else ([], train)


def _eval_alone(run: Run) -> Run:
    """The run that reads nothing but what is held out."""
    return run.model_copy(update={"data": run.data.model_copy(update={"train": run.data.eval, "eval": ""})})


def _encoded(
    run: Run, renderer: render.Renderer, groups: Sequence[Group], recipe: Recipe, name: str, lines: list[str],
    look: Auditor,
) -> list[EncodedGroup]:  # fmt: skip
    """The groups of one side in token space, those that teach this objective nothing left out; `lines` tell what."""
    used = [views.keep_used(group, recipe.views) for group in groups]
    encoded, report = render.encode_all(
        renderer, used, max_length=run.data.max_length, overlong=run.data.overlong, look=look.take
    )
    unused = sum(len(a.completions) - len(b.completions) for a, b in zip(groups, used, strict=True))
    lines += [f"  {unused} answers set aside: {recipe.name} does not look at them"] * bool(unused)
    lines += [f"  {line}" for line in report.lines()]
    for part in recipe.parts:
        refusal = views.missing_feedback(encoded, part.objective.view, part.objective.name)
        if refusal:
            raise DataError(refusal)
    usable = [g for g in encoded if views.usable(g, recipe.views)]
    _refuse_without_margins(recipe, usable)
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


def _objective_line(part: Part, several: bool) -> str:
    objective = part.objective
    values = ", ".join(f"{key} = {value}" for key, value in part.params.items())
    unit = f" (beta is {objective.beta_unit})" if objective.beta_unit else ""
    weight = f"{part.weight:g} x " if several else ""
    return f"objective: {weight}{objective.name} with {values or 'no settings'}{unit}; {objective.source}"
