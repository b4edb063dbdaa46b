"""Who answers in an evaluation: a model in this process, a server, or a file of answers already had.

Each is a `Model`: it has a name, an identity that its answers are kept under, and answers prompts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from burnish.answers.http import Client, address, key_of, run
from burnish.answers.judges.chat_reply import TOO_LONG, chat_reply
from burnish.answers.sampler import Decoding
from burnish.config.evaluation import EvaluationConfig, ModelEntry
from burnish.config.load import load_partly
from burnish.data.identity import prompt_key
from burnish.data.readers.files import rows
from burnish.data.readers.values import Fault
from burnish.engine import weights
from burnish.errors import ConfigError, DataError, JudgeError, ModelError
from burnish.evals import identity
from burnish.evals.ask import Place, Respondent, places
from burnish.findings import counted
from burnish.group import Group, Message, last_text, turns

PROMPTS = ("prompt", "instruction", "question", "messages")
ANSWERS = ("answers", "answer", "output", "response", "completion", "completions")
CONCURRENCY, RETRIES, SECONDS = 8, 4, 300.0


@dataclass(frozen=True, slots=True)
class Text:
    """An answer as text; `tokens` where they were counted; `finish` is "stop", "length", or empty."""

    text: str
    tokens: int | None = None
    finish: str = ""


@runtime_checkable
class Model(Protocol):
    """Answers prompts: for each of them its k answers, in order."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str:
        """What decides its answers, beside prompt and decoding."""

    def unfit(self, prompts: Sequence[Group], max_new_tokens: int) -> set[int]:
        """The places of the prompts that it cannot answer. Loads no weights; raises DataError, ModelError."""

    def __call__(self, prompts: Sequence[Group], k: int, decoding: Decoding, seed: int) -> list[list[Text]]: ...

    def release(self) -> None:
        """Free what it holds in memory."""


@dataclass
class ProcessModel:
    """A model in this process, loaded at its first answer."""

    name: str
    place: Place
    identity: str
    _respondent: Respondent | None = None

    @property
    def respondent(self) -> Respondent:
        if self._respondent is None:
            self._respondent = Respondent(self.place)
        return self._respondent

    def unfit(self, prompts: Sequence[Group], max_new_tokens: int) -> set[int]:
        """Prompts that pass the model's positions with an answer, or that render to nothing."""
        text = weights.configuration(self.place.run.model).get_text_config()
        most = getattr(text, "max_position_embeddings", None)
        room = (most if isinstance(most, int) and most > 0 else 1 << 30) - max_new_tokens
        encoded = self.place.renderer().encode_many(prompts)
        return {place for place, group in enumerate(encoded) if not 0 < len(group.prompt_ids) <= room}

    def __call__(self, prompts: Sequence[Group], k: int, decoding: Decoding, seed: int) -> list[list[Text]]:
        answers = self.respondent.answers(prompts, k, decoding, seed)
        return [
            [Text(text, len(sampled.ids), sampled.finish) for text, sampled in zip(texts, drawn, strict=True)]
            for texts, drawn in answers
        ]

    def release(self) -> None:
        self._respondent = None


@dataclass
class ServerModel:
    """A model behind an OpenAI-compatible server; asked by chat, each answer with a seed of its own."""

    name: str
    root: str
    served: str
    key: str = field(repr=False)

    @property
    def identity(self) -> str:
        return f"{self.root} {self.served}"

    def unfit(self, prompts: Sequence[Group], max_new_tokens: int) -> set[int]:
        return set()

    def __call__(self, prompts: Sequence[Group], k: int, decoding: Decoding, seed: int) -> list[list[Text]]:
        return run(self._all(prompts, k, decoding, seed))

    async def _all(self, prompts: Sequence[Group], k: int, decoding: Decoding, seed: int) -> list[list[Text]]:
        async with Client(self.root, self.key, SECONDS, RETRIES, CONCURRENCY) as client:
            served = self.served or await self._first_served(client)
            texts = await asyncio.gather(
                *(self._one(client, served, p, n, decoding, seed) for p in prompts for n in range(k))
            )
        return [list(texts[place * k : (place + 1) * k]) for place in range(len(prompts))]

    async def _first_served(self, client: Client) -> str:
        listed = await client.ask("GET", "/models")
        served = listed.get("data") if isinstance(listed, Mapping) else None
        if not isinstance(served, list) or not served or not isinstance(served[0], Mapping) or "id" not in served[0]:
            raise JudgeError(f"{self.root} lists no model; name it with models.{self.name}.name")
        return str(served[0]["id"])

    async def _one(
        self, client: Client, served: str, prompt: Group, number: int, decoding: Decoding, seed: int
    ) -> Text:
        messages = (Message("user", prompt.prompt),) if isinstance(prompt.prompt, str) else prompt.prompt
        body: dict[str, Any] = {
            "model": served, "messages": [{"role": m.role, "content": m.content, **m.extra} for m in messages],
            "max_tokens": decoding.max_new_tokens, "temperature": decoding.temperature, "top_p": decoding.top_p,
            "seed": (seed + number) % 2**31,
        }  # fmt: skip
        if decoding.top_k:
            body["top_k"] = decoding.top_k
        if prompt.tools:
            body["tools"] = [dict(tool) for tool in prompt.tools]
        payload = await client.ask("POST", "/chat/completions", body, tokens=decoding.max_new_tokens)
        if payload is None:
            raise JudgeError(f"{self.root} has no /chat/completions: is models.{self.name}.server right?")
        reply = chat_reply(payload)
        usage = payload.get("usage") if isinstance(payload, Mapping) else None
        written = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
        return Text(reply.text.strip(), written if type(written) is int else None,
                    "length" if reply.finish in TOO_LONG else "stop")  # fmt: skip

    def release(self) -> None:
        """Nothing is held."""


