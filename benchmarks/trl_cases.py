"""What `objectives_vs_trl.py` compares: TRL's settings, burnish's that mean the same, and where TRL departs.

Every case names one loss of TRL with all its settings. Its rows are burnish's objectives: the one that is to be equal,
and, where TRL departs from the paper or the two defaults differ, burnish's default, which is to differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Trainer = Literal["dpo", "kto", "cpo", "orpo"]


@dataclass(frozen=True)
class Row:
    """One objective of burnish, or several that are summed; `equal` says what is expected of it."""

    objectives: Mapping[str, Mapping[str, Any]]
    equal: bool = True
    remark: str = ""
    reverse: bool = False  # the same groups in reverse order

    @property
    def label(self) -> str:
        named = [
            f"{name}({', '.join(f'{k}={v}' for k, v in params.items())})" for name, params in self.objectives.items()
        ]
        return " + ".join(named) + (", groups in reverse order" if self.reverse else "")


@dataclass(frozen=True)
class Case:
    """One loss of TRL and burnish's rows beside it. `minus`: settings whose loss is taken off TRL's."""

    title: str
    trainer: Trainer
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    minus: Mapping[str, Any] = field(default_factory=dict)


def one(name: str, *, equal: bool = True, remark: str = "", reverse: bool = False, **params: Any) -> Row:
    return Row({name: params}, equal, remark, reverse)


def dpo(title: str, *rows: Row, **settings: Any) -> Case:
    """A loss of TRL's DPOTrainer; `title` is its loss_type unless that is given."""
    return Case(title, "dpo", {"loss_type": [title], **settings}, rows)


MARGINS = (
    dpo("sigmoid", one("dpo", beta=0.1), beta=0.1),
    Case(
        "sigmoid, label_smoothing 0.1", "dpo", {"loss_type": ["sigmoid"], "beta": 0.1, "label_smoothing": 0.1},
        (
            one("dpo", beta=0.1, label_smoothing=0.1, equal=False,
                remark="TRL takes label_smoothing with sigmoid and ignores it; this is conservative DPO."),
            one("dpo", beta=0.1, label_smoothing=0.0),
        ),
    ),
    dpo("sigmoid_norm", one("dpo_norm", beta=5.0), beta=5.0),
    dpo("hinge", one("hinge", beta=0.1, margin=1.0), beta=0.1),
    dpo(
        "ipo",
        one("ipo", tau=0.1, equal=False,
            remark="The paper's eq. 17 sums log-ratios; TRL averages them over tokens, as its authors say they did."),
        one("ipo", tau=0.1, normalize="avg"),
        beta=0.1,
    ),
    dpo("exo_pair", one("exo_pair", beta=0.1, eps=1e-3), beta=0.1, label_smoothing=1e-3),
    dpo("robust", one("robust_dpo", beta=0.1, label_smoothing=0.1), beta=0.1, label_smoothing=0.1),
    dpo("discopop", one("discopop", beta=0.05, tau=0.05), beta=0.05, discopop_tau=0.05),
    Case(
        "sigmoid, ld_alpha 0.5", "dpo", {"loss_type": ["sigmoid"], "beta": 0.1, "ld_alpha": 0.5},
        (
            one("ld_dpo", beta=0.1, alpha=0.5),
            one("ld_dpo", beta=0.1, alpha=0.5, ref="policy", equal=False,
                remark="Older TRL (before 0.29) weighted the policy's tail alone; 1.16 weights both, as burnish does."),
        ),
    ),
)  # fmt: skip

SIDES = (
    dpo("nca_pair", one("nca_pair", beta=0.1), beta=0.1),
    dpo("apo_zero", one("apo_zero", beta=0.1), beta=0.1),
    dpo("apo_down", one("apo_down", beta=0.1), beta=0.1),
    dpo(
        "sppo_hard",
        one("sppo", beta=0.1, scale=1.0),
        one("sppo", beta=0.1, scale=0.5, equal=False, remark="The authors' code averages the two squares; TRL sums."),
        beta=0.1,
    ),
    dpo(
        "bco_pair",
        one("bco_pair_batch_shift", beta=0.1, equal=False,
            remark="The paper shifts rewards by their mean delta; TRL leaves delta out."),
        one("bco_pair", beta=0.1, delta=0.0),
        beta=0.1,
    ),
    dpo("aot", one("aot_paired", beta=0.1), beta=0.1),
    dpo("aot_unpaired", one("aot_unpaired", beta=0.1), beta=0.1),
)  # fmt: skip


