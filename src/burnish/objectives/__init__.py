"""The table of objectives: name -> function, the feedback it sees, what it needs, the unit of its beta, its paper."""

from __future__ import annotations

import difflib

from burnish.errors import ConfigError
from burnish.objectives.rows import batch, likelihood, lists, pairs, policy, positions, reward, sides, unpaired
from burnish.objectives.table import Objective

__all__ = ["TABLE", "Objective", "find"]

FAMILIES = (likelihood, pairs, sides, positions, batch, unpaired, lists, reward, policy)
TABLE: dict[str, Objective] = {row.name: row for family in FAMILIES for row in family.ROWS}


def find(name: str) -> Objective:
    """The row of that name; raises ConfigError with the nearest one."""
    if name in TABLE:
        return TABLE[name]
    near = difflib.get_close_matches(name, TABLE, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ConfigError(f"there is no objective '{name}'; {hint}There are: {', '.join(TABLE)}")
