"""What `burnish serve` is made of: text that comes in whole characters, the verb, and a real model behind it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.answers import serving
from burnish.answers.sampler import Decoding, Prompt, remote
from burnish.answers.serving.routes import app
from burnish.answers.serving.writing import Manner, Writer
from burnish.cli import serve
from burnish.data.render import Renderer
from burnish.errors import ConfigError, ModelError
from tests.answers.sampler.world import Fake, live
from tests.zoo import save_model_dir, tokenizer

TOKENIZER = tokenizer("chatml")
VOCABULARY = len(TOKENIZER)
PROMPT = [int(token) for token in TOKENIZER("the quick brown fox")["input_ids"]]

WRITTEN = "the naïve café ✓ 🦊 — ünïcode 12"


@pytest.mark.parametrize("kind", ["chatml", "llama2"])
def test_text_comes_in_whole_characters(kind: str) -> None:
    made = tokenizer(kind)
    ids = made(WRITTEN, add_special_tokens=False)["input_ids"]
    for stops in ((), ("🦊 — ü",), ("nowhere",)):
        writer = Writer(Manner(made, len(ids), stops=stops))
        pieces = [writer.add(token, -1.0) for token in ids]
        assert "".join(pieces) == (WRITTEN.split(stops[0])[0] if stops else WRITTEN)
        assert not any("\ufffd" in piece for piece in pieces) and len([p for p in pieces if p]) > 3
    goes_on = Writer(Manner(made, 9), made("so the", add_special_tokens=False)["input_ids"])
    answer = made("so the answer", add_special_tokens=False)["input_ids"]
    start = len(made("so the", add_special_tokens=False)["input_ids"])
    assert "".join(goes_on.add(token, -1.0) for token in answer[start:]) + goes_on.end("stop") == " answer"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=25), st.lists(st.text("aeht q", min_size=1), max_size=2))
def test_pieces_are_the_text_of_all_tokens_cut_at_the_first_stop(ids: list[int], stops: list[str]) -> None:
    writer = Writer(Manner(TOKENIZER, 25, stops=tuple(stops)))
    pieces = [writer.add(token, 0.0) for token in ids] + [writer.end("length")]
    whole = TOKENIZER.decode(ids).rstrip("\ufffd")
    cut = min((at for stop in stops if (at := whole.find(stop)) >= 0), default=len(whole))
    text = "".join(pieces)
    assert whole.startswith(text) and not any(stop in text for stop in stops)
    assert len(text) == cut or (writer.finish == "stop" and len(text) >= cut - max(map(len, stops)))
    assert writer.finish is not None and writer.add(5, 0.0) == ""


def test_a_bos_is_put_in_front_once() -> None:
    renderer = Renderer(tokenizer("plain_bos"))
    begin = renderer.tokenizer.bos_token_id
    with live(app(Fake(len(renderer.tokenizer)), renderer, "fake")) as server:
        for text in ("quick", "<s>quick"):
            body = {"prompt": text, "max_tokens": 1, "return_token_ids": True}
            told = httpx.post(server.url + "/v1/completions", json=body).json()
            ids = told["choices"][0]["prompt_token_ids"]
            assert ids.count(begin) == 1 and ids[0] == begin


def test_a_taken_port_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot be listened on"):
            serving.listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigError, match="cannot be listened on"):
        serving.listen("no such host", 0)


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(ConfigError, match=r"pip install burnish\[serve\]"):
        serving.need()


@pytest.mark.parametrize("module", ["sampler.remote", "serving", "serving.routes", "cli_serve"])
def test_no_torch(module: str) -> None:
    code = f"import sys, burnish.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_dir(tmp_path_factory.mktemp("served") / "tiny")


def test_a_real_model_answers_as_in_this_process(folder: Path) -> None:
    made = serve.in_process(str(folder), dtype="float32", rows=8)
    assert made.longest == 2048 and made.vocabulary == VOCABULARY
    prompts = [Prompt(str(i), tuple(PROMPT[: i + 1])) for i in range(3)]
    with live(app(made.sampler, made.renderer, "tiny", reload=made.reload)) as server:
        client = remote.Sampler(server.url, terminal=frozenset(made.renderer.terminal))
        client.check(Decoding(8, 0.8, 0.95, 50))
        found = client(prompts, 2, Decoding(8, 0.8, 0.95, 50), (1, 1))
        for prompt, answers in zip(prompts, found, strict=True):
            same = Prompt(f"{remote._seed((1, 1), prompt.id)}/0", prompt.ids)
            (wanted,) = made.sampler([same], 2, Decoding(8, 0.8, 0.95, 50), (0, 0))
            assert [one.ids for one in answers] == [one.ids for one in wanted]
            for one, other in zip(answers, wanted, strict=True):
                assert one.logps == pytest.approx(other.logps, abs=1e-4) and one.finish == other.finish


def test_a_real_model_reads_weights(folder: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    other = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        other.lm_head.weight.mul_(-1.0)
    shutil.copytree(folder, tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    made = serve.in_process(str(folder), dtype="float32")
    ask = ([Prompt("x", tuple(PROMPT))], 2, Decoding(6), (0, 0))
    before = made.sampler(*ask)
    made.reload(tmp_path / "other")
    after = made.sampler(*ask)
    assert after == serve.in_process(str(tmp_path / "other"), dtype="float32").sampler(*ask) != before
    with pytest.raises(ModelError, match="no config"):
        made.reload(tmp_path)
    made.reload(folder)
    assert made.sampler(*ask) == before


def test_the_verb_serves_until_it_is_interrupted(folder: Path) -> None:
    code = "import typer; from burnish import cli_serve; app = typer.Typer(); cli_serve.register(app); app()"
    command = [sys.executable, "-c", code, str(folder), "--port", "0", "--name", "mine"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as one:
        assert one.stdout is not None
        line = one.stdout.readline()
        assert line.startswith("mine is served at http://127.0.0.1:"), line
        found = remote.Sampler(line.split()[4])([Prompt("x", tuple(PROMPT))], 2, Decoding(4), (0, 0))
        assert len(found[0]) == 2
        long = {"prompt": PROMPT, "max_tokens": 2000, "n": 8, "stop_token_ids": []}
        with httpx.stream("POST", f"{line.split()[4]}/completions", json={**long, "stream": True}) as reply:
            lines = reply.iter_lines()
            next(lines)
            one.send_signal(signal.SIGINT)
            *_, error, done = [text for text in lines if text]
        assert "going down" in error and done == "data: [DONE]"
        assert one.wait(20) == 130
