"""The table of objectives: name -> function, the feedback it sees, what it needs, the unit of its beta, its paper."""

from __future__ import annotations

import difflib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from burnish.errors import ConfigError
from burnish.objectives import batch, likelihood, lists, pairs, sides, unpaired
from burnish.tensors import Losses, Unit

LIMITS: dict[str, tuple[Callable[[float], bool], str]] = {
    "beta": (lambda x: x > 0, "must be positive"),
    "tau": (lambda x: x > 0, "must be positive"),
    "gamma": (lambda x: x >= 0, "must not be negative"),
    "lam": (lambda x: x >= 0, "must not be negative"),
    "alpha": (lambda x: x >= 0, "must not be negative"),
    "nll_weight": (lambda x: x >= 0, "must not be negative"),
    "margin": (lambda x: x > 0, "must be positive"),
    "scale": (lambda x: x > 0, "must be positive"),
    "beta0": (lambda x: x > 0, "must be positive"),
    "beta_min": (lambda x: x > 0, "must be positive"),
    "sigma": (lambda x: x > 0, "must be positive"),
    "gamma_beta_ratio": (lambda x: x >= 0, "must not be negative"),
    "desirable": (lambda x: x > 0, "must be positive"),
    "undesirable": (lambda x: x > 0, "must be positive"),
    "temp": (lambda x: x > 0, "must be positive"),
    "clip": (lambda x: x > 0, "must be positive"),
    "max_logp": (lambda x: x < 0, "must be negative: the odds of 0 are infinite"),
    "eps": (
        lambda x: 0 < x < 1,
        "must lie between 0 and 1, both excluded: the target keeps a share for the other side",
    ),
    "label_smoothing": (lambda x: 0 <= x < 0.5, "is the share of flipped labels: at least 0 and below 0.5"),
}


