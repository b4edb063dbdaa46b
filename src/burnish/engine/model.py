"""Loading and saving a policy: any Hugging Face causal LM, its head, and its adapters.

The kernels of the policy and of its reference are the same module in the same dtype. `dtype = "bfloat16"` keeps
float32 master weights (see `masters.py`) and computes in bfloat16; buffers such as rotary frequencies stay float32.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish.config import AdapterConfig, ModelConfig
from burnish.engine import adapters, modalities, norms, sharding, weights
from burnish.engine.logprob import HeadTransform
from burnish.engine.weights import DTYPES, Place
from burnish.errors import ConfigError

NOISE = re.compile(r"dropout|layerdrop|layer_drop|jitter|_pdrop")  # attributes through which families add noise


def scalar_head(base: Any) -> nn.Linear:
    """The linear layer [1, width] of a sequence classifier; under an adapter, the copy that peft trains."""
    head = base.score
    copies = getattr(head, "modules_to_save", None)
    linear: nn.Linear = head if copies is None else copies[head.active_adapter]
    return linear


@dataclass
class Policy:
    """A causal LM taken apart where the engine needs it: decoder, head, and what the family does to its logits."""

    module: Any  # a PreTrainedModel, or a PeftModel around it
    base: Any  # the PreTrainedModel
    path: str
    dtype: torch.dtype
    stock_attention: str  # the implementation transformers chose at load
    scalar: bool = False  # a reward model: a scalar head in place of the head over the vocabulary
    pooled_over: tuple[int, ...] = ()  # tokens at an answer's end that a reward model by others is not read at
    sharded: bool = False  # its weights are divided over processes, in float32 (float64)
    anew: Callable[[], Policy] | None = None  # where sharded: makes the same model without weights
    folded: adapters.LowRank | None = None  # of a model made of a base and adapters: what these add to the base
    companions: Mapping[str, bytes] = field(default_factory=dict)  # files that are saved with it, by name
    stored: torch.dtype = torch.float32  # the type of the files that it was read from

    @property
    def decoder(self) -> nn.Module:
        return modalities.decoder_of(self.base)

    @property
    def head(self) -> nn.Linear:
        head: nn.Linear = self.base.get_output_embeddings()
        return head

    @property
    def scalar_head(self) -> nn.Linear:
        """The reward model's head, [1, width]; under an adapter, the copy that is trained."""
        return scalar_head(self.base)

    @property
    def transform(self) -> HeadTransform:
        return head_transform(self.base.config.get_text_config())

    @property
    def adapted(self) -> bool:
        return self.module is not self.base

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.module.parameters()).device
        return device

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def within(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run `work` while embedding and head are whole, as they always are in a single process."""
        return sharding.run_within(self.base, work, *args) if self.sharded else work(*args)

    def settle(self) -> None:
        """Call it after a pass without gradient, before weights change or are read by name."""
        if self.sharded:
            sharding.settle(self.base)

    @contextmanager
    def stock(self) -> Iterator[None]:
        """The stock attention, put back for a while, for comparisons and for sampling."""
        current = self.base.config._attn_implementation
        self.base.set_attn_implementation(self.stock_attention)
        try:
            yield
        finally:
            self.base.set_attn_implementation(current)

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """The initial policy: for an adapter, the same module with the adapter switched off."""
        trained = [parameter for _, parameter in self.trainable()]
        with self.module.disable_adapter() if self.adapted else nullcontext():
            for parameter in trained:  # peft also freezes it, and FSDP reads on its first pass what is trained
                parameter.requires_grad_(True)
            yield


def head_transform(config: Any) -> HeadTransform:
    """The logit transform of a family that transformers knows; the canary proves it on the loaded model."""
    scale = 1.0
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        scale *= float(getattr(config, name, None) or 1.0)
    scaling = getattr(config, "logits_scaling", None)
    if scaling:
        scale *= float(scaling) if config.model_type.startswith("hyperclovax") else 1.0 / float(scaling)
    return HeadTransform(scale, getattr(config, "final_logit_softcapping", None))


def load_policy(model: ModelConfig, adapter: AdapterConfig | None = None, *, place: Place = "device") -> Policy:
    """Load the weights as float32 (float64 on request), fold in the adapters that `model.path` names, and add the new
    one where it is asked for.

    Raises ModelError when the folder does not fit, ConfigError when the adapter cannot be built.
    """
    adapter = adapter or AdapterConfig()
    base = weights.load_base(model, quantize=adapter.kind == "qlora", place=place)
    base, folded = fold_adapters(base, weights.origin(model).adapters, adapter, place=place)
    silence_dropout(base)
    norms.fuse(base)
    modalities.freeze(base)
    module = base if adapter.kind == "none" else add_adapter(base, adapter)
    return Policy(
        module, base, model.path, DTYPES[model.dtype], base.config._attn_implementation, folded=folded,
        companions=weights.companions(model.path), stored=weights.stored_type(model),
    )  # fmt: skip


def open_policy(model: ModelConfig) -> Policy:
    """A policy to score with; an adapter stays beside its base, as it was trained. Raises ModelError."""
    origin = weights.origin(model)
    if not origin.adapters:
        return load_policy(model)
    *below, last = origin.adapters
    policy = load_policy(model.model_copy(update={"path": str(below[-1]) if below else origin.base}))
    return replace(policy, module=weights.open_adapter(policy.base, last))


def fold_adapters(
    base: Any, folders: Sequence[Path], adapter: AdapterConfig, *, scalar: bool = False, place: Place = "device"
) -> tuple[Any, adapters.LowRank | None]:
    """(the model with adapters folded in, what they add to its weights).

    `adapter` is the one to be trained on it. Raises ConfigError where that could not be saved beside them, ModelError
    where an adapter does not fit.
    """
    if folders and adapter.kind == "qlora":
        raise ConfigError(
            f"adapter.kind = 'qlora' cannot start from an adapter: {folders[-1]} cannot be folded into 4-bit "
            "weights. Write the whole model first (`burnish merge`)"
        )
    if place == "nowhere":
        return base, None
    every: adapters.LowRank = {}
    for folder in folders:
        opened = weights.open_adapter(base, folder, trained="SEQ_CLS" if scalar else "CAUSAL_LM")
        low_rank = adapters.low_rank(opened)
        if adapter.kind != "none" and (low_rank is None or adapter.dora):
            raise ConfigError(
                f"adapter.kind = '{adapter.kind}' on {folder}: the two cannot be saved as one adapter, since "
                f"{'adapter.dora is set' if low_rank is not None else 'that one is no plain LoRA'}. Write the whole "
                "model first (`burnish merge`)"
            )
        every = adapters.stacked(every, low_rank or {})
        base = adapters.fold(opened, folder)
    return base, every if folders else None


def silence_dropout(module: nn.Module) -> None:
    """Switch off every dropout and jitter: preference losses compare two passes, and noise between them is noise in the
    margin."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        for name, value in list(vars(part).items()):
            if isinstance(value, float) and NOISE.search(name):
                setattr(part, name, 0.0)


def add_adapter(base: Any, adapter: AdapterConfig, *, scalar: bool = False) -> Any:
    """The model with a fresh LoRA; raises ConfigError where `adapter.targets` does not fit."""
    from peft import LoraConfig, TaskType, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    targets: Any = list(adapter.targets) if not isinstance(adapter.targets, str) else adapter.targets
    if "lm_head" in targets or (isinstance(targets, list) and "embed_tokens" in targets):
        raise ConfigError("adapter.targets: adapters on the embedding or the output head are not supported")
    settings = LoraConfig(
        task_type=TaskType.SEQ_CLS if scalar else TaskType.CAUSAL_LM,
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]
        lora_dropout=adapter.dropout,
        target_modules=targets,
        exclude_modules=modalities.pattern(modalities.unreached(base)),
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
    )
    try:
        with warnings.catch_warnings():  # peft asks transformers by names that are going out of use
            warnings.simplefilter("ignore", FutureWarning)
            adapted = get_peft_model(base, settings)
    except ValueError as error:
        raise ConfigError(f"adapter.targets: {str(error).splitlines()[0]}") from error
    for part in (base.get_input_embeddings(), base.get_output_embeddings()):
        if isinstance(part, BaseTunerLayer):
            raise ConfigError(f"adapter.targets = {targets!r} reaches the embedding or the output head: not supported")
    adapters.fuse(adapted)
    return adapted


