"""Objectives: short functions of log-probs and feedback, each shaped like its equation, its row of the table above it.

In the order to read them:

    pairs        the margin between two answers: dpo and its kin; the place to start
    sides        each side of a pair by itself
    likelihood   imitation, alone or beside a contrast
    per_token    single tokens of a pair
    whole_step   pairs that look at all of an optimiser step
    unpaired     single answers with a yes or a no
    lists        whole ranked groups
    reward       reward models
    policy       policy gradients, with their `advantages`

    table        the decorator, and a row
    settings     a function's keyword-only arguments as settings, with their limits
    metrics      what the functions share
    feedback     a microbatch's feedback in the shape that a function looks at
    mixture      what a run minimises: one objective, or a weighted sum of several
    explain      the table in words

An objective is added in one place: write its function in the module it belongs to, with `@Objective(...)` above it,
limits as the types of its settings, and the formula in its docstring (`table.Objective` shows the shape). Then give it
golden cases in `tests/objectives/golden/`, and make `docs/objectives.md` anew.
"""

from __future__ import annotations

from burnish.errors import ConfigError, did_you_mean
from burnish.objectives import likelihood, lists, pairs, per_token, policy, reward, sides, unpaired, whole_step
from burnish.objectives.table import Objective, rows_of

__all__ = ["TABLE", "Objective", "find"]

FAMILIES = (pairs, sides, likelihood, per_token, whole_step, unpaired, lists, reward, policy)
TABLE: dict[str, Objective] = {row.name: row for family in FAMILIES for row in rows_of(family)}


def find(name: str) -> Objective:
    """The row of that name; raises ConfigError with the nearest one."""
    if name in TABLE:
        return TABLE[name]
    hint = did_you_mean(name, TABLE, cutoff=0.4) or "."
    raise ConfigError(f"there is no objective '{name}'{hint} There are: {', '.join(TABLE)}")
