"""The table of objectives: name -> function, the feedback it sees, what it needs, the unit of its beta, its paper."""

from __future__ import annotations

import difflib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from burnish.errors import ConfigError
from burnish.objectives import likelihood, pairs
from burnish.tensors import Losses, Unit

LIMITS: dict[str, tuple[Callable[[float], bool], str]] = {
    "beta": (lambda x: x > 0, "must be positive"),
    "tau": (lambda x: x > 0, "must be positive"),
    "gamma": (lambda x: x >= 0, "must not be negative"),
    "label_smoothing": (lambda x: 0 <= x < 0.5, "is the share of flipped labels: at least 0 and below 0.5"),
}


@dataclass(frozen=True)
class Objective:
    """One row. The function's keyword-only arguments, with their defaults, are the objective's configuration.

    `beta_unit` says what beta multiplies: a sum over the sequence, or a mean per token; the two differ by the length.
    `lr_range` is what was published for full training. `closed_form` gives a pair's loss when policy = reference.
    """

    name: str
    function: Callable[..., Losses]
    view: Literal["pairs", "winners"]
    needs_reference: bool
    unit: Unit
    beta_unit: Literal["per sequence", "per token", ""]
    lr_range: tuple[float, float]
    paper: str
    equation: str
    summary: str
    closed_form: Callable[..., float] | None = None

    @property
    def source(self) -> str:
        """Where it is from, for people: `arXiv 2305.18290, eq. 7`."""
        return f"arXiv {self.paper}, {self.equation}" if self.paper[:1].isdigit() else self.paper

    def parameters(self) -> dict[str, tuple[Any, Any]]:
        """Name -> (type, default) of each setting."""
        hints = get_type_hints(self.function)
        signature = inspect.signature(self.function).parameters.values()
        return {p.name: (hints[p.name], p.default) for p in signature if p.kind is p.KEYWORD_ONLY}

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All settings with defaults filled in. Raises ConfigError on an unknown name, a wrong type, a wild value."""
        known = self.parameters()
        for name in params:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"; did you mean 'objective.{near[0]}'?" if near else "."
                settings = ", ".join(known) or "none at all"
                raise ConfigError(f"{self.name} has no setting 'objective.{name}'{hint} Its settings: {settings}")
        return {name: _checked(name, params.get(name, default), kind) for name, (kind, default) in known.items()}

    def at_reference(self, chosen: int, rejected: int, params: Mapping[str, Any]) -> float | None:
        """Loss of a pair of these lengths when policy = reference; None where it depends on the log-probs."""
        return None if self.closed_form is None else self.closed_form(**params)


def _checked(name: str, value: Any, kind: Any) -> Any:
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


def _log2(**_: Any) -> float:
    return math.log(2)


ROWS = [
    Objective(
        "sft", likelihood.sft, "winners", False, "token", "", (5e-6, 5e-5), "maximum likelihood", "-log p",
        "Imitate the chosen answers; the baseline every preference run should be compared with.",
    ),
    Objective(
        "dpo", pairs.dpo, "pairs", True, "pair", "per sequence", (5e-8, 1e-6), "2305.18290", "eq. 7",
        "Raise the chosen answer's log-ratio to the reference above the rejected one's.", _log2,
    ),
    Objective(
        "dpo_norm", pairs.dpo_norm, "pairs", True, "pair", "per token", (8e-8, 1e-6), "2411.15124", "eq. 6",
        "DPO on log-ratios per token, so that long answers weigh no more than short ones.", _log2,
    ),
    Objective(
        "ipo", pairs.ipo, "pairs", True, "pair", "per sequence", (1e-7, 1e-6), "2310.12036", "eq. 17",
        "Pull the margin to a finite target instead of pushing it for ever.",
        lambda tau, normalize: 1 / (4 * tau**2),
    ),
    Objective(
        "simpo", pairs.simpo, "pairs", False, "pair", "per token", (3e-7, 1e-6), "2405.14734", "eq. 6",
        "No reference: compare mean log-probs, with a target margin gamma.",
    ),
]  # fmt: skip

TABLE: dict[str, Objective] = {row.name: row for row in ROWS}


def find(name: str) -> Objective:
    """The row of that name; raises ConfigError with the nearest one."""
    if name in TABLE:
        return TABLE[name]
    near = difflib.get_close_matches(name, TABLE, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ConfigError(f"there is no objective '{name}'; {hint}There are: {', '.join(TABLE)}")
