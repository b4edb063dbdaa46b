"""Worker: one step of the way from a textbook DPO step to burnish's, on the same pairs, to show what each idea brings.

Variants (option `variant`), each a plain loop on the Hugging Face module with burnish's optimiser and master weights:

    autocast         padded rows, full logits, float32 weights under torch.autocast
    padded_logits    padded rows, full logits for every row
    padded_head      padded rows, head only on rows that predict a completion token
    packed           no padding: every completion with its own prompt, several in one flat row; head as above
    shared_logits    prompt once, branches behind it; full logits for every row
    shared_head      prompt once; head on completion rows
    fused            the same with the fused head: no logits are kept

`reference` is stored (computed before the clock starts) or live (a second pass in every step).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import (
    BETA,
    LEARNING_RATE,
    PAIRS_PER_STEP,
    Job,
    Stamps,
    peak_megabytes,
    start_worker,
)
from torch import Tensor

from burnish.engine import attention
from burnish.engine.logprob import token_logprobs
from burnish.engine.masters import Masters, adamw
from burnish.engine.pack import pack
from burnish.group import EncodedGroup, Preferences
from burnish.tensors import PackedBatch

TOKEN_BUDGET = 8192
FULL_LOGITS = ("autocast", "padded_logits", "shared_logits")
PADDED = ("autocast", "padded_logits", "padded_head")


def read_groups(work: Path, arrangement: str) -> list[EncodedGroup]:
    """The prepared pairs in token space: completion 0 is the chosen one."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(work / "model")
    groups = []
    for number, line in enumerate((work / f"{arrangement}.jsonl").open(encoding="utf-8")):
        row = json.loads(line)
        answers = tuple((*tokenizer(row[side])["input_ids"], tokenizer.eos_token_id) for side in ("chosen", "rejected"))
        prompt = tuple(tokenizer(row["prompt"])["input_ids"])
        groups.append(EncodedGroup(str(number), prompt, answers, (True, True), Preferences(((0, 1, 1.0),))))
    return groups


def plan(variant: str, groups: Sequence[EncodedGroup]) -> list[PackedBatch]:
    """Microbatches of one step. Padded variants take the whole step as one rectangle, as a padding trainer does."""
    if variant in PADDED:
        return pack(groups, 1 << 30, shared=False, pad_id=0)
    if variant != "packed":
        return pack(groups, TOKEN_BUDGET, shared=True)
    single = [replace(group, completion_ids=(ids,), ended=(True,)) for group in groups for ids in group.completion_ids]
    return pack(single, TOKEN_BUDGET, shared=True)


class Stepper:
    """The model, its optimiser, and one variant's way from a microbatch to summed log-probs."""

    def __init__(self, job: Job, model_path: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.variant = job.option("variant", "fused")
        self.bf16 = job.dtype == "bfloat16"
        self.autocast = self.variant == "autocast"
        self.model: Any = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
        if self.variant not in PADDED:
            attention.register()
            self.model.set_attn_implementation(attention.NAME)
        compute = torch.bfloat16 if self.bf16 and not self.autocast else torch.float32
        self.masters = Masters(self.model.named_parameters(), compute)
        self.optimiser = adamw(self.masters.parameters, lr=LEARNING_RATE, betas=(0.9, 0.999), weight_decay=0.0)

    def logps(self, batch: PackedBatch, model: Any | None = None) -> Tensor:
        """Summed log-probs of the microbatch's completions."""
        model = model or self.model
        options: dict[str, Any] = {"input_ids": batch.input_ids, "use_cache": False}
        if batch.shared:
            options |= {attention.KEYWORD: attention.Layout.of(batch), "position_ids": batch.position_ids}
        else:
            options["attention_mask"] = batch.attention_mask
        with torch.autocast("cpu", torch.bfloat16) if self.autocast and self.bf16 else nullcontext():
            tokens = self._tokens(model, batch, options)
        return tokens.new_zeros(batch.lengths.shape[0]).index_add(0, batch.completion_of, tokens)

    def _tokens(self, model: Any, batch: PackedBatch, options: dict[str, Any]) -> Tensor:
        if self.variant in FULL_LOGITS:
            everywhere = model(**options).logits.flatten(0, 1).float().log_softmax(-1)
            chosen: Tensor = everywhere[batch.predict_rows, batch.targets]
            return chosen
        hidden = model.get_decoder()(**options).last_hidden_state.flatten(0, 1).index_select(0, batch.predict_rows)
        head = model.get_output_embeddings()
        if self.variant == "fused":
            return token_logprobs(hidden, head.weight, batch.targets)
        logits: Tensor = head(hidden).float()
        return logits.log_softmax(-1).gather(1, batch.targets[:, None])[:, 0]

    def reference(self, groups: Sequence[EncodedGroup]) -> Tensor:
        """[pairs, 2] summed log-probs of a step's pairs, without gradient."""
        return self._by_pair(groups, self.model, backward=None)

    def step(self, groups: Sequence[EncodedGroup], reference: Tensor) -> float:
        """One optimiser step; returns the mean DPO loss. `reference` is [pairs, 2]."""
        total: list[float] = []
        self._by_pair(groups, self.model, backward=(reference, total))
        torch.nn.utils.clip_grad_norm_(self.masters.parameters, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.masters.publish()
        return sum(total)

    def _by_pair(self, groups: Sequence[EncodedGroup], model: Any, backward: Any) -> Tensor:
        out = torch.zeros(len(groups), 2)
        batches = plan(self.variant, groups)
        if self.variant == "packed" and len(batches) > 1:
            raise RuntimeError("the `packed` variant needs a step's rows in one microbatch; raise TOKEN_BUDGET")
        for batch in batches:
            with torch.set_grad_enabled(backward is not None):
                pairs = self.logps(batch, model).view(-1, 2)
            index = list(range(len(groups))) if self.variant == "packed" else list(batch.group_index)
            out[index] = pairs.detach()
            if backward is not None:
                reference, total = backward
                ratio = pairs - reference[index]
                loss = -F.logsigmoid(BETA * (ratio[:, 0] - ratio[:, 1])).sum() / len(groups)
                loss.backward()  # type: ignore[no-untyped-call]
                total.append(float(loss.detach()))
        return out


def main() -> None:
    job, work, _, result = start_worker()
    groups = read_groups(work, job.arrangement)
    steps = [groups[start : start + PAIRS_PER_STEP] for start in range(0, len(groups), PAIRS_PER_STEP)]
    stepper = Stepper(job, work / "model")
    live = job.option("reference", "stored") == "live"
    frozen = Stepper(job, work / "model") if live else stepper
    known = None if live else [stepper.reference(step) for step in steps]
    losses, stamps = [], Stamps()
    for number, step in enumerate(steps):
        reference = frozen.reference(step) if known is None else known[number]
        losses.append(stepper.step(step, reference))
        stamps.end_of_step()
    result.write_text(json.dumps({**stamps.report(), "losses": losses, "peak_mb": peak_megabytes()}))


if __name__ == "__main__":
    main()
