"""DPO by hand: the whole method in plain torch, to be read from top to bottom.

    python examples/dpo_by_hand.py MODEL_DIR PAIRS.jsonl

PAIRS.jsonl has one {"prompt": ..., "chosen": ..., "rejected": ...} a line: three texts, or three lists of token ids
(taken as they are, so with the end-of-sequence token). This is the slow and obvious way: every answer is a padded row
with its own copy of the prompt, and the reference is a second model. `burnish train` computes the same numbers faster,
and a test holds it to this file.
"""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

Pair = dict[str, list[int]]  # token ids of "prompt", "chosen", "rejected"


def tokenize(tokenizer: Any, row: dict[str, str]) -> Pair:
    """Prompt and answer are tokenised apart, because that is how they meet when the model answers: the prompt is
    given, the answer is produced token by token and ends with the end-of-sequence token, which is learnt too."""
    return {
        "prompt": tokenizer(row["prompt"])["input_ids"],
        "chosen": tokenizer(row["chosen"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id],
        "rejected": tokenizer(row["rejected"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id],
    }


def sequence_logps(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
    """log pi(answer | prompt) for each row [B], in nats: the sum over the answer's tokens.

    The logits at position t predict the token at t + 1, so an answer's first token is predicted by the prompt's last.
    """
    rows = [p + a for p, a in zip(prompts, answers, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    token_logps = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[:, :, 0]
    learnt = torch.zeros_like(token_logps, dtype=torch.bool)
    for i, (p, a) in enumerate(zip(prompts, answers, strict=True)):
        learnt[i, len(p) - 1 : len(p) + len(a) - 1] = True
    return torch.where(learnt, token_logps, 0.0).sum(1)


def dpo_loss(
    policy_chosen: Tensor, policy_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> Tensor:
    """-log sigmoid(beta [(log pi/ref)(chosen) - (log pi/ref)(rejected)]), one loss per pair (2305.18290, eq. 7).

    beta log(pi/ref) is the reward under which pi would be the best policy at KL price beta: the implicit reward.
    The loss asks that it rank the pair as the rater did; its gradient is large where it ranks it wrongly.
    """
    chosen_reward = beta * (policy_chosen - ref_chosen)
    rejected_reward = beta * (policy_rejected - ref_rejected)
    return -F.logsigmoid(chosen_reward - rejected_reward)


def train(model: Any, steps: list[list[Pair]], *, beta: float = 0.1, lr: float = 1e-5) -> list[float]:
    """One AdamW update per batch in `steps`; returns the loss before each update. The first is always log 2."""
    reference = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.999), weight_decay=0.0)
    losses = []
    for batch in steps:
        prompts = [pair["prompt"] for pair in batch]
        chosen, rejected = [pair["chosen"] for pair in batch], [pair["rejected"] for pair in batch]
        with torch.no_grad():
            reference_logps = [sequence_logps(reference, prompts, side) for side in (chosen, rejected)]
        policy_logps = [sequence_logps(model, prompts, side) for side in (chosen, rejected)]
        loss = dpo_loss(*policy_logps, *reference_logps, beta=beta).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def main(model_dir: str, data: str, pairs_per_step: int = 8) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    with open(data, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    pairs = [row if isinstance(row["prompt"], list) else tokenize(tokenizer, row) for row in rows]
    steps = [pairs[i : i + pairs_per_step] for i in range(0, len(pairs), pairs_per_step)]
    for number, loss in enumerate(train(model, steps), 1):
        print(f"step {number}: loss {loss:.4f}")
    model.save_pretrained("by-hand")


if __name__ == "__main__":
    main(*sys.argv[1:3])
