"""The server: OpenAI's endpoints over a sampler. Streamed is the same as whole, and nothing a client does ends it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from burnish.answers import http
from burnish.answers.sampler import Decoding, Prompt, remote
from burnish.answers.serving.routes import app
from burnish.data.render import Renderer
from burnish.errors import ModelError
from tests.answers.sampler.world import Fake, Live, live
from tests.zoo import tokenizer

RENDERER = Renderer(tokenizer("chatml"))
VOCABULARY = len(RENDERER.tokenizer)
PROMPT = [int(token) for token in RENDERER.tokenizer("the quick brown fox")["input_ids"]]


@pytest.fixture
def served() -> Iterator[tuple[Fake, Live]]:
    fake = Fake(VOCABULARY)
    with live(app(fake, RENDERER, "fake", longest=100)) as server:
        yield fake, server


def ask(server: Live, path: str, body: Any, status: int = 200) -> Any:
    reply = httpx.post(server.url + path, json=body, timeout=20)
    assert reply.status_code == status, reply.text
    return reply.json()


def refused(server: Live, path: str, body: Any, status: int = 400) -> dict[str, Any]:
    error = ask(server, path, body, status)["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"] and "\n" not in error["message"]
    return dict(error)


def stream(server: Live, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The pieces, having seen [DONE] behind them."""
    with httpx.stream("POST", server.url + path, json={**body, "stream": True}, timeout=20) as reply:
        assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_health_and_models(served: tuple[Fake, Live]) -> None:
    _, server = served
    assert httpx.get(server.url + "/health").json() == {"status": "ok"}
    (card,) = httpx.get(server.url + "/v1/models").json()["data"]
    assert (card["id"], card["object"], card["owned_by"]) == ("fake", "model", "burnish")
    assert httpx.get(server.url + "/v1/models/fake").json() == card
    assert httpx.get(server.url + "/v1/models/other").status_code == 404
    assert httpx.get(server.url + "/nothing").json()["error"]["message"] == "there is no /nothing here"
    assert httpx.get(server.url + "/v1/completions").status_code == 405


def test_a_completion_is_what_the_sampler_drew(served: tuple[Fake, Live]) -> None:
    fake, server = served
    body = {"model": "fake", "prompt": PROMPT, "n": 3, "max_tokens": 9, "seed": 5, "logprobs": 1, "top_k": 40,
            "temperature": 0.8, "return_token_ids": True, "user": "me", "frequency_penalty": 0}  # fmt: skip
    told = ask(server, "/v1/completions", body)
    (wanted,) = fake([Prompt("5/0", tuple(PROMPT))], 3, Decoding(9, 0.8, 1.0, 40), (0, 0))
    assert told["object"] == "text_completion" and told["model"] == "fake" and told["id"].startswith("cmpl-")
    for i, (choice, one) in enumerate(zip(told["choices"], wanted, strict=True)):
        assert choice["index"] == i and choice["finish_reason"] == one.finish
        assert tuple(choice["token_ids"]) == one.ids and choice["prompt_token_ids"] == PROMPT
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(one.logps, abs=1e-12)
        assert choice["logprobs"]["tokens"] == [RENDERER.tokenizer.decode([token]) for token in one.ids]
        ids = [token for token in one.ids if token not in RENDERER.terminal]
        assert choice["text"] == RENDERER.tokenizer.decode(ids).rstrip("\ufffd")
    count = sum(len(one.ids) for one in wanted)
    assert told["usage"] == {
        "prompt_tokens": len(PROMPT), "completion_tokens": count, "total_tokens": count + len(PROMPT)
    }  # fmt: skip


def test_every_form_of_prompt(served: tuple[Fake, Live]) -> None:
    _, server = served
    base = {"max_tokens": 4, "seed": 1, "return_token_ids": True}
    text = "the quick brown fox"
    one = ask(server, "/v1/completions", {**base, "prompt": text})["choices"]
    assert one == ask(server, "/v1/completions", {**base, "prompt": PROMPT})["choices"]
    two = ask(server, "/v1/completions", {**base, "prompt": [text, "assistant"], "n": 2})["choices"]
    assert [choice["index"] for choice in two] == [0, 1, 2, 3]
    assert two[0]["text"] == one[0]["text"] and two[0]["prompt_token_ids"] == two[1]["prompt_token_ids"] == PROMPT
    ids = [PROMPT, two[2]["prompt_token_ids"]]
    assert ask(server, "/v1/completions", {**base, "prompt": ids, "n": 2})["choices"] == two


