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
from burnish.objectives.mixture import Mixture, WeightedObjective
from burnish.runlog import trackers


@dataclass(frozen=True)
class Prepared:
    """A run's data in token space and its objective; `lines` is what the user is told before training."""

    run: Run
    tokenizer: Any
    train: list[EncodedGroup]
    evaluation: list[EncodedGroup]
    loss: Mixture
    terminal: frozenset[int]  # tokens that end an answer
    lines: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)  # prompts that the policy answers itself


def prepare(run: Run) -> Prepared:
    """Read and render the data. Raises ConfigError, DataError or ModelError with a sentence; loads no weights."""
    trackers.named(run)
    mixture = mixture_of(run)
    models.require_model_dir(run.model.path)
    if run.reference.kind == "path":
        models.require_model_dir(run.reference.path)
    tokenizer = tokenizers.load_tokenizer(run.model.path)
    renderer = render.Renderer(tokenizer, run.data.template, run.data.control_tokens)
    if renderer.template is not None:
        tokenizer.chat_template = renderer.template  # saved with the model, so that it is asked as it was trained
    lines = [renderer.describe()]
    asked: list[Asked] = []
    if run.dialled or run.watched:
        asked, said = asking.prompts_of(run, renderer)
        lines += said
        _refuse_beyond_context(run, [asking.longest_group(run, asked)])
    train, evaluation = _static(run, renderer, mixture, lines)
    if train or evaluation:
        _refuse_beyond_context(run, [*train, *evaluation])
    lines += [_objective_line(part, len(mixture.parts) > 1) for part in mixture.parts]
    main = mixture.parts[0].objective
    advice = lr_advice(main.name, run.optim.peak_lr, main.lr_range, run.adapter.kind != "none")
    if advice:
        lines.append(advice)
    return Prepared(run, tokenizer, train, evaluation, mixture, frozenset(renderer.terminal), lines, asked)


def _static(
    run: Run, renderer: render.Renderer, mixture: Mixture, lines: list[str]
) -> tuple[list[EncodedGroup], list[EncodedGroup]]:
    """Groups that stand in files, to train on and held out; none to train on where all answers are fresh."""
    wanted = not run.dialled or run.source.fresh < 1
    if not wanted and not run.data.eval:
        return [], []
    view = "pairs" if "pairs" in mixture.views else mixture.views[0]
    found = gather(run if wanted else _eval_alone(run), view, renderer.answer_length)
    lines += found.lines
    look = Auditor(renderer, run.data.max_length, run.data.overlong, deep=False)
    held = Auditor(renderer, run.data.max_length, run.data.overlong, deep=False, against=look.scan)
    train = _encoded(run, renderer, found.train, mixture, "train", lines, look)
    evaluation: list[EncodedGroup] = []
    if found.evaluation:
        evaluation = _encoded(run, renderer, found.evaluation, mixture, "eval", lines, held)
    seen = audit(look, held if evaluation else None, probe=False)
    lines += [f"warning: {finding.line()}" for finding in seen.findings if finding.severity == "warn"]
    return (train, evaluation) if wanted else ([], train)


def _eval_alone(run: Run) -> Run:
    """The run that reads nothing but what is held out."""
    return run.model_copy(update={"data": run.data.model_copy(update={"train": run.data.eval, "eval": ""})})


def mixture_of(run: Run) -> Mixture:
    """The objectives of a run with their settings, checked by themselves and together. Raises ConfigError."""
    parts = []
    for one in run.objective:
        objective = objectives.find(one.name)
        parts.append(WeightedObjective(objective, objective.validate(dict(one.params)), one.weight))
    names = [part.objective.name for part in parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"the objective {twice} is listed twice; give it once, with the sum of the weights")
    scalar = [part.objective.name for part in parts if "scalar" in part.objective.needs]
    if scalar and len(scalar) < len(parts):
        other = next(name for name in names if name not in scalar)
        raise ConfigError(f"{scalar[0]} trains a reward model and {other} a language model: they cannot share one run")
    mixture = Mixture(tuple(parts))
    if mixture.needs("reference") and run.reference.kind == "none":
        needing = next(part.objective.name for part in parts if "reference" in part.objective.needs)
        raise ConfigError(f"{needing} needs a reference, and reference.kind = 'none' leaves it without one")
    _refuse_reference(run, mixture)
    _refuse_reward(run, mixture)
    _refuse_creditless(mixture)
    asking.refuse(run, mixture.views, mixture.needs("scalar"))
    unmarked = run.pairs.pass_mark is None  # a yes is then a score above the prompt's mean
    comparing = next(
        (p.objective.name for p in parts if p.objective.compares or (p.objective.view == "labels" and unmarked)), None
    )
    if run.dialled and run.source.k == 1 and comparing:
        raise ConfigError(f"source.k = 1: {comparing} compares a prompt's answers with each other: two at least")
    return mixture


