"""Worker: from the HH file to a tokenizer, a random model, and 80 pairs in two arrangements, all in the work folder.

Timed pairs: 8 batches of 8, each around the middle of one octile of length, so that the 64 pairs have the length
distribution of the whole file. Two warm-up batches come from the middle and the long end, beside the timed ones.
`grouped.jsonl` keeps the batches (length-sorted batches are the best case of a padding trainer); `mixed.jsonl` deals
the same 64 timed pairs at random, as a trainer without grouping meets them.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

from common import MAX_LENGTH, PAIRS_PER_STEP, SHAPES, TIMED_STEPS, Shape

ASSISTANT = "\n\nAssistant:"
END, PAD = "<|endoftext|>", "<|pad|>"


def read_pairs(path: Path) -> list[dict[str, str]]:
    """HH rows as prompt / chosen / rejected text; rows whose prompts differ or whose answers are equal are left out."""
    pairs = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            (prompt, chosen), (other, rejected) = (split_transcript(row[side]) for side in ("chosen", "rejected"))
            if prompt and prompt == other and chosen.strip() and rejected.strip() and chosen != rejected:
                pairs.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return pairs


def split_transcript(text: str) -> tuple[str, str]:
    head, mark, answer = text.rpartition(ASSISTANT)
    return head + mark, answer


def train_tokenizer(texts: list[str], size: int) -> Any:
    """Byte-level BPE of at most `size` entries. No BOS, no chat template: both trainers read the text as it is."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped: Any = PreTrainedTokenizerFast
    return wrapped(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=4096)


def make_model(shape: Shape, tokenizer: Any, folder: Path) -> int:
    """Random Llama of the shape, float32; the vocabulary keeps the shape's size where the BPE ran out of merges."""
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
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def measure(pairs: list[dict[str, str]], tokenizer: Any) -> list[dict[str, Any]]:
    """Add token counts (end-of-text included); leave out pairs that are too long or whose boundary tokens merge."""

    def ids(text: str) -> list[int]:
        encoded: list[int] = tokenizer(text)["input_ids"]
        return encoded

    kept: list[dict[str, Any]] = []
    for pair in pairs:
        prompt, answers = ids(pair["prompt"]), [ids(pair[side] + END) for side in ("chosen", "rejected")]
        whole = [ids(pair["prompt"] + pair[side] + END) for side in ("chosen", "rejected")]
        if whole != [prompt + answer for answer in answers] or max(map(len, whole)) > MAX_LENGTH:
            continue
        kept.append({**pair, "prompt_tokens": len(prompt), "completion_tokens": [len(answer) for answer in answers]})
    return kept


def choose(pairs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The two arrangements: 16 warm-up pairs, then 64 timed ones. A pure function of the pairs."""

    def width(pair: dict[str, Any]) -> int:
        total: int = pair["prompt_tokens"] + max(pair["completion_tokens"])
        return total

    ranked = sorted(pairs, key=width)
    middles = [int((2 * k + 1) * len(ranked) / (2 * TIMED_STEPS)) for k in range(TIMED_STEPS)]
    half = PAIRS_PER_STEP // 2
    batches = [ranked[middle - half : middle + half] for middle in middles]
    warmup = [
        pair for k in (TIMED_STEPS // 2, TIMED_STEPS - 1) for pair in ranked[middles[k] + half : middles[k] + 3 * half]
    ]
    dealer = random.Random(0)
    dealer.shuffle(batches)
    grouped = [pair for batch in batches for pair in batch]
    mixed = dealer.sample(grouped, len(grouped))
    return {"grouped": warmup + grouped, "mixed": warmup + mixed}


def main() -> None:
    spec, result = (Path(argument) for argument in sys.argv[1:3])
    wanted = json.loads(spec.read_text())
    work, shape = Path(wanted["work"]), SHAPES[wanted["shape"]]
    pairs = read_pairs(Path(wanted["job"]["options"]["data"]))
    texts = [text for pair in pairs for text in (pair["prompt"] + pair["chosen"], pair["rejected"])]
    tokenizer = train_tokenizer(texts, shape.vocabulary)
    parameters = make_model(shape, tokenizer, work / "model")
    usable = measure(pairs, tokenizer)
    arrangements = choose(usable)
    for name, rows in arrangements.items():
        with (work / f"{name}.jsonl").open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
    timed = arrangements["grouped"][-PAIRS_PER_STEP * TIMED_STEPS :]
    answers = [n for row in timed for n in row["completion_tokens"]]
    prompts = [row["prompt_tokens"] for row in timed]
    unique = sum(prompts) + sum(answers)
    facts = {
        "usable_pairs": len(usable),
        "tokenizer_entries": len(tokenizer),
        "parameters": parameters,
        "mean_prompt_tokens": sum(prompts) / len(prompts),
        "mean_completion_tokens": sum(answers) / len(answers),
        "unique_over_total_tokens": unique / (2 * sum(prompts) + sum(answers)),
    }
    result.write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
