"""The keys of the configuration: what each means, and what to say of a key that does not exist."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from burnish.config.online import HumanConfig, JudgeTable, LLMConfig, RewardModelConfig, VerifierConfig
from burnish.config.tables import ObjectiveConfig, Run
from burnish.errors import ConfigError, did_you_mean

JUDGES: dict[str, type[JudgeTable]] = {
    "verifier": VerifierConfig, "reward_model": RewardModelConfig, "llm": LLMConfig, "human": HumanConfig,
}  # fmt: skip
JUDGE_TABLES = ("judge", "gold")
RENAMED = {  # old spelling -> new
    "engine.products": "engine.float32_matmul_precision",
    "value.trunk": "value.backbone",
    "log.to": "log.trackers",
}


@dataclass(frozen=True)
class KeyRow:
    """One key as `--print-config` and `--help` show it."""

    name: str
    default: str
    unit: str
    meaning: str


def describe_keys() -> Iterator[KeyRow]:
    """Every key of every table, in their order; of [judge] those of each kind, which [gold] has as well."""
    for table in Run.model_fields:
        if table in JUDGE_TABLES:
            meaning = (
                "who judges fresh answers" if table == "judge" else "who measures them, without effect on training"
            )
            yield KeyRow(f"{table}.kind", "unset", " | ".join(JUDGES), f"{meaning}; [[{table}]] lists several")
            if table == "judge":
                yield from _judge_rows()
            continue
        for name, field in fields_of(table).items():
            if (table, name) != ("objective", "params"):
                yield key_row(name if table == name else f"{table}.{name}", field)


def _judge_rows() -> Iterator[KeyRow]:
    """The keys that every judge has, then those of each kind alone."""
    for name, field in JudgeTable.model_fields.items():
        yield key_row(f"judge.{name}", field)
    for kind, known in JUDGES.items():
        for name, field in known.model_fields.items():
            if name != "kind" and name not in JudgeTable.model_fields:
                row = key_row(f"judge.{name}", field)
                yield replace(row, meaning=f"kind = {kind}: {row.meaning}")


def key_row(name: str, field: FieldInfo) -> KeyRow:
    """The row of one key: its default as TOML, the values that it may have or its unit, and its meaning."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    members = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    choices = [str(x) for member in members if get_origin(member) is Literal for x in get_args(member)]
    unit = " | ".join(filter(None, [str(extra.get("unit", "")), *choices]))
    default = "unset" if field.default is None else toml_value(field.default)
    return KeyRow(name, default, unit, field.description or "")


def toml_value(value: Any) -> str:
    """A value on one line of TOML."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(name)} = {toml_value(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def fields_of(table: str) -> dict[str, Any]:
    """pydantic's fields of a table by key; of a value outside the tables, that value's."""
    if table in JUDGE_TABLES:  # the keys of every kind, each once
        return {name: field for kind in JUDGES.values() for name, field in kind.model_fields.items()}
    annotation = ObjectiveConfig if table == "objective" else Run.model_fields[table].annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return dict(annotation.model_fields)
    return {table: Run.model_fields[table]}


def refuse_unknown_keys(values: Mapping[str, Any]) -> None:
    """Raises ConfigError with the nearest known key."""
    for table, inner in values.items():
        if table == "sweep":
            raise ConfigError("[sweep] is for several runs: burnish sweep RUN.toml")
        if table not in Run.model_fields:
            keys = [f"{table}.{name}" for name in inner] if isinstance(inner, Mapping) else [table]
            name = next(iter(keys), table)
            raise ConfigError(f"there is no key '{name}'{_hint(name)}")
        if table == "seed":
            continue
        if table == "objective" and isinstance(inner, list):
            if not inner or not all(isinstance(entry, Mapping) and "name" in entry for entry in inner):
                raise ConfigError('objective is a list: each entry is a table with a name, like {name = "dpo"}')
            continue
        if table in JUDGE_TABLES:
            _refuse_unknown_judge_keys(table, inner)
            continue
        if not isinstance(inner, Mapping):
            first = next(iter(fields_of(table)))
            raise ConfigError(f"{table} is a table; give one of its keys, for example {table}.{first}=...")
        for name in inner:
            if table != "objective" and name not in fields_of(table):
                raise ConfigError(f"there is no key '{table}.{name}'{_hint(f'{table}.{name}')}")


def _refuse_unknown_judge_keys(table: str, inner: Any) -> None:
    """[judge] and [gold], of which there may be several, each with the keys of its kind."""
    for judge in inner if isinstance(inner, list) else [inner]:
        if not isinstance(judge, Mapping) or judge.get("kind") not in JUDGES:
            raise ConfigError(f"{table}.kind is missing or unknown: it is one of {', '.join(JUDGES)}")
        known = JUDGES[judge["kind"]].model_fields
        for name in judge:
            if name not in known:
                hint = did_you_mean(name, known, prefix=f"{table}.", cutoff=0.5) or f". Its keys: {', '.join(known)}"
                raise ConfigError(f"there is no key '{table}.{name}' for the kind '{judge['kind']}'{hint}")


def _hint(name: str) -> str:
    """`; did you mean 'x'?`

    x is the new name of an old key, the same word in another table, the nearest spelling, or a key whose meaning has
    the word.
    """
    if name in RENAMED:
        return f"; did you mean '{RENAMED[name]}'?"
    keys = {row.name: row.meaning for row in describe_keys()}
    table, _, word = name.rpartition(".")
    same_word = [key for key in keys if key.rpartition(".")[2] == word]
    same_table = [key.removeprefix(f"{table}.") for key in keys if table and key.startswith(f"{table}.")]
    same_meaning = [key for key, meaning in keys.items() if "_" in word and word.replace("_", " ") in meaning]
    return (
        did_you_mean(name, same_word, cutoff=0.0)
        or did_you_mean(word, same_table, prefix=f"{table}.")
        or did_you_mean(name, keys, cutoff=0.7)
        or did_you_mean(name, same_meaning[:1], cutoff=0.0)
        or ". `burnish train --print-config` shows every key; the objective's own settings are written like "
        "objective.beta"
    )
