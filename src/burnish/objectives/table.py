"""A row of the table of objectives: the decorator that stands above each objective's function."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeVar

from burnish.errors import ConfigError, did_you_mean
from burnish.objectives.advantages import COMPARING, Advantages
from burnish.objectives.settings import Setting, settings_of
from burnish.tensors import Losses, Unit

Function = TypeVar("Function", bound=Callable[..., Losses])
View = Literal["pairs", "winners", "lists", "labels", "rollouts"]
Need = Literal["reference", "step", "mismatched", "square", "kl", "draws", "scalar", "value"]
"""What an objective asks of the loop besides the policy's log-probs:

reference   the reference's log-probs
step        a first pass over the step's microbatches, without gradient
mismatched  log-ratios of answers under other prompts
square      log sum_v p(v)^2 at every position
kl          the full-vocabulary KL from reference to policy at every position, so a reference that stands in memory
draws       token positions drawn by (seed, step, pair)
scalar      one number for each answer, from a scalar head, in place of log-probs
value       a value head's number at every position
"""


class LengthEffects(NamedTuple):
    """The three ways in which length leaks into a run, each "yes", "no", "drift" (it grows as the policy leaves the
    reference) or "reduced", with a condition behind it where it depends on a setting."""

    p1: str  # prefers the shorter answer of a pair, because sums of log-probs fall with length
    p2: str  # longer answers weigh more in the gradient
    p3: str  # learns the raters' taste in length


@dataclass(frozen=True)
class Running:
    """What an objective carries from step to step: running averages, updated from the step's sums before their use.

    `update(state, sums, generator, **settings)` gives (new state, arguments of the function for this step); its own
    keyword-only arguments are settings, too. `given` names the arguments that it sets, which nobody else may.
    """

    start: Mapping[str, float]
    update: Callable[..., tuple[dict[str, float], dict[str, Any]]]
    given: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One row of the table, written as a decorator above the objective's function.

        @Objective(view="pairs", unit="pair", needs={"reference"}, beta_unit="per sequence", ...)
        def dpo(scores: TokenScores, pairs: Pairs, *, beta: Positive = 0.1) -> Losses:
            \"\"\"What it is for, in a sentence.

            Loss: -log s(beta D)
            Gradient: dl/da = -beta u ; dl/db = +beta u

            Notes.
            \"\"\"

    The function's name is the objective's. Its keyword-only arguments, with their defaults and limits, are the
    objective's settings. Its docstring has the paragraphs above: the loss as one would write it, the gradient its
    derivative with respect to the summed log-probs; notes where there is more to say.

    `beta_unit` says what beta multiplies: a sum over the sequence, or a mean per token; the two differ by the length.
    `lr_range` is what was published for full training. `closed_form` gives a pair's loss when policy = reference, from
    the settings; None where it depends on the log-probs. `advantages` makes advantages of rewards; its keyword-only
    arguments are settings, too.
    """

    view: View
    unit: Unit
    lr_range: tuple[float, float]
    length_effects: LengthEffects
    paper: str
    equation: str = ""
    needs: AbstractSet[Need] = frozenset()
    beta_unit: Literal["per sequence", "per token", ""] = ""
    closed_form: Callable[..., float | None] | None = None
    running: Running | None = None
    advantages: Callable[..., Advantages] | None = None
    function: Callable[..., Losses] = field(init=False, repr=False)

    def __call__(self, function: Function) -> Function:
        """Enter the function into the table; it stays as it is."""
        object.__setattr__(self, "function", function)
        REGISTERED.append(self)
        return function

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def summary(self) -> str:
        """What it is for, in a sentence."""
        return self._text["summary"]

    @property
    def loss(self) -> str:
        """The formula, as one would write it."""
        return self._text["loss"]

    @property
    def gradient(self) -> str:
        """The formula's derivative."""
        return self._text["gradient"]

    @property
    def notes(self) -> str:
        """What the docstring says beyond that; empty where it says nothing."""
        return self._text["notes"]

    @cached_property
    def _text(self) -> dict[str, str]:
        """The paragraphs of the docstring, each on one line."""
        shape = r"(?P<summary>.+?)\n\nLoss: (?P<loss>.+?)\nGradient: (?P<gradient>.+?)(?:\n\n(?P<notes>.+))?"
        match = re.fullmatch(shape, inspect.getdoc(self.function) or "", re.DOTALL)
        if match is None:
            raise TypeError(f"{self.name}: the docstring is not a sentence, `Loss: ...` and `Gradient: ...`")
        return {name: " ".join((text or "").split()) for name, text in match.groupdict().items()}

    @property
    def source(self) -> str:
        """Where it is from, for people: `arXiv 2305.18290, eq. 7`."""
        paper = f"arXiv {self.paper}" if self.paper[:1].isdigit() else self.paper
        return f"{paper}, {self.equation}" if self.equation and paper != self.paper else paper

    @property
    def compares(self) -> bool:
        """Whether it learns from differences between a prompt's answers, so that one alone teaches nothing."""
        return self.view in ("pairs", "lists") or self.advantages in COMPARING

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """All settings by name: the function's, the running averages' and the advantages'."""
        given = self.running.given if self.running else ()
        function = {name: setting for name, setting in settings_of(self.function).items() if name not in given}
        return function | self.running_settings | self.advantage_settings

    @cached_property
    def running_settings(self) -> dict[str, Setting]:
        """The settings of the running averages."""
        return settings_of(self.running.update) if self.running else {}

    @cached_property
    def advantage_settings(self) -> dict[str, Setting]:
        """The settings that say how rewards become advantages."""
        return settings_of(self.advantages) if self.advantages else {}

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All settings with defaults filled in. Raises ConfigError on an unknown name, a wrong type, a wild value."""
        for name in params:
            if name not in self.settings:
                hint = did_you_mean(name, self.settings, prefix="objective.", cutoff=0.5) or "."
                known = ", ".join(self.settings) or "none at all"
                raise ConfigError(f"{self.name} has no setting 'objective.{name}'{hint} Its settings: {known}")
        return {name: setting.checked(params.get(name, setting.default)) for name, setting in self.settings.items()}

    def at_reference(self, params: Mapping[str, Any]) -> float | None:
        """Loss of a pair when policy = reference; None where it depends on the log-probs."""
        return None if self.closed_form is None else self.closed_form(**params)


REGISTERED: list[Objective] = []  # in the order of definition


def rows_of(family: ModuleType) -> list[Objective]:
    """The objectives that a module defines, in its order."""
    return [row for row in REGISTERED if row.function.__module__ == family.__name__]


def log2(**_: Any) -> float:
    """The closed form of a logistic loss of a margin."""
    return math.log(2)


DPO_LR = (5e-8, 1e-6)  # published learning rates for DPO; most of its variants took them over
DPO_LENGTHS = LengthEffects("drift", "yes", "yes")
