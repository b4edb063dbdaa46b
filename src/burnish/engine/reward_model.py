"""Reward models: a scalar head on any backbone, in the format of `AutoModelForSequenceClassification` with one label.

The reward is read at the last token of the template's full rendering (under ChatML the line feed behind `<|im_end|>`),
as the field's trainers and RewardBench's scoring do. The position follows from the length; padding is never looked for.
But transformers looks for padding in the saved model. A model saved by burnish therefore has a padding token that ends
no answer, where its vocabulary allows it. `reward.json` keeps the rule. Models by others are read where transformers
reads them; burnish's models from before the rule was kept are read at the end-of-turn token, as they were trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from burnish.config import AdapterConfig, ModelConfig
from burnish.engine import modalities, norms, weights
from burnish.engine.model import Policy, add_adapter, fold_adapters, silence_dropout
from burnish.engine.weights import DTYPES, Place
from burnish.errors import ModelError

ABOUT = "reward.json"  # in the model's folder: padding token, where the reward is read, mean and spread of rewards
READS = "reads"  # key of the rule in ABOUT; config.json holds it as `reward_reads`
FULL = "the last token of the chat template's full rendering"
TURN = "the end-of-turn token"
PAD = "<|pad|>"


def reads_full(path: str) -> bool:
    """Whether rewards are read at the end of the template's full rendering; else the answer ends with its turn."""
    about = about_of(Path(path))
    return not about or about.get(READS, TURN) == FULL


def about_of(folder: Path) -> dict[str, Any]:
    """What `reward.json` says; nothing of a model by others, or a language model. Raises ModelError."""
    file = folder / ABOUT
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error


def _pooled_over(base: Any, about: dict[str, Any]) -> tuple[int, ...]:
    """Tokens at the end that the reward is not read at: of models by others the padding token, as transformers pools.
    Where that token also ends a rendering, such a model was trained to be read at the token before."""
    if READS in about:
        return tuple(about["pooled_over"])
    pad = base.config.get_text_config().pad_token_id
    return (pad,) if isinstance(pad, int) and pad >= 0 else ()


def load_reward_model(
    model: ModelConfig,
    adapter: AdapterConfig,
    tokenizer: Any,
    terminal: set[int],
    *,
    head_only: bool,
    seed: int,
    place: Place = "device",
) -> tuple[Policy, list[str]]:
    """(a reward model to train, lines for the user): a fresh head on a language model, or a model that has a head.

    `terminal` are the tokens that end an answer. Raises ModelError for an architecture without a scalar head, or a
    classifier of several labels.
    """
    fresh = _is_fresh(model)
    base = weights.load_base(model, quantize=adapter.kind == "qlora", scalar=True, place=place)
    base, folded = fold_adapters(base, weights.origin(model).adapters, adapter, scalar=True, place=place)
    require_head(base, model.path)
    lines = [f"reward model: the scalar head of {model.path} is trained further"]
    pooled_over = () if fresh else _pooled_over(base, about_of(Path(model.path)))
    if fresh:
        draw = torch.randn(1, base.score.in_features, generator=torch.Generator().manual_seed(seed))
        base.score.weight.data.copy_(draw / base.score.in_features**0.5)
        lines = [
            f"reward model: a fresh scalar head of {base.score.in_features} weights",
            _choose_pad(base, tokenizer, terminal, may_grow=adapter.kind == "none" and not head_only),
        ]
    silence_dropout(base)
    norms.fuse(base)
    modalities.freeze(base)
    module = base if adapter.kind == "none" else add_adapter(base, adapter, scalar=True)
    if head_only:
        train_head_only(module)
    base.config.reward_reads = FULL if reads_full(model.path) else TURN
    return Policy(
        module, base, model.path, DTYPES[model.dtype], base.config._attn_implementation, scalar=True,
        pooled_over=pooled_over, folded=folded, companions=weights.companions(model.path),
        stored=weights.stored_type(model),
    ), lines  # fmt: skip


def train_head_only(module: Any) -> None:
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("score" in name.split("."))


