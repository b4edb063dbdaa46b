"""The client: gives back exactly what the server drew, survives what passes, refuses what cannot be trained on."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from burnish.answers import http
from burnish.answers.sampler import Decoding, Prompt, remote
from burnish.answers.serving.routes import app
from burnish.data.render import Renderer
from burnish.errors import ConfigError, JudgeError, StoreError
from tests.answers.sampler.world import Fake, Live, Scripted, live
from tests.zoo import tokenizer

PROMPTS = [Prompt(f"p{i}", tuple(range(5, 7 + i))) for i in range(4)]
RENDERER = Renderer(tokenizer("chatml"))
VOCABULARY = len(RENDERER.tokenizer)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(http, "LONGEST_PAUSE", 0.05)


@pytest.fixture
def served() -> Iterator[tuple[Fake, Live]]:
    fake = Fake(VOCABULARY)
    with live(app(fake, RENDERER, "fake", key="secret")) as server:
        yield fake, server


def drawn(fake: Fake, prompt: Prompt, k: int, decoding: Decoding, moment: tuple[int, int]) -> Any:
    """What the server's sampler gives for the seed that the client derives."""
    name = f"{remote._seed(moment, prompt.id)}/0"
    (found,) = fake([Prompt(name, prompt.ids)], k, decoding, (0, 0))
    return found


@pytest.mark.parametrize("decoding", [Decoding(6), Decoding(40, 0.7, 1.0, 20)])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_client_gives_back_what_the_sampler_drew(
    served: tuple[Fake, Live], decoding: Decoding, concurrency: int
) -> None:
    fake, server = served
    ask = remote.Sampler(server.url + "/v1/", key="secret", concurrency=concurrency, terminal=frozenset({0}))
    told: dict[tuple[int, int], list[tuple[int, float]]] = {}
    found = ask(PROMPTS, 3, decoding, (7, 2), lambda p, n, t, lp: told.setdefault((p, n), []).append((t, lp)))
    assert ask.model == "fake" and "secret" not in repr(ask)
    for i, prompt in enumerate(PROMPTS):
        wanted = drawn(fake, prompt, 3, decoding, (7, 2))
        assert [one.ids for one in found[i]] == [one.ids for one in wanted]
        assert [one.finish for one in found[i]] == [one.finish for one in wanted]
        for number, (one, other) in enumerate(zip(found[i], wanted, strict=True)):
            assert one.logps == pytest.approx(other.logps, abs=1e-6)
            assert told[i, number] == list(zip(one.ids, one.logps, strict=True))
    assert {one.finish for answers in found for one in answers} <= {"stop", "length"}
    assert ask(PROMPTS[::-1], 3, decoding, (7, 2)) == found[::-1], "a function of the prompt, not of its place"
    assert ask(PROMPTS, 3, decoding, (7, 3)) != found and ask(PROMPTS, 3, decoding, (8, 2)) != found
    assert ask([], 3, decoding, (7, 2)) == []


def test_the_key_must_be_right(served: tuple[Fake, Live]) -> None:
    with pytest.raises(JudgeError, match="does not accept the key") as caught:
        remote.Sampler(served[1].url, key="wrong-key")(PROMPTS, 1, Decoding(2), (0, 0))
    assert "wrong-key" not in str(caught.value)


def test_inside_a_running_loop(served: tuple[Fake, Live]) -> None:
    async def notebook() -> Any:
        return remote.Sampler(served[1].url, key="secret")(PROMPTS[:1], 1, Decoding(2), (0, 0))

    assert len(asyncio.run(notebook())[0]) == 1


