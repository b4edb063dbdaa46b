"""Code that comes with a model runs where `trust_remote_code` is set, in every loader, and is refused in a sentence
elsewhere. Nobody is asked on the terminal."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
from transformers import AutoModelForCausalLM

from burnish.answers.judges import reward
from burnish.config import ModelConfig, RewardModelConfig
from burnish.data import tokenizers
from burnish.engine import merge, model, weights
from burnish.errors import ModelError
from burnish.group import Completion, Group, Scores
from tests import zoo

TOKENIZER = """
from transformers import PreTrainedTokenizerFast
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
CONFIG = """
from transformers import LlamaConfig
class OwnConfig(LlamaConfig):
    model_type = "own_llama"
"""
MODEL = """
import torch
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel, LlamaPreTrainedModel
from .own_config import OwnConfig
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
class OwnForSequenceClassification(LlamaForSequenceClassification):
    config_class = OwnConfig
    def __init__(self, config):
        LlamaPreTrainedModel.__init__(self, config)
        self.num_labels, self.model = config.num_labels, LlamaModel(config)
        self.score = torch.nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()
"""


class Terminal(io.StringIO):
    """Standard input that nobody may read."""

    def readline(self, size: int | None = -1, /) -> str:
        raise AssertionError("a question was asked on the terminal")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, with its tokenizer, that transformers cannot load without the code in its folder."""
    folder = zoo.save_model_dir(tmp_path_factory.mktemp("models") / "own")
    for name, text in (("own_tokenizer", TOKENIZER), ("own_config", CONFIG), ("own_model", MODEL)):
        (folder / f"{name}.py").write_text(text)
    classes = {
        "config.json": {
            "AutoConfig": "own_config.OwnConfig",
            "AutoModelForCausalLM": "own_model.OwnForCausalLM",
            "AutoModelForSequenceClassification": "own_model.OwnForSequenceClassification",
        },
        "tokenizer_config.json": {"AutoTokenizer": [None, "own_tokenizer.OwnTokenizer"]},
    }
    own_names = {"model_type": "own_llama", "architectures": ["OwnForCausalLM"], "tokenizer_class": "OwnTokenizer"}
    for name, mapping in classes.items():
        about = json.loads((folder / name).read_text())
        about |= {key: value for key, value in own_names.items() if key in about}
        (folder / name).write_text(json.dumps({**about, "auto_map": mapping}))
    return folder


def an_adapter(base: Path, folder: Path) -> Path:
    whole = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=True)
    settings = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    peft.get_peft_model(whole, settings).save_pretrained(str(folder))
    return folder


def trusting(path: Path, *, trust: bool) -> ModelConfig:
    return ModelConfig(path=str(path), dtype="float32", trust_remote_code=trust)


LOADERS: list[Callable[[Path, bool], object]] = [
    lambda folder, trust: tokenizers.load_tokenizer(str(folder), trust_remote_code=trust),
    lambda folder, trust: tokenizers.load_light(str(folder), trust_remote_code=trust),
    lambda folder, trust: weights.configuration(trusting(folder, trust=trust)),
    lambda folder, trust: model.load_policy(trusting(folder, trust=trust)),
    lambda folder, trust: model.load_policy(trusting(folder, trust=trust), place="nowhere"),
    lambda folder, trust: weights.load_base(trusting(folder, trust=trust), quantize=False, scalar=True),
]


@pytest.mark.parametrize("load", LOADERS)
def test_every_loader_runs_the_models_code_only_where_it_is_trusted(load: Callable[..., object], own: Path) -> None:
    with pytest.raises(ModelError, match=r"Set model\.trust_remote_code=true"):
        load(own, False)
    load(own, True)


def test_a_saved_model_keeps_its_code(own: Path, tmp_path: Path) -> None:
    tokenizer = tokenizers.load_tokenizer(str(own), trust_remote_code=True)
    model.save_model(model.load_policy(trusting(own, trust=True)), tmp_path / "saved", tokenizer)
    tokenizers.load_tokenizer(str(tmp_path / "saved"), trust_remote_code=True)
    assert type(model.load_policy(trusting(tmp_path / "saved", trust=True)).base).__name__ == "OwnForCausalLM"


def test_merges_and_judges_run_it(own: Path, tmp_path: Path) -> None:
    adapter = an_adapter(own, tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"Set model\.trust_remote_code=true"):
        merge.merge(str(adapter), str(tmp_path / "merged"))
    merge.merge(str(adapter), str(tmp_path / "merged"), trust_remote_code=True)
    scored = weights.load_base(trusting(tmp_path / "merged", trust=True), quantize=False, scalar=True)
    scored.save_pretrained(tmp_path / "rm")
    tokenizers.load_tokenizer(str(own), trust_remote_code=True).save_pretrained(tmp_path / "rm")
    group = Group("why", (Completion("so"), Completion("because")))
    untrusted = RewardModelConfig(path=str(tmp_path / "rm"))
    with pytest.raises(ModelError, match="trust_remote_code=true"):
        reward.make(untrusted)([group])
    (feedback,) = reward.make(untrusted.model_copy(update={"trust_remote_code": True}))([group])
    assert isinstance(feedback, Scores) and len(feedback.values) == 2
