"""Answers from a server over HTTP: vLLM, `burnish serve`, or another that speaks their dialect of OpenAI's API.

What is asked of the server: `POST /v1/completions` with token ids as the prompt, and the drawn token ids with their
log-probs in return (`return_token_ids`: vLLM from 0.10.2). An answer without either, or with log-probs that cannot be,
is refused: training on them would be silently wrong. No torch.

vLLM's part was written from its documents (features/lora, features/sleep_mode and training/layerwise of its main branch
in 2026, training/async_rl of 0.32.0), and has not been run against one:

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from burnish.answers.http import Server, address, finish
from burnish.answers.sampler import Decoding, Finish, Prompt, Sampled, Tell
from burnish.errors import ConfigError, JudgeError, StoreError

Update = Literal["reload", "lora", "none"]
ROUNDING = 1e-5  # nats: how far above 0 a log-prob may lie by rounding
NEVER = -9000.0  # nats: servers write -9999 where the log-prob is minus infinity
HOT = 100.0  # a temperature at which the two likeliest tokens are nearly alike


@dataclass
class Sampler:
    """Asks a server. Keeps to `burnish.answers.sampler.Sampler`.

    url          its address, with or without `/v1`
    model        its name there; empty: the first that the server lists
    key          sent as a bearer token, written nowhere
    seconds      for one request, which is a prompt with all its answers
    retries      tries after the first, for what may pass: no connection, a time-out, 429, 5xx
    concurrency  most requests in flight
    write        writes the policy's weights (update = "lora": its adapter) into a folder that does not exist yet
    folder       where those folders are made; the newest is kept, and must be visible to the server
    update       how the server takes them up; "none": not at all, `publish` only counts
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
    terminal: frozenset[int] = frozenset()
    version: int | None = field(default=None, init=False)  # that the server has; None: it was told nothing
    _named: str = field(default="", init=False)  # the adapter it answers with
    _at: Path | None = field(default=None, init=False)  # where the weights lie that it has
    _own: str = field(default_factory=lambda: secrets.token_hex(4), init=False)  # runs may share a server

    def __post_init__(self) -> None:
        self.url = address(self.url)
        if self.concurrency < 1 or self.retries < 0 or self.seconds <= 0:
            raise ConfigError("a server needs concurrency >= 1, retries >= 0 and seconds > 0")
        if self.update != "none" and (self.write is None or self.folder is None):
            raise ConfigError(f"source.update = '{self.update}' needs a folder, and a way to write the weights there")

    def __call__(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, moment: tuple[int, int], tell: Tell | None = None
    ) -> list[list[Sampled]]:
        """For each prompt its k answers, in order. `tell` hears an answer's tokens when all of it is there. Raises
        JudgeError for a server that is gone, or whose answers cannot be trained on."""
        return finish(self._all(prompts, k, decoding, moment, tell))

    def check(self, decoding: Decoding, probe: Sequence[int] = (1, 2, 3)) -> None:
        """Refuse a server whose log-probs are missing, or taken before temperature and truncation while `decoding`
        has some. `probe`: a prompt of any tokens that the model knows. Raises JudgeError."""
        finish(self._check(decoding, tuple(probe)))

    def publish(self, version: int) -> None:
        """Write the policy's weights and wait until the server has them. The same version is not sent twice.

        Raises JudgeError where the server does not take them, StoreError where they cannot be written.
        """
        if version != self.version and self.update != "none":
            assert self.folder is not None and self.write is not None
            target = (self.folder / f"version-{version}").resolve()
            try:
                if target.exists():
                    shutil.rmtree(target)  # of a run that was interrupted
                target.parent.mkdir(parents=True, exist_ok=True)
                self.write(target)
            except OSError as error:
                raise StoreError(f"{target} cannot be written: {error.strerror or error}") from error
            finish(self._publish(version, target))
            if self._at is not None and self._at != target:
                shutil.rmtree(self._at, ignore_errors=True)
            self._at = target
        self.version = version

    def _server(self) -> Server:
        return Server(self.url, self.key, self.seconds, self.retries, self.concurrency)

    async def _all(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, moment: tuple[int, int], tell: Tell | None
    ) -> list[list[Sampled]]:
        async with self._server() as server:
            model = await self._model(server)

            async def one(number: int, prompt: Prompt) -> list[Sampled]:
                found = await self._ask(server, model, prompt.ids, k, decoding, _seed(moment, prompt.id))
                if tell is not None:
                    for i, answer in enumerate(found):
                        for token, logp in zip(answer.ids, answer.logps, strict=True):
                            tell(number, i, token, logp)
                return found

            work = [asyncio.ensure_future(one(i, prompt)) for i, prompt in enumerate(prompts)]
            try:
                return list(await asyncio.gather(*work))
            finally:
                for task in work:  # where one failed, the others need not be waited for
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)

    async def _model(self, server: Server) -> str:
        """The name to ask for."""
        if self._named:
            return self._named
        if not self.model:
            told = await server.ask("GET", "/v1/models")
            try:
                self.model = str(told["data"][0]["id"])  # type: ignore[index]
            except (TypeError, KeyError, IndexError):
                raise JudgeError(f"{self.url}/v1/models lists no model: name one") from None
        return self.model

    async def _ask(
        self, server: Server, model: str, ids: Sequence[int], k: int, decoding: Decoding, seed: int
    ) -> list[Sampled]:
        body = {
            "model": model, "prompt": list(ids), "n": k, "seed": seed, "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": decoding.top_k,
            # vLLM takes what is not named from the model's generation_config.json
            "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
            "logprobs": 0, "return_token_ids": True, "return_tokens_as_token_ids": True, "stream": False,
        }  # fmt: skip
        if self.terminal:
            body["stop_token_ids"] = sorted(self.terminal)
        told = await server.ask("POST", "/v1/completions", body)
        if told is None:
            raise JudgeError(f"{self.url} has no /v1/completions: it is no server of language models")
        try:
            return answers(told, ids, k, decoding.max_new_tokens, self.terminal)
        except JudgeError as error:
            raise JudgeError(f"{self.url}: {error}") from None

    async def _check(self, decoding: Decoding, probe: tuple[int, ...]) -> None:
        """With top_k = 1 a processed log-prob is 0, and with top_k = 2 and a high temperature it is -ln 2: the first
        fails for raw ones unless the model is sure of its token, the second where it is."""
        async with self._server() as server:
            model = await self._model(server)
            if decoding.plain:
                await self._ask(server, model, probe, 1, Decoding(1), 0)
                return
            ((sole,), *_) = [one.logps for one in await self._ask(server, model, probe, 1, Decoding(1, 1.0, 1.0, 1), 0)]
            pair = await self._ask(server, model, probe, 4, Decoding(1, HOT, 1.0, 2), 0)
        if abs(sole) > 1e-3 or any(abs(one.logps[0] + math.log(2)) > 0.35 for one in pair):
            raise JudgeError(
                f"{self.url} takes log-probs before temperature and truncation (with top_k = 1 one is {sole:.3f}, and "
                "must be 0), so importance ratios would be wrong. Start vLLM with --logprobs-mode processed_logprobs, "
                "or set source.temperature = 1, source.top_p = 1 and source.top_k = 0"
            )

    async def _publish(self, version: int, target: Path) -> None:
        async with self._server() as server:
            if self.update == "lora":
                await self._publish_adapter(server, version, target)
                return
            told = await server.ask("POST", "/reload", {"path": str(target)}, control=True)  # burnish serve
            if told is None:
                await self._reload_vllm(server, target)

    async def _publish_adapter(self, server: Server, version: int, target: Path) -> None:
        name = f"burnish-{self._own}-{version}"
        order = {"lora_name": name, "lora_path": str(target)}
        if await server.ask("POST", "/v1/load_lora_adapter", order, control=True) is None:
            raise JudgeError(
                f"{self.url} takes no adapters while it runs: start vLLM with --enable-lora and with "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
            )
        old, self._named = self._named, name
        if old:
            await server.ask("POST", "/v1/unload_lora_adapter", {"lora_name": old}, control=True)

    async def _reload_vllm(self, server: Server, target: Path) -> None:
        """Others' requests are waited for, since a cache in use would not be emptied. Servers that know no `/pause`
        (vLLM before 0.14) must have no other users."""
        waiting = {"mode": "wait", "wait_for_inflight_requests": "true", "clear_cache": "true"}
        paused = await server.ask("POST", "/pause", params=waiting, control=True)
        try:
            order = {"method": "reload_weights", "kwargs": {"weights_path": str(target)}}
            done = await server.ask("POST", "/collective_rpc", order, control=True)
            emptied = await server.ask("POST", "/reset_prefix_cache", control=True)
        finally:
            if paused is not None:
                await server.ask("POST", "/resume", control=True)
        if done is None or emptied is None:
            raise JudgeError(
                f"{self.url} reads no weights while it runs: start vLLM with VLLM_SERVER_DEV_MODE=1 in its "
                "environment, or `burnish serve` with --reload"
            )


