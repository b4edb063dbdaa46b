"""Answers from a server over HTTP: vLLM, or another that speaks its dialect of OpenAI's API.

The request: `POST /v1/completions` with token ids as the prompt, and the drawn token ids with their
log-probs in return (`return_token_ids`: vLLM from 0.10.2). An answer without either, or with log-probs that cannot be,
is refused: training on them would be silently wrong. No torch.

vLLM's part was written from its documents (features/lora, features/sleep_mode and training/layerwise of its main branch
in 2026, training/async_rl of 0.32.0), and is tested with its build for CPUs (0.32.0, `tests/real`), whose reload leaves
out a head that is tied to the embedding, and says that all went well:

    vllm serve MODEL --logprobs-mode processed_logprobs        log-probs after temperature and truncation, not before
    update = "lora"    also --enable-lora, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True: `/v1/load_lora_adapter`
    update = "reload"  also VLLM_SERVER_DEV_MODE=1: `/pause`, `/collective_rpc` (reload_weights with a weights_path),
                       `/reset_prefix_cache`, `/resume`

Every version of an adapter gets a name of its own, not `load_inplace`: vLLM keeps that flag and reads the files again
at every request (its issue 33791), and a new name can never meet keys and values that were cached under an old one.
The server must see the trainer's folders under the same paths. vLLM promises the same draws for the same seed only
with its batch-invariant kernels; the log-probs belong to what was drawn in any case.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from burnish.answers.http import Client, address, run
from burnish.answers.sampler import Decoding, Finish, Sampled
from burnish.answers.sampler.arrival import FURTHER, Arrival
from burnish.data.prompts import Prompt
from burnish.errors import ConfigError, JudgeError, StoreError

Update = Literal["reload", "lora", "none"]
ROUNDING = 1e-5  # nats: how far above 0 a log-prob may lie by rounding
NEVER = -9000.0  # nats: servers write -9999 where the log-prob is minus infinity
COLD = 0.5  # a temperature that every server allows; vLLM refuses those above 2


@dataclass
class ServerSampler:
    """Asks a server; a `burnish.answers.sampler.Sampler`.

    url          its address, with or without `/v1`
    model        the model's name on the server; empty: the first that the server lists
    key          sent as a bearer token; no file or message holds it
    seconds      for one request, which is a prompt with all its answers
    retries      tries after the first, for what may pass: no connection, a time-out, 429, 5xx
    concurrency  most requests in flight
    write        writes the policy's weights (update = "lora": its adapter) into a folder that does not exist yet
    folder       where those folders are made; the newest is kept, and the server must be able to read it
    update       how the server loads the weights; "none": never, `publish` only counts versions
    arrival      compares the server's log-probs with the trainer's after each update; None: they are not compared
    terminal     token ids that end an answer, where the server might not know them all

    Raises ConfigError for an address, or a combination, that cannot be meant; the calls raise JudgeError.
    """

    url: str
    model: str = ""
    key: str = field(default="", repr=False)
    seconds: float = 600.0
    retries: int = 5
    concurrency: int = 32
    write: Callable[[Path], None] | None = None
    folder: Path | None = None
    update: Update = "none"
    arrival: Arrival | None = None
    terminal: frozenset[int] = frozenset()
    version: int | None = field(default=None, init=False)  # of the weights on the server; None: never published
    _adapter: str = field(default="", init=False)  # name of the adapter that answers
    _published: Path | None = field(default=None, init=False)  # folder of the weights on the server
    _run_id: str = field(default_factory=lambda: secrets.token_hex(4), init=False)  # runs may share a server

    def __post_init__(self) -> None:
        self.url = address(self.url, "source.url").removesuffix("/v1").rstrip("/")
        if self.concurrency < 1 or self.retries < 0 or self.seconds <= 0:
            raise ConfigError("a server needs concurrency >= 1, retries >= 0 and seconds > 0")
        if self.update != "none" and (self.write is None or self.folder is None):
            raise ConfigError(f"source.update = '{self.update}' needs a folder, and a way to write the weights there")

    def __call__(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, seed: int, step: int
    ) -> list[list[Sampled]]:
        """For each prompt its k answers, in order. Raises JudgeError for a server that is gone, or whose answers cannot
        be trained on."""
        return run(self._sample(prompts, k, decoding, seed, step))

    def check(self, decoding: Decoding, probe: Sequence[int] = (1, 2, 3)) -> None:
        """Refuse a server whose log-probs are missing, or taken before temperature and truncation while `decoding`
        has some. `probe`: a prompt of any tokens that the model knows. Raises JudgeError."""
        run(self._check(decoding, tuple(probe)))

    def publish(self, version: int) -> None:
        """Write the policy's weights and wait until the server has them. The same version is not sent twice.

        Raises JudgeError where the server does not take them, StoreError where they cannot be written, TrainingError
        where the server computes with other weights afterwards.
        """
        if version != self.version and self.update != "none":
            assert self.folder is not None and self.write is not None
            folder = (self.folder / f"version-{version}").resolve()
            try:
                if folder.exists():
                    shutil.rmtree(folder)  # of a run that was interrupted
                folder.parent.mkdir(parents=True, exist_ok=True)
                self.write(folder)
            except OSError as error:
                raise StoreError(f"{folder} cannot be written: {error.strerror or error}") from error
            run(self._publish_adapter(version, folder) if self.update == "lora" else self._publish_model(folder))
            if self._published is not None and self._published != folder:
                shutil.rmtree(self._published, ignore_errors=True)
            self._published = folder
            if self.arrival is not None:
                run(self._compare(self.arrival, version))
        self.version = version

    def _client(self) -> Client:
        return Client(self.url, self.key, self.seconds, self.retries, self.concurrency)

    async def _sample(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, seed: int, step: int
    ) -> list[list[Sampled]]:
        async with self._client() as client:
            model = await self._model_name(client)
            requests = [
                self._complete(client, model, prompt.ids, k, decoding, request_seed(seed, step, prompt.key))
                for prompt in prompts
            ]
            tasks = [asyncio.ensure_future(request) for request in requests]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:  # where one failed, the others need not be waited for
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _model_name(self, client: Client) -> str:
        if self._adapter:
            return self._adapter
        if not self.model:
            listing = await client.ask("GET", "/v1/models")
            try:
                self.model = str(listing["data"][0]["id"])  # type: ignore[index]
            except (TypeError, KeyError, IndexError):
                raise JudgeError(f"{self.url}/v1/models lists no model: name one") from None
        return self.model

    async def _complete(
        self, client: Client, model: str, ids: Sequence[int], k: int, decoding: Decoding, seed: int
    ) -> list[Sampled]:
        return (await self._request(client, model, ids, k, decoding, seed))[0]

    async def _request(
        self, client: Client, model: str, ids: Sequence[int], k: int, decoding: Decoding, seed: int, **more: Any
    ) -> tuple[list[Sampled], Any]:
        """(the k answers, the reply that they came in); `more` goes into the request."""
        body = {
            "model": model, "prompt": list(ids), "n": k, "seed": seed, "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": decoding.top_k,
            # vLLM takes what is not named from the model's generation_config.json
            "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
            "logprobs": 0, "return_token_ids": True, "return_tokens_as_token_ids": True, "stream": False, **more,
        }  # fmt: skip
        if self.terminal:
            body["stop_token_ids"] = sorted(self.terminal)
        reply = await client.ask(
            "POST", "/v1/completions", body, tokens=(len(ids) + decoding.max_new_tokens) * max(k, 1)
        )
        if reply is None:
            raise JudgeError(f"{self.url} has no /v1/completions: it is no server of language models")
        try:
            return parse_completions(reply, ids, k, decoding.max_new_tokens, self.terminal), reply
        except JudgeError as error:
            raise JudgeError(f"{self.url}: {error}") from None

    async def _check(self, decoding: Decoding, probe: tuple[int, ...]) -> None:
        """With top_k = 2 the two likeliest tokens hold all the mass, and their log-probs lie twice as far apart at half
        the temperature. Raw log-probs fail the first test unless two tokens hold all the mass of the model itself, and
        the second unless those two are equally likely, when raw and processed are the same."""
        async with self._client() as client:
            model = await self._model_name(client)
            await self._complete(client, model, probe, 1, replace(decoding, max_new_tokens=1), 0)
            if decoding.plain:
                return
            mild = await self._two_likeliest(client, model, probe, 1.0)
            cold = await self._two_likeliest(client, model, probe, COLD)
        mass = math.exp(cold[0]) + math.exp(cold[1])
        gap = mild[0] - mild[1]
        if abs(mass - 1) > 1e-3 or cold[0] - cold[1] < 1.5 * gap - 0.1:
            raise JudgeError(
                f"{self.url} takes log-probs before temperature and truncation: with top_k = 2 the two likeliest "
                f"tokens hold {mass:.3f} of the mass, and must hold all; at half the temperature they differ by "
                f"{cold[0] - cold[1]:.3f} nats, and must by {2 * gap:.3f}. Importance ratios would be wrong. Start "
                "vLLM with --logprobs-mode processed_logprobs, or set source.temperature = 1, source.top_p = 1 and "
                "source.top_k = 0"
            )

    async def _two_likeliest(
        self, client: Client, model: str, probe: Sequence[int], temperature: float
    ) -> tuple[float, float]:
        """The log-probs of the two likeliest tokens behind the probe, drawn with top_k = 2; the larger comes first."""
        _, reply = await self._request(client, model, probe, 1, Decoding(1, temperature, 1.0, 2), 0, logprobs=2)
        try:
            first, second, *_ = sorted(map(float, reply["choices"][0]["logprobs"]["top_logprobs"][0].values()))[::-1]
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise JudgeError(
                f"{self.url} does not give the log-probs of the two likeliest tokens (`logprobs` = 2), which say "
                "whether they are taken after temperature and truncation: set source.temperature = 1, source.top_p = 1 "
                "and source.top_k = 0"
            ) from None
        return first, second

    async def _compare(self, arrival: Arrival, version: int) -> None:
        """Log-probs of a text, where the server gives those of prompts, and of the tokens that it goes on with."""
        async with self._client() as client:
            model = await self._model_name(client)
            decoding = Decoding(FURTHER)
            (answer,), reply = await self._request(client, model, arrival.text, 1, decoding, 0, prompt_logprobs=0)
        arrival.compare(
            [*arrival.text, *answer.ids], [*_prompt_logps(reply["choices"][0], arrival.text), *answer.logps], version
        )

    async def _publish_adapter(self, version: int, folder: Path) -> None:
        name = f"burnish-{self._run_id}-{version}"
        async with self._client() as client:
            order = {"lora_name": name, "lora_path": str(folder)}
            if await client.ask("POST", "/v1/load_lora_adapter", order, control=True) is None:
                raise JudgeError(
                    f"{self.url} takes no adapters while it runs: start vLLM with --enable-lora and with "
                    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
                )
            previous, self._adapter = self._adapter, name
            if previous:
                await client.ask("POST", "/v1/unload_lora_adapter", {"lora_name": previous}, control=True)

    async def _publish_model(self, folder: Path) -> None:
        """Requests of others are waited for, since a cache in use would not be emptied. Servers that know no `/pause`
        (vLLM before 0.14) must have no other users."""
        async with self._client() as client:
            drain = {"mode": "wait", "wait_for_inflight_requests": "true", "clear_cache": "true"}
            paused = await client.ask("POST", "/pause", params=drain, control=True)
            try:
                order = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
                loaded = await client.ask("POST", "/collective_rpc", order, control=True)
                emptied = await client.ask("POST", "/reset_prefix_cache", control=True)
            finally:
                if paused is not None:
                    await client.ask("POST", "/resume", control=True)
        if loaded is None or emptied is None:
            raise JudgeError(
                f"{self.url} reads no weights while it runs: start vLLM with VLLM_SERVER_DEV_MODE=1 in its environment"
            )


def request_seed(seed: int, step: int, prompt_id: str) -> int:
    """48 bits for the request of one prompt: a function of seed, step and the prompt's id."""
    digest = hashlib.blake2b(f"{seed} {step} {prompt_id}".encode(), digest_size=6)
    return int.from_bytes(digest.digest(), "big")