def _refuse_creditless(mixture: Mixture) -> None:
    """Parts of policy-gradient mixtures without the part that says what an answer is worth."""
    rollouts = [part.objective for part in mixture.parts if part.objective.view == "rollouts"]
    if rollouts and not any(one.advantages for one in rollouts):
        raise ConfigError(
            f"{rollouts[0].name} is a part of a mixture: list it beside rloo, grpo or another of their kind"
        )
    for part in mixture.parts:
        agg, l_max = part.params.get("agg"), part.params.get("l_max")
        if agg is not None and (agg == "const") != (l_max is not None) and "l_max" in part.params:
            raise ConfigError("objective.agg = 'const' divides by objective.l_max: give both, or neither")
        if part.params.get("level") == "sequence_sum" and part.params.get("kl_coef"):
            raise ConfigError(
                "objective.level = 'sequence_sum' has no term for each token: use kl_in_reward, not kl_coef"
            )
    if any(one.name == "value_loss" for one in rollouts) and not any(
        "value" in one.needs and one.advantages for one in rollouts
    ):
        raise ConfigError("value_loss learns the returns that generalised advantages give: list it beside ppo")


def _refuse_reward(run: Run, mixture: Mixture) -> None:
    """Keys of [reward] where no reward model is trained, and a head by itself beside an adapter."""
    if run.reward != type(run.reward)() and not mixture.needs("scalar"):
        raise ConfigError(f"[reward] is about reward models, and {mixture.name} trains a language model")
    if run.reward.train == "head" and run.adapter.kind != "none":
        raise ConfigError("reward.train = 'head' trains the scalar head alone, so adapter.kind has nothing to adapt")


def _refuse_reference(run: Run, mixture: Mixture) -> None:
    """What a reference is asked to be and cannot, or is asked for in vain."""
    if mixture.needs("kl") and run.reference.scores == "stored":
        raise ConfigError(
            f"{mixture.name} compares whole distributions with the reference's, and a store holds single log-probs: "
            "leave out reference.scores = 'stored'"
        )
    if run.reference.update != "never" and not mixture.needs("reference"):
        raise ConfigError(f"reference.update moves a reference, and {mixture.name} has none")


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
    run: Run, renderer: render.Renderer, groups: Sequence[Group], mixture: Mixture, name: str, lines: list[str],
    look: Auditor,
) -> list[EncodedGroup]:  # fmt: skip
    """The groups of one side in token space, those that teach this objective nothing left out; `lines` tell what."""
    used = [views.keep_used(group, mixture.views) for group in groups]
    encoded, report = render.encode_all(
        renderer, used, max_length=run.data.max_length, overlong=run.data.overlong, look=look.take
    )
    unused = sum(len(a.completions) - len(b.completions) for a, b in zip(groups, used, strict=True))
    lines += [f"  {unused} answers set aside: {mixture.name} does not look at them"] * bool(unused)
    lines += [f"  {line}" for line in report.lines()]
    for part in mixture.parts:
        refusal = views.missing_feedback(encoded, part.objective.view, part.objective.name)
        if refusal:
            raise DataError(refusal)
    usable = [g for g in encoded if views.usable(g, mixture.views)]
    _refuse_without_margins(mixture, usable)
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


def _refuse_without_margins(mixture: Mixture, groups: Sequence[EncodedGroup]) -> None:
    """Settings that look at how much better an answer is, on data that says only which."""
    asking = next((k for part in mixture.parts for k in ("use_margin", "soft") if part.params.get(k) is True), None)
    if asking is None:
        return
    for group in groups:
        if len(views.margins(group)) < len(views.pair_view(group)):
            raise DataError(
                f"{group.where or group.id}: objective.{asking} = true needs by how much the better answer is better "
                "(scores of both answers), and this row says only which is"
            )


def _objective_line(part: WeightedObjective, several: bool) -> str:
    objective = part.objective
    values = ", ".join(f"{key} = {value}" for key, value in part.params.items())
    unit = f" (beta is {objective.beta_unit})" if objective.beta_unit else ""
    weight = f"{part.weight:g} x " if several else ""
    return f"objective: {weight}{objective.name} with {values or 'no settings'}{unit}; {objective.source}"


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
