"""DPO on one GPU against TRL: the same random 0.5B model, the same pairs, the same steps.

    python benchmarks/one_gpu.py WORK [--result FILE]

Both train in bfloat16 with float32 weights and AdamW, on pairs of one shared prompt (100 to 400 words) and two
completions of as many. TRL runs with its reference computed beforehand, SDPA attention and each micro-batch named;
burnish runs through its command line with a token budget. Figures are pairs a second over the steps after the warm-up,
and the largest memory that torch allocated.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PAIRS_PER_STEP, STEPS, WARMUP = 32, 14, 4
MICRO_BATCHES = (4, 8)
BUDGETS = ("auto", "16384", "32768")


def prepare(work: Path) -> None:
    """A model folder and 448 pairs."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    rng = random.Random(0)
    lexicon = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(4000)]

    def words(count: int) -> str:
        return " ".join(rng.choices(lexicon, k=count))

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=["<end>", "<pad>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([words(2000) for _ in range(20)], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")
    wrapped.save_pretrained(work / "model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128_000, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(work / "model")
    with (work / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(PAIRS_PER_STEP * STEPS):
            sizes = [rng.randint(100, 400) for _ in range(3)]
            row = {"prompt": words(sizes[0]), "chosen": " " + words(sizes[1]), "rejected": " " + words(sizes[2])}
            file.write(json.dumps(row) + "\n")


def rate(stamps: list[float]) -> float:
    """Pairs a second after the warm-up, from the moments at which steps ended."""
    return PAIRS_PER_STEP * (len(stamps) - WARMUP) / (stamps[-1] - stamps[WARMUP - 1])


def burnish(work: Path, budget: str) -> dict[str, Any]:
    import torch

    from burnish.cli.main import main as command
    from burnish.runlog.log import RunLog
    from burnish.runlog.records import StepRecord

    stamps: list[float] = []
    losses: list[float] = []
    write = RunLog.write

    def timed(self: RunLog, record: Any) -> None:
        write(self, record)
        if isinstance(record, StepRecord):
            torch.cuda.synchronize()
            stamps.append(time.perf_counter())
            losses.append(record.loss)

    RunLog.write = timed  # type: ignore[method-assign]
    keys = {
        "model.path": work / "model", "data.train": work / "pairs.jsonl", "data.template": "plain",
        "data.format": "pairs", "data.max_length": 2048, "objective.name": "dpo", "objective.beta": 0.1,
        "optim.lr": 1e-6, "optim.steps": STEPS, "optim.groups_per_step": PAIRS_PER_STEP, "optim.schedule": "constant",
        "optim.warmup": 0.0, "optim.weight_decay": 0.0, "engine.token_budget": budget, "run.dir": work / "run",
        "run.overwrite": "true", "reference.store": work / f"store_{budget}",
    }  # fmt: skip
    try:
        command(["train", *(f"{key}={value}" for key, value in keys.items())])
    except SystemExit as stop:
        if stop.code:
            raise
    return {"pairs_per_second": rate(stamps), "peak_mib": torch.cuda.max_memory_allocated() / 2**20, "losses": losses}


def trl(work: Path, micro: str) -> dict[str, Any]:
    import torch
    from datasets import load_dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    stamps: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            stamps.append(time.perf_counter())

    arguments = DPOConfig(
        output_dir=str(work / "trl"), bf16=True, beta=0.1, max_length=2048, learning_rate=1e-6,
        lr_scheduler_type="constant", weight_decay=0.0, max_steps=STEPS, per_device_train_batch_size=int(micro),
        gradient_accumulation_steps=PAIRS_PER_STEP // int(micro), gradient_checkpointing=False,
        precompute_ref_log_probs=True, precompute_ref_batch_size=8, train_sampling_strategy="sequential",
        model_init_kwargs={"attn_implementation": "sdpa", "dtype": "float32"}, logging_steps=1, disable_tqdm=True,
        report_to=[], save_strategy="no", seed=0,
    )  # fmt: skip
    data = load_dataset("json", data_files=str(work / "pairs.jsonl"), split="train")
    trainer = DPOTrainer(
        model=str(work / "model"), args=arguments, train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(work / "model"), callbacks=[Clock()],
    )  # fmt: skip
    torch.cuda.reset_peak_memory_stats()
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"pairs_per_second": rate(stamps), "peak_mib": torch.cuda.max_memory_allocated() / 2**20, "losses": losses}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--result", type=Path, default=Path("benchmarks/results/one_gpu.json"))
    parser.add_argument("--side", nargs=2, metavar=("TRAINER", "SIZE"), help="what the script calls itself with")
    given = parser.parse_args()
    if given.side:
        trainer, size = given.side
        given.result.write_text(json.dumps({"burnish": burnish, "trl": trl}[trainer](given.work, size)), "utf-8")
        return
    import torch
    import transformers

    given.work.mkdir(parents=True, exist_ok=True)
    prepare(given.work)
    rows = []
    for trainer, size in [*(("burnish", b) for b in BUDGETS), *(("trl", str(m)) for m in MICRO_BATCHES)]:
        answer = given.work / "answer.json"
        answer.unlink(missing_ok=True)
        words = [sys.executable, __file__, str(given.work), "--result", str(answer), "--side", trainer, size]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        row = {"trainer": trainer, "size": size}
        row |= json.loads(answer.read_text()) if answer.exists() else {"error": (ended.stderr or ended.stdout)[-800:]}
        rows.append(row)
        print(json.dumps({key: value for key, value in row.items() if key != "losses"}), flush=True)
    machine = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    given.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
