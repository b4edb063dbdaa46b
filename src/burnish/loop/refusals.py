"""What a run is refused for once its objectives, its data or its model's configuration are known; each reason once.

What the configuration decides without the table of objectives stands in `config.refusals`. Nothing here loads a weight.
"""

from __future__ import annotations

from collections.abc import Sequence

from burnish import objectives
from burnish.config import Run
from burnish.data import views
from burnish.engine import weights
from burnish.engine.distributed import World
from burnish.errors import ConfigError, DataError
from burnish.group import EncodedGroup
from burnish.objectives.mixture import Mixture, WeightedObjective


def mixture_of(run: Run) -> Mixture:
    """The run's objectives with their settings and weights. Raises ConfigError for what they cannot be together, or
    with the rest of the configuration."""
    parts = []
    for table in run.objective:
        objective = objectives.find(table.name)
        parts.append(WeightedObjective(objective, objective.validate(dict(table.params)), table.weight))
    mixture = Mixture(tuple(parts))
    _refuse_mixture(mixture)
    _refuse_lone_rollout_parts(mixture)
    _refuse_reference(run, mixture)
    if run.reward != type(run.reward)() and not mixture.needs("scalar"):
        raise ConfigError(f"[reward] is about reward models, and {mixture.name} trains a language model")
    _refuse_source(run, mixture)
    return mixture


def _refuse_mixture(mixture: Mixture) -> None:
    """One objective twice, or a reward model's beside a language model's."""
    names = [part.objective.name for part in mixture.parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"the objective {twice} is listed twice; give it once, with the sum of the weights")
    scalar = [part.objective.name for part in mixture.parts if "scalar" in part.objective.needs]
    if scalar and len(scalar) < len(names):
        other = next(name for name in names if name not in scalar)
        raise ConfigError(f"{scalar[0]} trains a reward model and {other} a language model: they cannot share one run")


def _refuse_lone_rollout_parts(mixture: Mixture) -> None:
    """Parts of policy-gradient mixtures without the part that turns rewards into advantages, and their settings."""
    rollouts = [part.objective for part in mixture.parts if part.objective.view == "rollouts"]
    if rollouts and not any(objective.advantages for objective in rollouts):
        raise ConfigError(
            f"{rollouts[0].name} is a part of a mixture: list it beside rloo, grpo or another of their kind"
        )
    for part in mixture.parts:
        agg, l_max = part.params.get("agg"), part.params.get("l_max")
        if agg is not None and "l_max" in part.params and (agg == "const") != (l_max is not None):
            raise ConfigError("objective.agg = 'const' divides by objective.l_max: give both, or neither")
        if part.params.get("level") == "sequence_sum" and part.params.get("kl_coef"):
            raise ConfigError(
                "objective.level = 'sequence_sum' has no term for each token: use kl_in_reward, not kl_coef"
            )
    learns_returns = any("value" in objective.needs and objective.advantages for objective in rollouts)
    if any(objective.name == "value_loss" for objective in rollouts) and not learns_returns:
        raise ConfigError("value_loss learns the returns that generalised advantages give: list it beside ppo")


def _refuse_reference(run: Run, mixture: Mixture) -> None:
    """A reference that is needed and missing, or asked for what it cannot give."""
    if mixture.needs("reference") and run.reference.kind == "none":
        needing = next(part.objective.name for part in mixture.parts if "reference" in part.objective.needs)
        raise ConfigError(f"{needing} needs a reference, and reference.kind = 'none' leaves it without one")
    if mixture.needs("kl") and run.reference.scores == "stored":
        raise ConfigError(
            f"{mixture.name} compares whole distributions with the reference's, and a store holds single log-probs: "
            "leave out reference.scores = 'stored'"
        )
    if run.reference.update != "never" and not mixture.needs("reference"):
        raise ConfigError(f"reference.update moves a reference, and {mixture.name} has none")


def _refuse_source(run: Run, mixture: Mixture) -> None:
    """Objectives that the answers' source cannot feed."""
    name = mixture.name
    on_rollouts = "rollouts" in mixture.views
    if not run.sampled:
        if on_rollouts:
            raise ConfigError(
                f"{name} trains on answers that the policy gives as it goes: set source.refresh_every (1 is on-policy) "
                "and a [judge]; with judged answers at hand, dpo or online_dpo learn from those"
            )
        return
    if mixture.needs("scalar"):
        raise ConfigError(f"{name} trains a reward model, which gives no answers: leave out [source] and [judge]")
    if on_rollouts and run.sampled_once:
        raise ConfigError(f"{name} needs answers of the policy as it stands: set source.refresh_every (1 is on-policy)")
    if on_rollouts and run.source.fresh < 1:
        raise ConfigError(f"source.fresh below 1 mixes in the answers of data.train, which {name} has no loss on")
    if on_rollouts and run.data.eval:
        raise ConfigError(f"data.eval holds judged answers, and {name} has no loss on those: leave it out")
    by_mean = run.pairs.pass_mark is None  # a yes is then a score above the prompt's mean
    comparing = next(
        (
            part.objective.name
            for part in mixture.parts
            if part.objective.compares or (part.objective.view == "labels" and by_mean)
        ),
        None,
    )
    if run.source.k == 1 and comparing:
        raise ConfigError(f"source.k = 1: {comparing} compares a prompt's answers with each other: two at least")


def refuse_processes(run: Run, mixture: Mixture, world: World) -> None:
    """What needs the policy whole, where several processes each hold a part of it. Raises ConfigError."""
    if world.size == 1:
        return
    if run.sampled or run.monitored:
        if run.source.sampler == "process":
            raise ConfigError(
                "source.sampler = 'process' answers with the whole policy, and with several processes each holds a "
                "part of it: use one process"
            )
        raise ConfigError("source.sampler = 'server' needs the weights whole in one process to hand them over")
    if run.adapter.kind == "qlora":
        raise ConfigError("adapter.kind = 'qlora' in several processes is not supported; use one process")
    if mixture.needs("value"):
        raise ConfigError(f"{mixture.name} trains a value head, which one process does; not several")


def refuse_model_config(run: Run, groups: Sequence[EncodedGroup]) -> None:
    """No group may be longer than the model's positions; nor, where the rotary table depends on the longest text in a
    batch (longrope, dynamic), than the length up to which it does not: packing would then change the result.

    Raises DataError for such a group, ConfigError for a router loss without a router, ModelError where the model's
    configuration cannot be read.
    """
    config = weights.configuration(run.model).get_text_config()
    if run.model.router_aux_coef and not getattr(config, "num_experts_per_tok", None):
        raise ConfigError(f"model.router_aux_coef is set, but {run.model.path} is not a mixture of experts")
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


def refuse_missing_margins(mixture: Mixture, groups: Sequence[EncodedGroup]) -> None:
    """Settings that look at how much better an answer is, on data that says only which. Raises DataError."""
    setting = next((k for part in mixture.parts for k in ("use_margin", "soft") if part.params.get(k) is True), None)
    if setting is None:
        return
    for group in groups:
        if len(views.margins(group)) < len(views.pair_view(group)):
            raise DataError(
                f"{group.where or group.id}: objective.{setting} = true needs by how much the better answer is better "
                "(scores of both answers), and this row says only which is"
            )


def refuse_different_data(world: World, fingerprint: str) -> None:
    """Every process reads the data for itself. Raises DataError where they did not read the same."""
    if world.size > 1 and len(set(world.gather(fingerprint))) > 1:
        raise DataError("the processes read different training data: data.train must be the same files for all of them")
