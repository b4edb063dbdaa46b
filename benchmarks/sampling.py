"""The in-process sampler against transformers' `generate`: tokens a second, in one run, on one core.

    python benchmarks/sampling.py --data PAIRS.jsonl --out benchmarks/results/sampling.json [--rounds 3] [--families]

A random Llama of shape S1 with a byte-level BPE trained on the data; prompts are those at the octiles of length; every
answer has 64 new tokens at temperature 1 (the end token is never drawn within them). K = 1: 32 prompts, one answer
each. K = 8: 8 prompts, eight answers each. `generate` gets its best: sdpa attention, a key-value cache, prompts of a
batch padded on the left, `num_return_sequences`. With `--families`, tiny random models of many families as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests.zoo has the families

from common import SHAPES, machine, versions
from side_prepare import make_model, read_pairs, train_tokenizer

NEW = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--families", action="store_true")
    parser.add_argument("--core", type=int, default=1)
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.core})
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        texts = [pair["prompt"] for pair in read_pairs(given.data)]
        tokenizer = train_tokenizer(texts, SHAPES["S1"].vocabulary)
        make_model(SHAPES["S1"], tokenizer, Path(folder))
        rows = sorted((tuple(ids) for ids in tokenizer(texts)["input_ids"] if 1 < len(ids) <= 512), key=len)
        found: dict[str, Any] = {"machine": machine(), "versions": versions(), "rounds": given.rounds, "rows": {}}
        for name in ("float32", "bfloat16"):
            sides = Sides.of(folder, getattr(torch, name))
            for k, count in ((1, 32), (8, 8)):
                chosen = [rows[int((2 * i + 1) * len(rows) / (2 * count))] for i in range(count)]
                found["rows"][f"S1 {name}, K = {k}"] = compare(sides, chosen, k, given.rounds)
    if given.families:
        found["families"] = families(given.rounds)
    given.out.write_text(json.dumps(found, indent=1) + "\n")


class Sides:
    """One model, and the two ways to sample from it."""

    def __init__(self, engine: Any) -> None:
        from burnish.answers.sampler.process import ProcessSampler

        self.engine, self.sampler = engine, ProcessSampler(engine, frozenset())

    @classmethod
    def of(cls, path: str, dtype: Any) -> Sides:
        from transformers import AutoModelForCausalLM

        from burnish.engine import canary, model
        from burnish.engine.engine import Engine

        module = AutoModelForCausalLM.from_pretrained(path).eval()
        policy = model.Policy(module, module, path, dtype, module.config._attn_implementation)
        verdict = canary.decide(policy, "auto")
        module.to(dtype)
        return cls(Engine(policy, 8192, shared=verdict.shared, plain_head=verdict.plain_head, pruned=verdict.pruned))

    def ours(self, prompts: Sequence[tuple[int, ...]], k: int) -> int:
        from burnish.answers.sampler import Decoding
        from burnish.data.prompts import Prompt

        asked = [Prompt(str(i), ids) for i, ids in enumerate(prompts)]
        return sum(len(a.ids) for own in self.sampler(asked, k, Decoding(NEW), 0, 0) for a in own)

    def generate(self, prompts: Sequence[tuple[int, ...]], k: int) -> int:
        import torch

        policy = self.engine.policy
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        with policy.stock(), torch.no_grad():
            out = policy.base.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, num_return_sequences=k, max_new_tokens=NEW,
                min_new_tokens=NEW, top_k=0, pad_token_id=0,
            )  # fmt: skip
        return int((out.shape[1] - width) * out.shape[0])


def compare(sides: Sides, prompts: Sequence[tuple[int, ...]], k: int, rounds: int) -> dict[str, Any]:
    """Tokens a second of both, medians of interleaved rounds after one of each to warm up."""
    ways: dict[str, Callable[[Sequence[tuple[int, ...]], int], int]] = {"generate": sides.generate, "ours": sides.ours}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            tokens = way(prompts, k)
            if number:
                rates[name].append(tokens / (time.perf_counter() - began))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratio = medians["ours"] / medians["generate"]
    print(f"K = {k}: generate {medians['generate']:.0f}, ours {medians['ours']:.0f} tokens/s, {ratio:.2f}", flush=True)
    mean = sum(map(len, prompts)) / len(prompts)
    return {**{name: round(value, 1) for name, value in medians.items()}, "ratio": round(ratio, 3), "prompt": mean}


def families(rounds: int) -> dict[str, Any]:
    """Eight prompts of unequal length, four answers each, on tiny models: where overhead is all there is."""
    import torch

    from burnish.engine import canary, model
    from burnish.engine.engine import Engine
    from tests import zoo

    draw = torch.Generator().manual_seed(0)
    prompts = [tuple(torch.randint(3, 120, (n,), generator=draw).tolist()) for n in (5, 40, 12, 30, 22, 9, 17, 26)]
    found = {}
    for family in zoo.FAMILIES:
        module = zoo.tiny(family)
        policy = model.Policy(module, module, family, torch.float32, module.config._attn_implementation)
        verdict = canary.decide(policy, "auto")
        engine = Engine(policy, 8192, shared=verdict.shared, plain_head=verdict.plain_head, pruned=verdict.pruned)
        print(family, end=" ", flush=True)
        found[family] = compare(Sides(engine), prompts, 4, rounds) | {"shared": verdict.shared}
    return found


if __name__ == "__main__":
    main()
