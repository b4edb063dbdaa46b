"""The tables of what is fresh: where prompts and answers come from, who judges them, and when to stop."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from burnish.config.base import Table, key


class SourceConfig(Table):
    prompts: str = key("", "file, folder or hub name of prompts to answer; empty: the prompts of data.train")
    format: str = key("auto", "how to read them: auto, or prompts: a row's prompt, its other fields for the judge")
    refresh_every: Annotated[int, Field(ge=1)] | Literal["never"] = key(
        "never", "the dial: optimiser steps between fresh answers; never: one data set, offline", "steps"
    )
    k: int = key(4, "answers to each prompt", "answers", ge=1)
    epochs: int = key(1, "optimiser steps that each fresh group takes part in", "steps", ge=1)
    fresh: float = key(1.0, "share of fresh groups in a step; the rest are those of data.train", gt=0, le=1)
    replay: int = key(
        0, "fresh groups may come again while they are at most so many steps old; 0: never", "steps", ge=0
    )
    replay_share: float = key(0.5, "share of the fresh groups of a step that are taken from earlier ones", ge=0, lt=1)
    curriculum: Literal["uniform", "adaptive"] = key(
        "uniform", "which prompts: all alike, or those more often whose success is near one half"
    )
    sampler: Literal["process", "server"] = key("process", "who answers: the policy in this process, or a server")
    url: str = key("", "the server's address, for sampler = server, like http://127.0.0.1:8000")
    key_env: str = key("", "environment variable with the server's key, where it wants one")
    update: Literal["reload", "lora", "none"] = key(
        "reload", "how a server gets the new weights: a folder to read again, an adapter's folder, or not at all"
    )
    max_mismatch: float | None = key(
        None, "most that a server's log-probs of a text may differ from the trainer's after an update, on average; "
        "unset: as rounding may in model.dtype", "nats", gt=0,
    )  # fmt: skip
    max_new_tokens: int = key(256, "an answer that has not ended by then is cut", "tokens", ge=1)
    temperature: float = key(1.0, "logits are divided by it before an answer's token is drawn", gt=0)
    top_p: float = key(1.0, "draw from the likeliest tokens that hold this share", gt=0, le=1)
    top_k: int = key(0, "draw from so many likeliest tokens; 0: from all", "tokens", ge=0)
    unfinished_penalty: float = key(0.0, "taken off the score of an answer that was cut", "score", ge=0)
    max_unjudged: int = key(
        3, "refreshes in a row that nobody could judge, each left out, after which the run is saved and stops",
        "refreshes", ge=1
    )  # fmt: skip
    is_cap: float = key(
        2.0, "truncated importance sampling: most that sampler and trainer may differ, as a ratio", ge=1
    )


class JudgeTable(Table):
    """What every judge has. `weight` and `gate` matter where [[judge]] lists several."""

    weight: float = key(1.0, "weight of its scores in the sum, where [[judge]] lists several")
    gate: float | None = key(None, "answers it scores below this get 0 from the judges after it", "score")

    @property
    def inputs(self) -> dict[str, list[str]]:
        """The files and folders that the judge reads, by the key that names them."""
        given = {name: getattr(self, name, "") for name in ("path", "votes", "schema_file", "template")}
        return {name: [paths] if isinstance(paths, str) else paths for name, paths in given.items() if paths}


class VerifierConfig(JudgeTable):
    kind: Literal["verifier"] = key("verifier", "a program checks the answers")
    name: str = key("", "which check: a name that `burnish judges` lists, or a function of yours, module:function")
    field: str = key("", "field of the prompt's row with what is expected; empty: the check's usual one")
    pattern: str = key("", "regex: what must be found in the answer; format: what the whole answer must be")
    schema_file: str = key("", "json_schema: file with the schema")
    target: int | None = key(None, "length: words or characters aimed at", ge=1)
    unit: Literal["words", "characters"] = key("words", "length: what target counts")
    seconds: float = key(10.0, "time for one answer; what takes longer is wrong", "s", gt=0)


class RewardModelConfig(JudgeTable):
    kind: Literal["reward_model"] = key("reward_model", "a reward model scores the answers")
    path: str | list[str] = key("", "folder of a sequence-classification model, or several: an ensemble")
    trust_remote_code: bool = key(False, "run code that comes with the reward model")
    allow_pickle: bool = key(False, "read weights that are pickles (*.bin), which may run any program")
    combine: Literal["mean", "worst", "uncertainty"] = key("mean", "how an ensemble's members become one score")
    coef: float = key(0.5, "uncertainty: times the members' standard deviation is taken off", ge=0)
    bound: Literal["none", "sigmoid", "reference"] = key(
        "none", "keep rewards bounded: sigmoid of the score, or of its difference from the reference answer's"
    )


class LLMConfig(JudgeTable):
    kind: Literal["llm"] = key("llm", "a language model compares the answers")
    url: str = key("https://api.openai.com/v1", "an OpenAI-compatible endpoint")
    model: str = key("", "the judge's name at the endpoint")
    mode: Literal["pairwise", "pointwise"] = key("pairwise", "compare answers two by two, or grade each")
    template: str = key("", "file with the judge's prompt; empty: burnish's own")
    key_env: str = key("OPENAI_API_KEY", "environment variable with the key; it is never written anywhere")
    concurrency: int = key(8, "requests at the same time", ge=1)
    retries: int = key(4, "times a failed request is tried again", ge=0)
    seconds: float = key(60.0, "time for one request", "s", gt=0)
    budget: float | None = key(None, "most to spend; needs the two prices", "USD", gt=0)
    price_in: float = key(0.0, "price of a million tokens read", "USD", ge=0)
    price_out: float = key(0.0, "price of a million tokens written", "USD", ge=0)
    cache: str = key("", "folder of answers already had; empty: judge-cache beside the run's folder")
    max_tokens: int | None = key(
        None, "most that the judge writes, thoughts included; unset: 512, or max_completion_tokens", "tokens", ge=1
    )
    max_completion_tokens: int | None = key(
        None, "the same limit for a server that refuses max_tokens, under the name that it wants", "tokens", ge=1
    )
    temperature: Annotated[float, Field(ge=0)] | Literal["server"] = key(
        0, "of the judge's replies; server: none is sent, as some servers refuse any"
    )
    request: dict[str, Any] = key({}, "further fields of each request, such as reasoning_effort")

    @property
    def limit(self) -> tuple[str, int]:
        """The key that bounds a reply, and its tokens."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return "max_tokens", 512 if self.max_tokens is None else self.max_tokens


