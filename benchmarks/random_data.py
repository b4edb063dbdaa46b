"""Random models and random token data, made on the spot: what the benchmarks without a data set of their own run on.

The tokenizer knows words only ("w17"), so that any list of ids has a text which is read back as exactly these ids.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Shape

END, PAD = 0, 1
FIRST_WORD = 2  # ids below it are control tokens


def make_tokenizer(vocabulary: int) -> Any:
    """One word for each id. No BOS and no chat template: every trainer reads the text as it stands."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"</s>": END, "<pad>": PAD} | {f"w{i}": i for i in range(FIRST_WORD, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=f"w{FIRST_WORD}"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped: Any = PreTrainedTokenizerFast
    return wrapped(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", model_max_length=1 << 20)


def text_of(ids: Sequence[int]) -> str:
    """The text that the tokenizer reads as these ids, with a space before each word; no control tokens."""
    return "".join(f" w{i}" for i in ids)


def random_ids(draw: random.Random, count: int, vocabulary: int) -> list[int]:
    return [draw.randrange(FIRST_WORD, vocabulary) for _ in range(count)]


def make_model(shape: Shape, folder: Path, *, tied: bool = True, spread: float = 0.02, shift: float = 0.0) -> Path:
    """A random Llama of the shape with its tokenizer, float32. `spread`: standard deviation of the weights; `shift`:
    that of noise on top of them, which makes another model of the same seed, near the first."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.mlp,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_width,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=2048,
        initializer_range=spread,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    model = LlamaForCausalLM(config)
    if shift:
        noise = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(shift * torch.randn(parameter.shape, generator=noise))
    model.save_pretrained(folder)
    make_tokenizer(shape.vocabulary).save_pretrained(folder)
    return folder