def parse_completions(
    reply: Any, prompt: Sequence[int], k: int, limit: int, terminal: frozenset[int] = frozenset()
) -> list[Sampled]:
    """The k answers of at most `limit` tokens in a server's reply, in order. Raises JudgeError where ids or log-probs
    are missing or impossible."""
    choices = reply.get("choices") if isinstance(reply, Mapping) else None
    if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
        raise JudgeError("the reply holds no choices")
    if sorted(str(choice.get("index")) for choice in choices) != sorted(map(str, range(k))):
        raise JudgeError(f"{len(choices)} answers came for {k} asked, or not numbered from 0")
    answers = []
    for choice in sorted(choices, key=lambda choice: int(choice["index"])):
        prompt_ids = choice.get("prompt_token_ids")
        if prompt_ids is not None and list(prompt_ids) != list(prompt):
            raise JudgeError(f"the prompt's {len(prompt)} tokens became other ones, {len(prompt_ids)}, on the server")
        answers.append(_parse_choice(choice, limit, terminal))
    return answers


def _prompt_logps(choice: Mapping[str, Any], prompt: Sequence[int]) -> list[float | None]:
    """The log-prob of every token of the prompt but the first; None where the server gives none. Raises JudgeError
    where they are those of another prompt."""
    given = choice.get("prompt_logprobs")
    if given is None:
        return [None] * (len(prompt) - 1)
    try:
        return [float(row[str(token)]["logprob"]) for token, row in zip(prompt[1:], given[1:], strict=True)]
    except (KeyError, TypeError, ValueError):
        raise JudgeError("the log-probs of a prompt are not those of its tokens") from None


