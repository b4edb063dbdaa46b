"""One prompt put to several models: who answers, with which weights, and what is refused."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish.answers.sampler import Decoding
from burnish.config import load_partly
from burnish.errors import ModelError
from burnish.evals.ask import Respondent, places, question
from burnish.findings import printable
from tests.runs.cli import BASE, burnish, rows
from tests.zoo import save_model_dir

GREEDY = Decoding(8, 0.0)
FLOAT32 = load_partly(None, ["model.dtype=float32"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and the runs of two steps and of one on it, in full and with an adapter; that of two keeps both."""
    folder = tmp_path_factory.mktemp("ask")
    save_model_dir(folder / "base")
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    for kind, adapter in (("full", []), ("lora", ["adapter.kind=lora", "adapter.rank=4", "optim.lr=1e-2"])):
        for steps in (1, 2):
            words = [f"model.path={folder / 'base'}", f"data.train={data}", f"run.dir={folder / kind}-{steps}",
                     *BASE, f"optim.steps={steps}", "save.every=1", *adapter]  # fmt: skip
            assert burnish("train", *words) == 0
    return folder


def asked(path: Path, decoding: Decoding = GREEDY, k: int = 1, seed: int = 0) -> Any:
    (place,) = places([str(path)], FLOAT32)
    return Respondent(place)(question("What is 3+3?"), k, decoding, seed)


def test_a_greedy_answer_is_what_transformers_generates(home: Path) -> None:
    model, tokenizer = (kind.from_pretrained(home / "base") for kind in (AutoModelForCausalLM, AutoTokenizer))
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 3+3?"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    theirs = model.generate(**ids, max_new_tokens=8, do_sample=False)[0, ids["input_ids"].shape[1] :]
    (answer,) = asked(home / "base").sampled
    assert list(answer.ids) == theirs.tolist()


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_checkpoint_answers_as_the_run_that_ended_there(home: Path, kind: str) -> None:
    """Log-probs and tokens of step 1 of two are those of a run of one step, and not those of the second step."""
    at_one = asked(home / f"{kind}-2" / "checkpoints" / "step-1").sampled
    assert at_one == asked(home / f"{kind}-1").sampled
    assert [a.logps for a in at_one] != [a.logps for a in asked(home / f"{kind}-2").sampled]


def test_a_run_without_its_model_is_asked_at_its_newest_checkpoint(home: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").symlink_to(home / "full-2")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for name in ("config.toml", "checkpoints"):
        (unfinished / name).symlink_to(home / "full-2" / name)
    (place,) = places([str(unfinished)], FLOAT32)
    assert place.checkpoint is not None and place.name.endswith("@1")
    (unfinished / "checkpoints").unlink()
    with pytest.raises(ModelError, match="neither a finished model nor a checkpoint"):
        places([str(unfinished)], FLOAT32)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_run_ends_with_the_commands_to_look_at_it(
    home: Path, kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = (home / f"{kind}-1" / "summary.txt").read_text().splitlines()
    commands = [shlex.split(line.removeprefix("next:")) for line in lines if line.startswith("next:")]
    assert [command[1] for command in commands] == ["report", "ask", "vote", "eval", "merge"][: 4 + (kind == "lora")]
    pairs = home / "pairs.jsonl"
    changed = {"suite.texts=HELD_OUT.jsonl": f"suite.texts={pairs}", "prompts=PROMPTS.jsonl": f"prompts={pairs}"}
    for _, verb, *words in commands:
        words = [str(tmp_path / "merged") if word.endswith("merged") else changed.get(word, word) for word in words]
        words += [f"dir={tmp_path / 'e'}", "suite.max_new_tokens=4", "suite.limit=2"] if verb == "eval" else []
        words += [f"file={tmp_path / 'b.db'}", "max_new_tokens=4", "limit=2", "--no-serve"] if verb == "vote" else []
        assert burnish(verb, *words, *(["--max-new-tokens", "4"] if verb == "ask" else [])) == 0


def test_draws_differ_and_are_the_same_for_the_same_seed(home: Path) -> None:
    hot = Decoding(8, 1.0)
    first, again, other = (asked(home / "base", hot, 4, seed).texts for seed in (0, 0, 1))
    assert first == again and first != other and len(set(first)) > 1


def test_names_say_which_model(home: Path) -> None:
    paths = [str(home / "base"), str(home / "base"), str(home / "full-1" / "model"), str(home / "full-1")]
    assert [place.name for place in places(paths, FLOAT32)] == ["base", "base#2", "full-1", "full-1#2"]


def test_the_verb_prints_each_models_answer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(home / "base"), str(home / "full-2"), "model.dtype=float32", "--max-new-tokens", "8"]
    assert burnish("ask", *words, "--prompt", "What is 3+3?") == 0
    printed = capsys.readouterr().out
    for path in ("base", "full-2"):
        assert f"{path} (" in printed and printable(asked(home / path).texts[0]) in printed
    assert burnish("ask", *words, "--prompt", "What is 3+3?", "--json", "-k", "2") == 0
    told = json.loads(capsys.readouterr().out)
    assert [a["model"] for a in told["answers"]] == ["base", "full-2"] and len(told["answers"][0]["texts"]) == 2


def test_a_prompt_may_come_through_a_pipe(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("What is 3+3?\n"))
    assert burnish("ask", str(home / "base"), "model.dtype=float32", "--max-new-tokens", "8") == 0
    assert printable(asked(home / "base").texts[0]) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.dtype=float32"], "name at least one model"),
        (["nowhere/at/all"], "no folder"),
        (["{base}", "-k", "3", "--temperature", "0"], "the same answer 3 times"),
        (["{base}", "--system", "x", "model.colour=red"], "colour"),
    ],
)
def test_refusals(home: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked_for = [word.format(base=home / "base") for word in words]
    assert burnish("ask", *asked_for, "--prompt", "hello") == 2
    assert told in capsys.readouterr().err