@dataclass(frozen=True)
class Objective:
    """One row. The function's keyword-only arguments, with their defaults, are the objective's configuration.

    `beta_unit` says what beta multiplies: a sum over the sequence, or a mean per token; the two differ by the length.
    `lr_range` is what was published for full training. `closed_form` gives a pair's loss when policy = reference.
    """

    name: str
    function: Callable[..., Losses]
    view: Literal["pairs", "winners", "lists", "labels"]
    needs_reference: bool
    unit: Unit
    beta_unit: Literal["per sequence", "per token", ""]
    lr_range: tuple[float, float]
    paper: str
    equation: str
    summary: str
    closed_form: Callable[..., float | None] | None = None
    whole_step: bool = False  # needs a first pass over the step's microbatches, without gradient
    mismatched: bool = False  # needs log-ratios of answers under other prompts, too

    @property
    def source(self) -> str:
        """Where it is from, for people: `arXiv 2305.18290, eq. 7`."""
        return f"arXiv {self.paper}, {self.equation}" if self.paper[:1].isdigit() else self.paper

    def parameters(self) -> dict[str, tuple[Any, Any]]:
        """Name -> (type, default) of each setting."""
        hints = get_type_hints(self.function)
        signature = inspect.signature(self.function).parameters.values()
        return {p.name: (hints[p.name], p.default) for p in signature if p.kind is p.KEYWORD_ONLY}

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All settings with defaults filled in. Raises ConfigError on an unknown name, a wrong type, a wild value."""
        known = self.parameters()
        for name in params:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"; did you mean 'objective.{near[0]}'?" if near else "."
                settings = ", ".join(known) or "none at all"
                raise ConfigError(f"{self.name} has no setting 'objective.{name}'{hint} Its settings: {settings}")
        return {name: _checked(name, params.get(name, default), kind) for name, (kind, default) in known.items()}

    def at_reference(self, chosen: int, rejected: int, params: Mapping[str, Any]) -> float | None:
        """Loss of a pair of these lengths when policy = reference; None where it depends on the log-probs."""
        return None if self.closed_form is None else self.closed_form(**params)


def _checked(name: str, value: Any, kind: Any) -> Any:
    if value is None and type(None) in get_args(kind):
        return None
    if kind is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"objective.{name} = {value!r}: must be true or false")
        return value
    kind = next(
        (k for k in get_args(kind) if k is not type(None) and isinstance(k, type)), kind
    )  # float of float | None
    choices = get_args(kind)
    if choices:
        if value not in choices:
            raise ConfigError(f"objective.{name} = {value!r}: must be one of {', '.join(map(repr, choices))}")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise ConfigError(f"objective.{name} = {value!r}: must be a finite number")
    sound, rule = LIMITS.get(name, (lambda x: True, ""))
    if not sound(value):
        raise ConfigError(f"objective.{name} = {value!r}: {rule}")
    return kind(value)


def _log2(**_: Any) -> float:
    return math.log(2)


def _one(**_: Any) -> float:
    return 1.0


AS_DPO = (5e-8, 1e-6)  # published learning rates for DPO; most of its variants took them over

ROWS = [
    Objective(
        "sft", likelihood.sft, "winners", False, "token", "", (5e-6, 5e-5), "maximum likelihood", "-log p",
        "Imitate the chosen answers; the baseline every preference run should be compared with.",
    ),
    Objective(
        "dpo", pairs.dpo, "pairs", True, "pair", "per sequence", (5e-8, 1e-6), "2305.18290", "eq. 7",
        "Raise the chosen answer's log-ratio to the reference above the rejected one's.", _log2,
    ),
    Objective(
        "dpo_norm", pairs.dpo_norm, "pairs", True, "pair", "per token", (8e-8, 1e-6), "2411.15124", "eq. 6",
        "DPO on log-ratios per token, so that long answers weigh no more than short ones.", _log2,
    ),
    Objective(
        "ipo", pairs.ipo, "pairs", True, "pair", "per sequence", (1e-7, 1e-6), "2310.12036", "eq. 17",
        "Pull the margin to a finite target instead of pushing it for ever.",
        lambda tau, normalize: 1 / (4 * tau**2),
    ),
    Objective(
        "simpo", pairs.simpo, "pairs", False, "pair", "per token", (3e-7, 1e-6), "2405.14734", "eq. 6",
        "No reference: compare mean log-probs, with a target margin gamma.",
    ),
    Objective(
        "robust_dpo", pairs.robust_dpo, "pairs", True, "pair", "per sequence", AS_DPO, "2403.00409", "eq. 12",
        "DPO made unbiased for labels of which a known share is flipped.", _log2,
    ),
    Objective(
        "hinge", pairs.hinge, "pairs", True, "pair", "per sequence", AS_DPO, "2309.06657", "table 1",
        "Push the margin to a target, and no further.", lambda beta, margin: max(0.0, margin),
    ),
    Objective(
        "r_dpo", pairs.r_dpo, "pairs", True, "pair", "per sequence", AS_DPO, "2403.19159", "eq. 9",
        "DPO with a constant for each token by which the winner is longer.",
    ),
    Objective(
        "ld_dpo", pairs.ld_dpo, "pairs", True, "pair", "per sequence", AS_DPO, "2409.06411", "eq. 10",
        "DPO in which tokens beyond the shorter answer's length count less.",
        lambda beta, alpha, ref: math.log(2) if ref == "both" else None,
    ),
    Objective(
        "dpop", pairs.dpop, "pairs", True, "pair", "per sequence", AS_DPO, "2402.13228", "eq. 3",
        "DPO that charges for a chosen answer losing likelihood.", _log2,
    ),
    Objective(
        "exo_pair", pairs.exo_pair, "pairs", True, "pair", "per sequence", AS_DPO, "2402.00856", "eq. 16",
        "Match the policy's preference to the data's under the reverse KL.",
        lambda beta, eps: math.log(0.5) - (math.log(1 - eps) + math.log(eps)) / 2,
    ),
    Objective(
        "discopop", pairs.discopop, "pairs", True, "pair", "per sequence", AS_DPO, "2406.08414", "eq. 5",
        "A loss found by search: logistic and exponential, mixed by the margin itself.",
        lambda beta, tau: (math.log(2) + 1) / 2,
    ),
    Objective(
        "chi_po", pairs.chi_po, "pairs", True, "pair", "per sequence", AS_DPO, "2407.13399", "eq. 8",
        "DPO with a stronger pull to the reference: chi-squared beside KL.", _log2,
    ),
    Objective(
        "f_dpo", pairs.f_dpo, "pairs", True, "pair", "per sequence", AS_DPO, "2309.16240", "eq. 12",
        "DPO under forward KL, Jensen-Shannon or an alpha-divergence.", _log2,
    ),
    Objective(
        "nca_pair", sides.nca_pair, "pairs", True, "pair", "per sequence", AS_DPO, "2402.05369", "eq. 11",
        "Tell each answer from noise: the chosen one's likelihood does not fall.", lambda beta: 2 * math.log(2),
    ),
    Objective(
        "apo_zero", sides.apo_zero, "pairs", True, "pair", "per sequence", AS_DPO, "2408.06266", "eq. 7",
        "Raise the chosen answer and lower the rejected, each by itself.", _one,
    ),
    Objective(
        "apo_down", sides.apo_down, "pairs", True, "pair", "per sequence", AS_DPO, "2408.06266", "eq. 8",
        "Lower both answers, the rejected one more: for a model better than its data.", _one,
    ),
    Objective(
        "sppo", sides.sppo, "pairs", True, "pair", "per sequence", AS_DPO, "2405.00675", "eq. 4.7",
        "Pull each answer's log-ratio to a target that its chance of winning sets.",
    ),
    Objective(
        "bco_pair", sides.bco_pair, "pairs", True, "pair", "per sequence", AS_DPO, "2404.04656", "eq. 9",
        "A binary classifier on each answer, with a shift of the reward.",
        lambda beta, delta: math.log1p(math.exp(delta)) + math.log1p(math.exp(-delta)),
    ),
    Objective(
        "cpo", likelihood.cpo, "pairs", False, "pair", "per sequence", (5e-7, 1e-5), "2401.08417", "eq. 5",
        "Contrast summed log-probs without a reference, anchored on the chosen answer.",
    ),
    Objective(
        "rpo", likelihood.rpo, "pairs", True, "pair", "per sequence", AS_DPO, "2404.19733", "eq. 1",
        "DPO beside the likelihood of the chosen answer.",
    ),
    Objective(
        "orpo", likelihood.orpo, "pairs", False, "pair", "per token", (5e-7, 1e-5), "2403.07691", "eq. 6",
        "Imitation and an odds ratio in one, without a reference or an SFT stage.",
    ),
    Objective(
        "slic_hf", likelihood.slic_hf, "pairs", False, "pair", "", (5e-7, 1e-5), "2305.10425", "eq. 2",
        "A hinge on summed log-probs, anchored on the chosen answer.",
    ),
    Objective(
        "pl_dpo", lists.pl_dpo, "lists", True, "group", "per sequence", AS_DPO, "2305.18290", "app. A.3",
        "DPO on a whole ranking: each answer against all that come behind it.",
    ),
    Objective(
        "multi_pair_dpo", lists.multi_pair_dpo, "lists", True, "group", "per sequence", AS_DPO, "2203.02155", "eq. 1",
        "DPO on all pairs of a ranked group, together one example.",
    ),
    Objective(
        "s_dpo", lists.s_dpo, "lists", True, "group", "per sequence", AS_DPO, "2406.09215", "eq. 10",
        "The best answer against all the others in one softmax.",
    ),
    Objective(
        "info_nca", lists.info_nca, "lists", True, "group", "per sequence", AS_DPO, "2402.05369", "eq. 7",
        "Match the softmax of the rewards to that of the scores.",
    ),
    Objective(
        "nca", lists.nca, "lists", True, "group", "per sequence", AS_DPO, "2402.05369", "eq. 11",
        "The same by noise contrast, which holds likelihoods up.",
    ),
    Objective(
        "exo", lists.exo, "lists", True, "group", "per sequence", AS_DPO, "2402.00856", "eq. 13",
        "Match them under the reverse KL: seek the best answers rather than cover all.",
    ),
    Objective(
        "aot_paired", batch.aot_paired, "pairs", True, "pair", "per sequence", AS_DPO, "2406.05882", "eq. 8",
        "Make the policy's margins dominate the reference's as distributions.", _log2, whole_step=True,
    ),
    Objective(
        "aot_unpaired", batch.aot_unpaired, "pairs", True, "pair", "per sequence", AS_DPO, "2406.05882", "eq. 9",
        "Make chosen log-ratios dominate rejected ones as distributions.", _log2, whole_step=True,
    ),
    Objective(
        "bco_pair_batch_shift", batch.bco_pair_batch_shift, "pairs", True, "pair", "per sequence", AS_DPO,
        "2404.04656", "eq. 9", "A binary classifier on each answer, its shift the step's own mean reward.",
        lambda beta: 2 * math.log(2), whole_step=True,
    ),
    Objective(
        "alpha_dpo", batch.alpha_dpo, "pairs", True, "pair", "per token", (3e-7, 1e-6), "2410.10148", "eq. 10",
        "SimPO whose target margin follows the reference's view of each pair.",
    ),
    Objective(
        "kto", unpaired.kto, "labels", True, "completion", "per sequence", (5e-7, 5e-6), "2402.01306", "eq. 8",
        "A yes or a no for each answer; gains and losses against the reference, as people weigh them.",
        whole_step=True, mismatched=True,
    ),
    Objective(
        "bco", unpaired.bco, "labels", True, "completion", "per sequence", AS_DPO, "2404.04656", "eq. 9",
        "A binary classifier on single answers.", whole_step=True,
    ),
    Objective(
        "apo_zero_unpaired", unpaired.apo_zero_unpaired, "labels", True, "completion", "per sequence", AS_DPO,
        "2408.06266", "eq. 7", "Raise every yes and lower every no, each by itself.",
    ),
    Objective(
        "beta_dpo", batch.beta_dpo, "pairs", True, "pair", "per sequence", AS_DPO, "2407.08639", "eq. 6",
        "DPO whose beta follows the step's mean margin.", _log2, whole_step=True,
    ),
    Objective(
        "online_dpo", lists.online_dpo, "lists", True, "group", "per sequence", AS_DPO, "2402.04792", "eq. 3",
        "DPO on the best and the worst answer of each group.",
    ),
]  # fmt: skip

TABLE: dict[str, Objective] = {row.name: row for row in ROWS}


def find(name: str) -> Objective:
    """The row of that name; raises ConfigError with the nearest one."""
    if name in TABLE:
        return TABLE[name]
    near = difflib.get_close_matches(name, TABLE, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ConfigError(f"there is no objective '{name}'; {hint}There are: {', '.join(TABLE)}")
