"""Every tensor of a model comes from its files, and every tensor of the files goes into the model, or it is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from burnish.config import AdapterConfig, ModelConfig
from burnish.data import tokenizers
from burnish.engine import merge, model, reward_model, weights
from burnish.errors import ConfigError, ModelError, StoreError
from tests import zoo

FILE, ADAPTER_FILE = "model.safetensors", "adapter_model.safetensors"
IDS = torch.tensor([[3, 9, 4, 27, 11]])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.save_model_dir(tmp_path_factory.mktemp("models") / "llama")


def named(path: Path, **settings: Any) -> ModelConfig:
    return ModelConfig(path=str(path), dtype="float32", **settings)


def rewritten(source: Path, target: Path, file: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """A copy of a model folder whose tensors are changed."""
    shutil.copytree(source, target)
    save_file(change(load_file(source / file)), target / file, {"format": "pt"})
    return target


def without(*words: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda held: {name: value for name, value in held.items() if not any(word in name for word in words)}


def save_adapter(base: Path, folder: Path, task: str = "CAUSAL_LM", **settings: Any) -> Path:
    """A LoRA of which no matrix is 0."""
    auto: Any = AutoModelForCausalLM if task == "CAUSAL_LM" else AutoModelForSequenceClassification
    whole = auto.from_pretrained(base, **({} if task == "CAUSAL_LM" else {"num_labels": 1}))
    made = peft.get_peft_model(
        whole, peft.LoraConfig(task_type=task, **{"r": 4, "target_modules": ["q_proj", "v_proj"], **settings})
    )
    torch.manual_seed(1)
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    made.save_pretrained(str(folder))
    return folder


def logits(module: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = module.eval()(IDS).logits
    return out


@pytest.mark.parametrize("family", ["llama_tied", "gpt2", "mixtral", "deepseek_v3", "mamba"])
def test_no_tensor_of_a_model_may_be_missing(family: str, tmp_path: Path) -> None:
    zoo.tiny(family).save_pretrained(tmp_path / "whole")
    weights.load_base(named(tmp_path / "whole"), quantize=False)
    for number, name in enumerate(load_file(tmp_path / "whole" / FILE)):
        part = rewritten(tmp_path / "whole", tmp_path / str(number), FILE, without(name))
        with pytest.raises(ModelError):
            weights.load_base(named(part), quantize=False)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("layers.1.mlp"), r"lack model\.layers\.1\.mlp\.down_proj\.weight, .* drawn at random"),
        (
            lambda held: {f"module.{k}": v for k, v in held.items()},
            r"lack lm_head\.weight.*hold module\.lm_head\.weight",
        ),
        (lambda held: {**held, "v_head.weight": torch.zeros(1, 32)}, r"hold v_head\.weight, which nothing takes"),
        (
            lambda held: {**held, "model.norm.weight": torch.ones(7)},
            r"shapes: model\.norm\.weight \[7\] for \[32\]",
        ),
    ],
)
def test_files_that_are_not_the_models_are_refused_by_name(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], sentence: str, llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=sentence):
        model.load_policy(named(rewritten(llama, tmp_path / "other", FILE, change)))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_masks_and_frequencies_that_were_once_saved_are_made_anew(family: str, tmp_path: Path) -> None:
    """As in the files of GPT-2, GPT-J, Pythia and Llama 2."""
    old = ["h.0.attn.bias", "h.1.attn.masked_bias", "model.layers.0.self_attn.rotary_emb.inv_freq"]
    zoo.tiny(family).save_pretrained(tmp_path / "new")
    rewritten(
        tmp_path / "new", tmp_path / "old", FILE, lambda held: held | {name: torch.ones(1) for name in old}
    )  # fmt: skip
    read, new = (model.load_policy(named(tmp_path / name)).base for name in ("old", "new"))
    assert torch.equal(logits(read), logits(new))


def test_a_damaged_file_is_refused_in_a_sentence(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "cut")
    whole = (llama / FILE).read_bytes()
    (tmp_path / "cut" / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="could not be loaded"):
        model.load_policy(named(tmp_path / "cut"))


def test_pickles_are_read_only_where_they_are_asked_for(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "pickled")
    torch.save(load_file(llama / FILE), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / FILE).unlink()
    with pytest.raises(ModelError, match=r"pickles.*model\.allow_pickle=true"):
        model.load_policy(named(tmp_path / "pickled"))
    read = model.load_policy(named(tmp_path / "pickled", allow_pickle=True)).base
    assert torch.equal(logits(read), logits(model.load_policy(named(llama)).base))


def test_a_reward_model_without_its_head_is_refused(llama: Path, tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(llama, num_labels=1).save_pretrained(tmp_path / "rm")
    renamed = rewritten(
        tmp_path / "rm", tmp_path / "renamed", FILE,
        lambda held: {name.replace("score.", "value_head."): value for name, value in held.items()},
    )  # fmt: skip
    for load in (reward_model.open_reward_model, train_reward_model):
        with pytest.raises(ModelError, match=r"lack score\.weight.*hold value_head\.weight"):
            load(named(renamed))
    with pytest.raises(ModelError, match=r"lack lm_head\.weight"):
        model.load_policy(named(tmp_path / "rm"))
    config = json.loads((tmp_path / "rm" / "config.json").read_text())
    (tmp_path / "rm" / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(ModelError, match=r"hold a scalar head \(score\.weight\)"):
        train_reward_model(named(tmp_path / "rm"))


def train_reward_model(source: ModelConfig, adapter: AdapterConfig | None = None) -> model.Policy:
    tokenizer = zoo.tokenizer("chatml")
    return reward_model.load_reward_model(
        source, adapter or AdapterConfig(), tokenizer, {1}, head_only=False, seed=0
    )[0]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("layers.1"), r"lack base_model\.model\.model\.layers\.1\.self_attn\.q_proj\.lora_A"),
        (lambda held: {k.replace("layers", "blocks"): v for k, v in held.items()}, "which nothing takes"),
        (lambda held: {k: v[:1] for k, v in held.items()}, "does not go on its base"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_name(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], sentence: str, llama: Path, tmp_path: Path
) -> None:
    folder = rewritten(save_adapter(llama, tmp_path / "whole"), tmp_path / "other", ADAPTER_FILE, change)
    with pytest.raises(ModelError, match=sentence):
        model.load_policy(named(folder))
    with pytest.raises(ModelError, match=sentence):
        merge.merge(str(folder), str(tmp_path / "merged"))
    assert not list(tmp_path.glob("merged*"))


def test_an_adapter_of_a_reward_model_brings_its_head(llama: Path, tmp_path: Path) -> None:
    whole = save_adapter(llama, tmp_path / "whole", "SEQ_CLS")
    assert reward_model.open_reward_model(named(whole)).scalar_head.weight.norm() > 0
    headless = rewritten(whole, tmp_path / "headless", ADAPTER_FILE, without("score"))
    with pytest.raises(ModelError, match=r"does not hold base_model\.model\.score\.weight"):
        reward_model.open_reward_model(named(headless))
    with pytest.raises(ModelError):
        model.load_policy(named(whole))


def test_an_adapter_is_a_model_and_a_new_one_on_it_is_saved_with_it(llama: Path, tmp_path: Path) -> None:
    """W + B A + B' A' is one product of a higher rank on the same base, which any library loads."""
    first = save_adapter(llama, tmp_path / "first", lora_alpha=7, use_rslora=True)
    stock = logits(peft.AutoPeftModelForCausalLM.from_pretrained(first))
    assert (stock - logits(AutoModelForCausalLM.from_pretrained(llama))).abs().max() > 0.1
    torch.testing.assert_close(logits(model.load_policy(named(first)).base), stock)
    torch.testing.assert_close(logits(model.open_policy(named(first)).module), stock)
    policy = model.load_policy(named(first), AdapterConfig(kind="lora", rank=3, alpha=5))
    for _, parameter in policy.trainable():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_model(policy, tmp_path / "second", zoo.tokenizer("chatml"))
    settings = json.loads((tmp_path / "second" / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["r"], settings["lora_alpha"]) == (str(llama.resolve()), 7, 7)
    both = logits(policy.module)
    assert (both - stock).abs().max() > 0.05
    torch.testing.assert_close(logits(peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "second")), both)
    torch.testing.assert_close(logits(model.load_policy(named(tmp_path / "second")).base), both)


def test_adapters_that_cannot_be_saved_as_one_are_refused(llama: Path, tmp_path: Path) -> None:
    dora = save_adapter(llama, tmp_path / "dora", use_dora=True)
    torch.testing.assert_close(
        logits(model.load_policy(named(dora)).base), logits(peft.AutoPeftModelForCausalLM.from_pretrained(dora))
    )
    with pytest.raises(ConfigError, match="burnish merge"):
        model.load_policy(named(dora), AdapterConfig(kind="lora"))
    with pytest.raises(ConfigError, match="qlora"):
        model.fold_adapters(None, [dora], AdapterConfig(kind="qlora"))


def test_a_reward_model_starts_from_a_policys_adapter(llama: Path, tmp_path: Path) -> None:
    adapter = save_adapter(llama, tmp_path / "sft")
    policy = train_reward_model(named(adapter), AdapterConfig(kind="lora", rank=2))
    folded = model.load_policy(named(adapter)).base.model.layers[0].self_attn.q_proj.weight
    assert torch.equal(policy.base.model.layers[0].self_attn.q_proj.base_layer.weight, folded)
    model.save_model(policy, tmp_path / "rm", zoo.tokenizer("chatml"))
    opened = reward_model.open_reward_model(named(tmp_path / "rm"))
    torch.testing.assert_close(logits(opened.module), logits(policy.module))


def test_a_merged_adapter_has_its_bases_tokenizer_and_the_same_logits(llama: Path, tmp_path: Path) -> None:
    adapter = save_adapter(llama, tmp_path / "adapter")
    assert not (adapter / "tokenizer.json").exists()
    merge.merge(str(adapter), str(tmp_path / "merged"))
    assert (tmp_path / "merged" / "tokenizer.json").read_text() == (llama / "tokenizer.json").read_text()
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")),
        logits(peft.AutoPeftModelForCausalLM.from_pretrained(adapter)),
    )


def test_adapters_name_bases_that_are_there(llama: Path, tmp_path: Path) -> None:
    adapter = save_adapter(llama, tmp_path / "adapter")
    settings = json.loads((adapter / "adapter_config.json").read_text())
    for base, sentence in (("/nowhere/base", "no such folder"), ("", "names no base"), (str(adapter), "as its base")):
        (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": base}))
        with pytest.raises(ModelError, match=sentence):
            model.load_policy(named(adapter))


def test_an_adapter_takes_from_its_base_what_its_folder_lacks(llama: Path, tmp_path: Path) -> None:
    """Each of tokenizer, chat template, settings of generation and processor from the first folder that has it; a
    saved or merged model has them all."""
    base = shutil.copytree(llama, tmp_path / "base")
    processor = {"processor_class": "Gemma3Processor"}
    (base / "processor_config.json").write_text(json.dumps(processor))
    (base / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Gemma3ImageProcessor"}))
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 7]}))
    adapter = save_adapter(base, tmp_path / "adapter")
    assert weights.ends(named(adapter)) == {1, 7}
    (adapter / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 9], "temperature": 0.5}))
    (adapter / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    assert weights.ends(named(adapter)) == {1, 9}
    bare = save_adapter(base, tmp_path / "bare")
    made = zoo.tokenizer("plain")
    made.save_pretrained(bare)
    assert made.chat_template is None
    for load in (tokenizers.load_tokenizer, tokenizers.load_light):
        assert load(str(adapter)).chat_template == (adapter / "chat_template.jinja").read_text()
        assert load(str(bare)).chat_template == load(str(base)).chat_template == zoo.CHATML
    merge.merge(str(adapter), str(tmp_path / "merged"))
    policy = model.load_policy(named(adapter), AdapterConfig(kind="lora", rank=2))
    model.save_model(policy, tmp_path / "saved", tokenizers.load_tokenizer(str(adapter)))
    for folder in (tmp_path / "merged", tmp_path / "saved"):
        for name in ("processor_config.json", "preprocessor_config.json"):
            assert (folder / name).read_text() == (base / name).read_text()
        for name in ("generation_config.json", "chat_template.jinja"):
            assert (folder / name).read_text() == (adapter / name).read_text()


@pytest.mark.parametrize("error", [ValueError("not today"), KeyboardInterrupt(), StoreError("full")])
def test_a_merge_that_fails_leaves_nothing_behind(
    error: BaseException, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = save_adapter(llama, tmp_path / "adapter")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "save_pretrained", fail)
    with pytest.raises(StoreError if isinstance(error, Exception) else type(error)):
        merge.merge(str(adapter), str(tmp_path / "merged"))
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize("file", ["reward.json", "config.json", "tokenizer.json", "adapter_config.json", ADAPTER_FILE])
def test_a_merge_of_a_damaged_folder_is_refused_in_a_sentence(file: str, llama: Path, tmp_path: Path) -> None:
    base = shutil.copytree(llama, tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    ((base if (base / file).exists() else adapter) / file).write_text('{"model_type": ')
    with pytest.raises(ModelError):
        merge.merge(str(adapter), str(tmp_path / "merged"))
    assert not list(tmp_path.glob("merged*"))


@pytest.mark.parametrize(
    ("text", "ends", "message"),
    [
        ('{"eos_token_id": [2, 7]}', {2, 7}, ""),
        ('{"eos_token_id": 7}', {7}, ""),
        ('{"eos_token_id": "1024"}', set(), "eos_token_id = '1024'"),
        ('{"eos_token_id": [[4], [1024]]}', set(), "a token's id, or a list of ids"),
        ('{"eos_token_id": [4', set(), "generation_config.json cannot be read"),
    ],
)
def test_the_ends_of_an_answer_are_ids_or_the_file_is_refused(
    text: str, ends: set[int], message: str, llama: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / "generation_config.json").write_text(text)
    if ends:
        assert weights.ends(named(folder)) == ends
    else:
        with pytest.raises(ModelError, match=message):
            weights.ends(named(folder))


def test_a_folder_without_a_generation_config_has_its_models_ends(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text()) | {"eos_token_id": [3, 5]}
    (folder / "config.json").write_text(json.dumps(config))
    assert weights.ends(named(folder)) == {3, 5}


@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn])
def test_weights_in_eight_bits_that_nothing_explains_are_refused(
    kind: torch.dtype, llama: Path, tmp_path: Path
) -> None:
    def packed(held: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(kind) if "q_proj" in name else value for name, value in held.items()}

    folder = rewritten(llama, tmp_path / "model", FILE, packed)
    with pytest.raises(ModelError, match=r"q_proj.weight.*in 8 bits"):
        weights.load_base(named(folder), quantize=False)


def test_a_quantisation_that_transformers_would_pass_over_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {"quant_method": "homemade"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"does not know .quant_method = 'homemade'"):
        weights.load_base(named(folder), quantize=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model_name_or_path": "."}, "names itself as its base"),
        ({"peft_type": "HOMEMADE"}, "a kind that peft does not know .peft_type = 'HOMEMADE'"),
    ],
)
def test_an_adapters_settings_that_lead_nowhere_are_refused(
    changes: dict[str, str], message: str, llama: Path, tmp_path: Path
) -> None:
    adapter = save_adapter(llama, tmp_path / "adapter")
    settings = json.loads((adapter / "adapter_config.json").read_text()) | changes
    if changes.get("base_model_name_or_path"):
        settings["base_model_name_or_path"] = str(adapter)
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=message):
        merge.merge(str(adapter), str(tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()


def test_a_merge_that_would_hold_no_numbers_is_refused(llama: Path, tmp_path: Path) -> None:
    def broken(held: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value * torch.nan for name, value in held.items()}

    adapter = rewritten(save_adapter(llama, tmp_path / "adapter"), tmp_path / "broken", ADAPTER_FILE, broken)
    with pytest.raises(ModelError, match="not finite"):
        merge.merge(str(adapter), str(tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()