@dataclass
class FileModel:
    """Answers already had, by prompt."""

    name: str
    file: str
    texts: dict[str, list[str]]
    identity: str = ""
    asked: dict[str, Group] = field(default_factory=dict)  # the prompts, by the same key

    def unfit(self, prompts: Sequence[Group], max_new_tokens: int) -> set[int]:
        """Raises DataError where it lacks a prompt: fewer prompts would be another comparison."""
        missing = [prompt for prompt in prompts if prompt_key(prompt) not in self.texts]
        if missing:
            example = last_text(missing[0].prompt)[:80]
            raise DataError(f"{self.file} has no answer to {counted(len(missing), 'prompt')}; the first: {example!r}")
        return set()

    def __call__(self, prompts: Sequence[Group], k: int, decoding: Decoding, seed: int) -> list[list[Text]]:
        """Raises DataError where a prompt has fewer than k answers."""
        found = [self.texts[prompt_key(prompt)] for prompt in prompts]
        least = min(map(len, found), default=k)
        if least < k:
            raise DataError(f"{self.file} has {counted(least, 'answer')} to a prompt, and suite.k = {k} are wanted")
        return [[Text(text) for text in texts[:k]] for texts in found]

    def release(self) -> None:
        """Nothing is held."""


def models_of(evaluation: EvaluationConfig) -> dict[str, Model]:
    """Every model by its name; no weights are loaded. Raises ConfigError, DataError or ModelError."""
    return {name: _model(name, entry, evaluation) for name, entry in evaluation.models.items()}


def _model(name: str, entry: ModelEntry, evaluation: EvaluationConfig) -> Model:
    if entry.server:
        root = address(entry.server, f"models.{name}.server")
        root = root if root.endswith("/v1") else f"{root}/v1"
        return ServerModel(name, root, entry.name, key_of(entry.key_env))
    if entry.name or entry.key_env:
        raise ConfigError(f"models.{name}.name and key_env are about a server, and there is none")
    if entry.answers:
        return _file_model(name, entry.answers)
    settings = load_partly(None, []).model_copy(
        update={"model": evaluation.model, "data": evaluation.data, "engine": evaluation.engine}
    )
    (place,) = places([entry.path], settings)
    return ProcessModel(name, place, identity.of_place(place))


def _file_model(name: str, file: str) -> FileModel:
    """Rows with a prompt (`prompt`, `instruction`, ...) and an answer (`answer`, `output`, ...) or several."""
    texts: dict[str, list[str]] = {}
    prompts: dict[str, Group] = {}
    for where, row in rows(file, "train"):
        if isinstance(row, Fault):
            raise DataError(row.message)
        asked = next((row[key] for key in PROMPTS if row.get(key) is not None), None)
        given = next((row[key] for key in ANSWERS if row.get(key) is not None), None)
        if asked is None or given is None:
            missing = PROMPTS if asked is None else ANSWERS
            raise DataError(f"{where}: a row of answers needs one of the columns {', '.join(missing)}")
        group = Group(turns(asked, where, "prompt"), ())
        prompts.setdefault(prompt_key(group), group)
        texts.setdefault(prompt_key(group), []).extend(_answers(given, where))
    if not texts:
        raise ModelError(f"{file} holds no answers")
    content = json.dumps(texts, sort_keys=True).encode("utf-8", "surrogatepass")
    return FileModel(name, file, texts, hashlib.sha256(content).hexdigest()[:32], prompts)


def _answers(given: Any, where: str) -> list[str]:
    """One answer (a text or messages), a list of texts, or the completions of burnish's own record."""
    if isinstance(given, list) and all(isinstance(item, str) for item in given):
        return list(given)
    if isinstance(given, list) and all(isinstance(item, Mapping) and "messages" in item for item in given):
        return [last_text(turns(item["messages"], where, "answer")) for item in given]
    return [last_text(turns(given, where, "answer"))]
