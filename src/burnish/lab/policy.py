"""The lab's policy: a 20-token tokenizer, a two-layer Llama trained from scratch in seconds, and a batched sampler.

Everything on disk is ordinary Hugging Face: `AutoTokenizer` and `AutoModelForCausalLM` load the folder.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from burnish.lab.world import CARDS, CHARACTERS, MAX_NEW_TOKENS, Answer, Card, demonstrate

PAD, EOS, UNKNOWN = 0, 1, 2
_SPECIAL = ("<pad>", "<eos>", "<unk>")
_VOCABULARY = {token: index for index, token in enumerate((*_SPECIAL, *CHARACTERS))}
_GLYPHS = "␀␄␦" + CHARACTERS  # one sign per token, so that a special token drawn inside an answer stays one sign long
_ID = {glyph: index for index, glyph in enumerate(_GLYPHS)}

SFT_STEPS, SFT_BATCH, SFT_LR, SFT_WARMUP = 500, 96, 3e-3, 20
Tick = Callable[[int, float], None]  # (steps or answers done so far, loss or nan), for a progress display


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character, 17 characters and `<pad>`, `<eos>`, `<unk>`; no BOS and no chat template."""
    inner = Tokenizer(models.BPE(vocab=_VOCABULARY, merges=[], unk_token=_SPECIAL[UNKNOWN]))
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        pad_token=_SPECIAL[PAD],
        eos_token=_SPECIAL[EOS],
        unk_token=_SPECIAL[UNKNOWN],
        clean_up_tokenization_spaces=False,
    )


def make_model(seed: int) -> LlamaForCausalLM:
    """A fresh Llama: hidden 64, 2 layers, 4 heads, MLP 192, tied; 108k float32 parameters, a function of the seed."""
    config = LlamaConfig(
        vocab_size=len(_VOCABULARY),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def encode(text: str) -> list[int]:
    """Ids of a text, one per sign; for the world's characters what the tokenizer gives, without its overhead."""
    return [_ID[glyph] for glyph in text]


def decode(card: Card, ids: Sequence[int]) -> Answer:
    """The answer in a row of sampled ids, cut at the end token; a special token inside shows as a glyph like `␀`."""
    finished = EOS in ids
    kept = ids[: ids.index(EOS)] if finished else ids
    return Answer(card, "".join(_GLYPHS[i] for i in kept), finished)


def prompt_ids(cards: Sequence[Card]) -> Int[Tensor, "cards 6"]:
    return torch.tensor([encode(card.prompt) for card in cards])


def answer_ids(answers: Sequence[Answer]) -> Int[Tensor, "answers width"]:
    """Answers as ids with their end token (where they ended), right-padded to the longest."""
    rows = [_answer_row(answer) for answer in answers]
    width = max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def _answer_row(answer: Answer) -> list[int]:
    return encode(answer.text) + [EOS] * answer.finished


def train_sft(seed: int, steps: int = SFT_STEPS, tick: Tick | None = None) -> LlamaForCausalLM:
    """Train a fresh policy to imitate the demonstrator: AdamW, cosine from 3e-3, 96 fresh demonstrations a step.

    A loop of its own and not burnish's trainer, because the demonstrator is a stream that never repeats: there is no
    file to read. The loss is the mean cross-entropy over answer tokens, end token included.
    """
    model = make_model(seed)
    rng = random.Random(f"demonstrations {seed}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=SFT_LR, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = SFT_LR * _cosine(step, steps)
        demonstrations = [demonstrate(rng.choice(CARDS), rng) for _ in range(SFT_BATCH)]
        loss = _imitation_loss(model, demonstrations)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if tick is not None and (step % 25 == 24 or step == steps - 1):
            tick(step + 1, loss.item())
    model.train(False)
    return model


def _cosine(step: int, steps: int) -> float:
    """Factor on the learning rate: 20 steps of warm-up, then a cosine down to 0 at the end."""
    if step < SFT_WARMUP:
        return (step + 1) / SFT_WARMUP
    return 0.5 * (1 + math.cos(math.pi * (step - SFT_WARMUP) / max(1, steps - SFT_WARMUP)))


def _imitation_loss(model: LlamaForCausalLM, demonstrations: Sequence[Answer]) -> Tensor:
    prompts, targets = prompt_ids([d.card for d in demonstrations]), answer_ids(demonstrations)
    rows = torch.cat([prompts, targets[:, :-1]], dim=1)
    logits = model(rows, use_cache=False, logits_to_keep=targets.shape[1]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)


@torch.inference_mode()
def sample(
    model: LlamaForCausalLM, cards: Sequence[Card], generator: torch.Generator, batch: int = 2000
) -> list[Answer]:
    """One answer per card from the policy as it is (temperature 1, nothing cut off), at most 16 tokens each.

    Prompts all have six tokens, so rows line up without padding; keys and values are cached.
    """
    answers: list[Answer] = []
    for start in range(0, len(cards), batch):
        part = cards[start : start + batch]
        rows = _sample_rows(model, prompt_ids(part), generator).tolist()
        answers += [decode(card, row) for card, row in zip(part, rows, strict=True)]
    return answers


def _sample_rows(
    model: LlamaForCausalLM, ids: Int[Tensor, "rows width"], generator: torch.Generator
) -> Int[Tensor, "rows steps"]:
    """Sampled ids; what follows a row's end token is to be ignored."""
    cache, drawn = DynamicCache(config=model.config), []
    ended = torch.zeros(ids.shape[0], dtype=torch.bool)
    for _ in range(MAX_NEW_TOKENS):
        logits = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
        ids = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        drawn.append(ids)
        ended |= ids[:, 0] == EOS
        if ended.all():
            break
    return torch.cat(drawn, dim=1)


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Write model and tokenizer so that the Auto classes of transformers load them."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
