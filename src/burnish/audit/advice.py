"""Advice on the data: its three length effects, which objective or filter changes which, and settings to choose.

The effects: P1, a sum of log-probs prefers the shorter answer of a pair (from the start, or as the policy drifts); P2,
longer pairs weigh more in the gradient; P3, the labels themselves prefer a length, and no objective can tell that from
quality.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burnish.audit.answers import SMALL_SET
from burnish.audit.bias import LEAST, PairColumns
from burnish.findings import Finding, counted

# an objective of each kind and its row's length effects, written out because importing objectives would load torch
EXAMPLES = {
    "dpo": ("drift", "yes", "yes"),
    "dpo_norm": ("no", "no", "yes"),
    "ipo": ("drift with sums, no with averages", "yes with sums, no with averages", "yes"),
    "simpo": ("no", "no", "yes"),
    "r_dpo": ("drift", "yes", "reduced"),
    "ld_dpo": ("reduced", "reduced", "yes"),
    "kto": ("drift", "yes", "yes"),
    "bradley_terry": ("no", "no", "yes"),
}
LEAST_PROMPTS = 10  # below this the intervals are too narrow to claim one
ENOUGH = 200  # pairs for a claim about surface features
LENGTH = ("length-bias", "brevity-bias")  # the longer answers are chosen, or the shorter
BY_DESIGN = ("brevity-bias", "near-duplicate", "stock-chosen")  # what a correction may be about
FEW_STEPS = 50  # a policy hardly moves in fewer
STRONG = 0.6  # a share beyond which a bias is warned about
TOP = 0.1  # the longest tenth of the pairs


def length_effects(columns: PairColumns, unit: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """(what length does to each of the `EXAMPLES` on this data, a row each; sentences about its P1, P2 and P3)."""
    share = columns.longer_wins(np.ones(len(columns.prompts), dtype=bool))
    gap = columns.winners - columns.losers
    mass = np.sort(columns.winners + columns.losers)[::-1]
    top = float(mass[: max(1, int(len(mass) * TOP))].sum() / max(1, mass.sum()))
    mean = float(gap.mean())
    side = "longer" if mean > 0 else "shorter"
    if share.trials and share.excludes_half:
        kind = "longer" if share.value > 0.5 else "shorter"
        p3 = f"the {kind} answer is preferred in {max(share.value, 1 - share.value):.0%} of the pairs"
    else:
        p3 = "no: neither length is preferred beyond chance"
    lean = "will lean the other way" if mean > 0 else "lean the same way"
    words = {
        "P1": f"preferred answers are {abs(mean):,.0f} {unit} {side} on average; sums of log-probs {lean}",
        "P2": f"the longest tenth of the pairs holds {top:.0%} of the {unit}, and as much of a sum's gradient",
        "P3": p3,
    }
    biased = share.trials >= LEAST and share.excludes_half
    rows = []
    for name, (p1, p2, p3_kind) in EXAMPLES.items():
        effects = []
        if p2.startswith("yes") and top > 0.25:
            effects.append("long pairs dominate")
        if biased and p3_kind == "yes":
            effects.append("learns the raters' taste in length")
        elif biased:
            effects.append("holds the raters' taste in length back")
        if p1 in ("drift", "yes") and abs(mean) > 0:
            effects.append("leans to the shorter answer as it drifts")
        effect = "; ".join(effects) or "little to fear"
        rows.append({"objective": name, "p1": p1, "p2": p2, "p3": p3_kind, "effect": effect})
    return rows, words


def length_findings(columns: PairColumns, unit: str) -> list[Finding]:
    """The sources whose labels prefer a length. Sources are judged apart, because opposite preferences cancel.

    The code is "brevity-bias" where the shorter answers are preferred, which a correction may be about, and
    "length-bias" where the longer are, which is raters' usual taste.
    """
    several = len(columns.names) > 1
    masks = [(columns.sources == i, f"{name}: ") for i, name in enumerate(columns.names[:40])] if several else []
    everything = np.ones(len(columns.prompts), dtype=bool)
    biases = [bias for mask, name in masks for bias in _length_bias(columns, mask, name, unit)]
    biases = biases or _length_bias(columns, everything, "", unit)  # many small sources, or one
    # the key counts tokens: a limit in characters would mean something else
    return [
        Finding(code, "warn", message, count, (), (), f"data.max_length_gap = {limit}" * (unit == "tokens"))
        for code, message, count, limit in biases
    ]


def _length_bias(
    columns: PairColumns, mask: NDArray[np.bool_], name: str, unit: str
) -> list[tuple[str, str, int, int]]:
    """[(code, sentence, pairs, a limit for the gap)] where the preference is strong and beyond chance, else nothing."""
    share = columns.longer_wins(mask)
    if len(np.unique(columns.prompts[mask])) < LEAST_PROMPTS:
        return []
    if share.trials < LEAST or not share.excludes_half or 1 - STRONG < share.value < STRONG:
        return []
    longer = share.value > 0.5
    kind = "longer" if longer else "shorter"
    strength, low, high = (
        (share.value, share.low, share.high) if longer else (1 - share.value, 1 - share.high, 1 - share.low)
    )
    gap = np.abs(columns.winners - columns.losers)[mask]
    message = (
        f"length bias: {name}the {kind} answer is the chosen one in {strength:.0%} of {share.trials:,} pairs (95 % "
        f"interval {low:.0%} to {high:.0%}); the gap is {np.median(gap):,.0f} {unit} in the median, "
        f"{np.quantile(gap, 0.8):,.0f} at the 80th percentile"
    )
    return [(LENGTH[not longer], message, share.trials, _round(float(np.quantile(gap, 0.8))))]


def feature_findings(rows: Sequence[Mapping[str, Any]], probe: Mapping[str, Any] | None) -> list[Finding]:
    """The surface features, and the bag of words, that predict the preferred answer."""
    findings = []
    for row in rows:
        one_sided = row["low"] > STRONG or row["high"] < 1 - STRONG
        if row["differ"] >= ENOUGH and one_sided:
            severity: Any = "warn" if abs(row["p"] - 0.5) > 0.25 else "note"
            message = f"{row['name']}: {row['message']}"
            findings.append(Finding(f"feature-{row['name']}", severity, message, row["differ"]))
    if probe and probe["pairs"] >= ENOUGH and probe["low"] > STRONG:
        message = (
            f"a bag of words tells the chosen answer in {probe['accuracy']:.0%} of held-out prompts' pairs; the policy "
            "will learn those words first"
        )
        findings.append(Finding("bag-of-words", "warn", message, probe["pairs"]))
    return findings


def for_small_set(findings: Sequence[Finding], prompts: int) -> list[Finding]:
    """The findings as they are said where there are few prompts: without filters, and those of `BY_DESIGN` as notes."""
    if prompts >= SMALL_SET:
        return list(findings)
    unfiltered = [replace(f, action="") if f.code in (*LENGTH, *BY_DESIGN) else f for f in findings]
    return [replace(f, severity="note") if f.code in BY_DESIGN else f for f in unfiltered]


def small_set(prompts: int) -> Finding:
    """What so few prompts with answers are good for; a share of n prompts is known within 0.98 / sqrt(n) (95 %)."""
    message = (
        f"a small set, {counted(prompts, 'prompt')} with answers: enough to correct a habit (a name, a form, a length, "
        f"a refusal), too few to teach a skill; figures are known within {0.98 / math.sqrt(prompts):.0%}, so that no "
        "filter is advised and no part of it can be held out to judge the rest"
    )
    return Finding("small-set", "note", message, prompts)


def enough_steps(groups: int, per_step: int) -> tuple[int, int]:
    """(optim.groups_per_step, optim.epochs) with which few groups make `FEW_STEPS` steps; at most `per_step` a step."""
    smaller = max(1, min(per_step, groups // 8))
    return smaller, max(1, -(-FEW_STEPS * smaller // groups))


def _round(value: float) -> int:
    """The value to two significant digits, at least ten, as a person would write a setting."""
    size: int = 10 ** max(0, len(str(int(value))) - 2)
    return max(10, int(round(value / size) * size))


WHY = {
    "optim.groups_per_step": "small steps, so that a small set makes several",
    "optim.epochs": f"with these it makes some {FEW_STEPS} steps; a policy hardly moves in fewer",
    "adapter.kind": "an adapter moves far in few steps, and the rest of the model stays near",
    "data.dedupe": "repeated rows weigh twice and leak between train and eval",
    "data.contradictions": "the same answers preferred both ways cancel out, and cost their time",
    "data.max_length_gap": "leaves out the fifth of the pairs that differ most in length",
    "data.max_length": "bounds memory, and drops what no answer of use is as long as",
    "data.overlong": "drop the group whole; a cut answer teaches to stop in the middle",
    "data.control_tokens": "texts that a template has rendered are taken as they are",
    "objective.name": "divides by length, so that long pairs do not dominate; its beta is per token, near 5",
    "data.length_match": "as many pairs with the longer answer preferred as with the shorter, at every gap",
}


def actions(findings: Sequence[Finding], columns: PairColumns | None) -> list[dict[str, str]]:
    """Settings for the configuration, each once, with the reason."""
    limits = [f for f in findings if f.code in LENGTH]
    settings = [f.action for f in findings if f.action and f not in limits[1:]]  # one limit holds for all sources
    small = next((f.count for f in findings if f.code == "small-set"), 0)
    if small:
        per_step, epochs = enough_steps(small, small)
        settings += [f"optim.groups_per_step = {per_step}", f"optim.epochs = {epochs}", 'adapter.kind = "lora"']
    elif columns is not None and limits:
        share = columns.longer_wins(np.ones(len(columns.prompts), dtype=bool)).value
        settings += ["data.length_match = true"] * (0.05 < share < 0.95)  # else next to nothing would be left
        settings.append('objective.name = "dpo_norm"')
    unique = dict.fromkeys(filter(None, settings))
    return [{"setting": setting, "why": WHY.get(setting.split(" =")[0], "")} for setting in unique]