def cast_for_compute(policy: Policy) -> None:
    """Cast parameters, never buffers: rotary frequencies in bfloat16 would be off by a whole position at 256. What text
    does not reach keeps its type, and so its bits."""
    if policy.dtype == torch.bfloat16 and not policy.sharded:  # divided weights are cast when they are put together
        kept = {id(parameter) for parameter in modalities.unreached_parameters(policy.base).values()}
        for parameter in policy.module.parameters():
            if parameter.is_floating_point() and parameter.dtype == torch.float32 and id(parameter) not in kept:
                parameter.data = parameter.data.to(torch.bfloat16)


def save_model(policy: Policy, folder: Path, tokenizer: Any, gathered: dict[str, Any] | None = None) -> None:
    """Write the model (or adapter) with tokenizer and companions into `folder`, in the type it was computed in.
    `gathered` are the weights of a divided model."""
    folder.mkdir(parents=True)
    base = Path(policy.base.name_or_path)
    if policy.adapted and base.is_dir():  # so that the adapter finds its base from any folder
        policy.module.active_peft_config.base_model_name_or_path = str(base.resolve())
    if policy.adapted and policy.folded is not None:
        adapters.save_stacked(policy.module, policy.folded, folder, gathered)
    else:
        if not policy.adapted and modalities.unreached(policy.base):
            gathered = modalities.as_stored(policy.base, gathered or policy.base.state_dict(), policy.stored)
        policy.module.save_pretrained(folder, state_dict=gathered)
    file = folder / "config.json"
    if file.exists():
        config = json.loads(file.read_text())
        config["dtype"] = str(policy.dtype).removeprefix("torch.")  # transformers names that of the first parameter
        config.pop("attn_implementation", None)
        config.get("text_config", config)["use_cache"] = True
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(folder)
    for name, content in policy.companions.items():
        (folder / name).write_bytes(content)
