"""The configuration: one frozen tree, read from TOML and `key=value`, with every refusal a sentence.

`[objective]` holds the objective's name and, beside it, the objective's own settings; those are the keyword-only
arguments of its function, so they are checked where the function lives (`objectives.Objective.validate`).
"""

from __future__ import annotations

import difflib
import importlib.util
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ValidationError

from burnish.config.online import (
    HumanConfig,
    JudgeConfig,
    LLMConfig,
    RewardModelConfig,
    SourceConfig,
    StopConfig,
    VerifierConfig,
)
from burnish.config.tables import (
    AdapterConfig,
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    PairsConfig,
    ReferenceConfig,
    Run,
)
from burnish.errors import ConfigError

__all__ = [
    "AdapterConfig",
    "DataConfig",
    "HumanConfig",
    "JudgeConfig",
    "KeyRow",
    "LLMConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PairsConfig",
    "ReferenceConfig",
    "RewardModelConfig",
    "Run",
    "SourceConfig",
    "StopConfig",
    "VerifierConfig",
    "describe_keys",
    "load",
    "load_partly",
    "lr_advice",
    "to_toml",
]


JUDGES: dict[str, type[BaseModel]] = {
    "verifier": VerifierConfig, "reward_model": RewardModelConfig, "llm": LLMConfig, "human": HumanConfig,
}  # fmt: skip
JUDGING = ("judge", "gold")  # tables of judges


def load(file: str | None, overrides: Sequence[str] = ()) -> Run:
    """Read a TOML file, apply `key=value` overrides, fill what depends on other keys. Raises ConfigError."""
    return _resolved(load_partly(file, overrides))


def load_partly(file: str | None, overrides: Sequence[str] = ()) -> Run:
    """The same without what only training needs: for verbs that look at data, `model.path` may be missing."""
    values: dict[str, Any] = {}
    if file is not None:
        values = _read_toml(file)
    for text in overrides:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise ConfigError(f"'{text}' is not key=value, for example optim.lr=1e-6; a TOML file comes first")
        _set(values, name.strip().split("."), _value(name.strip(), value.strip()), text)
    _refuse_unknown(values)
    try:
        return Run.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