def open_reward_model(model: ModelConfig) -> Policy:
    """A reward model to score with: a run's folder, its model or adapter, or any sequence classifier of one label.

    Raises ModelError for a folder that holds none.
    """
    folder = Path(model.path)
    if (folder / "model" / ABOUT).exists():
        folder = folder / "model"
    about = about_of(folder)
    model = model.model_copy(update={"path": str(folder)})
    if _is_fresh(model):
        raise ModelError(f"{model.path} is a language model without a scalar head, not a reward model")
    *below, last = weights.origin(model).adapters or (None,)
    base = weights.load_base(model, quantize=False, scalar=True)
    base, _ = fold_adapters(base, below, AdapterConfig(), scalar=True)
    require_head(base, str(folder))
    module: Any = base if last is None else weights.open_adapter(base, last, trained="SEQ_CLS")
    if "pad_token_id" in about:
        base.config.get_text_config().pad_token_id = about["pad_token_id"]
    silence_dropout(base)
    norms.fuse(base)
    module.requires_grad_(False)
    attention, pooled_over = base.config._attn_implementation, _pooled_over(base, about)
    return Policy(module, base, str(folder), DTYPES[model.dtype], attention, scalar=True, pooled_over=pooled_over)


def write_about(policy: Policy, folder: Path, rewards: Sequence[Sequence[float]], objective: str) -> None:
    """Write `reward.json`: where the reward is read, and mean and spread of the rewards of some groups' answers, so
    that models can share a scale."""
    every = torch.tensor([value for group in rewards for value in group], dtype=torch.float64)
    pad = policy.base.config.get_text_config().pad_token_id
    about = {
        READS: policy.base.config.reward_reads,
        "pooled_over": policy.pooled_over,  # tokens at the end that are passed over
        "pad_token_id": pad,
        "mean": float(every.mean()),
        "sd": float(every.std(correction=0)),
        "answers": len(every),
        "objective": objective,
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _is_fresh(model: ModelConfig) -> bool:
    """Whether the scalar head is still to be made: the folder holds a language model, or an adapter on one."""
    config = weights.configuration(model)
    if weights.is_classifier(config) and config.num_labels != 1:
        raise ModelError(f"{model.path} tells {config.num_labels} classes apart; a reward model has one label")
    adapted = any(weights.has_scalar_head(folder) for folder in weights.origin(model).adapters)
    return not weights.is_classifier(config) and not adapted


def require_head(base: Any, path: str) -> None:
    """Raises ModelError for an architecture whose scalar head is not one linear layer."""
    head = getattr(base, "score", None)
    if not isinstance(head, torch.nn.Linear) or head.out_features != 1:
        raise ModelError(f"{path}: a {type(base).__name__} has no linear layer `score` with one output")


def _choose_pad(base: Any, tokenizer: Any, terminal: set[int], *, may_grow: bool) -> str:
    """Give model and tokenizer a padding token that ends no answer; returns the line that names it. With `may_grow` the
    embedding is trained and saved, so that it may get a row."""
    rows = base.get_input_embeddings().weight.shape[0]
    pad = tokenizer.pad_token_id
    if pad is None or pad in terminal or pad >= rows:
        spare = [
            token.content
            for i, token in tokenizer.added_tokens_decoder.items()
            if "pad" in token.content and i not in terminal and i < rows
        ]
        if spare:
            tokenizer.pad_token = spare[0]
        elif len(tokenizer) < rows or may_grow:
            tokenizer.add_special_tokens({"pad_token": PAD})
            if len(tokenizer) > rows:  # a row more, which no text reaches
                base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        elif tokenizer.unk_token_id is not None and tokenizer.unk_token_id not in terminal:
            tokenizer.pad_token = tokenizer.unk_token
        else:
            base.config.get_text_config().pad_token_id = None
            return (
                "reward model: no token is free for padding, so transformers will score the saved model's answers one "
                "at a time only"
            )
    base.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return f"reward model: pads with {tokenizer.pad_token!r}, which ends no answer"
