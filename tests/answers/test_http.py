"""The client against servers that drip, flood, nest, pack, redirect: each is a sentence, in bounded time and memory."""

from __future__ import annotations

import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from burnish.answers import http
from burnish.errors import ConfigError, JudgeError

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that answers as a function says; gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                with suppress(OSError):  # the client may have left
                    answer(self)

            def log_message(self, *_: Any) -> None:
                """Silence."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def sent(content: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {**headers, "content-length": str(len(content))}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def ask(url: str, seconds: float = 5.0, retries: int = 0, **given: Any) -> Any:
    async def asked() -> Any:
        async with http.Client(url, "sk-secret", seconds, retries, 1) as client:
            return await client.ask("POST", "/chat", {"x": 1}, **given)

    return http.run(asked())


def dripping(handler: BaseHTTPRequestHandler) -> None:
    """A byte every 50 ms: no single read waits long."""
    handler.send_response(200)
    handler.send_header("content-length", "10000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


def test_the_time_limit_is_of_the_whole_request(serve: Callable[[Answer], str]) -> None:
    start = time.monotonic()
    with pytest.raises(JudgeError, match=r"one try \(no answer in 0.3 s\)"):
        ask(serve(dripping), seconds=0.3)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    "answer",
    [endless, sent(b" " * (5 << 20)), sent(gzip.compress(b" " * (300 << 20), 1), content_encoding="gzip")],
    ids=["without an end", "large", "large when unpacked"],
)
def test_a_reply_has_a_size(serve: Callable[[Answer], str], answer: Answer) -> None:
    url = serve(answer)
    tracemalloc.start()
    try:
        with pytest.raises(JudgeError, match="gave a reply of more than 4 MiB"):
            ask(url)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_reply_may_be_as_large_as_its_tokens_are(serve: Callable[[Answer], str]) -> None:
    url = serve(sent(json.dumps(["x" * (5 << 20)]).encode()))
    assert ask(url, tokens=1500) == ["x" * (5 << 20)]
    with pytest.raises(JudgeError, match="more than 4 MiB"):
        ask(url, tokens=500)


@pytest.mark.parametrize("content", ['{"a": 1}', "no JSON"])
def test_what_is_packed_unasked_is_read(serve: Callable[[Answer], str], content: str) -> None:
    url = serve(sent(gzip.compress(content.encode()), content_encoding="gzip"))
    assert ask(url) == ({"a": 1} if content.startswith("{") else content)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (sent(b"[" * 100_000 + b"]" * 100_000), "JSON of more than 64 levels"),
        (sent(b'{"a":' * 70 + b"1" + b"}" * 70), "JSON of more than 64 levels"),
        (sent(b"[" * 100_000 + b"]" * 100_000, status=400), "JSON of more than 64 levels"),
        (sent(b"x", content_encoding="br"), "packs its reply as 'br'"),
        (sent(b"no gzip", content_encoding="gzip"), "cannot be unpacked"),
        (sent(b"", status=307, location="http://elsewhere/v1"), "points to another address (307: 'http://elsewhere/v1')"),
        (sent(b'{"error": "\\ud800\\u001b[2J sk-secret"}', status=400), "refused the request (400): [2J ***"),
        (sent(b"[" + b"9" * 5000 + b"]"), None),
        (sent(b"[" * 60 + b"]" * 60), None),
    ],
    ids=["deep", "deep enough", "deep error", "brotli", "broken gzip", "redirect", "control characters", "long number",
         "not too deep"],
)  # fmt: skip
def test_what_no_server_should_send(serve: Callable[[Answer], str], answer: Answer, reason: str | None) -> None:
    url = serve(answer)
    if reason is None:
        assert ask(url)
        return
    with pytest.raises(JudgeError) as caught:
        ask(url)
    assert reason in str(caught.value) and str(caught.value).isprintable() and "secret" not in str(caught.value)


def test_this_machine_is_asked_without_a_proxy(serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ask(serve(sent(b"[1]"))) == [1]
    with pytest.raises(JudgeError, match="gave nothing in one try"):
        ask("http://burnish.invalid")


def test_an_address_holds_no_password_and_a_key_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^judge\.url holds a password") as caught:
        http.address("https://me:secret@example.com/v1", "judge.url")
    assert "secret" not in str(caught.value)
    assert http.address(" https://example.com/v1/ ", "judge.url") == "https://example.com/v1"
    monkeypatch.setenv("A_KEY", " sk-1\n")
    assert http.key_of("A_KEY") == "sk-1" and http.key_of("") == http.key_of("NO_SUCH_KEY") == ""
    for value in ("sk-1\nhost: x", "schlüssel"):
        monkeypatch.setenv("A_KEY", value)
        with pytest.raises(ConfigError, match="A_KEY is no key") as refused:
            http.key_of("A_KEY")
        assert value not in str(refused.value)