def test_a_chat_goes_through_the_template(served: tuple[Fake, Live]) -> None:
    fake, server = served
    messages = [
        {"role": "system", "content": "be <|im_end|> brief"},
        {"role": "user", "content": [{"type": "text", "text": "hello "}, {"type": "text", "text": "there"}]},
    ]
    body = {"messages": messages, "max_completion_tokens": 6, "seed": 2, "logprobs": True, "return_token_ids": True}
    told = ask(server, "/v1/chat/completions", body)
    (choice,) = told["choices"]
    head = RENDERER.tokenizer.decode(choice["prompt_token_ids"])
    assert head == ("<|im_start|>system\nbe <|im_end|> brief<|im_end|>\n<|im_start|>user\nhello there<|im_end|>\n"
                    "<|im_start|>assistant\n")  # fmt: skip
    end = RENDERER.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert choice["prompt_token_ids"].count(end) == 2, "what people write is text"
    (wanted,) = fake([Prompt("2/0", tuple(choice["prompt_token_ids"]))], 1, Decoding(6), (0, 0))
    assert choice["message"]["role"] == "assistant"
    assert [one["logprob"] for one in choice["logprobs"]["content"]] == pytest.approx(wanted[0].logps, abs=1e-12)
    assert told["object"] == "chat.completion" and told["usage"]["completion_tokens"] == len(wanted[0].ids)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("detailed", [True, False])
@pytest.mark.parametrize("stop", [[], [" the", "e", "ick"]])
def test_streamed_is_the_same_as_whole(told: bool, detailed: bool, stop: list[str]) -> None:
    fake = Fake(VOCABULARY, told=told)
    base = {"n": 3, "max_tokens": 40, "seed": 11, "return_token_ids": detailed, "stop": stop}
    with live(app(fake, RENDERER, "fake")) as server:
        for path, body in (
            ("/v1/completions", {**base, "prompt": ["assistant", "the"], "logprobs": 0 if detailed else None}),
            ("/v1/chat/completions", {**base, "messages": [{"role": "user", "content": "x"}], "logprobs": detailed}),
        ):
            whole = ask(server, path, body)
            pieces = stream(server, path, {**body, "stream_options": {"include_usage": True}})
            assert pieces.pop()["usage"] == whole["usage"]
            assert len({piece["id"] for piece in pieces}) == 1
            for choice in whole["choices"]:
                own = [one for piece in pieces for one in piece["choices"] if one["index"] == choice["index"]]
                assert [one["finish_reason"] for one in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
                if "message" in choice:
                    assert own[0]["delta"]["role"] == "assistant"
                    text, wanted = "".join(one["delta"]["content"] for one in own), choice["message"]["content"]
                else:
                    text, wanted = "".join(one["text"] for one in own), choice["text"]
                assert text == wanted and not any(word in text for word in stop)
                if detailed:
                    assert [t for one in own for t in one["token_ids"]] == choice["token_ids"]
                    key = "content" if "message" in choice else "token_logprobs"
                    assert [x for one in own for x in one["logprobs"][key]] == choice["logprobs"][key]


def test_stop_tokens_end_an_answer(served: tuple[Fake, Live]) -> None:
    _, server = served
    body = {"prompt": PROMPT, "max_tokens": 50, "seed": 3, "return_token_ids": True}
    ids = ask(server, "/v1/completions", body)["choices"][0]["token_ids"]
    (cut,) = ask(server, "/v1/completions", {**body, "stop_token_ids": [ids[4]]})["choices"]
    assert cut["token_ids"] == ids[: ids.index(ids[4]) + 1] and cut["finish_reason"] == "stop"


def test_a_stopped_answer_is_not_written_on() -> None:
    fake = Fake(VOCABULARY, terminal=-1, seconds=0.01)
    body = {"prompt": PROMPT, "max_tokens": 1000, "seed": 3, "stop_token_ids": list(range(3, VOCABULARY))}
    with live(app(fake, RENDERER, "fake")) as server:
        ask(server, "/v1/completions", body)
        time.sleep(0.1)
        steps = fake.steps
        time.sleep(0.1)
        assert fake.steps == steps < 50


def test_without_a_seed_every_request_draws_anew(served: tuple[Fake, Live]) -> None:
    _, server = served
    texts = {ask(server, "/v1/completions", {"prompt": PROMPT, "max_tokens": 20})["choices"][0]["text"]
             for _ in range(3)}  # fmt: skip
    assert len(texts) == 3


BAD: list[tuple[str, dict[str, Any], str | None]] = [
    ("/v1/completions", {}, "prompt"),
    ("/v1/completions", {"prompt": []}, "prompt"),
    ("/v1/completions", {"prompt": ""}, "prompt"),
    ("/v1/completions", {"prompt": [1, "a"]}, "prompt"),
    ("/v1/completions", {"prompt": [[1], []]}, "prompt"),
    ("/v1/completions", {"prompt": [-1]}, "prompt"),
    ("/v1/completions", {"prompt": [VOCABULARY]}, "prompt"),
    ("/v1/completions", {"prompt": [True]}, "prompt"),
    ("/v1/completions", {"prompt": ["a"] * 1000}, "prompt"),
    ("/v1/completions", {"prompt": PROMPT, "max_tokens": 100}, "prompt"),
    ("/v1/completions", {"prompt": PROMPT, "max_tokens": 0}, "max_tokens"),
    ("/v1/completions", {"prompt": PROMPT, "n": 0}, "n"),
    ("/v1/completions", {"prompt": PROMPT, "n": 1000}, "n"),
    ("/v1/completions", {"prompt": PROMPT, "n": "2"}, "n"),
    ("/v1/completions", {"prompt": PROMPT, "temperature": -1}, "temperature"),
    ("/v1/completions", {"prompt": PROMPT, "top_p": 0}, "top_p"),
    ("/v1/completions", {"prompt": PROMPT, "top_k": -2}, "top_k"),
    ("/v1/completions", {"prompt": PROMPT, "logprobs": 2}, "logprobs"),
    ("/v1/completions", {"prompt": PROMPT, "echo": True}, "echo"),
    ("/v1/completions", {"prompt": PROMPT, "stop": [""]}, "stop"),
    ("/v1/completions", {"prompt": PROMPT, "frequency_penalty": 0.5}, "frequency_penalty"),
    ("/v1/completions", {"prompt": PROMPT, "wibble": 1}, "wibble"),
    ("/v1/completions", {"prompt": PROMPT, "messages": []}, "messages"),
    ("/v1/chat/completions", {}, "messages"),
    ("/v1/chat/completions", {"messages": []}, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "user"}]}, "messages"),
    ("/v1/chat/completions", {"messages": ["hi"]}, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "logprobs": 1}, "logprobs"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}, "top_logprobs"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": [{}]}, "tools"),
    ("/reload", {"path": "/"}, None),
]


