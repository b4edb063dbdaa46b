"""The implicit reward of a policy: beta times what training moved its log-probs by (2305.18290, eq. 5)."""

from __future__ import annotations

from burnish import objectives
from burnish.config import ModelConfig, Run
from burnish.engine import model, scoring
from burnish.engine.candidates import Candidate
from burnish.engine.engine import Engine
from burnish.engine.loading import make_engine
from burnish.errors import ConfigError
from burnish.group import EncodedGroup


def implicit(
    candidate: Candidate, source: ModelConfig, groups: list[EncodedGroup], run: Run, tick: scoring.Tick
) -> list[tuple[float, ...]]:
    """beta x log-ratio to the reference (per token where beta is); without a reference, beta x log-prob."""
    assert candidate.run is not None
    row, beta = implicit_scale(candidate.run)
    logps = scoring.logps(frozen_engine(model.open_policy(source), run), groups, tick)
    if "reference" in row.needs:
        path = candidate.run.reference.path if candidate.run.reference.kind == "path" else candidate.run.model.path
        engine = frozen_engine(model.load_policy(source.model_copy(update={"path": path})), run)
        reference = scoring.logps(engine, groups)
        logps = [tuple(p - q for p, q in zip(a, b, strict=True)) for a, b in zip(logps, reference, strict=True)]
    per_token = row.beta_unit == "per token" or candidate.run.objective[0].params.get("normalize") == "avg"
    sizes = [[len(ids) if per_token else 1 for ids in group.completion_ids] for group in groups]
    return [tuple(beta * x / n for x, n in zip(a, b, strict=True)) for a, b in zip(logps, sizes, strict=True)]


def implicit_scale(run: Run) -> tuple[objectives.Objective, float]:
    """The objective that a policy was trained with (a mixture's first with a beta), and its beta."""
    for part in run.objective:
        row = objectives.find(part.name)
        params = row.validate(dict(part.params))
        beta = next((params[name] for name in ("beta", "tau", "beta0", "lam") if name in params), None)
        if beta is not None:
            return row, float(beta)
    raise ConfigError(f"a policy trained with {run.objective[0].name} has no implicit reward: there is no beta in it")


def frozen_engine(policy: model.Policy, run: Run) -> Engine:
    """An engine that trains nothing, in the model's compute type."""
    engine = make_engine(policy, run)[0]
    model.cast_for_compute(policy)
    policy.module.requires_grad_(False)
    return engine
