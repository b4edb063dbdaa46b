"""The app: OpenAI's endpoints over a `Sampler`. Imports FastAPI, so import it late. No torch.

GET  /health   /v1/models   /v1/models/NAME
POST /v1/completions   /v1/chat/completions
POST /reload   {"path": FOLDER}, where a hook was given
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from burnish.answers.sampler import Finish, Prompt, Sampler
from burnish.answers.serving.batching import Full, Job, Stopped, Worker
from burnish.answers.serving.wire import Asked, Chat, Completion, Refusal, choice, messages_of, parse, prompts_of, usage
from burnish.answers.serving.writing import Manner, Writer
from burnish.data.render import Renderer
from burnish.errors import BurnishError
from burnish.group import Group

LOOK = 0.5  # seconds between looks whether the client is still there
CONTEXT = 6  # tokens of the prompt that the text of a completion goes on from


class Service:
    """What the endpoints do. See `app` for the parameters."""

    def __init__(
        self, worker: Worker, renderer: Renderer, name: str, reload: Callable[[Path], None] | None, key: str,
        longest: int | None, vocabulary: int | None,
    ) -> None:  # fmt: skip
        self.worker, self.renderer, self.name, self.reload = worker, renderer, name, reload
        self.key, self.longest = key, longest
        self.vocabulary = vocabulary or len(renderer.tokenizer)
        self.created = int(time.time())
        self.terminal = frozenset(renderer.terminal)
        added = renderer.tokenizer.added_tokens_decoder
        self.silent = self.terminal | {token for token, one in added.items() if one.special}

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        self._admit(request)
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def model(self, request: Request) -> Response:
        self._admit(request)
        self._refuse_model(request.path_params["name"])
        return JSONResponse(self._card())

    async def completions(self, request: Request) -> Response:
        self._admit(request)
        asked = parse(Completion, await request.body())
        self._refuse_model(asked.model)
        given = prompts_of(asked.prompt, self.worker.most_together)
        ids = [self._text_ids(one) if isinstance(one, str) else one for one in given]
        return await self._answer(request, asked, ids, asked.max_tokens, CONTEXT)

    async def chat(self, request: Request) -> Response:
        self._admit(request)
        asked = parse(Chat, await request.body())
        self._refuse_model(asked.model)
        try:
            encoded = self.renderer.encode(Group(messages_of(asked.messages), (), where="messages"))
        except BurnishError as error:
            raise Refusal(400, str(error), "messages") from None
        return await self._answer(request, asked, [encoded.prompt_ids], asked.limit, 0)

    async def reloaded(self, request: Request) -> Response:
        """New weights between two calls of the sampler: whoever asked before is answered by the old ones."""
        self._admit(request)
        if self.reload is None:
            raise Refusal(404, "this server reads no weights while it runs")
        try:
            path = Path(json.loads(await request.body())["path"])
        except (ValueError, TypeError, KeyError):
            raise Refusal(400, 'the body must be {"path": FOLDER}', "path") from None
        if not path.is_dir():
            raise Refusal(400, f"there is no folder {path}", "path")
        hook = self.reload
        try:
            await asyncio.wrap_future(self.worker.do(lambda: hook(path)))
        except Stopped:
            raise _failure(Stopped()) from None
        except BurnishError as error:
            raise Refusal(400, str(error), "path") from None
        except Exception as error:
            raise _failure(error) from error
        return JSONResponse({"status": "ok", "path": str(path)})

    def _admit(self, request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.key and not hmac.compare_digest(given.encode(), self.key.encode()):
            raise Refusal(401, "the key is missing or wrong", code="invalid_api_key")

    def _card(self) -> dict[str, Any]:
        card = {"id": self.name, "object": "model", "created": self.created, "owned_by": "burnish"}
        return card | ({"max_model_len": self.longest} if self.longest else {})

    def _refuse_model(self, name: str) -> None:
        if name and name != self.name:
            raise Refusal(404, f"there is no model {name} here, only {self.name}", "model", "model_not_found")

    def _text_ids(self, text: str) -> tuple[int, ...]:
        """A text as it is, control tokens acting, with the tokenizer's BOS in front once."""
        found = self.renderer.tokenizer([text], add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids, prefix = tuple(found["input_ids"][0]), tuple(self.renderer.prefix)
        return ids if ids[: len(prefix)] == prefix else prefix + ids

    async def _answer(
        self, request: Request, asked: Asked, ids: Sequence[tuple[int, ...]], limit: int, context: int
    ) -> Response:
        self._refuse_ids(ids, limit)
        seed = secrets.randbits(48) if asked.seed is None else asked.seed
        prompts = tuple(Prompt(f"{seed}/{number}", one) for number, one in enumerate(ids))
        job = Job(prompts, asked.n, asked.decoding(limit))
        try:
            self.worker.put(job)
        except (Full, Stopped) as error:
            raise _failure(error) from None
        ends = self.terminal | set(asked.stop_token_ids)
        manner = Manner(self.renderer.tokenizer, limit, ends, self.silent, tuple(asked.stop))
        writers = [Writer(manner, one[len(one) - context :] if context else ()) for one in ids for _ in range(asked.n)]
        chat = isinstance(asked, Chat)
        head: dict[str, Any] = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}", "created": int(time.time()),
            "model": self.name, "object": "chat.completion" if chat else "text_completion",
        }  # fmt: skip
        if asked.stream:
            head["object"] += ".chunk" if chat else ""
            events = self._stream(request, asked, job, writers, head)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        texts = [""] * len(writers)
        async with contextlib.aclosing(follow(request, job, writers)) as pieces:
            async for index, text, _ in pieces:
                texts[index] += text
        choices = [
            choice(asked, i, writer, texts[i], 0, stream=False, prompt=ids[i // asked.n])
            for i, writer in enumerate(writers)
        ]
        return JSONResponse(head | {"choices": choices, "usage": usage([len(one) for one in ids], writers)})

    async def _stream(
        self, request: Request, asked: Asked, job: Job, writers: Sequence[Writer], head: dict[str, Any]
    ) -> AsyncIterator[str]:
        """Server-sent events: a piece of an answer each, and [DONE]. What goes wrong on the way is an event as well."""
        told = [0] * len(writers)  # tokens
        detailed = asked.wants_logprobs or asked.return_token_ids
        try:
            async with contextlib.aclosing(follow(request, job, writers)) as pieces:
                async for index, text, writer in pieces:
                    if text or writer.finish or detailed or not told[index]:
                        prompt = job.prompts[index // asked.n].ids
                        piece = choice(asked, index, writer, text, told[index], stream=True, prompt=prompt)
                        told[index] = len(writer.ids)
                        yield _event(head | {"choices": [piece]})
            if asked.stream_options.include_usage:
                counts = usage([len(one.ids) for one in job.prompts], writers)
                yield _event(head | {"choices": [], "usage": counts})
        except Refusal as refusal:
            yield _event(refusal.body())
        yield "data: [DONE]\n\n"

    def _refuse_ids(self, ids: Sequence[tuple[int, ...]], limit: int) -> None:
        for one in ids:
            if not one:
                raise Refusal(400, "prompt: is empty", "prompt")
            if min(one) < 0 or max(one) >= self.vocabulary:
                raise Refusal(400, f"prompt: token ids must lie from 0 to {self.vocabulary - 1}", "prompt")
            if self.longest is not None and len(one) + limit > self.longest:
                told = f"{len(one)} tokens and {limit} more are asked for, and the model is exact up to {self.longest}"
                raise Refusal(400, f"prompt: {told}", "prompt", "context_length_exceeded")


async def follow(
    request: Request, job: Job, writers: Sequence[Writer]
) -> AsyncGenerator[tuple[int, str, Writer], None]:
    """(which answer, its new text, its writer) as the job's tokens come, until every answer is over. Raises Refusal for
    what went wrong, also where the client has left; in the end nobody waits for the job any more."""
    look = time.monotonic() + LOOK
    try:
        while any(one.finish is None for one in writers):
            events = await job.next(LOOK)
            if time.monotonic() >= look:
                look = time.monotonic() + LOOK
                if await request.is_disconnected():
                    raise Refusal(499, "the client has left")
            for event in events:
                if isinstance(event, Exception):
                    raise _failure(event)
                given: list[tuple[int, list[tuple[int, float]], Finish | None]]
                if isinstance(event, tuple):
                    prompt, number, token, logp = event
                    given = [(prompt * job.k + number, [(token, logp)], None)]
                else:
                    given = [
                        (i, list(zip(one.ids, one.logps, strict=True))[len(writers[i].ids) :], one.finish)
                        for i, one in enumerate(one for answers in event for one in answers)
                    ]
                for index, tokens, finish in given:
                    writer = writers[index]
                    for token, logp in tokens:
                        if writer.finish is None:
                            yield index, writer.add(token, logp), writer
                    if finish is not None and writer.finish is None:
                        yield index, writer.end(finish), writer
    except ValueError as error:  # a log-prob that cannot be
        raise _failure(error) from None
    finally:
        job.gone = True


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _failure(error: Exception) -> Refusal:
    """What a request is told of something that it is not to blame for."""
    if isinstance(error, Full):
        return Refusal(503, "too many requests wait: try again later")
    if isinstance(error, Stopped):
        return Refusal(503, "the server is going down")
    told = str(error) if isinstance(error, BurnishError) else f"{type(error).__name__}: {error}"
    return Refusal(500, f"the sampler failed: {told}")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.body(), error.status, headers=error.headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {404: f"there is no {request.url.path} here", 405: f"{request.method} is not for {request.url.path}"}
    refusal = Refusal(error.status_code, told.get(error.status_code, error.detail))
    return JSONResponse(refusal.body(), error.status_code)


async def _unforeseen(request: Request, error: Exception) -> Response:
    refusal = Refusal(500, f"a defect of the server: {type(error).__name__}")  # uvicorn writes the details on its side
    return JSONResponse(refusal.body(), 500)


def app(
    answer: Sampler, renderer: Renderer, name: str, *, reload: Callable[[Path], None] | None = None, key: str = "",
    longest: int | None = None, vocabulary: int | None = None, most_waiting: int = 512, most_together: int = 64,
) -> FastAPI:  # fmt: skip
    """The app that answers with `answer` under the model's `name`; `renderer` turns texts and chats into tokens.

    reload       reads the weights in a folder anew; without it `/reload` is not there. Its BurnishErrors are told
    key          what clients must bring as a bearer token; empty: nothing
    longest      tokens of prompt and answer up to which the model is exact
    vocabulary   rows of the embedding: higher ids are refused; unset: the tokenizer's
    most_waiting, most_together   prompts in the queue, beyond which requests get 503, and in one call of the sampler

    A request's seed is part of its prompts' ids, so that one request with one seed is always answered alike.
    """
    worker = Worker(answer, most_waiting, most_together)
    service = Service(worker, renderer, name, reload, key, longest, vocabulary)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        try:
            yield
        finally:
            await asyncio.to_thread(worker.stop)

    routes: list[BaseRoute] = [
        Route("/health", service.health),
        Route("/v1/models", service.models),
        Route("/v1/models/{name:path}", service.model),
        Route("/v1/completions", service.completions, methods=["POST"]),
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
        Route("/reload", service.reloaded, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {Refusal: _refused, HTTPException: _no_route, Exception: _unforeseen}
    made = FastAPI(
        title="burnish serve", lifespan=life, routes=routes, exception_handlers=handlers, openapi_url=None,
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    made.state.stop = worker.stop
    return made
