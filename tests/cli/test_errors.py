"""Bad input is a sentence and an exit code, never a traceback; and it is refused before any weight loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import config
from burnish.cli import main
from burnish.engine import model, weights
from burnish.errors import ConfigError
from burnish.runlog import folder as run_folder
from tests.zoo import CHATML, save_model_dir, tokenizer

PAIR = {"prompt": "Why? ", "chosen": "Because.", "rejected": "No."}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_dir(tmp_path_factory.mktemp("model") / "llama", "llama", "plain")


def burnish(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        main.main([str(a) for a in arguments])
    told = capsys.readouterr()
    assert "Traceback" not in told.err + told.out
    return int(left.value.code or 0), told.err


def write(folder: Path, *rows: object) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.pth=x"], "did you mean 'model.path'"),
        (["objective.bta=1"], "did you mean 'objective.beta'"),
        (["objective.name=dpoo"], "did you mean 'dpo'"),
        (["objective.beta=0"], "objective.beta = 0: must be above 0"),
        (["objective.beta=yes"], "must be a finite number"),
        (["objective.label_smoothing=0.5"], "below 0.5"),
        (["optim.lr=3"], "optim.lr"),
        (["optim.lr=-1e-6"], "optim.lr"),
        (["optim.lr=true"], "no values for this key"),
        (["optim.epochs=inf"], "finite number"),
        (["objective=dpo"], "for example objective.name="),
        (["objective.params=3"], "dpo has no setting 'objective.params'"),
        (["optim.steps=1", "optim.epochs=1"], "keep one"),
        (["run.resume=true", "run.overwrite=true"], "contradict"),
        (["reference.kind=none"], "needs a reference"),
        (["reference.path=elsewhere"], "would be ignored"),
        (["adapter.kind=lora", "adapter.dora=true"], "use float32"),
        (["adapter.kind=qlora"], "bitsandbytes"),
        (["data.template=nosuch"], "no such file exists"),
        (["data.max_length=2"], "nothing is left"),
        (["data.train=missing.jsonl"], "no such file or folder"),
        (["data.train="], "data.train is missing"),
        (["model.path=./nowhere"], "there is no folder"),
        (["nonsense"], "cannot be read"),
    ],
    ids=lambda x: "+".join(x) if isinstance(x, list) else "",
)  # fmt: skip
def test_settings_that_cannot_be_meant(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    settings: list[str], message: str,
) -> None:  # fmt: skip
    def no_weights(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded before the refusal")

    monkeypatch.setattr(weights, "load_base", no_weights)
    first = [settings[0]] if settings == ["nonsense"] else []
    known = {"model.path": model_dir, "data.train": write(tmp_path, PAIR), "run.dir": tmp_path / "run"}
    given = [f"{k}={v}" for k, v in known.items() if not any(s.startswith(f"{k}=") for s in settings)]
    code, told = burnish(capsys, "train", *first, *given, *([] if first else settings))
    assert code == 2 and message in told


def test_data_without_the_feedback_an_objective_needs(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path, {"prompt": "p", "completion": "c", "label": True})
    code, told = burnish(capsys, "train", f"model.path={model_dir}", f"data.train={data}", f"run.dir={tmp_path / 'r'}")
    assert code == 2 and "`dpo` needs preferences, and this row has 1 completion with a yes/no label" in told
    assert f"{data}:1" in told


def test_conversations_without_a_template(model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path, {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"})
    code, told = burnish(capsys, "train", f"model.path={model_dir}", f"data.train={data}", f"run.dir={tmp_path / 'r'}")
    assert code == 2 and "data.template='hh'" in told


def test_folders_that_hold_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path, PAIR)
    empty = tmp_path / "empty"
    empty.mkdir()
    told = burnish(capsys, "train", f"model.path={empty}", f"data.train={data}")[1]
    assert "holds no config.json" in told
    (empty / "adapter_config.json").write_text("{}")
    assert "but no weights" in burnish(capsys, "train", f"model.path={empty}", f"data.train={data}")[1]


@pytest.mark.parametrize("verb", ["train", "check"])
def test_a_tokenizer_may_be_larger_than_the_embedding_where_no_such_token_occurs(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_model_dir(tmp_path / "m", "llama", "plain")
    larger = tokenizer("plain")
    larger.add_tokens(["zebra"])
    larger.save_pretrained(folder)
    words = [f"model.path={folder}", "model.dtype=float32", "optim.steps=1", f"run.dir={tmp_path / 'run'}"]
    other = {"prompt": "b", "chosen": "a zebra", "rejected": "none"}
    code, told = burnish(capsys, verb, *words, f"data.train={write(tmp_path, {**PAIR, **other})}")
    assert code == 2 and "'zebra' has the id" in told and "leave the token out" in told and "data.jsonl:1" in told
    code, told = burnish(capsys, verb, *words, f"data.train={write(tmp_path, PAIR)}")
    assert code == 0, told


def test_a_template_whose_tokens_the_embedding_does_not_have_is_refused_before_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_model_dir(tmp_path / "m", "llama", "plain")
    larger = tokenizer("plain")
    larger.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    larger.chat_template = CHATML
    larger.save_pretrained(folder)
    code, told = burnish(capsys, "train", f"model.path={folder}", "data.train=nowhere.jsonl")
    assert code == 2 and "every conversation: token '<|im_" in told


def test_a_folder_that_holds_another_run_or_cannot_be_made(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, taken = write(tmp_path, PAIR), tmp_path / "taken"
    taken.mkdir()
    (taken / "log.jsonl").write_text("")
    common = ["train", f"model.path={model_dir}", f"data.train={data}"]
    code, told = burnish(capsys, *common, f"run.dir={taken}")
    assert code == 2 and "run.resume=true" in told and "run.overwrite=true" in told
    code, told = burnish(capsys, *common, f"run.dir={data}")
    assert code == 2 and "is a file" in told


def test_overwriting_never_deletes_what_the_run_is_made_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first"
    inside = save_model_dir(first / "model", "llama", "plain")
    (first / "log.jsonl").write_text("")
    code, told = burnish(
        capsys, "train", f"model.path={inside}", f"data.train={write(tmp_path, PAIR)}", f"run.dir={first}",
        "run.overwrite=true",
    )  # fmt: skip
    assert code == 2 and "run.overwrite would delete model.path" in told
    assert (inside / "model.safetensors").is_file() and (first / "log.jsonl").is_file()


@pytest.mark.parametrize("verb", ["train", "check"])
def test_an_interruption_is_a_sentence_and_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"burnish.loop.{verb}.run", interrupted)
    code, told = burnish(capsys, verb, "model.path=m", "data.train=d")
    assert code == 130 and "stopped at once" in told


def test_a_defect_of_ours_is_one_line_and_its_traceback_lies_in_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: config.Run, **_: Any) -> None:
        if "early" not in run.model.path:
            run_folder.claim_run_dir(run)
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr("burnish.loop.train.run", broken)
    monkeypatch.chdir(tmp_path)
    code, told = burnish(capsys, "train", "model.path=m", "data.train=d", "run.dir=out")
    assert code == 1 and "a defect of burnish, not of your input" in told and "out/defect.txt" in told
    assert "Traceback" in (tmp_path / "out" / "defect.txt").read_text()
    code, told = burnish(capsys, "train", "model.path=early", "data.train=d", "run.dir=other")
    assert code == 1 and not (tmp_path / "other").exists() and (tmp_path / "burnish-defect.txt").is_file()
    monkeypatch.setenv("BURNISH_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main.main(["train", "model.path=m", "data.train=d", "run.dir=new"])


def test_out_of_memory_is_no_defect(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(run: config.Run, **_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("burnish.loop.train.run", full)
    code, told = burnish(capsys, "train", "model.path=m", "data.train=d")
    assert code == 3 and "lower engine.token_budget" in told


def test_a_loss_that_is_not_finite_stops_and_names_the_rows(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from burnish.engine.engine import Engine

    original = Engine.score

    def poisoned(self: Engine, batch: Any, **more: Any) -> object:
        found = original(self, batch, **more)
        return found._replace(logps=found.logps * float("nan")) if torch.is_grad_enabled() else found

    monkeypatch.setattr(Engine, "score", poisoned)
    data = write(tmp_path, PAIR, {**PAIR, "prompt": "How? "})
    code, told = burnish(
        capsys, "train", f"model.path={model_dir}", f"data.train={data}", f"run.dir={tmp_path / 'run'}",
        "model.dtype=float32",
    )  # fmt: skip
    assert code == 3 and "the loss is nan" in told and f"{data}:1" in told and "Nothing was updated" in told


def test_a_full_disk_keeps_the_last_good_model(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = write(tmp_path, PAIR), tmp_path / "run"
    common = ["train", f"model.path={model_dir}", f"data.train={data}", f"run.dir={out}", "model.dtype=float32"]
    assert burnish(capsys, *common)[0] == 0
    before = (out / "model" / "model.safetensors").read_bytes()
    original = model.save_model

    def full(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save_model", full)
    (out / "log.jsonl").unlink()
    (out / "config.toml").unlink()
    held = out / "model"
    monkeypatch.setattr(run_folder, "RUN_FILES", ("log.jsonl",))
    code, told = burnish(capsys, *common)
    assert code == 2 and "No space left" in told and str(held) in told
    assert (held / "model.safetensors").read_bytes() == before


def test_config_round_trips_and_describes_every_key(tmp_path: Path) -> None:
    run = config.load(None, ["model.path=m", 'data.train=["a", "b"]', "objective.name=ipo", "objective.tau=0.2"])
    (tmp_path / "run.toml").write_text(config.to_toml(run))
    assert config.load(str(tmp_path / "run.toml")) == run
    names = [row.name for row in config.describe_keys()]
    assert {"model.path", "objective.name", "optim.groups_per_step", "engine.token_budget", "seed"} <= set(names)
    assert all(row.meaning for row in config.describe_keys())
    with pytest.raises(ConfigError, match="is not TOML"):
        (tmp_path / "bad.toml").write_text("= 3")
        config.load(str(tmp_path / "bad.toml"))


def test_texts_beyond_the_models_positions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model_dir(tmp_path / "m", "llama", "plain")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "max_position_embeddings": 8}))
    code, told = burnish(
        capsys, "train", f"model.path={folder}", f"data.train={write(tmp_path, PAIR)}", f"run.dir={tmp_path / 'run'}"
    )
    assert code == 2 and "set data.max_length=8" in told and "data.jsonl:1" in told


def test_a_run_does_not_move_into_the_models_folder(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path, PAIR)
    code, told = burnish(capsys, "train", f"model.path={model_dir}", f"data.train={data}", f"run.dir={model_dir}")
    assert code == 2 and "is a model's folder" in told


def test_an_adapter_on_the_head_is_refused_however_it_is_named(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path, PAIR)
    code, told = burnish(
        capsys, "train", f"model.path={model_dir}", f"data.train={data}", f"run.dir={tmp_path / 'run'}",
        "adapter.kind=lora", "adapter.targets=.*(q_proj|lm_head)",
    )  # fmt: skip
    assert code == 2 and "output head" in told