def test_a_dead_server_is_a_sentence(served: tuple[Fake, Live]) -> None:
    ask = remote.Sampler(served[1].url, "fake", key="secret", retries=2)
    assert ask(PROMPTS, 1, Decoding(2), (0, 0))
    served[1].stop()
    with pytest.raises(JudgeError, match=r"gave nothing in 3 tries .* Is the server running") as caught:
        ask(PROMPTS, 1, Decoding(2), (0, 0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"source\.url"):
        remote.Sampler(url)


def test_an_update_needs_weights() -> None:
    with pytest.raises(ConfigError, match="needs a folder"):
        remote.Sampler("http://x", update="lora")
    ask = remote.Sampler("http://x")
    ask.publish(3)
    assert ask.version == 3


def good(_: int, path: str, given: dict[str, Any], **changed: Any) -> Any:
    """vLLM's form of a reply: n answers of two tokens."""
    if path == "/v1/models":
        return {"data": [{"id": "first"}, {"id": "second"}]}
    made = [
        {
            "index": i, "text": "", "finish_reason": "length", "token_ids": [5, 6], "prompt_token_ids": given["prompt"],
            "logprobs": {"tokens": ["token_id:5", "token_id:6"], "token_logprobs": [-1.0, -2.0]}, **changed,
        }
        for i in range(given["n"])
    ]  # fmt: skip
    return {"choices": made[::-1]}


def test_what_is_asked_for() -> None:
    script = Scripted(good)
    with live(script.app) as server:
        remote.Sampler(server.url, terminal=frozenset({9, 1}))(PROMPTS[:1], 2, Decoding(2, 0.5, 0.9, 7), (1, 2))
    path, body = script.asked[-1]
    assert path == "/v1/completions" and 0 <= body.pop("seed") < 2**48
    assert body == {
        "model": "first", "prompt": [5, 6], "n": 2, "max_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 7,
        "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logprobs": 0,
        "return_token_ids": True, "return_tokens_as_token_ids": True, "stream": False, "stop_token_ids": [1, 9],
    }  # fmt: skip


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(status: int) -> None:
    def reply(number: int, path: str, given: dict[str, Any]) -> Any:
        busy = Response("busy", status, headers={"Retry-After": "0.01"})
        return busy if number in (1, 2) else good(number, path, given)

    script = Scripted(reply)
    with live(script.app) as server:
        found = remote.Sampler(server.url, "m", retries=2)(PROMPTS[:1], 2, Decoding(2), (0, 0))
        assert len(script.asked) == 3
        assert [one.ids for one in found[0]] == [(5, 6)] * 2
        script.asked.clear()
        with pytest.raises(JudgeError, match=rf"gave nothing in 2 tries.*{status}: busy"):
            remote.Sampler(server.url, "m", retries=1)(PROMPTS[:1], 2, Decoding(2), (0, 0))


def test_a_time_out_is_tried_again_and_told() -> None:
    script = Scripted(good, wait=0.4)
    with live(script.app) as server, pytest.raises(JudgeError, match=r"2 tries .no answer in time"):
        remote.Sampler(server.url, "m", seconds=0.1, retries=1)(PROMPTS[:1], 1, Decoding(2), (0, 0))


def test_what_is_wrong_is_not_tried_again() -> None:
    script = Scripted(lambda *_: JSONResponse({"error": {"message": "too long"}}, 400))
    with live(script.app) as server, pytest.raises(JudgeError, match=r"refused the request \(400\): too long"):
        remote.Sampler(server.url, "m")(PROMPTS[:1], 1, Decoding(2), (0, 0))
    assert len(script.asked) == 1


@pytest.mark.parametrize("concurrency", [1, 4])
def test_requests_in_flight_are_bounded(concurrency: int) -> None:
    script = Scripted(good, wait=0.02)
    prompts = [Prompt(str(i), (i + 1,)) for i in range(20)]
    with live(script.app) as server:
        found = remote.Sampler(server.url, "m", concurrency=concurrency)(prompts, 1, Decoding(2), (0, 0))
    assert len(found) == 20 and script.most == concurrency


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no ids": ({"token_ids": None, "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-1, -1]}}, "token ids"),
    "nothing": ({"token_ids": None, "logprobs": None}, "token ids"),
    "no logprobs": ({"logprobs": None}, "without log-probs"),
    "lengths": ({"logprobs": {"token_logprobs": [-1.0]}}, "2 tokens and 1 log-probs"),
    "too many": ({"token_ids": [5, 6, 7], "logprobs": {"token_logprobs": [-1.0] * 3}}, "1 to 2 tokens"),
    "none": ({"token_ids": [], "logprobs": {"token_logprobs": []}}, "0 tokens"),
    "positive": ({"logprobs": {"token_logprobs": [-1.0, 0.5]}}, "log-prob 0.5"),
    "never": ({"logprobs": {"token_logprobs": [-1.0, -9999.0]}}, "log-prob -9999"),
    "null": ({"logprobs": {"token_logprobs": [None, -1.0]}}, "log-prob None"),
    "aborted": ({"finish_reason": "abort"}, "'abort'"),
    "prompt": ({"prompt_token_ids": [0, 5, 6]}, "became other ones"),
    "ids": ({"token_ids": [5, -6]}, "no list of ids"),
    "number": ({"index": 1}, "not numbered"),
    "behind the end": ({"token_ids": [9, 6]}, "goes on behind"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_trained_on_is_refused(case: str) -> None:
    changed, message = BROKEN[case]
    told = good(0, "/v1/completions", {"n": 1, "prompt": [5, 6]}, **changed)
    with pytest.raises(JudgeError, match=message):
        remote.answers(told, (5, 6), 1, 2, frozenset({9}))


def test_not_a_number_and_rounding() -> None:
    for value, fine in ((math.nan, False), (-math.inf, False), (1e-7, True)):
        told = good(0, "", {"n": 1, "prompt": [5]}, logprobs={"token_logprobs": [value, -1.0]})
        if fine:
            assert remote.answers(told, (5,), 1, 2)[0].logps == (0.0, -1.0)
        else:
            with pytest.raises(JudgeError, match="log-prob"):
                remote.answers(told, (5,), 1, 2)


def test_ids_may_be_written_as_tokens() -> None:
    told = good(0, "", {"n": 1, "prompt": [5]}, token_ids=None)
    assert remote.answers(told, (5,), 1, 2)[0].ids == (5, 6)


@pytest.mark.parametrize("raw", [False, True])
def test_log_probs_before_temperature_are_refused(raw: bool) -> None:
    with live(app(Fake(VOCABULARY, raw=raw), RENDERER, "fake")) as server:
        ask = remote.Sampler(server.url)
        ask.check(Decoding(8))  # plain: both are the same
        for decoding in (Decoding(8, 0.7), Decoding(8, 1.0, 0.9), Decoding(8, 1.0, 1.0, 5)):
            if raw:
                with pytest.raises(JudgeError, match="--logprobs-mode processed_logprobs"):
                    ask.check(decoding)
            else:
                ask.check(decoding)


@pytest.mark.parametrize("sure", [0.0, -0.6931])
def test_a_model_that_is_sure_does_not_hide_raw_log_probs(sure: float) -> None:
    def reply(number: int, path: str, given: dict[str, Any]) -> Any:
        return good(number, path, given, token_ids=[5], logprobs={"token_logprobs": [sure]})

    with live(Scripted(reply).app) as server, pytest.raises(JudgeError, match="processed_logprobs"):
        remote.Sampler(server.url, "m").check(Decoding(8, 0.7), (5, 6))


def weights(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_text(text)

    return write


def test_weights_go_round(tmp_path: Path) -> None:
    fake = Fake(VOCABULARY)

    def reload(folder: Path) -> None:
        fake.weights = (folder / "weights").read_text()

    with live(app(fake, RENDERER, "fake", reload=reload)) as server:
        ask = remote.Sampler(server.url, write=weights("new"), folder=tmp_path / "sent", update="reload")
        before = ask(PROMPTS, 2, Decoding(5), (0, 0))
        ask.publish(1)
        assert fake.weights == "new" and ask.version == 1
        after = ask(PROMPTS, 2, Decoding(5), (0, 0))
        assert after != before
        assert after[0] == drawn(fake, PROMPTS[0], 2, Decoding(5), (0, 0))
        ask.write = weights("newer")
        ask.publish(1)
        assert fake.weights == "new", "the same version is not sent twice"
        ask.publish(2)
        assert fake.weights == "newer"
        assert [one.name for one in (tmp_path / "sent").iterdir()] == ["version-2"]


def test_weights_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ask = remote.Sampler("http://x", write=weights(""), folder=tmp_path / "file", update="reload")
    with pytest.raises(StoreError, match="cannot be written"):
        ask.publish(1)
    assert ask.version is None


def vllm(number: int, path: str, given: dict[str, Any]) -> Any:
    """The part of vLLM that takes weights."""
    known = ("/pause", "/resume", "/collective_rpc", "/reset_prefix_cache", "/v1/load_lora_adapter")
    if path in known or path == "/v1/unload_lora_adapter":
        return Response("Success") if path.startswith("/v1") else {}
    return JSONResponse({"detail": "Not Found"}, 404) if path == "/reload" else good(number, path, given)


def test_vllm_reads_a_folder(tmp_path: Path) -> None:
    script = Scripted(vllm)
    with live(script.app) as server:
        remote.Sampler(server.url, "m", write=weights(""), folder=tmp_path, update="reload").publish(4)
    assert script.paths() == ["/reload", "/pause", "/collective_rpc", "/reset_prefix_cache", "/resume"]
    assert script.asked[1][1]["mode"] == "wait"
    folder = str((tmp_path / "version-4").resolve())
    assert script.asked[2][1] == {"method": "reload_weights", "kwargs": {"weights_path": folder}}


def test_vllm_resumes_when_reading_failed(tmp_path: Path) -> None:
    def reply(number: int, path: str, given: dict[str, Any]) -> Any:
        return Response("no such key", 500) if path == "/collective_rpc" else vllm(number, path, given)

    script = Scripted(reply)
    with live(script.app) as server:
        ask = remote.Sampler(server.url, "m", write=weights(""), folder=tmp_path, update="reload")
        with pytest.raises(JudgeError, match=r"500.*no such key"):
            ask.publish(4)
    assert script.paths() == ["/reload", "/pause", "/collective_rpc", "/resume"] and ask.version is None


def test_vllm_takes_adapters(tmp_path: Path) -> None:
    script = Scripted(vllm)
    with live(script.app) as server:
        ask = remote.Sampler(server.url, "base", write=weights(""), folder=tmp_path, update="lora")
        for version in (1, 2):
            ask.publish(version)
            ask(PROMPTS[:1], 1, Decoding(2), (0, 0))
    loaded = [given["lora_name"] for path, given in script.asked if path == "/v1/load_lora_adapter"]
    assert script.paths() == [
        "/v1/load_lora_adapter", "/v1/completions", "/v1/load_lora_adapter", "/v1/unload_lora_adapter",
        "/v1/completions",
    ]  # fmt: skip
    assert len(set(loaded)) == 2, "a name of its own for each version: nothing cached under it can be old"
    assert [given["model"] for path, given in script.asked if path == "/v1/completions"] == loaded
    assert script.asked[3][1] == {"lora_name": loaded[0]}


@pytest.mark.parametrize(("update", "message"), [("reload", "VLLM_SERVER_DEV_MODE"), ("lora", "--enable-lora")])
def test_a_server_that_takes_no_weights_is_named(update: remote.Update, message: str, tmp_path: Path) -> None:
    script = Scripted(lambda *_: JSONResponse({"detail": "Not Found"}, 404))
    with live(script.app) as server, pytest.raises(JudgeError, match=message):
        remote.Sampler(server.url, "m", write=weights(""), folder=tmp_path, update=update).publish(0)


def test_one_failure_ends_the_call_at_once() -> None:
    def reply(number: int, path: str, given: dict[str, Any]) -> Any:
        return JSONResponse({"message": "no"}, 400) if given["prompt"] == [3] else good(number, path, given)

    script = Scripted(reply, wait=0.05)
    prompts = [Prompt(str(i), (i + 1,)) for i in range(40)]
    before = threading.active_count()
    with live(script.app) as server, pytest.raises(JudgeError, match="no"):
        remote.Sampler(server.url, "m", concurrency=2)(prompts, 1, Decoding(2), (0, 0))
    assert len(script.asked) < 10 and threading.active_count() <= before
