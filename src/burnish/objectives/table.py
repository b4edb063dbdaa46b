"""A row of the table of objectives, and the checks on its settings."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from burnish.data.length_effects import LENGTH_EFFECTS, LengthEffects
from burnish.errors import ConfigError, did_you_mean
from burnish.objectives.advantages import COMPARING, Advantages
from burnish.tensors import Losses, Unit

View = Literal["pairs", "winners", "lists", "labels", "rollouts"]
Need = Literal["reference", "step", "mismatched", "square", "kl", "draws", "scalar", "value"]
"""What an objective asks of the loop beside the policy's log-probs:

reference   the reference's log-probs
step        a first pass over the step's microbatches, without gradient
mismatched  log-ratios of answers under other prompts
square      log sum_v p(v)^2 at every position
kl          the full-vocabulary KL from reference to policy at every position, so a reference that stands in memory
draws       token positions drawn by (seed, step, pair)
scalar      one number for each answer, from a scalar head, in place of log-probs
value       a value head's number at every position
"""

LIMITS: dict[str, tuple[Callable[[float], bool], str]] = {
    "beta": (lambda x: x > 0, "must be positive"),
    "tau": (lambda x: x > 0, "must be positive"),
    "gamma": (lambda x: x >= 0, "must not be negative"),
    "lam": (lambda x: x >= 0, "must not be negative"),
    "alpha": (lambda x: x >= 0, "must not be negative"),
    "nll_weight": (lambda x: x >= 0, "must not be negative"),
    "margin": (lambda x: x > 0, "must be positive"),
    "scale": (lambda x: x > 0, "must be positive"),
    "beta0": (lambda x: x > 0, "must be positive"),
    "beta_min": (lambda x: x > 0, "must be positive"),
    "sigma": (lambda x: x > 0, "must be positive"),
    "gamma_beta_ratio": (lambda x: x >= 0, "must not be negative"),
    "desirable": (lambda x: x > 0, "must be positive"),
    "undesirable": (lambda x: x > 0, "must be positive"),
    "temp": (lambda x: x > 0, "must be positive"),
    "clip": (lambda x: x > 0, "must be positive"),
    "max_logp": (lambda x: x < 0, "must be negative: the odds of 0 are infinite"),
    "eps": (
        lambda x: 0 < x < 1,
        "must lie between 0 and 1, both excluded: the target keeps a share for the other side",
    ),
    "eps_low": (lambda x: 0 < x <= 1, "must lie between 0 and 1"),
    "eps_high": (lambda x: x > 0, "must be positive"),
    "dual_clip": (lambda x: x > 1, "must be above 1"),
    "kl_coef": (lambda x: x >= 0, "must not be negative"),
    "kl_in_reward": (lambda x: x >= 0, "must not be negative"),
    "kl_target": (lambda x: x > 0, "must be positive"),
    "kl_horizon": (lambda x: x >= 1, "is a number of answers: at least 1"),
    "std_eps": (lambda x: x > 0, "must be positive"),
    "l_max": (lambda x: x > 0, "must be positive"),
    "value_coef": (lambda x: x >= 0, "must not be negative"),
    "value_clip": (lambda x: x > 0, "must be positive"),
    "discount": (lambda x: 0 < x <= 1, "must lie between 0 and 1"),
    "overlong_buffer": (lambda x: x > 0, "must be positive"),
    "max_weight": (lambda x: x > 0, "must be positive"),
    "center": (lambda x: x >= 0, "must not be negative"),
    "momentum": (lambda x: 0 <= x < 1, "must be at least 0 and below 1"),
    "rho": (lambda x: 0 <= x < 1, "is the share of pairs left out: at least 0 and below 1"),
    "label_smoothing": (lambda x: 0 <= x < 0.5, "is the share of flipped labels: at least 0 and below 0.5"),
}


@dataclass(frozen=True)
class Running:
    """What an objective carries from step to step: running averages, updated from the step's sums before their use.

    `update(state, sums, generator, **settings)` gives (new state, arguments of the function for this step); its own
    keyword-only arguments are settings, too. `given` names the arguments that it sets, which nobody else may.
    """

    start: Mapping[str, float]
    update: Callable[..., tuple[dict[str, float], dict[str, Any]]]
    given: tuple[str, ...]


@dataclass(frozen=True)
class Objective:
    """One row. The function's keyword-only arguments, with their defaults, are the objective's configuration.

    `beta_unit` says what beta multiplies: a sum over the sequence, or a mean per token; the two differ by the length.
    `lr_range` is what was published for full training. `closed_form` gives a pair's loss when policy = reference.
    `formula` is the loss, `gradient` its derivative with respect to the summed log-probs, both as one would write them.
    """

    name: str
    function: Callable[..., Losses]
    view: View
    unit: Unit
    beta_unit: Literal["per sequence", "per token", ""]
    lr_range: tuple[float, float]
    paper: str
    summary: str
    equation: str = ""
    formula: str = ""
    gradient: str = ""
    needs: AbstractSet[Need] = field(default_factory=frozenset)
    closed_form: Callable[..., float | None] | None = None
    running: Running | None = None
    advantages: Callable[..., Advantages] | None = None  # of rewards; its keyword-only arguments are settings

    @property
    def length_effects(self) -> LengthEffects:
        """Whether it prefers short answers, weighs long ones more, and learns the raters' taste in length."""
        return LENGTH_EFFECTS[self.name]

    @property
    def source(self) -> str:
        """Where it is from, for people: `arXiv 2305.18290, eq. 7`."""
        paper = f"arXiv {self.paper}" if self.paper[:1].isdigit() else self.paper
        return f"{paper}, {self.equation}" if self.equation and paper != self.paper else paper

    def parameters(self) -> dict[str, tuple[Any, Any]]:
        """Name -> (type, default) of each setting."""
        found = _keyword_only(self.function)
        if self.running is not None:
            found |= _keyword_only(self.running.update)
            found = {name: known for name, known in found.items() if name not in self.running.given}
        if self.advantages is not None:
            found |= _keyword_only(self.advantages)
        return found

    @property
    def compares(self) -> bool:
        """Whether it learns from differences between a prompt's answers, so that one alone teaches nothing."""
        return self.view in ("pairs", "lists") or self.advantages in COMPARING

    def advantage_settings(self) -> frozenset[str]:
        """The settings that say how rewards become advantages."""
        return frozenset() if self.advantages is None else frozenset(_keyword_only(self.advantages))

    def running_settings(self) -> frozenset[str]:
        """The settings that belong to the running averages, not to the function."""
        return frozenset() if self.running is None else frozenset(_keyword_only(self.running.update))

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All settings with defaults filled in. Raises ConfigError on an unknown name, a wrong type, a wild value."""
        known = self.parameters()
        for name in params:
            if name not in known:
                hint = did_you_mean(name, known, prefix="objective.", cutoff=0.5) or "."
                settings = ", ".join(known) or "none at all"
                raise ConfigError(f"{self.name} has no setting 'objective.{name}'{hint} Its settings: {settings}")
        return {name: _checked(name, params.get(name, default), kind) for name, (kind, default) in known.items()}

    def at_reference(self, params: Mapping[str, Any]) -> float | None:
        """Loss of a pair when policy = reference; None where it depends on the log-probs."""
        return None if self.closed_form is None else self.closed_form(**params)


def _checked(name: str, value: Any, kind: Any) -> Any:
    if value is None and type(None) in get_args(kind):
        return None
    if kind is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"objective.{name} = {value!r}: must be true or false")
        return value
    kind = next(
        (k for k in get_args(kind) if k is not type(None) and isinstance(k, type)), kind
    )  # float of float | None
    choices = get_args(kind)
    if choices:
        if value not in choices:
            raise ConfigError(f"objective.{name} = {value!r}: must be one of {', '.join(map(repr, choices))}")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise ConfigError(f"objective.{name} = {value!r}: must be a finite number")
    sound, rule = LIMITS.get(name, (lambda x: True, ""))
    if not sound(value):
        raise ConfigError(f"objective.{name} = {value!r}: {rule}")
    return kind(value)


def _keyword_only(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    hints = get_type_hints(function)
    signature = inspect.signature(function).parameters.values()
    return {p.name: (hints[p.name], p.default) for p in signature if p.kind is p.KEYWORD_ONLY}


def log2(**_: Any) -> float:
    return math.log(2)


def one(**_: Any) -> float:
    return 1.0


AS_DPO = (5e-8, 1e-6)  # published learning rates for DPO; most of its variants took them over
