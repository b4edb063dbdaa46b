"""Models of text and images: only what text passes through is trained or adapted; the rest is saved to the bit, with
the files of the processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from burnish.config import ModelConfig
from burnish.engine import modalities, model
from tests import zoo
from tests.runs.cli import BASE, burnish, rows
from tests.runs.processes import ended, start

TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
}  # fmt: skip
SIGLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, 
          "image_size": 28, "patch_size": 14}  # fmt: skip
QWEN = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
FULL = {"layer_types": ["full_attention", "full_attention"]}
FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # configuration, its text, its rest
    "gemma3": ("Gemma3Config", {}, {"vision_config": SIGLIP, "mm_tokens_per_image": 4, "image_token_index": 5}),
    "llava": ("LlavaConfig", {"model_type": "llama"}, {"vision_config": {"model_type": "clip_vision_model", **SIGLIP}}),
    "qwen3_5": ("Qwen3_5Config", FULL, {"vision_config": QWEN}),  # AutoModelForCausalLM has a class for its text alone
}
PROCESSOR = {"preprocessor_config.json": '{"image_processor_type": "X"}', "processor_config.json": '{"a": 1}'}
UNREACHED = {
    "gemma3": "model.vision_tower, model.multi_modal_projector",
    "llava": "model.vision_tower, model.multi_modal_projector",
    "qwen3_5": "model.visual",
}
TOWERS = ("vision_tower", "visual", "multi_modal_projector")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of each family with a processor, and pairs."""
    out = tmp_path_factory.mktemp("vision")
    (out / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    made = zoo.tokenizer("chatml")
    for name, (config, text, rest) in FAMILIES.items():
        settings = getattr(transformers, config)(text_config={**TEXT, "vocab_size": len(made), **text}, **rest)
        torch.manual_seed(0)
        whole = AutoModelForImageTextToText.from_config(settings)
        for parameter in whole.parameters():
            parameter.data.normal_(0, 0.1)
        whole.save_pretrained(out / name)
        made.save_pretrained(out / name)
        for file, content in PROCESSOR.items():
            (out / name / file).write_text(content)
    return {name: out / name for name in [*FAMILIES, "pairs.jsonl"]}


def trained(folders: dict[str, Path], family: str, out: Path, *settings: str) -> Path:
    places = [f"model.path={folders[family]}", f"data.train={folders['pairs.jsonl']}", f"run.dir={out}"]
    assert burnish("train", *places, *BASE, "objective.name=dpo", "optim.steps=2", *settings) == 0
    return out / "model"


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def of_tower(name: str) -> bool:
    return any(tower in name for tower in TOWERS)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_text_does_not_reach_is_saved_to_the_bit(
    family: str, kind: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = trained(folders, family, tmp_path / "run", f"model.dtype={kind}")
    assert f"text does not reach {UNREACHED[family]}, kept as" in "".join(capsys.readouterr())
    before, after = tensors(folders[family]), tensors(saved)
    assert before.keys() == after.keys() and any(map(of_tower, before))
    for name, value in before.items():
        if of_tower(name):
            assert value.dtype == after[name].dtype == torch.float32 and torch.equal(value, after[name])
        elif value.ndim > 1:
            assert str(after[name].dtype) == f"torch.{kind}" and not torch.equal(value, after[name].float())
    assert json.loads((saved / "config.json").read_text())["dtype"] == kind
    assert {file: (saved / file).read_text() for file in PROCESSOR} == PROCESSOR
    whole = AutoModelForImageTextToText.from_pretrained(saved)
    assert type(whole).__name__.endswith("ForConditionalGeneration")


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_go_where_text_goes(
    family: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = trained(folders, family, tmp_path / "run", "adapter.kind=lora", "adapter.rank=2")
    assert f"adapter: not on {UNREACHED[family]}, which" in "".join(capsys.readouterr())
    held = load_file(saved / "adapter_model.safetensors")
    assert len(held) == 2 * 7 * 2 and not any(map(of_tower, held))
    assert burnish("merge", str(tmp_path / "run"), str(tmp_path / "merged")) == 0
    before, after = tensors(folders[family]), tensors(tmp_path / "merged")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before if of_tower(name))
    assert {file: (tmp_path / "merged" / file).read_text() for file in PROCESSOR} == PROCESSOR
    ids = torch.tensor([[3, 9, 4, 27, 11]])
    adapted: Any = peft.PeftModel.from_pretrained(
        AutoModelForImageTextToText.from_pretrained(folders[family], dtype=torch.float32), saved
    )
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(merged(input_ids=ids).logits, adapted(input_ids=ids).logits)


def test_two_processes_save_what_one_does(folders: dict[str, Path], tmp_path: Path) -> None:
    """In bfloat16 the divided model is not the module that was loaded: names, types and bits are the files' anyway."""
    places = [f"model.path={folders['gemma3']}", f"data.train={folders['pairs.jsonl']}", "model.dtype=bfloat16"]
    settings = [*places, "optim.steps=1", "optim.groups_per_step=4", "objective.name=dpo"]
    for count in (1, 2):
        run = [f"run.dir={tmp_path / str(count)}", f"reference.store={tmp_path / f'store-{count}'}"]
        assert ended(start(count, tmp_path / f"out{count}", "train", *run, *settings)) == [0] * count
    before = tensors(folders["gemma3"])
    one, two = (tensors(tmp_path / str(count) / "model") for count in (1, 2))
    assert before.keys() == one.keys() == two.keys()
    for name, value in one.items():
        assert value.dtype == two[name].dtype == (torch.float32 if of_tower(name) else torch.bfloat16)
        assert torch.equal(value, two[name]) or not of_tower(name)


def test_files_in_a_narrow_type_keep_it(folders: dict[str, Path], tmp_path: Path) -> None:
    """Read as float32, trained as float32: the tower goes back to the type that held all its bits."""
    half = tmp_path / "half"
    AutoModelForImageTextToText.from_pretrained(folders["llava"], dtype=torch.bfloat16).save_pretrained(half)
    zoo.tokenizer("chatml").save_pretrained(half)
    policy = model.load_policy(ModelConfig(path=str(half), dtype="float32"))
    model.save_model(policy, tmp_path / "saved", zoo.tokenizer("chatml"))
    before, after = tensors(half), tensors(tmp_path / "saved")
    assert all(torch.equal(before[name].float(), after[name].float()) for name in before)
    assert {name for name in after if after[name].dtype == torch.bfloat16} == set(filter(of_tower, before))
    name = next(filter(of_tower, before))
    save_file({**before, name: before[name].float() + 2**-20}, half / "model.safetensors", {"format": "pt"})
    policy = model.load_policy(ModelConfig(path=str(half), dtype="float32"))
    model.save_model(policy, tmp_path / "mixed", zoo.tokenizer("chatml"))
    assert torch.equal(tensors(tmp_path / "mixed")[name], before[name].float() + 2**-20)


def test_of_a_model_of_text_alone_everything_is_reached() -> None:
    assert modalities.unreached(zoo.tiny("llama")) == [] and modalities.pattern([]) is None
