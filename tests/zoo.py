"""Tiny random models of many families, and real tokenizers trained on the spot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.decoders import ByteLevel
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
WINDOW = {"sliding_window": 6, "head_dim": 8}
DEEPSEEK = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 24,
    "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 12, "num_key_value_heads": 4, "n_shared_experts": 1,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 1}

SHARING: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "llama_tied": ("LlamaConfig", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "mistral": ("MistralConfig", {"sliding_window": 6}),
    "gemma2": ("Gemma2Config", {**WINDOW, "final_logit_softcapping": 5.0, "attn_logit_softcapping": 4.0}),
    "gemma3": ("Gemma3TextConfig", WINDOW),
    "phi3": ("Phi3Config", {}),
    "olmo2": ("Olmo2Config", {}),
    "gpt2": ("GPT2Config", GPT2),
    "granite": ("GraniteConfig", {"logits_scaling": 4.0, "attention_multiplier": 0.3, "residual_multiplier": 0.5}),
    "cohere2": ("Cohere2Config", {"sliding_window": 6, "logit_scale": 0.3}),
    "gpt_oss": ("GptOssConfig", {**WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": ("Qwen3MoeConfig", {**MOE, "num_experts": 4, "head_dim": 8}),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "deepseek_v3": ("DeepseekV3Config", DEEPSEEK),
    "smollm3": ("SmolLM3Config", {}),
}
NOT_SHARING: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_next": (
        "Qwen3NextConfig",
        {
            **MOE, "num_experts": 4, "head_dim": 8, "shared_expert_intermediate_size": 24, "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_hidden_layers": 4,
        },
    ),
    "mamba": ("MambaConfig", {"state_size": 4}),
    "lfm2": ("Lfm2Config", {"layer_types": ["conv", "full_attention"]}),
    "bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}),
    "falcon": ("FalconConfig", {"new_decoder_architecture": False, "multi_query": True, "num_kv_heads": 1}),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        {
            **MOE, "num_experts": 4, "shared_expert_intermediate_size": 24, "sliding_window": 24,
            "use_sliding_window": True, "max_window_layers": 0,
        },
    ),
    "llama4": (
        "Llama4TextConfig",
        {
            "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "intermediate_size_mlp": 48,
            "attention_chunk_size": 8, "num_hidden_layers": 2,
        },
    ),
}  # fmt: skip
FAMILIES = {**SHARING, **NOT_SHARING}


def tiny(family: str, dtype: torch.dtype = torch.float32, vocabulary: int = 120) -> Any:
    """A random model of the family, with weights large enough that mistakes show."""
    name, settings = FAMILIES[family]
    config_class = getattr(transformers, name)
    base = {} if name in ("GPT2Config", "BloomConfig") else COMMON
    config = config_class(vocab_size=vocabulary, **{**base, **settings})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model = model.to(dtype).eval()
    if dtype == torch.float64 and hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    return model


def plain_logps(model: Any, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> Tensor:
    """The oracle: log p(completion_t | prompt, completion_<t), shape [completion], in nats and the model's own dtype.

    The stock forward on one sequence alone: no padding, no packing, no cache, log_softmax of the model's own logits.
    """
    ids = torch.tensor([[*prompt_ids, *completion_ids]])
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(list(completion_ids))[:, None])[:, 0]


TEXT = [
    "the quick brown fox jumps over the lazy dog", "What is 7+5? It is 12.", "Human: hello\n\nAssistant: hi, there",
    "system user assistant question answer", "<think> so the answer is 12 </think> 12", "naïve café — ünïcode ✓",
] * 4  # fmt: skip
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' "
    "+ m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
QWEN3 = (  # thoughts are cut from history; the last answer always has its block, an empty one if need be
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% set thought = m.content.split('</think>')[0].split('<think>')[-1] if '</think>' in m.content else '' %}"
    "{% if loop.last %}{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
R1 = (  # the generation header opens the thoughts
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content.split('</think>')[-1] }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
ZEPHYR = (  # writes no BOS (the tokenizer adds it), and its header ends without a space
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
KINDS: dict[str, tuple[list[str], str | None, str | None, str]] = {
    # name: (special tokens, template, bos, eos)
    "chatml": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], CHATML, None, "<|endoftext|>"),
    "llama3": (
        ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"],
        LLAMA3, "<|begin_of_text|>", "<|end_of_text|>",
    ),
    "llama2": (["<s>", "</s>"], LLAMA2, "<s>", "</s>"),
    "qwen3": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], QWEN3, None, "<|im_end|>"),
    "r1": (["<s>", "</s>"], R1, "<s>", "</s>"),
    "zephyr": (["<s>", "</s>"], ZEPHYR, "<s>", "</s>"),
    "plain": (["<|endoftext|>"], None, None, "<|endoftext|>"),
    "plain_bos": (["<s>", "</s>"], None, "<s>", "</s>"),
}  # fmt: skip
SPACED = ("llama2", "zephyr")  # SentencePiece's manner: a space is put before every text, bytes are the fallback


def tokenizer(kind: str, vocabulary: int = 400) -> PreTrainedTokenizerFast:
    """A BPE trained on the spot. Those with a BOS add it in their post-processor, as Llama's do."""
    special, template, bos, eos = KINDS[kind]
    raw = _spaced(special, vocabulary) if kind in SPACED else _byte_level(special, vocabulary)
    if bos:
        pair = (bos, raw.token_to_id(bos))
        raw.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[pair])  # type: ignore[assignment]
    made = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token=eos, pad_token=eos)
    made.add_special_tokens({"additional_special_tokens": special[1:]})  # type: ignore[dict-item]
    made.chat_template = template
    return made


def _byte_level(special: list[str], vocabulary: int) -> Tokenizer:
    """GPT-2's manner: bytes are the alphabet, a space belongs to the word behind it."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    raw.decoder = ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    raw.train_from_iterator(TEXT, trainer)
    return raw


def _spaced(special: list[str], vocabulary: int) -> Tokenizer:
    """Llama-2's manner: the normaliser prepends a space to each stretch of text, so a text alone gains one."""
    learnt = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - 256 - len(special), show_progress=False)
    learnt.train_from_iterator(["▁" + word for text in TEXT for word in text.split()], trainer)
    model = json.loads(learnt.to_str())["model"]
    tokens = [*special, *(f"<0x{i:02X}>" for i in range(256)), *sorted(model["vocab"], key=model["vocab"].get)]
    merges = [tuple(pair) for pair in model["merges"]]
    raw = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges, byte_fallback=True))
    raw.add_special_tokens(special)  # type: ignore[arg-type]
    space = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    raw.normalizer = normalizers.Sequence(space)  # type: ignore[assignment]
    chain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    raw.decoder = decoders.Sequence(chain)  # type: ignore[assignment]
    return raw


def save_model_dir(path: Path, family: str = "llama", kind: str = "chatml") -> Path:
    """A Hugging Face model folder with its tokenizer."""
    made = tokenizer(kind)
    tiny(family, vocabulary=len(made)).save_pretrained(path)
    made.save_pretrained(path)
    return path
