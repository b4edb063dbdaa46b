"""The settings of a sweep: which keys take several values, and how the runs are made."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from burnish.config.base import Table, key
from burnish.config.load import is_text, parse_value, read_values, resolved, run_of, sentence, set_value
from burnish.config.tables import Run
from burnish.errors import ConfigError, did_you_mean

MOST = 500  # members of a sweep
RESERVED = ("run.dir", "run.resume", "run.overwrite")


class SweepConfig(Table):
    dir: str = key("sweeps/default", "folder of the sweep; each run is a folder in it")
    over: dict[str, list[Any]] = Field({}, description="keys with the values that they take, as in key=a,b")
    first: float | None = key(
        None, "first train all on this share of the groups, then only the best in full", "share", gt=0, lt=1
    )
    keep: int | None = key(None, "sweep.first: runs that are trained in full; unset: a third of them", "runs", ge=1)
    jobs: int = key(1, "runs side by side, on the devices there are", "runs", ge=1)


@dataclass(frozen=True)
class SweepMember:
    """A run of a sweep. `values`: the swept keys with what they are here, as written."""

    name: str
    values: dict[str, str]
    run: Run


@dataclass(frozen=True)
class SweepPlan:
    """A sweep and its runs, each checked."""

    config: SweepConfig
    members: tuple[SweepMember, ...]

    @property
    def folder(self) -> Path:
        return Path(self.config.dir)


def load_sweep(file: str | None, words: Sequence[str]) -> SweepPlan:
    """Read RUN.toml and words; `key=a,b` is a key with two values. Raises ConfigError for any member that is refused.

    A list in brackets is one value, and so is a path with commas that exists.
    """
    swept: dict[str, list[str]] = {}
    plain: list[str] = []
    for word in words:
        name, _, value = word.partition("=")
        parts = split_values(value)
        if len(parts) < 2 or Path(value.strip()).exists():
            plain.append(word)
        elif name.strip() in swept:
            raise ConfigError(f"{name.strip()} is given twice; give all its values in one word, {name.strip()}=a,b")
        else:
            swept[name.strip()] = parts
    values = read_values(file, plain, is_text)
    config = _config(values.pop("sweep", {}))
    for name, given in config.over.items():
        swept.setdefault(name, [_written(value) for value in given])
    return SweepPlan(config, tuple(_members(values, swept, config.dir)))


def _config(given: Any) -> SweepConfig:
    if not isinstance(given, dict):
        raise ConfigError("sweep is a table; give one of its keys, for example sweep.dir=...")
    for name in given:
        if name not in SweepConfig.model_fields:
            hint = did_you_mean(name, SweepConfig.model_fields, prefix="sweep.")
            raise ConfigError(f"there is no key 'sweep.{name}'{hint}")
    try:
        config = SweepConfig.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"sweep: {sentence(error)}") from None
    if config.keep is not None and config.first is None:
        raise ConfigError("sweep.keep is about sweep.first, which is unset")
    return config


def _members(values: dict[str, Any], swept: dict[str, list[str]], folder: str) -> list[SweepMember]:
    count = 1
    for name, given in swept.items():
        if name in RESERVED:
            raise ConfigError(f"{name} cannot be swept: every run of a sweep has a folder of its own in sweep.dir")
        if len(set(given)) < len(given):
            raise ConfigError(f"{name} has a value twice: {', '.join(given)}")
        count *= len(given)
    if not swept:
        raise ConfigError("nothing is swept: give a key several values, as in objective.beta=0.03,0.1,0.3")
    if count > MOST:
        raise ConfigError(f"that would be {count:,} runs, and {MOST} are the most; sweep fewer values")
    last = [name.rpartition(".")[2] for name in swept]
    short = {name: tail if last.count(tail) == 1 else name for name, tail in zip(swept, last, strict=True)}
    members = []
    for combination in product(*swept.values()):
        chosen = dict(zip(swept, combination, strict=True))
        title = ",".join(f"{short[name]}={value}" for name, value in chosen.items()).replace("/", "-").replace(" ", "")
        own = copy.deepcopy(values)
        for name, value in chosen.items():
            set_value(own, name, parse_value(name, value, is_text(name)), f"{name}={value}")
        set_value(own, "run.dir", str(Path(folder) / title), "run.dir")
        try:
            members.append(SweepMember(title, chosen, resolved(run_of(own))))
        except ConfigError as error:
            raise ConfigError(f"{title}: {error}") from None
    return members


def split_values(text: str) -> list[str]:
    """The parts of `a,b,c`; commas within brackets, braces and quotes divide nothing."""
    parts, depth, quote, start = [], 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _written(value: Any) -> str:
    """A value of TOML as a word has it."""
    from burnish.config.keys import toml_value

    return value if isinstance(value, str) else toml_value(value)
