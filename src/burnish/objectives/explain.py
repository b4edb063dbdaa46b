"""The table of objectives in words: for a terminal, for one name, and as the page in the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from burnish.objectives import TABLE, Objective
from burnish.objectives.meanings import meaning
from burnish.objectives.settings import Setting

VIEWS = {
    "winners": "answers worth imitating",
    "pairs": "pairs: one answer better than another",
    "lists": "ranked groups: two or more answers with scores or an order",
    "labels": "single answers, each with a yes or a no",
    "rollouts": "answers that the policy has just given, with rewards (`source.refresh_every`)",
}
NEEDS = {
    "reference": "a reference's log-probs",
    "step": "a first pass over the step, without gradient",
    "mismatched": "log-probs of answers under other prompts",
    "square": "log sum_v p(v)^2 at every token, from the output head",
    "kl": "the KL over the vocabulary at every token, so a reference in memory",
    "draws": "token positions drawn by (seed, step, pair)",
    "scalar": "a scalar head: it trains a reward model",
    "value": "a value head on the hidden states",
}
EFFECTS = (
    "P1, shorter answers have the higher sums",
    "P2, longer answers weigh more",
    "P3, it learns the raters' taste in length",
)
INTRODUCTION = """# Objectives

<!-- made from the table by `burnish objectives --markdown > docs/objectives.md` -->

An objective is one short function of log-probs, shaped like its equation. `objective.name` chooses it; its settings
stand beside it (`objective.beta`, ...), and a name with nothing else is the paper's algorithm. The functions are in
`src/burnish/objectives/`, and `burnish objectives NAME` explains one in the terminal.

## Notation

p_t is the policy's log-prob of a token, q_t the reference's. S is the sum of p_t over an answer, n its number of
tokens, S hat = S/n. The log-ratio of an answer is the sum of p_t - q_t: a for the chosen (w), b for the rejected
one (l), D = a - b. A hat divides by the answer's own n. z = beta D, u = s(-z), s the logistic function, sg() holds
a value without gradient, r_i = beta times the log-ratio of answer i, h the log-ratio of a single answer. The
gradient of a sum-type objective is one number for all tokens of an answer, of a mean-type one that number divided
by n.

## Three ways in which length leaks in

* **P1.** Sums of log-probs fall with length, so the shorter answer of a pair looks better: from the first step
  without a reference, and as the policy drifts with one.
* **P2.** One coefficient on every token makes long answers weigh more in the gradient.
* **P3.** The labels themselves prefer a length, and no formula can tell that from quality.

## Several at once, and a reference that moves

    [[objective]]
    name = "dpo"
    [[objective]]
    name = "sft"
    weight = 0.2

is the weighted sum; each part's loss is logged as `loss/NAME`. `reference.update = "soft"` (or `"hard"`) moves the
reference towards (or onto) the policy every `reference.every` steps (TR-DPO, arXiv 2404.09656), `"ema"` after every
step.
"""


def overview() -> Iterator[tuple[str, list[Objective]]]:
    """(what they learn from, the rows) for each kind of feedback, in the order of the table."""
    for view, words in VIEWS.items():
        rows = [row for row in TABLE.values() if row.view == view]
        if rows:
            yield words, rows


def defaults(row: Objective) -> str:
    """`beta = 0.1, label_smoothing = 0`, or "no settings"."""
    return ", ".join(f"{setting.name} = {_text(setting.default)}" for setting in row.settings.values()) or "no settings"


def explained(row: Objective) -> list[tuple[str, str]]:
    """One objective as (heading, text) pairs, in reading order."""
    low, high = row.lr_range
    rows = [
        ("what", row.summary),
        ("loss", row.loss),
        ("gradient", row.gradient),
        ("notes", row.notes),
        ("learns from", VIEWS[row.view]),
        ("needs", "; ".join(words for need, words in NEEDS.items() if need in row.needs) or "nothing but the policy"),
        ("settings", "; ".join(_setting(row, setting) for setting in row.settings.values()) or "none"),
        ("learning rate", f"published for full training: {low:g} to {high:g}; about ten times that for adapters"),
        ("length", "; ".join(f"{what}: {how}" for what, how in zip(EFFECTS, row.length_effects, strict=True))),
        ("from", row.source + (f", https://arxiv.org/abs/{row.paper}" if row.paper[:1].isdigit() else "")),
    ]
    return [(heading, text) for heading, text in rows if text]


def snippet(row: Objective) -> str:
    """TOML to paste, with every default in its place."""
    lines = ["[objective]", f'name = "{row.name}"']
    for name, setting in row.settings.items():
        value = f'"{setting.default}"' if isinstance(setting.default, str) else _text(setting.default)
        lines.append(f"# {name} is unset" if setting.default is None else f"{name} = {value}")
    return "\n".join(lines)


def setting_lines() -> Iterator[str]:
    """Every setting of every objective: a line with its meaning and what it may be, then its default in each."""
    rows: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for row in TABLE.values():
        for setting in row.settings.values():
            allowed = " | ".join(setting.choices) or setting.rule
            defaults = rows.setdefault((setting.name, meaning(row.name, setting.name), allowed), {})
            unit = f" {row.beta_unit}" if setting.name in ("beta", "tau") and row.beta_unit else ""
            defaults.setdefault(f"{_text(setting.default)}{unit}", []).append(row.name)
    for (name, words, allowed), defaults in sorted(rows.items()):
        yield f"{name}: {words}" + (f" ({allowed})" if allowed else "")
        yield "    " + "; ".join(f"{value} in {', '.join(names)}" for value, names in defaults.items())


def page() -> str:
    """The documentation's page: introduction, table, and every objective."""
    parts = [INTRODUCTION]
    for words, rows in overview():
        parts.append(f"## Learning from {words}\n")
        parts.append("| name | in a sentence | beta | length: P1, P2, P3 |\n|---|---|---|---|")
        for row in rows:
            effects = "; ".join(row.length_effects)
            parts.append(f"| [`{row.name}`](#{row.name}) | {row.summary} | {row.beta_unit or 'none'} | {effects} |")
        parts.append("")
        parts += [section(row) for row in rows]
    return "\n".join(parts)


def section(row: Objective) -> str:
    """One objective in the documentation."""
    code = {"loss", "gradient"}
    lines = [f"### {row.name}\n", f"{row.summary}\n"]
    lines += [
        f"* **{name}:** {f'`{text}`' if name in code else text}" for name, text in explained(row) if name != "what"
    ]
    return "\n".join([*lines, ""])


def _setting(row: Objective, setting: Setting) -> str:
    """`alpha = 0.5 (above 0 and below 1)`: its default, what it may be, and what beta multiplies."""
    unit = row.beta_unit if setting.name in ("beta", "tau", "beta0") else ""
    more = ", ".join(filter(None, [" | ".join(setting.choices), unit, setting.rule]))
    return f"{setting.name} = {_text(setting.default)}" + (f" ({more})" if more else "")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "unset"
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
