"""An online step against TRL's RLOO and GRPO trainers: seconds, and what they go into; same CPU core, model, prompts,
K and lengths.

    python benchmarks/online_vs_trl.py --data PAIRS.jsonl --out benchmarks/results/online_vs_trl.json

A random Llama of shape S1; in each step 4 prompts, 8 answers each of 48 tokens (the end token is all but never drawn),
temperature 1; the reward is a trivial function of the text; a KL to the reference. TRL is run in several settings (with
its allocator told to keep memory, in smaller micro-batches), and its
fastest counts. Every side runs in a process of its own, on one core with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import KEEP_MEMORY, SHAPES, machine, versions, worker_environment

PROMPTS, K, NEW, STEPS, WARM = 4, 8, 48, 2, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--side", nargs=3)  # in a worker: name, settings, result
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    if given.side:
        worker(given.work, *given.side, core=given.core)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(given.data, work)
        rows = []
        for method, dtype in (("rloo", "float32"), ("rloo", "bfloat16"), ("grpo", "float32")):
            rows += compare(work, method, dtype, given.core)
        found = {"machine": machine(), "versions": versions(), "prompts": PROMPTS, "k": K, "new_tokens": NEW}
        found["rows"] = rows
        given.out.write_text(json.dumps(found, indent=1) + "\n")


def prepare(data: Path, work: Path) -> None:
    from side_prepare import make_model, read_pairs, train_tokenizer

    texts = [pair["prompt"] for pair in read_pairs(data)]
    tokenizer = train_tokenizer(texts, SHAPES["S1"].vocabulary)
    make_model(SHAPES["S1"], tokenizer, work / "model")
    ranked = sorted((text for text in texts if len(tokenizer(text)["input_ids"]) <= 384), key=len)
    total = PROMPTS * (STEPS + WARM)
    chosen = [ranked[int((2 * i + 1) * len(ranked) / (2 * total))] for i in range(total)]
    mixed = [chosen[i] for step in range(STEPS + WARM) for i in range(step, total, STEPS + WARM)]  # all lengths a step
    (work / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in mixed))


def compare(work: Path, method: str, dtype: str, core: int) -> list[dict[str, Any]]:
    """TRL's settings one by one, and ours."""
    keep, small = {"keep_memory": True}, {"micro_batch": 8}
    settings = [keep, keep | small] if method == "rloo" else [keep]
    settings = [{}, *settings] if (method, dtype) == ("rloo", "float32") else settings
    rows = []
    for one in settings:
        rows.append(run(work, "trl", {"method": method, "dtype": dtype, **one}, core))
    rows.append(run(work, "burnish", {"method": method, "dtype": dtype}, core))
    known = [row["seconds"] for row in rows[:-1] if "seconds" in row]
    if known and "seconds" in rows[-1]:
        rows[-1]["ratio"] = round(min(known) / rows[-1]["seconds"], 3)
        print(f"{method} {dtype}: TRL's best {min(known):.2f} s, ours {rows[-1]['seconds']:.2f} s: {rows[-1]['ratio']}")
    return rows


def run(work: Path, side: str, settings: dict[str, Any], core: int) -> dict[str, Any]:
    result = work / "result.json"
    result.unlink(missing_ok=True)
    environment = {**os.environ, **worker_environment(work), **(KEEP_MEMORY if settings.get("keep_memory") else {})}
    words = [sys.executable, __file__, "--work", str(work), "--core", str(core), "--side", side, json.dumps(settings)]
    done = subprocess.run([*words, str(result)], env=environment, capture_output=True, text=True, check=False)
    if not result.exists():
        return {"side": side, **settings, "error": done.stderr.strip().splitlines()[-1:]}
    row = {"side": side, **settings, **json.loads(result.read_text())}
    print(row, flush=True)
    return row


def worker(work: Path, side: str, settings: str, result: str, *, core: int) -> None:
    os.sched_setaffinity(0, {core})
    import torch

    torch.set_num_threads(1)
    given = json.loads(settings)
    found = trl(work, **given) if side == "trl" else ours(work, **given)
    Path(result).write_text(json.dumps(found))


def trl(
    work: Path, method: str, dtype: str, keep_memory: bool = False, micro_batch: int = PROMPTS * K
) -> dict[str, Any]:  # fmt: skip
    import time

    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    config, trainer = (RLOOConfig, RLOOTrainer) if method == "rloo" else (GRPOConfig, GRPOTrainer)
    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.began)

    parts = PROMPTS * K // micro_batch
    arguments = config(
        output_dir=str(work / "trl"), per_device_train_batch_size=micro_batch, gradient_accumulation_steps=parts,
        steps_per_generation=parts, num_generations=K, max_completion_length=NEW, temperature=1.0, beta=0.05,
        learning_rate=1e-6, max_steps=STEPS + WARM, bf16=dtype == "bfloat16", use_cpu=True, report_to=[],
        logging_steps=100, save_strategy="no", gradient_checkpointing=False, shuffle_dataset=False,
        generation_kwargs={"min_new_tokens": NEW},
    )  # fmt: skip
    data = load_dataset("json", data_files=str(work / "prompts.jsonl"), split="train")
    run = trainer(
        model=AutoModelForCausalLM.from_pretrained(work / "model"), args=arguments, train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(work / "model"), callbacks=[Clock()],
        reward_funcs=lambda completions, **_: [float(len(text) % 7) for text in completions],
    )  # fmt: skip
    began = time.perf_counter()
    run.train()
    whole = time.perf_counter() - began
    # generation falls inside the first micro-batch's step; what the clock misses between steps is in `whole`
    return {"seconds": statistics.median(seconds[WARM:]), "whole": whole}


def reward(prompt: str, answer: str, meta: Any) -> float:
    return float(len(answer) % 7)


def ours(work: Path, method: str, dtype: str) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).parent))
    from burnish import config
    from burnish.loop import train
    from burnish.runlog import log

    extra = ["objective.kl_coef=0.05"] if method == "grpo" else ["objective.kl_in_reward=0.05"]
    folder = train.run(
        config.load(None, [
            f"model.path={work / 'model'}", f"model.dtype={dtype}", f"source.prompts={work / 'prompts.jsonl'}",
            "data.template=plain", "source.refresh_every=1", f"source.k={K}", f"source.max_new_tokens={NEW}",
            "judge.kind=verifier", "judge.name=online_vs_trl:reward", f"objective.name={method}", *extra,
            "optim.lr=1e-6", f"optim.steps={STEPS + WARM}", f"optim.groups_per_step={PROMPTS}",
            f"run.dir={work / 'ours'}", "run.overwrite=true", "engine.threads=1", "engine.token_budget=16384",
        ])
    )  # fmt: skip
    records = list(log.read_rows(folder))
    steps = [float(r["seconds"]) for r in records if r["record"] == "step"][WARM:]
    fresh = [r for r in records if r["record"] == "refresh"][WARM:]
    parts = {name: statistics.median(float(r[f"seconds/{name}"]) for r in fresh)
             for name in ("sampling", "judging", "measuring")}  # fmt: skip
    median = statistics.median(steps)
    return {"seconds": median, "parts": parts | {"training": median - sum(parts.values())},
            "length": statistics.mean(float(r["length"]) for r in fresh)}  # fmt: skip


if __name__ == "__main__":
    main()
