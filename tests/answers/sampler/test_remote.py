"""The client: gives back exactly what the server drew, survives what passes, refuses what cannot be trained on."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from burnish.answers import http
from burnish.answers.sampler import Decoding, Sampled, Sampler
from burnish.answers.sampler.process import ProcessSampler
from burnish.answers.sampler.remote import ServerSampler, Update, parse_completions, request_seed
from burnish.data.prompts import Prompt
from burnish.errors import ConfigError, JudgeError, StoreError
from tests.answers.sampler.server import Reply, ScriptedServer, completions, not_found, sampling, weights_taken
from tests.answers.sampler.world import Fake, engine_of, largest_difference, likeliest

PROMPTS = [Prompt(f"p{i}", tuple(range(5, 7 + i))) for i in range(4)]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(http, "LONGEST_PAUSE", 0.05)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(sampling(Fake()), key="secret") as server:
        yield server


def drawn(sampler: Sampler, prompt: Prompt, k: int, decoding: Decoding, seed: int, step: int) -> list[Sampled]:
    """The answers of the server's sampler to the request that the client derives."""
    (answers,) = sampler([Prompt(str(request_seed(seed, step, prompt.key)), prompt.ids)], k, decoding, 0, 0)
    return answers


@pytest.mark.parametrize("decoding", [Decoding(6), Decoding(40, 0.7, 1.0, 20)])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_client_gives_back_what_the_sampler_drew(
    server: ScriptedServer, decoding: Decoding, concurrency: int
) -> None:
    ask = ServerSampler(server.url + "/v1/", key="secret", concurrency=concurrency, terminal=frozenset({0}))
    answers = ask(PROMPTS, 3, decoding, 7, 2)
    assert ask.model == "served" and "secret" not in repr(ask)
    assert answers == [drawn(Fake(), prompt, 3, decoding, 7, 2) for prompt in PROMPTS]
    assert ask(PROMPTS[::-1], 3, decoding, 7, 2) == answers[::-1], "a function of the prompt, not of its place"
    assert ask(PROMPTS, 3, decoding, 7, 3) != answers and ask(PROMPTS, 3, decoding, 8, 2) != answers
    assert ask([], 3, decoding, 7, 2) == []


def test_log_probs_of_a_real_model_are_those_of_the_engine() -> None:
    engine = engine_of("llama")
    sampler = ProcessSampler(engine, frozenset({1, 5}), rows=8)
    with ScriptedServer(sampling(sampler, likeliest=partial(likeliest, engine))) as server:
        ask = ServerSampler(server.url, terminal=sampler.terminal)
        ask.check(Decoding(8, 0.8, 0.95, 50))
        answers = ask(PROMPTS, 2, Decoding(8), 1, 1)
    assert answers == [drawn(sampler, prompt, 2, Decoding(8), 1, 1) for prompt in PROMPTS]
    assert largest_difference(engine, PROMPTS, answers) < 1e-5


def test_the_key_must_be_right(server: ScriptedServer) -> None:
    with pytest.raises(JudgeError, match="does not accept the key") as caught:
        ServerSampler(server.url, key="wrong-key")(PROMPTS, 1, Decoding(2), 0, 0)
    assert "wrong-key" not in str(caught.value)


def test_inside_a_running_loop(server: ScriptedServer) -> None:
    async def notebook() -> Any:
        return ServerSampler(server.url, key="secret")(PROMPTS[:1], 1, Decoding(2), 0, 0)

    assert len(asyncio.run(notebook())[0]) == 1


def test_a_dead_server_is_a_sentence(server: ScriptedServer) -> None:
    ask = ServerSampler(server.url, "served", key="secret", retries=2)
    assert ask(PROMPTS, 1, Decoding(2), 0, 0)
    server.stop()
    with pytest.raises(JudgeError, match=r"gave nothing in 3 tries .* Is the server running") as caught:
        ask(PROMPTS, 1, Decoding(2), 0, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"source\.url"):
        ServerSampler(url)


def test_an_update_needs_weights() -> None:
    with pytest.raises(ConfigError, match="needs a folder"):
        ServerSampler("http://x", update="lora")
    ask = ServerSampler("http://x")
    ask.publish(3)
    assert ask.version == 3


def test_what_is_asked_for() -> None:
    with ScriptedServer(completions) as server:
        ServerSampler(server.url, terminal=frozenset({9, 1}))(PROMPTS[:1], 2, Decoding(2, 0.5, 0.9, 7), 1, 2)
    path, body = server.requests[-1]
    assert path == "/v1/completions" and 0 <= body.pop("seed") < 2**48
    assert body == {
        "model": "first", "prompt": [5, 6], "n": 2, "max_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 7,
        "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logprobs": 0,
        "return_token_ids": True, "return_tokens_as_token_ids": True, "stream": False, "stop_token_ids": [1, 9],
    }  # fmt: skip


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(status: int) -> None:
    def reply(number: int, path: str, given: dict[str, Any]) -> Any:
        busy = Reply(status, "busy", {"Retry-After": "0.01"})
        return busy if number in (1, 2) else completions(number, path, given)

    with ScriptedServer(reply) as server:
        answers = ServerSampler(server.url, "m", retries=2)(PROMPTS[:1], 2, Decoding(2), 0, 0)
        assert len(server.requests) == 3
        assert [answer.ids for answer in answers[0]] == [(5, 6)] * 2
        server.requests.clear()
        with pytest.raises(JudgeError, match=rf"gave nothing in 2 tries.*{status}: busy"):
            ServerSampler(server.url, "m", retries=1)(PROMPTS[:1], 2, Decoding(2), 0, 0)


