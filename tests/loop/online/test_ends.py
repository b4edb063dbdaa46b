"""Every token that a model's files name as an end ends an answer, with each sampler, as in transformers' `generate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from burnish.answers.sampler import Decoding
from burnish.answers.sampler.remote import ServerSampler
from burnish.config import ModelConfig, Run, load
from burnish.data.prompts import Prompt
from burnish.engine.loading import make_engine
from burnish.engine.model import load_policy
from burnish.engine.weights import ends
from burnish.loop.prepare import Prepared, prepare
from burnish.loop.samplers import sampler_of
from tests import zoo

SECOND = 9  # an ordinary token of the tokenizer that the model names as an end
PROMPTS = [Prompt(f"p{i}", tuple(range(5, 9 + i))) for i in range(3)]


def chatty(folder: Path, family: str) -> Path:
    """A model that often says SECOND, named in its generation_config.json beside the tokenizer's end."""
    zoo.save_model_dir(folder, family)
    model = AutoModelForCausalLM.from_pretrained(folder)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    with torch.no_grad():
        head.weight.copy_(embedding.weight * 0.02)
        head.weight[SECOND] *= 200
    model.generation_config.eos_token_id = [zoo.tokenizer("chatml").eos_token_id, SECOND]
    model.save_pretrained(folder)
    return folder


def prepared_run(model: Path, tmp_path: Path, *more: str) -> Prepared:
    rows = tmp_path / "prompts.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"What is {i}?"}) + "\n" for i in range(4)))
    run: Run = load(None, [
        f"model.path={model}", "model.dtype=float32", f"source.prompts={rows}", "source.refresh_every=1", "source.k=2",
        "judge.kind=verifier", "judge.name=regex", "judge.pattern=a", "objective.name=rloo", "optim.steps=1",
        "optim.groups_per_step=2", f"run.dir={tmp_path / 'run'}", *more,
    ])  # fmt: skip
    return prepare(run)


@pytest.mark.parametrize("family", ["llama", "mamba"])  # sampled by the engine, and by `generate` in padded rows
def test_an_answer_stops_at_each_end_that_the_model_names(family: str, tmp_path: Path) -> None:
    prepared = prepared_run(chatty(tmp_path / "model", family), tmp_path)
    tokenizer = prepared.tokenizer
    assert prepared.ends == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>"), SECOND}
    assert any(repr(tokenizer.convert_ids_to_tokens(SECOND)) in line for line in prepared.lines)
    engine, _ = make_engine(load_policy(prepared.run.model), prepared.run)
    rows = [row for rows in sampler_of(prepared, engine)(PROMPTS, 8, Decoding(40), 0, 1) for row in rows]
    assert any(answer.ids[-1] == SECOND for answer in rows)
    for answer in rows:
        assert prepared.ends.isdisjoint(answer.ids[:-1])
        assert (answer.finish == "stop") == (answer.ids[-1] in prepared.ends)


def test_a_server_is_told_of_every_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServerSampler, "check", lambda self, decoding: None)
    source = ["source.sampler=server", "source.url=http://127.0.0.1:9", "source.update=none"]
    prepared = prepared_run(chatty(tmp_path / "model", "llama"), tmp_path, *source)
    engine, _ = make_engine(load_policy(prepared.run.model), prepared.run)
    sampler = sampler_of(prepared, engine)
    assert isinstance(sampler, ServerSampler) and sampler.terminal == prepared.ends


@pytest.mark.parametrize("written", [{}, {"eos_token_id": 7}, {"eos_token_id": [3, 7]}, None])
def test_ends_are_those_of_generate(written: dict[str, object] | None, tmp_path: Path) -> None:
    """Of generation_config.json; where it names none, or is not there, of config.json."""
    folder = zoo.save_model_dir(tmp_path / "model")
    if written is None:
        (folder / "generation_config.json").unlink()
    else:
        (folder / "generation_config.json").write_text(json.dumps(written))
    named = AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id
    wanted = {named} if isinstance(named, int) else set(named or [1])
    assert ends(ModelConfig(path=str(folder))) == wanted