def _parse_choice(choice: Mapping[str, Any], limit: int, terminal: frozenset[int]) -> Sampled:
    logprobs = choice.get("logprobs")
    logprobs = logprobs if isinstance(logprobs, Mapping) else {}
    ids, logps = _token_ids(choice, logprobs), logprobs.get("token_logprobs")
    if not isinstance(logps, list):
        raise JudgeError("answers come without log-probs: the server must know `logprobs`")
    if len(ids) != len(logps) or not 1 <= len(ids) <= limit:
        raise JudgeError(f"an answer has {len(ids)} tokens and {len(logps)} log-probs, for 1 to {limit} tokens asked")
    for logp in logps:
        number = isinstance(logp, (int, float)) and not isinstance(logp, bool)
        if not number or not NEVER < logp <= ROUNDING:  # NaN is neither
            raise JudgeError(f"an answer has the log-prob {logp}, which no drawn token can have")
    if not terminal.isdisjoint(ids[:-1]):
        raise JudgeError("an answer goes on behind a token that ends answers: the server must know `stop_token_ids`")
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise JudgeError(f"an answer ended for the reason {reason!r}, not because it was done or too long")
    finish: Finish = "stop" if reason == "stop" else "length"
    return Sampled(tuple(ids), tuple(min(float(logp), 0.0) for logp in logps), finish)


def _token_ids(choice: Mapping[str, Any], logprobs: Mapping[str, Any]) -> list[int]:
    """The drawn tokens: named by `token_ids`, else each written as `token_id:5`."""
    ids = choice.get("token_ids")
    if ids is None:
        tokens = logprobs.get("tokens")
        tokens = [str(token) for token in tokens] if isinstance(tokens, list) else [""]
        digits = [token.removeprefix("token_id:") for token in tokens]
        if not all(token == f"token_id:{text}" and text.isdigit() for token, text in zip(tokens, digits, strict=True)):
            raise JudgeError("answers come without token ids: the server must know return_token_ids (vLLM from 0.10.2)")
        return [int(text) for text in digits]
    if not isinstance(ids, list) or not all(type(token) is int and token >= 0 for token in ids):
        raise JudgeError("an answer's token_ids are no list of ids")
    return ids