def divergence(kind: str, *rows: Row, **settings: Any) -> Case:
    shared = {"loss_type": ["sigmoid"], "beta": 0.1, "f_divergence_type": kind}
    name = ", ".join([f"sigmoid, {kind}", *(f"{key} {value}" for key, value in settings.items())])
    return Case(name, "dpo", shared | settings, rows)


DIVERGENCES = (
    divergence("forward_kl", one("f_dpo", beta=0.1, divergence="forward_kl")),
    divergence("js_divergence", one("f_dpo", beta=0.1, divergence="js")),
    divergence(
        "alpha_divergence",
        one("f_dpo", beta=0.1, divergence="alpha", alpha=0.3, equal=False,
            remark="TRL's coefficient c is 1 - alpha of the paper; its help text says alpha."),
        one("f_dpo", beta=0.1, divergence="alpha", alpha=0.7),
        f_alpha_divergence_coef=0.3,
    ),
)  # fmt: skip

WEIGHTED = (
    Case(
        "sigmoid, use_weighting", "dpo", {"loss_type": ["sigmoid"], "beta": 0.1, "use_weighting": True},
        (
            one("wpo", beta=0.1, equal=False, remark="The authors hold a pair's weight at 1 or below; TRL does not."),
            one("wpo", beta=0.1, max_weight=1e9),
        ),
    ),
    dpo("sft", one("sft")),
    Case(
        "sigmoid + sft (RPO)", "dpo", {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 1.0], "beta": 0.1},
        (
            one("rpo", beta=0.1, alpha=1.0, equal=False,
                remark="The paper takes each answer's mean NLL; TRL the mean over the batch's tokens."),
            one("rpo", beta=0.1, alpha=1.0, nll="token_mean"),
        ),
    ),
)  # fmt: skip

UNPAIRED = (
    Case(
        "kto", "kto", {"loss_type": "kto", "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.5},
        (
            one("kto", beta=0.1, desirable=1.0, undesirable=1.5, equal=False,
                remark="Other mismatched answers: burnish takes the next row's, TRL the previous row's."),
            one("kto", beta=0.1, desirable=1.0, undesirable=1.5, reverse=True),
        ),
    ),
    Case("apo_zero_unpaired", "kto", {"loss_type": "apo_zero_unpaired", "beta": 0.1},
         (one("apo_zero_unpaired", beta=0.1),)),
)  # fmt: skip

REFERENCE_FREE = (
    Case(
        "CPO", "cpo", {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0},
        (
            one("cpo", beta=0.1, nll_weight=1.0, equal=False,
                remark="The paper sums the NLL of an answer; TRL takes the mean over the batch's tokens."),
            one("cpo", beta=0.1, nll_weight=1.0, nll="token_mean"),
        ),
    ),
    Case("CPO hinge, cpo_alpha 0", "cpo", {"loss_type": "hinge", "beta": 1.0, "cpo_alpha": 0.0},
         (one("slic_hf", delta=1.0, lam=0.0),)),
    Case("SimPO, cpo_alpha 0", "cpo",
         {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0},
         (one("simpo", beta=2.0, gamma=1.0),)),
    Case(
        "SimPO as TRL comes (cpo_alpha 1)", "cpo",
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 1.0},
        (
            one("simpo", beta=2.0, gamma=1.0, equal=False,
                remark="TRL's default adds CPO's NLL to SimPO, which has none."),
            Row({"simpo": {"beta": 2.0, "gamma": 1.0}, "sft": {}}),
        ),
    ),
    Case(
        "ORPO", "orpo", {"beta": 0.1},
        (one("orpo", lam=0.1, equal=False,
             remark="TRL's NLL covers prompt and completion (so does the authors' code), averaged over the batch's "
             "tokens; burnish's is each completion's mean, and no setting reproduces TRL."),),
    ),
    Case(
        "ORPO, odds ratio alone (lambda 1.1 less lambda 0.1)", "orpo", {"beta": 1.1},
        (one("orpo", lam=1.0, nll_weight=0.0),),
        minus={"beta": 0.1},
    ),
)  # fmt: skip

CASES = (*MARGINS, *SIDES, *DIVERGENCES, *WEIGHTED, *UNPAIRED, *REFERENCE_FREE)
SPLIT = {  # cases whose step is also cut into micro-batches, and what TRL does with one
    "sigmoid": "the mean over pairs of equal micro-batches is that of the step",
    "aot": "TRL sorts each micro-batch by itself",
    "aot_unpaired": "TRL sorts each micro-batch by itself",
    "sft": "TRL averages the means over tokens of micro-batches with unequal numbers of them",
    "sigmoid + sft (RPO)": "the same, in the second term",
    "kto": "TRL estimates the KL on each micro-batch, from answers of that micro-batch",
    "CPO": "the mean over tokens again",
}
