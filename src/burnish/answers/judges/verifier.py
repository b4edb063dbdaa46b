"""Programs as judges: the named checks of `checks`, and functions that the user wrote."""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import numbers
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.answers.judges.check_process import CheckProcess
from burnish.answers.judges.checks import CHECKS, HARMLESS, Missing, Request, described
from burnish.config.online import VerifierConfig
from burnish.errors import ConfigError, did_you_mean
from burnish.group import Completion, Feedback, Group, Scores, Unjudged, last_text, transcript

__all__ = ["UserFunction", "Verifier", "described", "make"]

Function = Callable[[str, str, Mapping[str, Any]], "float | bool | None"]
PROGRAMS_AT_ONCE = 2


@dataclass
class Verifier:
    """A named check. An answer that is too long, takes too long, or breaks the check is wrong. A row that lacks what is
    expected, or on which the check breaks whatever the answer, is Unjudged."""

    name: str
    settings: Mapping[str, Any]
    seconds: float  # of wall time, an answer
    process: CheckProcess = field(default_factory=CheckProcess)  # of checks that may hang

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """Scores from 0 to 1; it never raises."""
        if self.name == "code":  # each program is a process, so that two can run at a time
            with ThreadPoolExecutor(PROGRAMS_AT_ONCE) as pool:
                return list(pool.map(self._judge, groups))
        return [self._judge(group) for group in groups]

    def _judge(self, group: Group) -> Feedback:
        prompt = last_text(group.prompt)
        try:
            return Scores(tuple(self._score(prompt, last_text(c.messages), group.meta) for c in group.completions))
        except Missing as error:
            return Unjudged(f"{_place(group)}: {error}")
        except Exception as error:  # a row in an unforeseen form, or a machine that starts no process
            return Unjudged(f"{_place(group)}: {self.name} cannot check this row: {_short(error)}")

    def _score(self, prompt: str, answer: str, meta: Mapping[str, Any]) -> float:
        request = Request(prompt, answer, meta, self.settings)
        if len(answer) <= CHECKS[self.name].longest:
            try:
                return self._run(request)
            except Missing:
                raise
            except Exception:  # the next line finds out whose fault it is
                pass
        self._run(replace(request, answer=HARMLESS))  # raises where the row, or the machine, is to blame
        return 0.0

    def _run(self, request: Request) -> float:
        check = CHECKS[self.name]
        return self.process.score(self.name, request, self.seconds) if check.may_hang else check.run(request)


@dataclass(frozen=True)
class UserFunction:
    """A function `score(prompt, answer, meta)` of the user's, which gives a number, a yes or no, or None for "unknown".

    `meta` is the prompt's row, with `finished` and `tokens` of the answer. It runs in this process, without a limit of
    time.
    """

    name: str
    function: Function

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """Scores; Unjudged where the function raised, or gave no number for one of the answers."""
        return [self._judge(group) for group in groups]

    def _judge(self, group: Group) -> Feedback:
        values = []
        for completion in group.completions:
            try:
                result = self._value(group, completion)
                value = float(result) if isinstance(result, numbers.Real) else math.nan  # bool, too, and numpy's
            except (Exception, SystemExit) as error:  # the user's code may raise anything
                return Unjudged(f"{_place(group)}: {self.name} raised {_short(error)}")
            if not math.isfinite(value):
                return Unjudged(f"{_place(group)}: {self.name} gave {_short(result)}, which is no finite number")
            values.append(value)
        return Scores(tuple(values))

    def _value(self, group: Group, completion: Completion) -> Any:
        meta = {**group.meta, **completion.meta}
        return self.function(transcript(group.prompt), last_text(completion.messages), meta)


def _place(group: Group) -> str:
    return group.where or group.id or "a group without an id"


def _short(value: object) -> str:
    try:
        return repr(value)[:200]
    except Exception:  # of a user's class
        return f"a {type(value).__name__}"


# -- from a table -----------------------------------------------------------------------------------------------------


def make(config: VerifierConfig) -> Verifier | UserFunction:
    """The verifier of a table. Raises ConfigError for what it cannot mean, before any answer is checked."""
    if not config.name:
        raise ConfigError("judge.name is missing: a check that `burnish judges` lists, or your own module:function")
    if ":" in config.name:
        _refuse_ignored(config, ())
        return UserFunction(config.name, _function(config.name))
    if config.name not in CHECKS:
        hint = did_you_mean(config.name.lower(), CHECKS) or f". They are: {', '.join(CHECKS)}"
        raise ConfigError(f"judge.name = '{config.name}': there is no such check{hint}")
    check = CHECKS[config.name]
    if check.package and importlib.util.find_spec(check.package) is None:
        raise ConfigError(f"judge.name = '{check.name}' needs {check.package}: pip install 'burnish[{check.extra}]'")
    _refuse_ignored(config, check.settings)
    given = bool(check.setting) and bool(getattr(config, check.setting))
    if given and config.field:
        raise ConfigError(f"judge.{check.setting} and judge.field both say what '{config.name}' expects; leave one out")
    if check.required and not given and not config.field:
        raise ConfigError(f"'{config.name}' needs judge.{check.setting}, or judge.field: the rows' field that holds it")
    settings: dict[str, Any] = {"field": config.field, "pattern": config.pattern, "target": config.target}
    settings |= {"unit": config.unit, "seconds": config.seconds}
    if config.pattern:
        try:
            re.compile(config.pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(f"judge.pattern = '{config.pattern}' is no regular expression: {error}") from None
    if config.schema_file:
        settings["schema"] = _schema(config.schema_file)
    return Verifier(config.name, settings, config.seconds, CheckProcess(check.package))


def _refuse_ignored(config: VerifierConfig, used: Sequence[str]) -> None:
    for name in ("field", "pattern", "schema_file", "target", "unit", "seconds"):
        if getattr(config, name) != VerifierConfig.model_fields[name].default and name not in used:
            raise ConfigError(f"judge.{name} is set, and '{config.name}' does not look at it")


def _schema(file: str) -> Any:
    import jsonschema

    try:
        wanted = json.loads(Path(file).read_text(encoding="utf-8"))
        if not isinstance(wanted, (dict, bool)):
            raise ConfigError(f"judge.schema_file = '{file}' is no JSON schema: it holds no object")
        jsonschema.validators.validator_for(wanted).check_schema(wanted)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"judge.schema_file = '{file}' cannot be read as JSON: {error}") from None
    except jsonschema.SchemaError as error:
        raise ConfigError(f"judge.schema_file = '{file}' is no JSON schema: {error.message[:200]}") from None
    return wanted


def _function(name: str) -> Function:
    module, _, attribute = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except (Exception, SystemExit) as error:  # the user's module may raise anything while it loads
        raise ConfigError(f"judge.name = '{name}': {module} cannot be imported: {_short(error)}") from None
    if not callable(function):
        raise ConfigError(f"judge.name = '{name}': {module} has no function {attribute}")
    try:
        inspect.signature(function).bind("prompt", "answer", {})
    except TypeError as error:
        raise ConfigError(f"judge.name = '{name}' is not a function of prompt, answer, meta: {error}") from None
    except ValueError:  # of a function in C nobody knows the arguments
        pass
    checked: Function = function
    return checked
