"""The tables of a ballot: whose answers are voted on, by how many people, and how answers are drawn."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import Field, ValidationError, field_validator

from burnish.config.base import Table, key
from burnish.config.evaluation import EvaluationConfig, ModelEntry
from burnish.config.keys import KeyRow, key_row
from burnish.config.load import read_values, sentence
from burnish.config.tables import DataConfig, EngineConfig, ModelConfig
from burnish.errors import ConfigError, did_you_mean


class VotesConfig(Table):
    overlap: int = key(1, "people who vote on each pair", "votes", ge=1)
    repeats: float = key(
        0.1, "share of a rater's pairs that are shown again, sides swapped, to see how steady the rater is", ge=0, lt=1
    )  # fmt: skip
    width: float = key(0.1, "an interval narrower than this is enough, too", gt=0, lt=1)
    reasons: list[str] = key([], "reasons that a rater may tick, like ['wrong', 'too long']")
    raters: list[str] = key([], "names of the raters, each with a link of their own; empty: whoever opens the page")
    judged: str = key("", "folder of an evaluation whose judge compared these models: people and judge together")
    spend: Literal["evenly", "unsure"] = key(
        "evenly", "which prompts come first: any, or more often those of which the judge is unsure"
    )
    free: bool = key(True, "raters may ask prompts of their own, and have a prompt answered again")


class BallotConfig(Table):
    """A whole ballot's configuration. `model`, `data` and `engine` are as of a run, without their paths."""

    file: str = key("ballot.db", "the ballot: answers and votes in one SQLite file")
    models: dict[str, ModelEntry] = Field({}, description="the models by the names that the organiser knows them by")
    prompts: str = key("", "file, folder or hub name of the prompts; empty: those that all answer files have")
    format: str = key("auto", "how to read them, as data.format")
    limit: int | None = key(None, "only the first so many prompts", "prompts", ge=1)
    temperature: float = key(0.7, "0: the likeliest token", ge=0)
    top_p: float = key(1.0, "draw from the likeliest tokens that hold this share", gt=0, le=1)
    top_k: int = key(0, "draw from so many likeliest tokens; 0: from all", "tokens", ge=0)
    max_new_tokens: int = key(512, "an answer that has not ended by then is cut", "tokens", ge=1)
    seed: int = key(0, "of the draws, which are the same for every model", ge=0, lt=2**63)
    votes: VotesConfig = VotesConfig()
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    engine: EngineConfig = EngineConfig()

    @field_validator("models", mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        """As in an evaluation: a folder, a file of rows, or a URL stands for a table."""
        return EvaluationConfig._path_alone(value)


def load_ballot(file: str | None, words: Sequence[str] = ()) -> BallotConfig:
    """Read a TOML file, apply `key=value` words, and refuse what cannot be meant. Raises ConfigError.

    A word whose key is none of the ballot's names a model: `base=./my-sft` stands for `models.base=./my-sft`.
    """
    tables = BallotConfig.model_fields
    dotted = [w if w.partition("=")[0].split(".")[0] in tables or "=" not in w else f"models.{w}" for w in words]
    values = read_values(file, dotted, lambda name: name.startswith("models.") or name in ("file", "prompts"))
    for name in values:
        if name not in tables:
            hint = did_you_mean(name, tables) or f". The tables are: {', '.join(tables)}"
            raise ConfigError(f"there is no table '{name}' in a ballot{hint}")
    _refuse_unknown(values)
    try:
        ballot = BallotConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(sentence(error)) from None
    _refuse(ballot)
    return ballot


def load_ballot_text(text: str) -> BallotConfig:
    """The configuration that a ballot's file keeps. Raises ConfigError where this burnish does not read it."""
    try:
        return BallotConfig.model_validate(tomllib.loads(text))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the ballot's settings are not readable by this burnish: {error}") from None


def ballot_toml(ballot: BallotConfig) -> str:
    """The ballot's configuration as TOML that `load_ballot` reads back to an equal tree."""
    return tomli_w.dumps(ballot.model_dump(exclude_none=True))


def describe_ballot() -> Iterator[KeyRow]:
    """Every key of a ballot."""
    for name, field in BallotConfig.model_fields.items():
        if name not in ("models", "votes", "model", "data", "engine"):
            yield key_row(name, field)
    for name, field in ModelEntry.model_fields.items():
        yield key_row(f"models.NAME.{name}", field)
    for name, field in VotesConfig.model_fields.items():
        yield key_row(f"votes.{name}", field)


def _refuse_unknown(values: Mapping[str, Any]) -> None:
    """Misspelt keys: those of [votes], and a path that was meant for a key and not for a model."""
    votes = values.get("votes", {})
    for name in votes if isinstance(votes, Mapping) else ():
        if name not in VotesConfig.model_fields:
            hint = did_you_mean(name, VotesConfig.model_fields, prefix="votes.")
            raise ConfigError(f"there is no key 'votes.{name}'{hint}")
    models = values.get("models", {})
    if not isinstance(models, Mapping):
        raise ConfigError('models is a table, each model under a name of yours: [models] base = "./my-sft"')
    for name, given in models.items():
        near = did_you_mean(name, [*BallotConfig.model_fields, *VotesConfig.model_fields], cutoff=0.8)
        if near and not _is_place(given):
            raise ConfigError(f"{name} = {given!r} names no model's folder, file or server, and is no key{near}")


def _is_place(given: Any) -> bool:
    return not isinstance(given, str) or "://" in given or Path(given).exists()


def _refuse(ballot: BallotConfig) -> None:
    if len(ballot.models) < 2 and not ballot.votes.judged:
        raise ConfigError(
            "a ballot compares two models at least: burnish vote base=./my-sft tuned=runs/first prompts=..."
        )
    for name, entry in ballot.models.items():
        if len(entry.places) != 1:
            given = " and ".join(entry.places) or "none"
            raise ConfigError(f"models.{name} needs one of path, answers and server, and has {given}")
        if not name or any(c in name for c in "/\\\0") or name.startswith("."):
            raise ConfigError(f"models.{name}: the name becomes a file's name; use letters, digits, - and _")
    if not ballot.prompts and not ballot.votes.judged and not all(entry.answers for entry in ballot.models.values()):
        raise ConfigError("prompts is missing: a file of prompts that the models answer")
    votes = ballot.votes
    if len(set(votes.raters)) < len(votes.raters) or not all(map(str.strip, votes.raters)):
        raise ConfigError("votes.raters names somebody twice, or nobody")
    if votes.raters and len(votes.raters) < votes.overlap:
        raise ConfigError(f"votes.overlap = {votes.overlap} needs as many people, and votes.raters names fewer")
    if votes.spend == "unsure" and not votes.judged:
        raise ConfigError("votes.spend = 'unsure' needs a judge's verdicts: name an evaluation with votes.judged")
    if votes.judged and len(ballot.models) > 2:
        raise ConfigError("votes.judged is about two models, and there are more")
