"""The table of objectives: name -> function, the feedback it sees, what it needs, the unit of its beta, its paper."""

from __future__ import annotations

from burnish.errors import ConfigError, did_you_mean
from burnish.objectives.rows import batch, likelihood, lists, pairs, policy, positions, reward, sides, unpaired
from burnish.objectives.table import Objective

__all__ = ["TABLE", "Objective", "find"]

FAMILIES = (likelihood, pairs, sides, positions, batch, unpaired, lists, reward, policy)
TABLE: dict[str, Objective] = {row.name: row for family in FAMILIES for row in family.ROWS}


def find(name: str) -> Objective:
    """The row of that name; raises ConfigError with the nearest one."""
    if name in TABLE:
        return TABLE[name]
    hint = did_you_mean(name, TABLE, cutoff=0.4) or "."
    raise ConfigError(f"there is no objective '{name}'{hint} There are: {', '.join(TABLE)}")
