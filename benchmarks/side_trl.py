"""Worker: TRL's DPOTrainer over the prepared pairs, as a user of TRL would call it, one configuration per process.

The trainer itself is untouched: a subclass only writes down the loss of every step in full precision (TRL's own log is
kept on, every step, as burnish's is) and counts pairs that went through the reference. Pairs come in file order, so
that both trainers meet the same pairs in the same steps; with `grouped.jsonl` that is perfect grouping by length.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from common import (
    BETA,
    LEARNING_RATE,
    LORA,
    LORA_LEARNING_RATE,
    LORA_TARGETS,
    MAX_LENGTH,
    PAIRS_PER_STEP,
    Job,
    Stamps,
    peak_megabytes,
    start_worker,
)


def arguments(job: Job, work: Path, steps: int) -> Any:
    """TRL's defaults except what both trainers must share (rate, schedule, order, steps) and the job's options.

    Options: micro_batch (pairs), checkpointing, precompute.
    """
    from trl.trainer.dpo_config import DPOConfig

    micro = job.option("micro_batch", PAIRS_PER_STEP)
    return DPOConfig(
        output_dir=str(work / "trl_output"),
        use_cpu=True,
        bf16=job.dtype == "bfloat16",
        beta=job.option("beta", BETA),
        max_length=MAX_LENGTH,
        learning_rate=LORA_LEARNING_RATE if job.option("lora", False) else LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=PAIRS_PER_STEP // micro,
        gradient_checkpointing=job.option("checkpointing", True),
        precompute_ref_log_probs=job.option("precompute", False),
        precompute_ref_batch_size=PAIRS_PER_STEP,
        train_sampling_strategy="sequential",
        model_init_kwargs={"attn_implementation": job.option("attention", "sdpa")},
        dataloader_pin_memory=False,
        logging_steps=1,
        disable_tqdm=True,
        report_to=[],
        save_strategy="no",
        seed=0,
    )


def build(job: Job, work: Path, notes: dict[str, Any]) -> Any:
    """The trainer, with its loss, steps and reference use written into `notes`."""
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl.trainer.dpo_trainer import DPOTrainer

    class Watched(DPOTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)  # type: ignore[no-untyped-call]
            notes["losses"][self.state.global_step].append(float(loss.detach()))
            return loss

        def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
            begin = time.perf_counter()
            answer = super().compute_ref_log_probs(model, inputs)  # type: ignore[no-untyped-call]
            notes["reference_seconds"] += time.perf_counter() - begin
            notes["reference_pairs"] += inputs["input_ids"].shape[0] // 2
            return answer

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            notes["stamps"].end_of_step()

    data = load_dataset("json", data_files=str(work / f"{job.arrangement}.jsonl"), split="train")
    data = data.select_columns(["prompt", "chosen", "rejected"])
    steps = job.option("steps", len(data) // PAIRS_PER_STEP)
    adapter = None
    if job.option("lora", False):
        adapter = LoraConfig(
            r=LORA["rank"], lora_alpha=LORA["alpha"], target_modules=list(LORA_TARGETS), task_type="CAUSAL_LM"
        )
    return Watched(
        model=str(work / "model"),
        args=arguments(job, work, steps),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(work / "model"),
        peft_config=adapter,
        callbacks=[Clock()],
    )


def main() -> None:
    job, work, _, result = start_worker()
    notes: dict[str, Any] = {
        "stamps": Stamps(),
        "losses": defaultdict(list),
        "reference_seconds": 0.0,
        "reference_pairs": 0,
    }
    trainer = build(job, work, notes)
    trainer.train()
    losses = [sum(parts) / len(parts) for _, parts in sorted(notes["losses"].items())]
    pairs = notes["reference_pairs"]
    if not job.option("precompute", False):
        pairs = PAIRS_PER_STEP * len(losses)  # the live reference sees every pair of every step
    answer = {
        **notes["stamps"].report(),
        "losses": losses,
        "peak_mb": peak_megabytes(),
        "reference_pairs": pairs,
        "reference_seconds": notes["reference_seconds"],
    }
    result.write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
