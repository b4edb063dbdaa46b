"""A scripted HTTP server on loopback, and the script with which it speaks vLLM's part of the sampler's dialect."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from burnish.answers.sampler import Decoding, Sampler
from burnish.data.prompts import Prompt


@dataclass
class Reply:
    """What a request is answered with where it is not JSON with status 200."""

    status: int
    body: Any = ""  # text, or what becomes JSON
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[int, str, dict[str, Any]], Any]  # (number of the request from 1, path, query and body) -> the reply


class _Threads(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left is no error of the server."""


class ScriptedServer:
    """Answers as the script says, each request after `wait` seconds, within a `with`. `requests` are those that came,
    as (path, query and body), `most` how many were in flight at once. `key`: the bearer token that must come."""

    def __init__(self, script: Script, wait: float = 0.0, key: str = "") -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.in_flight = self.most = 0
        lock, scripted = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                given = {**dict(parse_qsl(url.query)), **(json.loads(body) if body else {})}
                with lock:
                    scripted.requests.append((url.path, given))
                    number = len(scripted.requests)
                    scripted.in_flight += 1
                    scripted.most = max(scripted.most, scripted.in_flight)
                time.sleep(wait)
                with lock:
                    scripted.in_flight -= 1
                if key and self.headers["authorization"] != f"Bearer {key}":
                    self.send(Reply(401, {"error": {"message": f"wrong key {self.headers['authorization']}"}}))
                    return
                reply = script(number, url.path, given)
                self.send(reply if isinstance(reply, Reply) else Reply(200, reply))

            do_GET = do_POST

            def send(self, reply: Reply) -> None:
                data = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
                self.send_response(reply.status)
                for name, value in {**reply.headers, "content-length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Silence."""

        self._server = _Threads(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def completions(number: int, path: str, given: dict[str, Any], **changed: Any) -> Any:
    """vLLM's form of a reply: n answers of two tokens, whatever is asked, with `changed` in each."""
    if path == "/v1/models":
        return {"data": [{"id": "first"}, {"id": "second"}]}
    choices = [
        {
            "index": i, "text": "", "finish_reason": "length", "token_ids": [5, 6], "prompt_token_ids": given["prompt"],
            "logprobs": {"tokens": ["token_id:5", "token_id:6"], "token_logprobs": [-1.0, -2.0]}, **changed,
        }
        for i in range(given["n"])
    ]  # fmt: skip
    return {"choices": choices[::-1]}


def weights_taken(number: int, path: str, given: dict[str, Any]) -> Any:
    """vLLM with all the switches that let it take weights while it runs."""
    if path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        return Reply(200, "Success")
    known = ("/pause", "/resume", "/collective_rpc", "/reset_prefix_cache")
    return {} if path in known else completions(number, path, given)


def not_found(number: int, path: str, given: dict[str, Any]) -> Any:
    """A server that knows no path."""
    return Reply(404, {"detail": "Not Found"})


Likeliest = Callable[[Sequence[int], Decoding], dict[int, float]]  # (text, how it goes on) -> log-probs of the next
Score = Callable[[Sequence[int]], Sequence[float]]  # the log-prob of every token but the first


def sampling(
    sampler: Sampler, reload: Callable[[Path], None] | None = None, likeliest: Likeliest | None = None,
    score: Score | None = None,
) -> Script:  # fmt: skip
    """vLLM around a sampler, whose prompt is named by the request's seed. `reload` reads the weights or
    the adapter in a folder, `likeliest` and `score` know the log-probs of tokens that were not drawn."""
    lock = threading.Lock()  # a sampler is called by one thread at a time

    def script(number: int, path: str, given: dict[str, Any]) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "served"}]}
        if path == "/collective_rpc" and reload is not None:
            reload(Path(given["kwargs"]["weights_path"]))
        if path == "/v1/load_lora_adapter" and reload is not None:
            reload(Path(given["lora_path"]))
        if path != "/v1/completions":
            return weights_taken(number, path, given)
        decoding = Decoding(given["max_tokens"], given["temperature"], given["top_p"], given["top_k"])
        with lock:
            (answers,) = sampler([Prompt(str(given["seed"]), tuple(given["prompt"]))], given["n"], decoding, 0, 0)
        likely: dict[str, Any] = {}
        prompt: dict[str, Any] = {}
        if given["logprobs"] and likeliest:
            top = likeliest(given["prompt"], decoding).items()
            likely["top_logprobs"] = [{f"token_id:{token}": logp for token, logp in top}]
        if "prompt_logprobs" in given and score:
            logps = zip(given["prompt"][1:], score(given["prompt"]), strict=True)
            prompt["prompt_logprobs"] = [None, *({str(token): {"logprob": logp}} for token, logp in logps)]
        choices = [
            {
                "index": i, "finish_reason": answer.finish, "token_ids": answer.ids,
                "prompt_token_ids": given["prompt"], "logprobs": {"token_logprobs": answer.logps, **likely}, **prompt,
            }
            for i, answer in enumerate(answers)
        ]  # fmt: skip
        return {"choices": choices}

    return script