def _seed(moment: tuple[int, int], prompt: str) -> int:
    """48 bits for the request of one prompt: a function of (seed, step) and the prompt's id."""
    digest = hashlib.blake2b(f"{moment[0]} {moment[1]} {prompt}".encode(), digest_size=6)
    return int.from_bytes(digest.digest(), "big")


def answers(
    told: Any, prompt: Sequence[int], k: int, limit: int, terminal: frozenset[int] = frozenset()
) -> list[Sampled]:
    """The k answers of at most `limit` tokens in a server's reply, in order. Raises JudgeError where ids or log-probs
    are missing or impossible."""
    choices = told.get("choices") if isinstance(told, Mapping) else None
    if not isinstance(choices, list) or not all(isinstance(one, Mapping) for one in choices):
        raise JudgeError("the reply holds no choices")
    if sorted(str(one.get("index")) for one in choices) != sorted(map(str, range(k))):
        raise JudgeError(f"{len(choices)} answers came for {k} asked, or not numbered from 0")
    found = []
    for one in sorted(choices, key=lambda one: int(one["index"])):
        sent = one.get("prompt_token_ids")
        if sent is not None and list(sent) != list(prompt):
            raise JudgeError(f"the prompt's {len(prompt)} tokens became other ones, {len(sent)}, on the server")
        found.append(_answer(one, limit, terminal))
    return found


