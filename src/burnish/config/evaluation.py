"""The tables of an evaluation: which models, which suites, and how answers are drawn. `load_evaluation` reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator

from burnish.config.base import Table, key
from burnish.config.keys import JUDGES, KeyRow, key_row
from burnish.config.load import read_values, sentence
from burnish.config.online import JudgeConfig
from burnish.config.tables import DataConfig, EngineConfig, ModelConfig
from burnish.errors import ConfigError, did_you_mean


class ModelEntry(Table):
    path: str = key("", "a model's or adapter's folder, a hub name, a run's folder or a checkpoint of it")
    answers: str = key("", "a file of answers already had, in place of a model")
    server: str = key("", "an OpenAI-compatible server that answers, like http://127.0.0.1:8000")
    name: str = key("", "the model's name at the server; unset: the first that it serves")
    key_env: str = key("", "environment variable with the server's key, where it wants one")

    @property
    def places(self) -> list[str]:
        """Which of the three is given."""
        return [place for place in ("path", "answers", "server") if getattr(self, place)]


class SuiteTable(Table):
    """What every suite has."""

    name: str = key("", "the suite's name in reports; unset: its kind, and what it is about")
    baseline: str = key("", "the model that the others are compared with; unset: the first of [models]")


class AnswerSuite(SuiteTable):
    """What every suite has for which models write answers."""

    prompts: str = key("", "file, folder or hub name of the prompts")
    format: str = key("auto", "how to read them, as data.format")
    limit: int | None = key(None, "only the first so many prompts", "prompts", ge=1)
    k: int = key(1, "answers to each prompt", "answers", ge=1)
    temperature: float | None = key(None, "0: the likeliest token; unset: 0 for one answer, 1 for several", ge=0)
    top_p: float = key(1.0, "draw from the likeliest tokens that hold this share", gt=0, le=1)
    top_k: int = key(0, "draw from so many likeliest tokens; 0: from all", "tokens", ge=0)
    max_new_tokens: int = key(256, "an answer that has not ended by then is cut", "tokens", ge=1)

    @property
    def heat(self) -> float:
        """The temperature that answers are drawn at."""
        if self.temperature is None:
            return 1.0 if self.k > 1 else 0.0
        return self.temperature


class WinRateSuite(AnswerSuite):
    kind: Literal["win_rate"] = key("win_rate", "judged pairs of answers, against the baseline")
    judge: JudgeConfig | None = key(None, "who judges: a table [suite.judge] as [judge] of a run")
    repeats: int = key(50, "kind = llm: pairs judged a second time, for the judge's agreement with itself", ge=0)


class VerifierSuite(AnswerSuite):
    kind: Literal["verifier"] = key("verifier", "answers checked by a program: pass rate and pass@k")
    check: str = key("", "which check, as judge.name; unset: the suite's name")
    pass_mark: float = key(1.0, "a score from which an answer passes", "score")
    field: str = key("", "field of the prompt's row with what is expected; empty: the check's usual one")
    pattern: str = key("", "regex: what must be found in the answer; format: what the whole answer must be")
    schema_file: str = key("", "json_schema: file with the schema")
    seconds: float = key(10.0, "time for one answer; what takes longer is wrong", "s", gt=0)


class PanelSuite(AnswerSuite):
    kind: Literal["panel"] = key("panel", "what else moved: KL, likelihood, length, habits")
    texts: str = key("", "texts that nobody trained on: prompts with answers, or plain texts")
    temperature: float | None = key(None, "of the answers to their prompts; unset: 1", ge=0)
    max_length: int = key(1024, "longer texts are cut to so many tokens", "tokens", ge=2)

    @property
    def heat(self) -> float:
        """The temperature that answers are drawn at; with 0 there is no other draw to see the noise by."""
        return 1.0 if self.temperature is None else self.temperature


class HarnessSuite(SuiteTable):
    kind: Literal["lm_eval"] = key("lm_eval", "tasks of the field's harness")
    tasks: str | list[str] = key([], "names of its tasks, or YAML files of your own")
    limit: int | None = key(None, "only the first so many documents of each", "documents", ge=1)
    num_fewshot: int | None = key(None, "examples in front of each question; unset: as the task says", ge=0)
    chat_template: bool = key(False, "put questions into the model's chat template")


def _kind(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


SUITES: dict[str, type[SuiteTable]] = {
    "win_rate": WinRateSuite, "verifier": VerifierSuite, "panel": PanelSuite, "lm_eval": HarnessSuite,
}  # fmt: skip
Suite = Annotated[
    Annotated[WinRateSuite, Tag("win_rate")]
    | Annotated[VerifierSuite, Tag("verifier")]
    | Annotated[PanelSuite, Tag("panel")]
    | Annotated[HarnessSuite, Tag("lm_eval")],
    Discriminator(_kind),
]


class EvaluationConfig(Table):
    """A whole evaluation's configuration. `model`, `data` and `engine` are as of a run, without their paths."""

    dir: str = key("evals/default", "folder of this evaluation: answers, judgements, results, report")
    models: dict[str, ModelEntry] = Field({}, description="the models by the names that reports call them by")
    suite: tuple[Suite, ...] = ()
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    engine: EngineConfig = EngineConfig()
    seed: int = key(0, "of the draws, which are the same for every model", ge=0, lt=2**63)

    @field_validator("suite", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """`[suite]` is one; `[[suite]]` lists several."""
        return (value,) if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value

    @field_validator("models", mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        """`tuned = "runs/first"` stands for a table with this path; a file of rows stands for answers, a URL for a
        server."""
        if not isinstance(value, dict):
            return value
        return {name: _entry(given) if isinstance(given, str) else given for name, given in value.items()}

    def named(self) -> list[tuple[str, Suite]]:
        """The suites with distinct names."""
        names = [suite.name or default_name(suite) for suite in self.suite]
        counts = [names[: place + 1].count(name) for place, name in enumerate(names)]
        distinct = [name if count == 1 else f"{name}#{count}" for name, count in zip(names, counts, strict=True)]
        return list(zip(distinct, self.suite, strict=True))

    def baseline(self, suite: SuiteTable) -> str:
        """The name of the model that a suite compares with."""
        return suite.baseline or next(iter(self.models), "")


def _entry(given: str) -> dict[str, str]:
    if given.startswith(("http://", "https://")):
        return {"server": given}
    return {"answers" if given.endswith((".jsonl", ".json", ".parquet")) else "path": given}


def default_name(suite: Suite) -> str:
    """What a suite without a name is called."""
    if isinstance(suite, VerifierSuite):
        return suite.check or "verifier"
    return suite.kind


def load_evaluation(file: str | None, overrides: Sequence[str] = ()) -> EvaluationConfig:
    """Read a TOML file, apply `key=value` words, and refuse what cannot be meant. Raises ConfigError."""
    values = read_values(file, overrides, lambda name: name.startswith("models.") or name == "dir")
    for name in values:
        if name not in EvaluationConfig.model_fields:
            known = EvaluationConfig.model_fields
            hint = did_you_mean(name, known) or f". The tables are: {', '.join(known)}"
            raise ConfigError(f"there is no table '{name}' in an evaluation{hint}")
    _refuse_unknown(values)
    try:
        evaluation = EvaluationConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(sentence(error)) from None
    _refuse(evaluation)
    return evaluation


def evaluation_toml(evaluation: EvaluationConfig) -> str:
    """The evaluation as TOML that `load_evaluation` reads back to an equal tree."""
    values = evaluation.model_dump(exclude_none=True)
    return tomli_w.dumps({**values, "suite": [dict(suite) for suite in values["suite"]]})


def describe_evaluation() -> Iterator[KeyRow]:
    """Every key of an evaluation, the keys of each kind of suite under `suite.`."""
    yield key_row("dir", EvaluationConfig.model_fields["dir"])
    yield key_row("seed", EvaluationConfig.model_fields["seed"])
    for name, field in ModelEntry.model_fields.items():
        yield key_row(f"models.NAME.{name}", field)
    for kind, table in SUITES.items():
        for name, field in table.model_fields.items():
            row = key_row(f"suite.{name}", field)
            yield KeyRow(row.name, row.default, row.unit, f"kind = {kind}: {row.meaning}")


def _refuse_unknown(values: Mapping[str, Any]) -> None:
    """Unknown kinds and keys of suites and models, with the nearest that is known."""
    suites = values.get("suite", [])
    for suite in suites if isinstance(suites, list) else [suites]:
        if not isinstance(suite, Mapping) or suite.get("kind") not in SUITES:
            raise ConfigError(f"suite.kind is missing or unknown: it is one of {', '.join(SUITES)}")
        known = SUITES[suite["kind"]].model_fields
        for name in suite:
            if name not in known:
                hint = did_you_mean(name, known, prefix="suite.", cutoff=0.5) or f". Its keys: {', '.join(known)}"
                raise ConfigError(f"there is no key 'suite.{name}' for the kind '{suite['kind']}'{hint}")
        judge = suite.get("judge")
        if judge is not None and (not isinstance(judge, Mapping) or judge.get("kind") not in JUDGES):
            raise ConfigError(f"suite.judge.kind is missing or unknown: it is one of {', '.join(JUDGES)}")
    models = values.get("models", {})
    if not isinstance(models, Mapping):
        raise ConfigError('models is a table, each model under a name of yours: [models] base = "./my-sft"')


def _refuse(evaluation: EvaluationConfig) -> None:
    if not evaluation.models:
        raise ConfigError('there is no model: name at least one, as in [models] base = "./my-sft"')
    if not evaluation.suite:
        raise ConfigError(f"there is no suite: suite.kind is one of {', '.join(SUITES)}")
    for name, entry in evaluation.models.items():
        if len(entry.places) != 1:
            given = " and ".join(entry.places) or "none"
            raise ConfigError(f"models.{name} needs one of path, answers and server, and has {given}")
        if not name or any(c in name for c in "/\\\0") or name.startswith("."):
            raise ConfigError(f"models.{name}: the name becomes a file's name; use letters, digits, - and _")
    for name, suite in evaluation.named():
        _refuse_suite(evaluation, name, suite)


def _refuse_suite(evaluation: EvaluationConfig, name: str, suite: Suite) -> None:
    baseline = evaluation.baseline(suite)
    if baseline not in evaluation.models:
        hint = did_you_mean(baseline, evaluation.models)
        raise ConfigError(f"suite '{name}': baseline = '{baseline}' is none of the models{hint}")
    if isinstance(suite, (WinRateSuite, VerifierSuite)) and not suite.prompts:
        raise ConfigError(f"suite '{name}': suite.prompts is missing: a file of prompts")
    if isinstance(suite, AnswerSuite) and suite.k > 1 and suite.heat == 0:
        raise ConfigError(f"suite '{name}': {suite.k} answers at temperature 0 would be the same answer; raise it")
    if isinstance(suite, WinRateSuite):
        if suite.judge is None:
            raise ConfigError(
                f"suite '{name}': [suite.judge] is missing: who judges? Its kind is one of {', '.join(JUDGES)}"
            )
        if len(evaluation.models) < 2:
            raise ConfigError(f"suite '{name}': a win rate needs a second model beside the baseline '{baseline}'")
    if isinstance(suite, VerifierSuite) and not (suite.check or suite.name):
        raise ConfigError(
            f"suite '{name}': suite.check is missing: a check that `burnish judges` lists, or module:function"
        )
    if isinstance(suite, PanelSuite) and not (suite.texts or suite.prompts):
        raise ConfigError(f"suite '{name}': suite.texts is missing: texts that nobody trained on")
    if isinstance(suite, HarnessSuite) and not suite.tasks:
        raise ConfigError(f"suite '{name}': suite.tasks is missing: names of the harness's tasks")
