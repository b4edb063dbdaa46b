"""The settings of an objective: the keyword-only arguments of its function, each with its limits as its type.

    def dpo(scores, pairs, *, beta: Positive = 0.1, label_smoothing: FlippedShare = 0.0) -> Losses: ...

A limit that only one parameter has is written in its place: `Annotated[float, Gt(0), Lt(1), "why"]`. The text ends the
refusal: "must be above 0 and below 1: why".
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from annotated_types import Ge, Gt, Le, Lt

from burnish.errors import ConfigError

FLOAT32 = torch.finfo(torch.float32)  # losses are computed in it

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]
FlippedShare = Annotated[float, Ge(0), Lt(0.5), "it is the share of flipped labels"]
Momentum = Annotated[float, Ge(0), Lt(1), "it is what a running average keeps of its past"]


@dataclass(frozen=True)
class Setting:
    """One setting. `kind` is bool, int, float, or str with `choices`; `reason` says why there are limits."""

    name: str
    default: Any
    kind: Any
    optional: bool = False
    choices: tuple[str, ...] = ()
    limits: tuple[Any, ...] = ()  # of annotated_types
    reason: str = ""

    @property
    def rule(self) -> str:
        """`above 0 and below 1`; empty where there is no limit."""
        return " and ".join(f"{words} {bound:g}" for words, bound, _ in map(_bound, self.limits))

    def checked(self, value: Any) -> Any:
        """The value as the setting's type. Raises ConfigError on another type, or a value outside the limits."""
        if value is None and self.optional:
            return None
        if self.choices:
            self._require(value in self.choices, value, f"one of {', '.join(map(repr, self.choices))}")
            return value
        if self.kind is bool:
            self._require(isinstance(value, bool), value, "true or false")
            return value
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        number = number and (value == 0 or FLOAT32.tiny <= abs(value) <= FLOAT32.max)
        self._require(
            number, value, f"a finite number, as losses hold it: {FLOAT32.tiny:.1g} to {FLOAT32.max:.1g} or 0"
        )
        if self.kind is int:
            self._require(value == int(value), value, "a whole number")
        inside = all(holds(value, bound) for _, bound, holds in map(_bound, self.limits))
        self._require(inside, value, f"{self.rule}: {self.reason}" if self.reason else self.rule)
        return self.kind(value)

    def _require(self, holds: bool, value: Any, what: str) -> None:
        if not holds:
            raise ConfigError(f"objective.{self.name} = {value!r}: must be {what}")


def settings_of(function: Callable[..., Any]) -> dict[str, Setting]:
    """The keyword-only arguments of a function by name, in its order."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    return {p.name: _setting(p.name, p.default, hints[p.name]) for p in parameters if p.kind is p.KEYWORD_ONLY}


def _setting(name: str, default: Any, hint: Any) -> Setting:
    union = get_origin(hint) in (Union, UnionType)
    kind = next(member for member in get_args(hint) if member is not type(None)) if union else hint
    kind, *metadata = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    reason = next((text for text in metadata if isinstance(text, str)), "")
    limits = tuple(limit for limit in metadata if not isinstance(limit, str))
    return Setting(name, default, str if choices else kind, union, choices, limits, reason)


def _bound(limit: Any) -> tuple[str, Any, Callable[[Any, Any], bool]]:
    """(in words, the number, the comparison) of a limit."""
    match limit:
        case Gt(gt=bound):
            return "above", bound, operator.gt
        case Ge(ge=bound):
            return "at least", bound, operator.ge
        case Lt(lt=bound):
            return "below", bound, operator.lt
        case Le(le=bound):
            return "at most", bound, operator.le
    raise TypeError(f"a setting has no limit of the kind {limit!r}")
