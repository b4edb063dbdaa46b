"""How good is a policy of the lab: gold utility, accuracy, exact KL to the reference, length, finish rate.

Answers come in equal numbers per card. Intervals are 95 % t-intervals over *cards* (answers to one card are not
independent evidence about the others), for one training run: the spread between training seeds is not in them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForCausalLM

from burnish.lab.policy import answer_ids, prompt_ids, sample
from burnish.lab.world import CARDS, PROMPT_WIDTH, Answer

_T95 = 1.984  # Student's t, 97.5 %, 99 degrees of freedom: there are a hundred cards


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and the half-width of its 95 % interval over cards, e.g. `Estimate(0.718, 0.02)`."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}"

    @staticmethod
    def over_cards(per_card: Sequence[float]) -> Estimate:
        spread = statistics.stdev(per_card) if len(per_card) > 1 else math.nan
        return Estimate(statistics.fmean(per_card), _T95 * spread / math.sqrt(len(per_card)))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a policy does on every card. KL is in nats per answer, lengths in tokens with the end token."""

    utility: Estimate
    accuracy: Estimate
    kl: Estimate
    length: Estimate
    finished: float
    utility_by_card: tuple[float, ...]
    lengths: tuple[int, ...]
    answers: tuple[Answer, ...]

    def figures(self) -> dict[str, float]:
        """The numbers for a JSON summary, `half` being the half-width of the 95 % interval over cards."""
        estimates = {"utility": self.utility, "accuracy": self.accuracy, "kl": self.kl, "length": self.length}
        figures = {name: e.mean for name, e in estimates.items()}
        halves = {f"{name}_half": e.half for name, e in estimates.items()}
        distinct = len({(answer.card, answer.text) for answer in self.answers}) / len(self.answers)
        return {**figures, **halves, "finished": self.finished, "distinct": distinct, "answers": len(self.answers)}


def evaluate(
    policy: LlamaForCausalLM, reference: LlamaForCausalLM, *, seed: int, answers_per_card: int = 40
) -> Evaluation:
    """Sample every card `answers_per_card` times and measure. The same seed gives the same answers."""
    cards = [card for card in CARDS for _ in range(answers_per_card)]
    answers = sample(policy, cards, torch.Generator().manual_seed(seed))
    divergence = exact_kl(policy, reference, answers).tolist()

    def by_card(values: Sequence[float]) -> list[float]:
        return [statistics.fmean(values[i : i + answers_per_card]) for i in range(0, len(values), answers_per_card)]

    utilities = by_card([answer.utility for answer in answers])
    return Evaluation(
        utility=Estimate.over_cards(utilities),
        accuracy=Estimate.over_cards(by_card([float(answer.right) for answer in answers])),
        kl=Estimate.over_cards(by_card(divergence)),
        length=Estimate.over_cards(by_card([float(answer.tokens) for answer in answers])),
        finished=statistics.fmean(answer.finished for answer in answers),
        utility_by_card=tuple(utilities),
        lengths=tuple(answer.tokens for answer in answers),
        answers=tuple(answers),
    )


@torch.inference_mode()
def exact_kl(
    policy: LlamaForCausalLM, reference: LlamaForCausalLM, answers: Sequence[Answer], batch: int = 2000
) -> Float[Tensor, " answers"]:
    """`sum_t KL(policy(.|y<t) || reference(.|y<t))` over each answer's tokens, full vocabulary, in nats (float64).

    Its mean over the policy's own answers is the KL between the two distributions over answers (chain rule), without
    the variance of estimating each step from the one token that was drawn.
    """
    parts = []
    for start in range(0, len(answers), batch):
        part = answers[start : start + batch]
        targets = answer_ids(part)
        rows = torch.cat([prompt_ids([answer.card for answer in part]), targets[:, :-1]], dim=1)
        p, q = (_log_probs(model, rows) for model in (policy, reference))
        lengths = torch.tensor([answer.tokens for answer in part])
        inside = torch.arange(targets.shape[1]) < lengths[:, None]
        parts.append(((p.exp() * (p - q)).sum(-1) * inside).sum(-1))
    return torch.cat(parts)


def _log_probs(model: LlamaForCausalLM, rows: Tensor) -> Float[Tensor, "rows steps vocabulary"]:
    """Log-probs of every next token from the prompt's last position on."""
    kept = rows.shape[1] - PROMPT_WIDTH + 1
    logits: Tensor = model(rows, use_cache=False, logits_to_keep=kept).logits
    return logits.double().log_softmax(-1)