def test_bad_requests_are_refused_in_openai_format(served: tuple[Fake, Live]) -> None:
    fake, server = served
    for path, body, param in BAD:
        error = refused(server, path, body, 404 if path == "/reload" else 400)
        assert error["param"] == param, (body, error)
    assert refused(server, "/v1/completions", {"prompt": "x", "model": "gpt"}, 404)["code"] == "model_not_found"
    for content in (b"", b"{", b"[]", b"nonsense", b'{"prompt": "\\ud800"}', b'{"a":' * 100_000):
        reply = httpx.post(server.url + "/v1/completions", content=content)
        assert reply.status_code == 400 and reply.json()["error"]["type"] == "invalid_request_error"
    assert not fake.calls
    assert ask(server, "/v1/completions", {"prompt": PROMPT, "temperature": 0, "top_k": -1, "best_of": 1, "stop": None})


def test_a_template_that_refuses_is_a_sentence() -> None:
    renderer = Renderer(tokenizer("plain"))
    with live(app(Fake(len(renderer.tokenizer)), renderer, "fake")) as server:
        error = refused(server, "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]})
        assert "no chat template" in error["message"]


def test_a_key_is_asked_for() -> None:
    with live(app(Fake(VOCABULARY), RENDERER, "fake", key="right")) as server:
        assert refused(server, "/v1/completions", {"prompt": "x"}, 401)["code"] == "invalid_api_key"
        assert httpx.get(server.url + "/health").status_code == 200
        assert httpx.get(server.url + "/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(server.url + "/v1/models", headers={"Authorization": "Bearer right"}).status_code == 200


def test_requests_that_arrive_together_share_a_call() -> None:
    fake = Fake(VOCABULARY, seconds=0.005)
    with live(app(fake, RENDERER, "fake")) as server:
        found: dict[int, Any] = {}

        def one(number: int) -> None:
            temperature = 1.0 if number % 2 else 0.5
            body = {"prompt": [number + 1], "max_tokens": 8, "seed": number, "temperature": temperature}
            found[number] = ask(server, "/v1/completions", {**body, "return_token_ids": True})["choices"][0]

        threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(fake.calls) < 12 and sum(len(prompts) for prompts, _, _ in fake.calls) == 12
    for number in range(12):
        decoding = Decoding(8, 1.0 if number % 2 else 0.5)
        ((wanted,),) = Fake(VOCABULARY)([Prompt(f"{number}/0", (number + 1,))], 1, decoding, (0, 0))
        assert tuple(found[number]["token_ids"]) == wanted.ids, "whatever else stands in the batch"


def test_a_full_queue_gives_503_and_the_client_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(VOCABULARY, seconds=0.01)
    seen = []
    with live(app(fake, RENDERER, "fake", most_waiting=2, most_together=1)) as server:
        body = {"prompt": PROMPT, "max_tokens": 20}

        def one() -> None:
            seen.append(httpx.post(server.url + "/v1/completions", json=body))

        threads = [threading.Thread(target=one) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        full = [reply for reply in seen if reply.status_code == 503]
        assert full and {reply.status_code for reply in seen} == {200, 503}
        assert all(reply.headers["retry-after"] == "1" for reply in full)
        assert full[0].json()["error"]["message"].startswith("too many requests wait")
        monkeypatch.setattr(http, "FIRST_PAUSE", 0.02)
        monkeypatch.setattr(http, "LONGEST_PAUSE", 0.02)
        fake.seconds = 0.002
        prompts = [Prompt(str(i), (i + 1,)) for i in range(12)]
        found = remote.Sampler(server.url, concurrency=6, retries=1000)(prompts, 1, Decoding(4), (0, 0))
        assert len(found) == 12


@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_that_leaves_ends_its_answer_only(streaming: bool) -> None:
    fake = Fake(VOCABULARY, terminal=-1, seconds=0.01)
    body = {"prompt": PROMPT, "max_tokens": 5000, "stream": streaming}
    with live(app(fake, RENDERER, "fake")) as server:
        if streaming:
            with httpx.stream("POST", server.url + "/v1/completions", json=body) as reply:
                next(reply.iter_lines())
        else:
            with pytest.raises(httpx.TimeoutException):
                httpx.post(server.url + "/v1/completions", json=body, timeout=0.2)
        time.sleep(0.9)
        steps = fake.steps
        time.sleep(0.1)
        assert fake.steps == steps < 500, "nobody waits for the rest"
        assert ask(server, "/v1/completions", {"prompt": PROMPT, "max_tokens": 2})


def test_a_sampler_that_fails_does_not_end_the_server(served: tuple[Fake, Live]) -> None:
    fake, server = served
    fake.fails = True
    error = refused(server, "/v1/completions", {"prompt": PROMPT}, 500)
    assert error["message"] == "the sampler failed: RuntimeError: out of cheese"
    (piece,) = stream(server, "/v1/completions", {"prompt": PROMPT})
    assert "out of cheese" in piece["error"]["message"]
    fake.fails = False
    assert ask(server, "/v1/completions", {"prompt": PROMPT})["choices"]


def test_weights_are_read_between_two_calls(tmp_path: Path) -> None:
    fake = Fake(VOCABULARY, seconds=0.01, terminal=-1)

    def reload(folder: Path) -> None:
        if folder.name == "foreign":
            raise ModelError("another model")
        fake.weights = folder.name

    for name in ("new", "foreign"):
        (tmp_path / name).mkdir()
    with live(app(fake, RENDERER, "fake", reload=reload)) as server:
        body = {"prompt": PROMPT, "max_tokens": 20, "seed": 1}
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(ask(server, "/v1/completions", body)))
        thread.start()
        time.sleep(0.05)
        assert ask(server, "/reload", {"path": str(tmp_path / "new")})["status"] == "ok"
        thread.join()
        after = ask(server, "/v1/completions", body)["choices"]
        fake.weights = ""
        assert found[0]["choices"] == ask(server, "/v1/completions", body)["choices"] != after
        assert refused(server, "/reload", {"path": str(tmp_path / "foreign")})["message"] == "another model"
        assert "no folder" in refused(server, "/reload", {"path": str(tmp_path / "none")})["message"]
        refused(server, "/reload", {"folder": "x"})


def test_a_log_prob_that_cannot_be_is_a_failure() -> None:
    class Silly(Fake):
        def draw(self, u: float, decoding: Decoding) -> tuple[int, float]:
            return 5, float("nan")

    with live(app(Silly(VOCABULARY), RENDERER, "fake")) as server:
        assert "log-prob nan" in refused(server, "/v1/completions", {"prompt": PROMPT}, 500)["message"]