def _answer(choice: Mapping[str, Any], limit: int, terminal: frozenset[int]) -> Sampled:
    told = choice.get("logprobs")
    logprobs = told if isinstance(told, Mapping) else {}
    ids, logps = _ids(choice, logprobs), logprobs.get("token_logprobs")
    if not isinstance(logps, list):
        raise JudgeError("answers come without log-probs: the server must know `logprobs`")
    if len(ids) != len(logps) or not 1 <= len(ids) <= limit:
        raise JudgeError(f"an answer has {len(ids)} tokens and {len(logps)} log-probs, for 1 to {limit} tokens asked")
    for value in logps:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not NEVER < value <= ROUNDING:  # NaN is neither
            raise JudgeError(f"an answer has the log-prob {value}, which no drawn token can have")
    if not terminal.isdisjoint(ids[:-1]):
        raise JudgeError("an answer goes on behind a token that ends answers: the server must know `stop_token_ids`")
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise JudgeError(f"an answer ended for the reason {reason!r}, not because it was done or too long")
    end: Finish = "stop" if reason == "stop" else "length"
    return Sampled(tuple(ids), tuple(min(float(value), 0.0) for value in logps), end)


def _ids(choice: Mapping[str, Any], logprobs: Mapping[str, Any]) -> list[int]:
    """The drawn tokens: named by `token_ids`, else each written as `token_id:5`."""
    ids = choice.get("token_ids")
    if ids is None:
        tokens = logprobs.get("tokens")
        written = tokens if isinstance(tokens, list) else [None]
        ids = [str(one).removeprefix("token_id:") for one in written]
        if not all(str(one).startswith("token_id:") and text.isdigit() for one, text in zip(written, ids, strict=True)):
            raise JudgeError("answers come without token ids: the server must know return_token_ids (vLLM from 0.10.2)")
        return [int(one) for one in ids]
    if not isinstance(ids, list) or not all(type(one) is int and one >= 0 for one in ids):
        raise JudgeError("an answer's token_ids are no list of ids")
    return ids
