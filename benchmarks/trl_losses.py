"""TRL's side of `objectives_vs_trl.py`: its own trainers on a tiny data set, one loss and its gradient.

Nothing of TRL is replaced or typed again: a trainer is built as a user builds it, a batch comes from its own data
loader, and its own `compute_loss` is called. Where the step is cut into micro-batches, losses are averaged over them,
which is what the loop of transformers does for these trainers (`loss_is_scaled_for_ga = False`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from random_data import END, text_of
from torch import Tensor

from burnish.group import EncodedGroup, Labels


@dataclass(frozen=True)
class Found:
    """A step's loss, and its gradient with respect to every parameter, by name."""

    loss: float
    gradient: dict[str, Tensor]

    def __sub__(self, other: Found) -> Found:
        return Found(self.loss - other.loss, {k: g - other.gradient[k] for k, g in self.gradient.items()})

    def off_by(self, other: Found) -> float:
        """Largest difference of an entry of the gradient, as a share of this gradient's largest entry."""
        largest = max(float(g.abs().max()) for g in self.gradient.values())
        return max(float((g - other.gradient[k]).abs().max()) for k, g in self.gradient.items()) / largest


def gradient_of(module: Any) -> dict[str, Tensor]:
    """A copy of every parameter's gradient; 0 where the loss does not reach it."""
    named = module.named_parameters()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for name, p in named}


def classes(kind: str) -> tuple[Any, Any]:
    """(trainer, configuration) of TRL: dpo and kto are stable there, cpo and orpo experimental."""
    if kind == "dpo":
        from trl import DPOConfig, DPOTrainer

        return DPOTrainer, DPOConfig
    if kind == "kto":
        from trl import KTOConfig, KTOTrainer

        return KTOTrainer, KTOConfig
    if kind == "cpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        return CPOTrainer, CPOConfig
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    return ORPOTrainer, ORPOConfig


def rows_of(groups: Sequence[EncodedGroup]) -> list[dict[str, Any]]:
    """The groups as the text that TRL reads: it adds the end token itself."""
    rows: list[dict[str, Any]] = []
    for group in groups:
        row: dict[str, Any] = {"prompt": text_of(group.prompt_ids)}
        answers = [text_of(ids[:-1]) for ids in group.completion_ids]
        if isinstance(group.feedback, Labels):
            rows.append(row | {"completion": answers[0], "label": group.feedback.values[0]})
        else:
            rows.append(row | {"chosen": answers[0], "rejected": answers[1]})
    return rows


def build(
    kind: str, settings: Mapping[str, Any], groups: Sequence[EncodedGroup], policy: Path, reference: Path, batch: int
) -> Any:
    """The trainer over these groups in their order, in float32 on the CPU, without checkpointing."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainer, config = classes(kind)
    arguments = config(
        output_dir=str(policy.parent / "trl_output"),
        use_cpu=True,
        bf16=False,
        max_length=4096,
        per_device_train_batch_size=batch,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        remove_unused_columns=kind in ("dpo", "kto"),  # the others ask for it
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to=[],
        save_strategy="no",
        **settings,
    )
    options: dict[str, Any] = {}
    if kind in ("dpo", "kto"):
        options["ref_model"] = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32)
    return trainer(
        model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_list(rows_of(groups)),
        processing_class=AutoTokenizer.from_pretrained(policy),
        **options,
    )


def loss_of(
    kind: str,
    settings: Mapping[str, Any],
    groups: Sequence[EncodedGroup],
    policy: Path,
    reference: Path,
    *,
    micro_batches: int = 1,
) -> Found:
    """TRL's loss of one step over `groups`, cut into so many micro-batches, and its gradient."""
    trainer = build(kind, settings, groups, policy, reference, len(groups) // micro_batches)
    model = trainer.model.train()
    total, seen = 0.0, []
    for batch in trainer.get_train_dataloader():
        seen += sequences(batch)
        loss = trainer.compute_loss(model, batch) / micro_batches
        loss.backward()
        total += float(loss.detach())
    ours = [(*group.prompt_ids, *ids) for group in groups for ids in group.completion_ids]
    if sorted(seen) != sorted(ours):
        raise SystemExit(f"TRL's {kind} trainer reads other tokens than burnish; the comparison would mean nothing")
    return Found(total, gradient_of(model))


def sequences(batch: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    """Prompt and answer of every row of a batch, without padding; mismatched answers are not among them."""
    found = []
    for side in ("", "chosen_", "rejected_"):
        if f"{side}input_ids" in batch:
            pairs = zip(batch[f"{side}input_ids"], batch[f"{side}attention_mask"], strict=True)
            found += [tuple(ids[mask.bool()].tolist()) for ids, mask in pairs]
    if any(row[-1] != END for row in found):
        raise SystemExit("TRL cut an answer: its last token is not the end token")
    return found
