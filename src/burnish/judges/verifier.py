"""Programs as judges: named checks of `checks`, and functions of the user's own."""

from __future__ import annotations

import difflib
import importlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.config import VerifierConfig
from burnish.errors import ConfigError
from burnish.group import Completion, Feedback, Group, Scores, Unjudged
from burnish.judges import asked, text_of
from burnish.judges.checks import CHECKS, Missing, Request, score
from burnish.judges.patience import Patient, TooLong

Function = Callable[[str, str, Mapping[str, Any]], "float | bool | None"]
PROGRAMS_AT_ONCE = 2


@dataclass
class Verifier:
    """One named check. An answer that takes too long, or breaks the check, is a wrong one: that is the answer's doing.
    A row that does not say what is expected is Unjudged."""

    name: str
    settings: Mapping[str, Any]
    seconds: float
    patient: Patient = field(default_factory=Patient)

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """Scores from 0 to 1 for every answer."""
        if self.name == "code":  # each in a process of its own, so that two can run at a time
            with ThreadPoolExecutor(PROGRAMS_AT_ONCE) as pool:
                return list(pool.map(self._judge, groups))
        return [self._judge(group) for group in groups]

    def _judge(self, group: Group) -> Feedback:
        prompt = asked(group)
        try:
            return Scores(tuple(self._score(prompt, text_of(one), group.meta) for one in group.completions))
        except Missing as error:
            return Unjudged(f"{group.where or group.id}: {error}")
        except Exception as error:  # a row in a form that no check foresaw
            return Unjudged(f"{group.where or group.id}: {self.name} cannot check this row: {error!r}")

    def _score(self, prompt: str, answer: str, meta: Mapping[str, Any]) -> float:
        request = Request(prompt, answer, meta, self.settings)
        if not CHECKS[self.name].patient:
            return score(self.name, request)
        try:
            return self.patient.score(self.name, request, self.seconds)
        except TooLong:
            return 0.0


@dataclass(frozen=True)
class Own:
    """A user's function: `score(prompt, answer, meta)` gives a number, a yes or no, or None for "cannot say". `meta` is
    the prompt's row, with `finished` and `tokens` of the answer."""

    name: str
    function: Function

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """Scores; Unjudged where the function raised, or gave no number for one of the answers."""
        return [self._judge(group) for group in groups]

    def _judge(self, group: Group) -> Feedback:
        values = []
        for completion in group.completions:
            try:
                value = self._value(group, completion)
            except Exception as error:  # the user's code may raise anything
                return Unjudged(f"{self.name} raised {error!r}")
            if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
                return Unjudged(f"{self.name} gave {value!r}, which is no number")
            values.append(float(value))
        return Scores(tuple(values))

    def _value(self, group: Group, completion: Completion) -> Any:
        return self.function(asked(group), text_of(completion), {**group.meta, **completion.meta})


def make(config: VerifierConfig) -> Verifier | Own:
    """The verifier a table names. Raises ConfigError for what it cannot mean."""
    if not config.name:
        raise ConfigError("judge.name is missing: a check that `burnish judges` lists, or your own module:function")
    if ":" in config.name:
        _refuse_ignored(config, ())
        return Own(config.name, _function(config.name))
    if config.name not in CHECKS:
        near = difflib.get_close_matches(config.name, CHECKS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f". They are: {', '.join(CHECKS)}"
        raise ConfigError(f"judge.name = '{config.name}': there is no such check{hint}")
    check = CHECKS[config.name]
    _refuse_ignored(config, check.settings)
    settings: dict[str, Any] = {"field": config.field, "pattern": config.pattern, "target": config.target}
    settings["seconds"] = config.seconds
    if config.pattern:
        try:
            re.compile(config.pattern)
        except re.error as error:
            raise ConfigError(f"judge.pattern = '{config.pattern}' is no regular expression: {error}") from None
    if config.schema_file:
        settings["schema"] = _schema(config.schema_file)
    return Verifier(config.name, settings, config.seconds)


def _refuse_ignored(config: VerifierConfig, used: Sequence[str]) -> None:
    for name in ("field", "pattern", "schema_file", "target"):
        if getattr(config, name) and name not in used:
            raise ConfigError(f"judge.{name} is set, and the check '{config.name}' does not look at it")


def _schema(file: str) -> Any:
    import jsonschema

    try:
        wanted = json.loads(Path(file).read_text(encoding="utf-8"))
        jsonschema.validators.validator_for(wanted).check_schema(wanted)
    except (OSError, ValueError) as error:
        raise ConfigError(f"judge.schema_file = '{file}' cannot be read as JSON: {error}") from None
    except jsonschema.SchemaError as error:
        raise ConfigError(f"judge.schema_file = '{file}' is no JSON schema: {error.message[:200]}") from None
    return wanted


def _function(name: str) -> Function:
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # the user's module may raise anything while it loads
        raise ConfigError(f"judge.name = '{name}': {module} cannot be imported: {error!r}") from None
    if not callable(found):
        raise ConfigError(f"judge.name = '{name}': {module} has no function {attribute}")
    function: Function = found
    return function
