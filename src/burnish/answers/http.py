"""Requests to a server that may be busy, slow or gone. No torch.

A request has a time limit and is tried again after growing pauses; the number of requests in flight is bounded. When
every try has failed, a JudgeError gives the reason, without the key.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

import httpx

from burnish.errors import ConfigError, JudgeError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries; doubled each time up to the longest
CONNECT = 10.0  # seconds to connect in
BUSY = frozenset({408, 425, 429, 502, 503, 504})  # worth another try, whatever the request

T = TypeVar("T")


def address(url: str) -> str:
    """The server's root: without a slash or `/v1` at the end. Raises ConfigError for what is no address."""
    root = url.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    try:
        parts = httpx.URL(root)
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"source.url = '{url}' is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigError(f"source.url = '{url}' is no address like http://127.0.0.1:8000")
    return root


def run(work: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. Where an event loop runs already, as in a notebook, it runs in a new thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class Client:
    """Requests to a server, within an `async with`.

    `seconds` is the time limit of a request, `retries` the number of tries after the first, `concurrency` the most
    requests in flight. `key` is sent in the header only.
    """

    def __init__(self, root: str, key: str, seconds: float, retries: int, concurrency: int) -> None:
        self.root, self.retries, self._key = root, retries, key
        self._in_flight = asyncio.Semaphore(concurrency)
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(seconds, connect=min(CONNECT, seconds), pool=None),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, params: Mapping[str, str] | None = None,
        control: bool = False,
    ) -> Any | None:  # fmt: skip
        """The JSON of the reply, or its text where it is not JSON; None where the server has no such path.

        `control` marks an order to the server, which is not repeated after a failure on the server's side (500).
        Raises JudgeError when every try has failed, or at once where another try would fail as well.
        """
        trouble, pause = "", FIRST_PAUSE
        async with self._in_flight:
            for number in range(self.retries + 1):
                if number:
                    await asyncio.sleep(pause * (0.5 + 0.5 * random.random()))  # spreads the next tries over time
                    pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    reply = await self._client.request(
                        method, self.root + path, json=body, params=dict(params) if params else None
                    )
                except httpx.TimeoutException:
                    trouble = "no answer in time"
                    continue
                except httpx.TransportError as error:
                    trouble = str(error) or type(error).__name__
                    continue
                status = reply.status_code
                if status in BUSY or (status >= 500 and not control):
                    trouble = f"{status}: {_message(reply)}"
                    pause = max(pause, _requested_pause(reply))
                    continue
                return self._read(reply, path)
        tries = f"{self.retries + 1} tries" if self.retries else "one try"
        raise self._error(f"gave nothing in {tries} ({trouble}). Is the server running, and its address right?", path)

    def _read(self, reply: httpx.Response, path: str) -> Any | None:
        status = reply.status_code
        if status in (401, 403):
            raise self._error(f"does not accept the key ({status}: {_message(reply)})")
        if status == 405 or (status == 404 and not _names_model(reply)):
            return None
        if status >= 300:
            raise self._error(f"refused the request ({status}): {_message(reply)}", path)
        try:
            return reply.json()
        except ValueError:
            return reply.text

    def _error(self, trouble: str, path: str = "") -> JudgeError:
        """An error without the key, which some servers repeat in their messages."""
        text = f"{self.root}{path} {trouble}"
        return JudgeError(text.replace(self._key, "***") if self._key else text)


def _requested_pause(reply: httpx.Response) -> float:
    """Seconds of the Retry-After header, 0 where it is missing or a date."""
    try:
        return min(max(float(reply.headers.get("retry-after", 0.0)), 0.0), LONGEST_PAUSE)
    except ValueError:
        return 0.0


def _json(reply: httpx.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        return None


def _names_model(reply: httpx.Response) -> bool:
    """Whether a 404 is about the model asked for, rather than about the path."""
    body = _json(reply)
    error = body.get("error", body) if isinstance(body, Mapping) else {}
    return isinstance(error, Mapping) and "model" in str(error.get("message", "")).lower()


def _message(reply: httpx.Response) -> str:
    """The server's message about a failure, as a line of at most 400 characters."""
    body = _json(reply)
    if isinstance(body, Mapping):
        error = body.get("error", body)
        body = error.get("message", error.get("detail", error)) if isinstance(error, Mapping) else error
    text = str(body if body is not None else reply.text).strip() or reply.reason_phrase
    return " ".join(text.split())[:400]
