"""Requests to a server that may be busy, slow, gone or hostile. No torch.

A request has a time limit, from its first byte to the reply's last, and a reply a limit in bytes, before and after it
is unpacked. A request is tried again after growing pauses; the number of requests in flight is bounded. When every try
has failed, a JudgeError gives the reason, without the key.

Redirects are not followed: a POST would become a GET, and the text would go to another server. Proxies of the
environment are used, but not for this machine.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import random
import zlib
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import httpx

from burnish.errors import ConfigError, JudgeError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries; doubled each time up to the longest
CONNECT = 10.0  # seconds to connect in
BUSY = frozenset({408, 425, 429, 502, 503, 504})  # worth another try, whatever the request
FRAME, BYTES_A_TOKEN = 4 << 20, 1 << 10  # of a reply at most: whatever it says, and for each token that it may hold
DEEPEST = 64  # levels of lists and objects in a reply; one read here has 6

T = TypeVar("T")


def address(url: str, key: str) -> str:
    """The address without blanks and slashes around it. Raises ConfigError, naming the key, for what is none."""
    root = url.strip().rstrip("/")
    try:
        parts = httpx.URL(root)
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"{key} = '{url}' is no address: {error}") from None
    if parts.userinfo:
        raise ConfigError(f"{key} holds a password, which logs would repeat: {key.removesuffix('url')}key_env hides it")
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigError(f"{key} = '{url}' is no address like http://127.0.0.1:8000")
    return root


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def key_of(variable: str) -> str:
    """The key in an environment variable, empty without one. Raises ConfigError for what no header can hold."""
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"the environment's {variable} is no key: it holds line breaks or letters beyond ASCII")
    return key


def run(work: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. Where an event loop runs already, as in a notebook, it runs in a new thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@dataclass(frozen=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    value: Any  # of its JSON, or its text where it is none


class Client:
    """Requests to a server, within an `async with`.

    `seconds` is the time limit of a request, `retries` the number of tries after the first, `concurrency` the most
    requests in flight. `key` is sent in the header only.
    """

    def __init__(self, root: str, key: str, seconds: float, retries: int, concurrency: int) -> None:
        self.root, self.retries, self.seconds, self._key = root, retries, seconds, key
        self._in_flight = asyncio.Semaphore(concurrency)
        self._client = httpx.AsyncClient(
            headers={"accept-encoding": "identity", **({"authorization": f"Bearer {key}"} if key else {})},
            timeout=httpx.Timeout(None, connect=CONNECT),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            trust_env=not is_loopback(root),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, params: Mapping[str, str] | None = None,
        control: bool = False, tokens: int = 0,
    ) -> Any | None:  # fmt: skip
        """The JSON of the reply, or its text where it is not JSON; None where the server has no such path.

        `control` marks an order to the server, which is not repeated after a failure on the server's side (500).
        `tokens` are those that the reply may hold, which bound its size. Raises JudgeError when every try has failed,
        or at once where another try would fail as well.
        """
        trouble, pause = "", FIRST_PAUSE
        request = self._client.build_request(method, self.root + path, json=body, params=params)
        async with self._in_flight:
            for number in range(self.retries + 1):
                if number:
                    await asyncio.sleep(pause * (0.5 + 0.5 * random.random()))  # spreads the next tries over time
                    pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    async with asyncio.timeout(self.seconds):
                        reply = await self._send(request, path, FRAME + BYTES_A_TOKEN * tokens)
                except (TimeoutError, httpx.TimeoutException):
                    trouble = f"no answer in {self.seconds:g} s"
                    continue
                except httpx.TransportError as error:
                    trouble = str(error) or type(error).__name__
                    continue
                if reply.status in BUSY or (reply.status >= 500 and not control):
                    trouble = f"{reply.status}: {_message(reply)}"
                    pause = max(pause, _requested_pause(reply))
                    continue
                return self._read(reply, path)
        tries = f"{self.retries + 1} tries" if self.retries else "one try"
        raise self._error(f"gave nothing in {tries} ({trouble}). Is the server running, and its address right?", path)

    async def _send(self, request: httpx.Request, path: str, most: int) -> _Reply:
        """The whole reply. Raises JudgeError where it is larger than `most` bytes, packed or unpacked."""
        reply = await self._client.send(request, stream=True)
        try:
            packing = reply.headers.get("content-encoding", "identity").strip().lower()
            if packing not in ("identity", "gzip", "deflate"):
                raise self._error(f"packs its reply as {packing[:40]!r}, and was asked not to", path)
            unpack = None if packing == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)
            content, size = bytearray(), 0
            async for chunk in reply.aiter_raw():
                size += len(chunk)
                content += unpack.decompress(chunk, most + 1 - len(content)) if unpack else chunk
                if max(size, len(content)) > most:
                    raise self._error(f"gave a reply of more than {most >> 20} MiB", path)
            return _Reply(reply.status_code, reply.headers, _value(bytes(content)))
        except zlib.error as error:
            raise self._error(f"gave a reply that cannot be unpacked: {error}", path) from None
        except _TooDeep:
            raise self._error(f"gave JSON of more than {DEEPEST} levels", path) from None
        finally:
            await reply.aclose()

    def _read(self, reply: _Reply, path: str) -> Any | None:
        status = reply.status
        if status in (401, 403):
            raise self._error(f"does not accept the key ({status}: {_message(reply)})")
        if status == 405 or (status == 404 and not _names_model(reply)):
            return None
        if 300 <= status < 400:
            target = reply.headers.get("location", "nowhere")[:200]
            raise self._error(f"points to another address ({status}: {target!r}), and no redirect is followed", path)
        if status >= 400:
            raise self._error(f"refused the request ({status}): {_message(reply)}", path)
        return reply.value

    def _error(self, trouble: str, path: str = "") -> JudgeError:
        """An error without the key, which some servers repeat in their messages."""
        text = f"{self.root}{path} {trouble}"
        return JudgeError(text.replace(self._key, "***") if self._key else text)


class _TooDeep(Exception):
    """JSON of more levels than any reply has."""


def _value(content: bytes) -> Any:
    """The JSON of a reply, else its text. Raises _TooDeep where whoever reads it could run out of stack."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise _TooDeep from None
    except ValueError:
        return content.decode("utf-8", "replace")
    level, depth = [value] if isinstance(value, (dict, list)) else [], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise _TooDeep
        inner = (x for outer in level for x in (outer.values() if isinstance(outer, dict) else outer))
        level = [x for x in inner if isinstance(x, (dict, list))]
    return value


def _requested_pause(reply: _Reply) -> float:
    """Seconds of the Retry-After header, 0 where it is missing or a date."""
    try:
        return min(max(float(reply.headers.get("retry-after", 0.0)), 0.0), LONGEST_PAUSE)
    except ValueError:
        return 0.0


def _names_model(reply: _Reply) -> bool:
    """Whether a 404 is about the model asked for, rather than about the path."""
    body = reply.value
    error = body.get("error", body) if isinstance(body, Mapping) else {}
    return isinstance(error, Mapping) and "model" in str(error.get("message", "")).lower()


def _message(reply: _Reply) -> str:
    """The server's message about a failure, as a line of at most 400 printable characters."""
    body = reply.value
    if isinstance(body, Mapping):
        error = body.get("error", body)
        body = error.get("message", error.get("detail", error)) if isinstance(error, Mapping) else error
    text = str(body).strip()[:4000] or httpx.codes.get_reason_phrase(reply.status)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:400]