def test_a_time_out_is_tried_again_and_told() -> None:
    with (
        ScriptedServer(completions, wait=0.4) as server,
        pytest.raises(JudgeError, match=r"2 tries .no answer in 0.1 s"),
    ):
        ServerSampler(server.url, "m", seconds=0.1, retries=1)(PROMPTS[:1], 1, Decoding(2), 0, 0)


def test_what_is_wrong_is_not_tried_again() -> None:
    with (
        ScriptedServer(lambda *_: Reply(400, {"error": {"message": "too long"}})) as server,
        pytest.raises(JudgeError, match=r"refused the request \(400\): too long"),
    ):
        ServerSampler(server.url, "m")(PROMPTS[:1], 1, Decoding(2), 0, 0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("concurrency", [1, 4])
def test_requests_in_flight_are_bounded(concurrency: int) -> None:
    prompts = [Prompt(str(i), (i + 1,)) for i in range(20)]
    with ScriptedServer(completions, wait=0.02) as server:
        answers = ServerSampler(server.url, "m", concurrency=concurrency)(prompts, 1, Decoding(2), 0, 0)
    assert len(answers) == 20 and server.most == concurrency


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
    reply = completions(0, "/v1/completions", {"n": 1, "prompt": [5, 6]}, **changed)
    with pytest.raises(JudgeError, match=message):
        parse_completions(reply, (5, 6), 1, 2, frozenset({9}))


def test_not_a_number_and_rounding() -> None:
    for value, fine in ((math.nan, False), (-math.inf, False), (1e-7, True)):
        reply = completions(0, "", {"n": 1, "prompt": [5]}, logprobs={"token_logprobs": [value, -1.0]})
        if fine:
            assert parse_completions(reply, (5,), 1, 2)[0].logps == (0.0, -1.0)
        else:
            with pytest.raises(JudgeError, match="log-prob"):
                parse_completions(reply, (5,), 1, 2)


def test_ids_may_be_written_as_tokens() -> None:
    reply = completions(0, "", {"n": 1, "prompt": [5]}, token_ids=None)
    assert parse_completions(reply, (5,), 1, 2)[0].ids == (5, 6)


@pytest.mark.parametrize("raw", [False, True])
def test_log_probs_before_temperature_are_refused(raw: bool) -> None:
    fake = Fake(raw=raw)
    with ScriptedServer(sampling(fake, likeliest=fake.likeliest)) as server:
        ask = ServerSampler(server.url)
        ask.check(Decoding(8))  # plain: both are the same
        for decoding in (Decoding(8, 0.7), Decoding(8, 1.0, 0.9), Decoding(8, 1.0, 1.0, 5)):
            if raw:
                with pytest.raises(JudgeError, match="--logprobs-mode processed_logprobs"):
                    ask.check(decoding)
            else:
                ask.check(decoding)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("gap", [0.5, 7.0, 30.0])  # nats between two tokens that hold all the mass of the model itself
def test_a_model_that_is_sure_does_not_hide_raw_log_probs(raw: bool, gap: float) -> None:
    def reply(number: int, path: str, given: dict[str, Any]) -> Any:
        if path == "/v1/models" or given["top_k"] != 2:
            return completions(number, path, given, token_ids=[5], logprobs={"token_logprobs": [0.0]})
        distance = gap if raw else gap / given["temperature"]
        first = -math.log1p(math.exp(-distance))
        top = {"token_id:6": first - distance, "token_id:5": first}
        return completions(
            number, path, given, token_ids=[5], logprobs={"token_logprobs": [first], "top_logprobs": [top]}
        )

    with ScriptedServer(reply) as server:
        ask = ServerSampler(server.url, "m")
        if raw:
            with pytest.raises(JudgeError, match="processed_logprobs"):
                ask.check(Decoding(8, 0.7), (5, 6))
        else:
            ask.check(Decoding(8, 0.7), (5, 6))


def test_the_check_asks_for_nothing_that_vllm_refuses() -> None:
    """Temperatures up to 2; a run's own beyond that is refused before it trains."""
    fake = Fake()
    script = sampling(fake, likeliest=fake.likeliest)

    def reply(number: int, path: str, given: dict[str, Any]) -> Any:
        hot = Reply(400, {"error": {"message": "temperature must be at most 2"}})
        return hot if given.get("temperature", 0) > 2 else script(number, path, given)

    with ScriptedServer(reply) as server:
        ServerSampler(server.url).check(Decoding(8, 2.0))
        with pytest.raises(JudgeError, match=r"refused the request \(400\): temperature must be at most 2"):
            ServerSampler(server.url).check(Decoding(8, 2.5))


def test_a_server_without_the_likeliest_log_probs_is_refused() -> None:
    with ScriptedServer(sampling(Fake())) as server, pytest.raises(JudgeError, match="two likeliest tokens"):
        ServerSampler(server.url).check(Decoding(8, 0.7))


def weights(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_text(text)

    return write


def test_weights_go_round(tmp_path: Path) -> None:
    fake = Fake()

    def reload(folder: Path) -> None:
        fake.weights = (folder / "weights").read_text()

    with ScriptedServer(sampling(fake, reload)) as server:
        ask = ServerSampler(server.url, write=weights("new"), folder=tmp_path / "sent", update="reload")
        before = ask(PROMPTS, 2, Decoding(5), 0, 0)
        ask.publish(1)
        assert fake.weights == "new" and ask.version == 1
        after = ask(PROMPTS, 2, Decoding(5), 0, 0)
        assert after != before
        assert after[0] == drawn(fake, PROMPTS[0], 2, Decoding(5), 0, 0)
        ask.write = weights("newer")
        ask.publish(1)
        assert fake.weights == "new", "the same version is not sent twice"
        ask.publish(2)
        assert fake.weights == "newer"
        assert [folder.name for folder in (tmp_path / "sent").iterdir()] == ["version-2"]


def test_weights_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ask = ServerSampler("http://x", write=weights(""), folder=tmp_path / "file", update="reload")
    with pytest.raises(StoreError, match="cannot be written"):
        ask.publish(1)
    assert ask.version is None


def test_vllm_reads_a_folder(tmp_path: Path) -> None:
    with ScriptedServer(weights_taken) as server:
        ServerSampler(server.url, "m", write=weights(""), folder=tmp_path, update="reload").publish(4)
    assert server.paths() == ["/pause", "/collective_rpc", "/reset_prefix_cache", "/resume"]
    assert server.requests[0][1]["mode"] == "wait"
    folder = str((tmp_path / "version-4").resolve())
    assert server.requests[1][1] == {"method": "reload_weights", "kwargs": {"weights_path": folder}}


def test_vllm_resumes_when_reading_failed(tmp_path: Path) -> None:
    def reply(number: int, path: str, given: dict[str, Any]) -> Any:
        return Reply(500, "no such key") if path == "/collective_rpc" else weights_taken(number, path, given)

    with ScriptedServer(reply) as server:
        ask = ServerSampler(server.url, "m", write=weights(""), folder=tmp_path, update="reload")
        with pytest.raises(JudgeError, match=r"500.*no such key"):
            ask.publish(4)
    assert server.paths() == ["/pause", "/collective_rpc", "/resume"] and ask.version is None


def test_vllm_takes_adapters(tmp_path: Path) -> None:
    with ScriptedServer(weights_taken) as server:
        ask = ServerSampler(server.url, "base", write=weights(""), folder=tmp_path, update="lora")
        for version in (1, 2):
            ask.publish(version)
            ask(PROMPTS[:1], 1, Decoding(2), 0, 0)
    loaded = [given["lora_name"] for path, given in server.requests if path == "/v1/load_lora_adapter"]
    assert server.paths() == [
        "/v1/load_lora_adapter", "/v1/completions", "/v1/load_lora_adapter", "/v1/unload_lora_adapter",
        "/v1/completions",
    ]  # fmt: skip
    assert len(set(loaded)) == 2, "a name of its own for each version: nothing cached under it can be old"
    assert [given["model"] for path, given in server.requests if path == "/v1/completions"] == loaded
    assert server.requests[3][1] == {"lora_name": loaded[0]}


@pytest.mark.parametrize(("update", "message"), [("reload", "VLLM_SERVER_DEV_MODE"), ("lora", "--enable-lora")])
def test_a_server_that_takes_no_weights_is_named(update: Update, message: str, tmp_path: Path) -> None:
    with ScriptedServer(not_found) as server, pytest.raises(JudgeError, match=message):
        ServerSampler(server.url, "m", write=weights(""), folder=tmp_path, update=update).publish(0)


def test_one_failure_ends_the_call_at_once() -> None:
    def reply(number: int, path: str, given: dict[str, Any]) -> Any:
        return Reply(400, {"message": "no"}) if given["prompt"] == [3] else completions(number, path, given)

    prompts = [Prompt(str(i), (i + 1,)) for i in range(40)]
    before = threading.active_count()
    with ScriptedServer(reply, wait=0.05) as server, pytest.raises(JudgeError, match="no"):
        ServerSampler(server.url, "m", concurrency=2)(prompts, 1, Decoding(2), 0, 0)
    assert len(server.requests) < 10 and threading.active_count() <= before
