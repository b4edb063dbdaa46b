"""Numbers and names as people read them, in pages and on terminals: true minus signs, a dash for what is not known."""

from __future__ import annotations

import math
from typing import Any

from burnish.findings import printable

Number = int | float
UNKNOWN = "\u2013"
MOST_LETTERS = 17  # of a name in little room


def number(value: Number | None) -> str:
    """1,234 or 0.25."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return minus(f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2g}")


def tick(value: Number) -> str:
    """A number in little room: 250k, 1.2M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e5):
            return minus(f"{value / size:.3g}{letter}")
    return number(value)


def share(value: Number | None) -> str:
    """67%; below ten per cent with a decimal, 4.2% or 0.3%."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    percent = 100 * value
    if 0 < percent < 0.05:
        return "<0.1%"
    few = percent < 9.95 and abs(percent - round(percent)) >= 0.05
    return f"{percent:.1f}%" if few else f"{percent:.0f}%"


def signed(value: Number | None) -> str:
    """+0.25, and 0 without a sign."""
    return UNKNOWN if value is None else minus(f"{value:+.2f}") if value else "0"


def points(value: Number | None) -> str:
    """A difference of shares in percentage points: +4.2."""
    return UNKNOWN if value is None else minus(f"{100 * value:+.1f}")


def digits(value: Number | None) -> str:
    """Three significant digits, or a whole number from 1,000 on."""
    return UNKNOWN if value is None else minus(f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}")


def shorten(name: str) -> str:
    """A name in little room, printable; paths differ at their ends, so the middle goes."""
    name, half = printable(name), (MOST_LETTERS - 1) // 2
    return name if len(name) <= MOST_LETTERS else f"{name[:half].strip()}\u2026{name[-half:].strip()}"


def minus(text: str) -> str:
    return text.replace("-", "\u2212")


def nan_as_null(value: Any) -> Any:
    """What JSON can hold: null where there is no number."""
    if isinstance(value, dict):
        return {key: nan_as_null(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [nan_as_null(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value
