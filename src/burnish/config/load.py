"""Reads a run's configuration from TOML and `key=value` words, fills in defaults, and writes it as TOML again."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import ValidationError

from burnish.config import refusals
from burnish.config.keys import JUDGE_TABLES, fields_of, refuse_unknown_keys
from burnish.config.tables import Run
from burnish.errors import ConfigError


def load(file: str | None, overrides: Sequence[str] = ()) -> Run:
    """Read a TOML file, apply `key=value` overrides, fill what depends on other keys. Raises ConfigError."""
    return resolved(load_partly(file, overrides))


def resolved(run: Run) -> Run:
    """A run that can be trained, with the values filled in that depend on other keys. Raises ConfigError."""
    refusals.refuse(run)
    return _with_defaults(run)


def load_partly(file: str | None, overrides: Sequence[str] = ()) -> Run:
    """The same without what only training needs: for verbs that look at data, `model.path` may be missing."""
    return run_of(read_values(file, overrides, is_text))


def run_of(values: dict[str, Any]) -> Run:
    """A run of nested values, without what only training needs. Raises ConfigError."""
    refuse_unknown_keys(values)
    try:
        return Run.model_validate(values)
    except ValidationError as error:
        raise ConfigError(sentence(error)) from None


def read_values(file: str | None, overrides: Sequence[str], is_text: Callable[[str], bool]) -> dict[str, Any]:
    """The nested values of a TOML file with `key=value` words set in them; `is_text` says which keys hold text.

    Raises ConfigError.
    """
    values: dict[str, Any] = {} if file is None else _read_toml(file)
    for text in overrides:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise ConfigError(f"'{text}' is not key=value, for example optim.lr=1e-6; a TOML file comes first")
        name = name.strip()
        set_value(values, name, parse_value(name, value.strip(), is_text(name)), text)
    return values


def _read_toml(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None


def is_text(name: str) -> bool:
    """Whether a key of a run takes text."""
    table, _, last = name.partition(".")
    field = fields_of(table).get(last) if table in Run.model_fields else None
    return field is not None and (field.annotation is str or str in get_args(field.annotation))


def parse_value(name: str, text: str, is_text: bool) -> Any:
    """A TOML value if it is one, else the bare word itself; `run.dir=2026` and dates are words where words are meant.

    Raises ConfigError for a list with bare words in it, which would otherwise be taken for one odd name.
    """
    try:
        document = tomllib.loads(f"x = {text}")
    except tomllib.TOMLDecodeError:
        if text.startswith("[") and text.endswith("]"):
            example = f"""'{name}=["a", "b"]'"""
            raise ConfigError(f"{name}={text}: quote the words of a list, as in {example}") from None
        return text
    value = document["x"]
    return text if len(document) > 1 or (is_text and not isinstance(value, (str, list, dict))) else value


def set_value(values: dict[str, Any], name: str, value: Any, text: str) -> None:
    """Set a dotted key in nested values. Raises ConfigError, naming `text`, where a table is no table."""
    path = name.split(".")
    for part in path[:-1]:
        inner = values.setdefault(part, {})
        if isinstance(inner, list):
            raise ConfigError(
                f"{text}: the file lists several of [[{part}]]; change them there, or give the whole list"
            )
        if not isinstance(inner, dict):
            raise ConfigError(f"{text}: {part} is a value, not a table")
        values = inner
    values[path[-1]] = value


def sentence(error: ValidationError) -> str:
    """What is wrong with the values, a clause for each."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"] if isinstance(part, str) and part != "params")
        where = where.replace(".list[str]", "").replace(".str", "")
        lines.append(f"{where} = {problem.get('input')!r}: {problem['msg'].removeprefix('Value error, ').lower()}")
    return "; ".join(dict.fromkeys(lines))


def _with_defaults(run: Run) -> Run:
    """The run with the values filled in that depend on other keys."""
    optim: dict[str, Any] = {}
    if run.optim.lr is None:
        optim["lr"] = 5e-7 if run.adapter.kind == "none" else 5e-6
    if run.optim.steps is None and run.optim.epochs is None:
        optim["epochs"] = 1.0
    update: dict[str, Any] = {"optim": run.optim.model_copy(update=optim)}
    fixed_data = not run.sampled or run.sampled_once
    if not run.reference.store and run.reference.update == "never" and fixed_data:
        store = Path(run.run.dir).parent / "reference-store"
        update["reference"] = run.reference.model_copy(update={"store": str(store)})
    return run.model_copy(update=update)


def to_toml(run: Run) -> str:
    """The resolved configuration as TOML that `load` reads back to an equal tree."""
    values = run.model_dump(exclude_none=True)
    objectives = [
        {"name": part.name, **({"weight": part.weight} if part.weight != 1 else {}), **part.params}
        for part in run.objective
    ]
    values["objective"] = objectives[0] if len(objectives) == 1 else objectives
    for table in JUDGE_TABLES:
        judges = values.pop(table)
        if judges:
            values[table] = judges[0] if len(judges) == 1 else list(judges)
    seed = values.pop("seed")
    return tomli_w.dumps({"seed": seed, **values})