def _read_toml(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None


def _value(name: str, text: str) -> Any:
    """A TOML value if it is one, else the bare word itself; `run.dir=2026` and dates are words where words are meant.

    Raises ConfigError for a list with bare words in it, which would otherwise be taken for one odd name.
    """
    try:
        found = tomllib.loads(f"x = {text}")
    except tomllib.TOMLDecodeError:
        if text.startswith("[") and text.endswith("]"):
            example = f"""'{name}=["a", "b"]'"""
            raise ConfigError(f"{name}={text}: quote the words of a list, as in {example}") from None
        return text
    table, _, last = name.partition(".")
    field = _fields(table).get(last) if table in Run.model_fields else None
    takes_text = field is not None and (field.annotation is str or str in get_args(field.annotation))
    value = found["x"]
    return text if len(found) > 1 or (takes_text and not isinstance(value, (str, list))) else value


def _set(values: dict[str, Any], path: list[str], value: Any, text: str) -> None:
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


def _refuse_unknown(values: Mapping[str, Any]) -> None:
    for table, inner in values.items():
        if table not in Run.model_fields:
            keys = [f"{table}.{name}" for name in inner] if isinstance(inner, Mapping) else [table]
            name = next(iter(keys), table)
            raise ConfigError(f"there is no key '{name}'{_did_you_mean(name)}")
        if table == "seed":
            continue
        if table == "objective" and isinstance(inner, list):
            if not inner or not all(isinstance(one, Mapping) and "name" in one for one in inner):
                raise ConfigError('objective is a list: each entry is a table with a name, like {name = "dpo"}')
            continue
        if table in JUDGING:
            _refuse_unknown_of_judges(table, inner)
            continue
        if not isinstance(inner, Mapping):
            first = next(iter(_fields(table)))
            raise ConfigError(f"{table} is a table; give one of its keys, for example {table}.{first}=...")
        for name in inner:
            if table != "objective" and name not in _fields(table):
                raise ConfigError(f"there is no key '{table}.{name}'{_did_you_mean(f'{table}.{name}')}")


def _refuse_unknown_of_judges(table: str, inner: Any) -> None:
    """[judge] and [gold], of which there may be several, each with the keys of its kind."""
    for one in inner if isinstance(inner, list) else [inner]:
        if not isinstance(one, Mapping) or one.get("kind") not in JUDGES:
            raise ConfigError(f"{table}.kind is missing or unknown: it is one of {', '.join(JUDGES)}")
        known = JUDGES[one["kind"]].model_fields
        for name in one:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"; did you mean '{table}.{near[0]}'?" if near else f". Its keys: {', '.join(known)}"
                raise ConfigError(f"there is no key '{table}.{name}' for the kind '{one['kind']}'{hint}")


def _did_you_mean(name: str) -> str:
    """`; did you mean 'x'?`: the same word in another table, the nearest spelling, or a key whose meaning says it."""
    keys = {row.name: row.meaning for row in describe_keys()}
    table, _, word = name.rpartition(".")
    same = [key for key in keys if key.rpartition(".")[2] == word]
    beside = [key for key in keys if table and key.startswith(f"{table}.")]
    near = difflib.get_close_matches(name, same, n=1, cutoff=0.0)
    near += difflib.get_close_matches(word, [key.rpartition(".")[2] for key in beside], n=1, cutoff=0.6)
    near = [f"{table}.{key}" if f"{table}.{key}" in keys else key for key in near]
    near += difflib.get_close_matches(name, keys, n=1, cutoff=0.7)
    if "_" in word:
        near += [key for key, meaning in keys.items() if word.replace("_", " ") in meaning]
    if near:
        return f"; did you mean '{near[0]}'?"
    return (
        ". `burnish train --print-config` shows every key; the objective's own settings are written like objective.beta"
    )


def _sentence(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"] if isinstance(part, str) and part != "params")
        where = where.replace(".list[str]", "").replace(".str", "")
        lines.append(f"{where} = {problem.get('input')!r}: {problem['msg'].removeprefix('Value error, ').lower()}")
    return "; ".join(dict.fromkeys(lines))


def _resolved(run: Run) -> Run:
    """Fill in the values that depend on others, and refuse what cannot be meant together."""
    if not run.model.path:
        raise ConfigError("model.path is missing: name the folder (or hub name) of the model to train")
    if not run.data.train and not (run.dialled and run.source.prompts):
        raise ConfigError("data.train is missing: name the file, folder or hub name of the training groups")
    if run.run.resume and run.run.overwrite:
        raise ConfigError("run.resume and run.overwrite contradict each other: go on with the run, or throw it away?")
    if run.optim.steps is not None and run.optim.epochs is not None:
        raise ConfigError("optim.steps and optim.epochs are both set: each says when to stop; keep one")
    if run.reference.kind == "path" and not run.reference.path:
        raise ConfigError("reference.kind = 'path' needs reference.path, the model to compare with")
    if run.reference.path and run.reference.kind != "path":
        raise ConfigError("reference.path is set, but reference.kind is not 'path', so it would be ignored: set both")
    _refuse_moving(run)
    if run.adapter.dora and run.adapter.kind != "none" and run.model.dtype == "bfloat16":
        raise ConfigError(
            "adapter.dora rescales every weight, and in bfloat16 that alone moves the policy: use float32"
        )
    if run.adapter.kind == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError("adapter.kind = 'qlora' needs the bitsandbytes package, which is not installed; use 'lora'")
    if run.adapter.kind == "qlora" and run.model.dtype == "float64":
        raise ConfigError("adapter.kind = 'qlora' computes in bfloat16 or float32, not float64")
    optim: dict[str, Any] = {}
    if run.optim.lr is None:
        optim["lr"] = 5e-7 if run.adapter.kind == "none" else 5e-6
    if run.optim.steps is None and run.optim.epochs is None:
        optim["epochs"] = 1.0
    update: dict[str, Any] = {"optim": run.optim.model_copy(update=optim)}
    fresh = run.dialled and not run.once
    if not run.reference.store and run.reference.update == "never" and not fresh:
        beside = Path(run.run.dir).parent / "reference-store"
        update["reference"] = run.reference.model_copy(update={"store": str(beside)})
    return run.model_copy(update=update)


def _refuse_moving(run: Run) -> None:
    """References that move, and what cannot go with them."""
    reference = run.reference
    for name, kinds in (("alpha", ("soft", "ema")), ("every", ("soft", "hard"))):
        if getattr(reference, name) is not None and reference.update not in kinds:
            raise ConfigError(f"reference.{name} is set, but reference.update = '{reference.update}' ignores it")
    if reference.update == "never":
        return
    if reference.kind == "none":
        raise ConfigError("reference.update moves a reference, and reference.kind = 'none' leaves none to move")
    if reference.scores == "stored" or reference.store:
        raise ConfigError(
            "reference.update moves the reference, and stored log-probs are those of one that stands still: "
            "leave out reference.store and reference.scores = 'stored'"
        )
    if run.adapter.kind != "none":
        raise ConfigError(
            "reference.update moves the reference's weights, but with an adapter the reference is the same model with "
            "the adapter switched off: moving it would move the policy. Train all weights (adapter.kind = 'none')"
        )


def to_toml(run: Run) -> str:
    """The resolved configuration as TOML that `load` reads back to an equal tree."""
    values = run.model_dump(exclude_none=True)
    written = [
        {"name": one.name, **({"weight": one.weight} if one.weight != 1 else {}), **one.params} for one in run.objective
    ]
    values["objective"] = written[0] if len(written) == 1 else written
    for table in JUDGING:
        own = values.pop(table)
        if own:
            values[table] = own[0] if len(own) == 1 else list(own)
    seed = values.pop("seed")
    return tomli_w.dumps({"seed": seed, **values})


@dataclass(frozen=True)
class KeyRow:
    """One key as `--print-config` and `--help` show it."""

    name: str
    default: str
    unit: str
    meaning: str


def describe_keys() -> Iterator[KeyRow]:
    for table in Run.model_fields:
        for name, field in _fields(table).items():
            if (table, name) == ("objective", "params") or (table == "gold" and name != "kind"):
                continue  # [gold] has the keys of [judge]
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            default = "unset" if field.default is None else repr(field.default)
            dotted = name if table == name else f"{table}.{name}"
            if table in JUDGING:
                kinds = [kind for kind, known in JUDGES.items() if name in known.model_fields]
                extra = {**extra, "unit": extra.get("unit") or (kinds[0] if len(kinds) == 1 else "")}
            choices = [str(x) for x in get_args(field.annotation)] if get_origin(field.annotation) is Literal else []
            yield KeyRow(dotted, default, " | ".join(choices) or str(extra.get("unit", "")), field.description or "")


def _fields(table: str) -> dict[str, Any]:
    if table in JUDGING:  # the keys of every kind, each once
        return {name: field for kind in JUDGES.values() for name, field in kind.model_fields.items()}
    annotation = ObjectiveConfig if table == "objective" else Run.model_fields[table].annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return dict(annotation.model_fields)
    return {table: Run.model_fields[table]}


def lr_advice(objective: str, lr: float, published: tuple[float, float], adapter: bool) -> str | None:
    """A sentence when the learning rate is more than ten times outside what was published for the objective."""
    low, high = (bound * (10 if adapter else 1) for bound in published)
    kind = "adapters (about ten times those of full training)" if adapter else "full training"
    if lr > 10 * high:
        return (
            f"advice: optim.lr = {lr:g} is far above published values for {objective}, {low:g} to {high:g} with {kind}"
        )
    if lr < low / 10:
        return (
            f"advice: optim.lr = {lr:g} is far below published values for {objective}, {low:g} to {high:g} with {kind}"
        )
    return None
