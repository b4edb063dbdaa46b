"""A run before any weight is loaded: its data read, rendered in tokens, audited, and matched with the objective."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from burnish.audit import Auditor, audit
from burnish.config import ModelConfig, Run
from burnish.data import prompts, render, tokenizers
from burnish.data.load import gather
from burnish.data.prompts import Prompt
from burnish.engine import candidates, reward_model, weights
from burnish.group import Completion, EncodedGroup, Group
from burnish.loop.encoded import encoded
from burnish.loop.refusals import mixture_of, refuse_model_config
from burnish.loop.schedule import lr_advice, steps_advice, total_steps
from burnish.objectives.mixture import Mixture, WeightedObjective
from burnish.runlog import trackers


@dataclass(frozen=True)
class Prepared:
    """A run's data in token space and its objectives."""

    run: Run
    tokenizer: Any
    train: list[EncodedGroup]  # groups of a fixed data set; empty where all answers are fresh
    evaluation: list[EncodedGroup]  # groups held out
    mixture: Mixture  # the run's objectives with their settings and weights
    terminal: frozenset[int]  # tokens that end an answer of the data
    ends: frozenset[int]  # tokens that end a sampled answer: those, and what the model itself names
    lines: list[str] = field(default_factory=list)  # what the user is told before training
    prompts: list[Prompt] = field(default_factory=list)  # prompts that the policy answers itself
    judge_inputs: str = ""  # hash of what the run's judges read


def prepare(run: Run, mixture: Mixture | None = None) -> Prepared:
    """Read and render the data; `mixture` where it is derived already.

    Raises ConfigError, DataError or ModelError with a sentence; loads no weights.
    """
    trackers.named(run)
    mixture = mixture_of(run) if mixture is None else mixture
    loaded = _loaded(run)
    origins = [weights.origin(model).line(role) for role, model in loaded]
    tokenizer = tokenizers.load_tokenizer(run.model.path, trust_remote_code=run.model.trust_remote_code)
    full = mixture.needs("scalar") and reward_model.reads_full(run.model.path)
    renderer = render.Renderer.of(run.data, tokenizer, full=full)
    if renderer.chat.to_save is not None:
        tokenizer.chat_template = renderer.chat.to_save  # so that the saved model is asked as it was trained
    lines = [*filter(None, origins), renderer.describe()]
    terminal = frozenset(renderer.terminal)
    ends = terminal | weights.ends(run.model)
    asked = [model for role, model in loaded if role != "judge"]  # of the same tokens
    least = min(asked, key=lambda model: weights.rows(model) or sys.maxsize)
    refuse_foreign_ids = partial(tokenizers.refuse_foreign_ids, tokenizer, weights.rows(least), least.path)
    refuse_foreign_ids([renderer.encode(Group("x", (Completion("x"),), where="every conversation"))])
    to_answer: list[Prompt] = []
    if run.sampled or run.monitored:
        to_answer, prompt_lines = prompts.prompts_of(run, renderer)
        lines += [*prompt_lines, f"sampling: answers end with {_tokens(tokenizer, ends)}"]
        refuse_model_config(run, [prompts.longest_group(run, to_answer)])
    train, evaluation = _fixed_groups(run, renderer, mixture, lines)
    refuse_foreign_ids(prompts.longest_group(run, [prompt]) for prompt in to_answer)
    refuse_foreign_ids([*train, *evaluation])
    if train or evaluation:
        refuse_model_config(run, [*train, *evaluation])
    lines += [_objective_line(part, len(mixture.parts) > 1) for part in mixture.parts]
    main = mixture.parts[0].objective
    steps = total_steps(run, len(train or to_answer))[0]
    fixed = run.optim.steps is not None
    short = steps_advice(steps, len(train), run.optim.groups_per_step, fixed=fixed) if train else None
    rates = lr_advice(main.name, run.optim.peak_lr, main.lr_range, run.adapter.kind != "none", steps)
    lines += filter(None, (short, rates))
    return Prepared(run, tokenizer, train, evaluation, mixture, terminal, ends, lines, to_answer)


def _loaded(run: Run) -> list[tuple[str, ModelConfig]]:
    """The models that a run loads, by what they are to it."""
    loaded = [("model", run.model)]
    if run.reference.kind == "path":
        loaded.append(("reference", run.model.model_copy(update={"path": run.reference.path})))
    for table in (*run.judge, *run.gold):
        if table.kind == "reward_model":
            paths = [table.path] if isinstance(table.path, str) else table.path
            for candidate in chain.from_iterable(members for _, members in candidates.find(paths)):
                judge = {"path": str(candidate.folder), "allow_pickle": table.allow_pickle}
                loaded.append(("judge", run.model.model_copy(update=judge)))
    return loaded


def _tokens(tokenizer: Any, ids: frozenset[int]) -> str:
    return ", ".join(repr(tokenizer.convert_ids_to_tokens(token)) for token in sorted(ids))


def _fixed_groups(
    run: Run, renderer: render.Renderer, mixture: Mixture, lines: list[str]
) -> tuple[list[EncodedGroup], list[EncodedGroup]]:
    """(groups of files to train on, groups held out); none to train on where all answers are fresh."""
    wanted = not run.sampled or run.source.fresh < 1
    if not wanted and not run.data.eval:
        return [], []
    view = "pairs" if "pairs" in mixture.views else mixture.views[0]
    loaded = gather(run if wanted else _eval_alone(run), view, renderer.answer_length)
    lines += loaded.lines
    train_audit = Auditor(renderer, run.data.max_length, run.data.overlong, deep=False)
    eval_audit = Auditor(renderer, run.data.max_length, run.data.overlong, deep=False, against=train_audit.scan)
    train = encoded(run, renderer, loaded.train, mixture, "train", lines, train_audit)
    evaluation: list[EncodedGroup] = []
    if loaded.evaluation:
        evaluation = encoded(run, renderer, loaded.evaluation, mixture, "eval", lines, eval_audit)
    audited = audit(train_audit, eval_audit if evaluation else None, probe=False)
    lines += [f"warning: {finding.line()}" for finding in audited.findings if finding.severity == "warn"]
    return (train, evaluation) if wanted else ([], train)


def _eval_alone(run: Run) -> Run:
    """The run that reads nothing but what is held out."""
    return run.model_copy(update={"data": run.data.model_copy(update={"train": run.data.eval, "eval": ""})})


def _objective_line(part: WeightedObjective, several: bool) -> str:
    objective = part.objective
    values = ", ".join(f"{key} = {value}" for key, value in part.params.items())
    unit = f" (beta is {objective.beta_unit})" if objective.beta_unit else ""
    weight = f"{part.weight:g} x " if several else ""
    return f"objective: {weight}{objective.name} with {values or 'no settings'}{unit}; {objective.source}"