class HumanConfig(JudgeTable):
    kind: Literal["human"] = key("human", "people's votes")
    votes: str = key(
        "", "file of votes, or a ballot; empty: people are asked in rounds, by a ballot for each refresh of the run"
    )
    wait: bool = key(False, "rounds: wait for the votes; else the run is saved and leaves with exit code 76")
    share: float = key(1.0, "rounds: share of the pairs that are voted on before the run goes on", gt=0, le=1)
    overlap: int = key(1, "rounds: people who vote on each pair", "votes", ge=1)
    raters: list[str] = key([], "rounds: names of the raters, each with a link of their own; empty: whoever comes")
    reasons: list[str] = key([], "rounds: reasons that a rater may tick")


def _kind(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


JudgeConfig = Annotated[
    Annotated[VerifierConfig, Tag("verifier")]
    | Annotated[RewardModelConfig, Tag("reward_model")]
    | Annotated[LLMConfig, Tag("llm")]
    | Annotated[HumanConfig, Tag("human")],
    Discriminator(
        _kind,
        custom_error_type="judge",
        custom_error_message="needs kind = 'verifier', 'reward_model', 'llm' or 'human'",
    ),
]


class StopConfig(Table):
    when: list[Literal["kl", "length", "gold", "distinct", "no_signal", "finished"]] = key(
        [], "alarms that end the run, keeping the best weights"
    )
    kl: float = key(10.0, "alarm: KL to the reference above this", "nats an answer", gt=0)
    length: float = key(1.5, "alarm: mean length this many times that of the first answers, or one over it", gt=1)
    distinct: float = key(0.7, "alarm: distinct answers fallen to this share of the first", gt=0, lt=1)
    noise: float = key(
        3.0, "alarm: reward up and gold down, together this far beyond their noise", "standard errors", ge=0
    )
    window: int = key(10, "refreshes that the means are taken over", "refreshes", ge=1)

    @field_validator("when", mode="before")
    @classmethod
    def _one_word(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value
