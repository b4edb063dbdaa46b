"""Answers that are right or wrong: the final answer of a worked solution, found and compared.

Where it stands, in the order looked for: LaTeX's last `\\boxed{...}` (MATH); the text behind the last `####` (GSM8K),
behind the last line that begins with `A:`, behind the last "answer is" or "answer:"; else, for numbers, the last number
in the text. Numbers are compared as fractions, exactly: 0.5 = 1/2 is no question of rounding. Where the right answer is
50, "50%" says it; where it is 0.5, too.
"""

from __future__ import annotations

import re
from fractions import Fraction

VALUE = re.compile(
    r"(?P<sign>[-+]?)\s*[$€£]?\s*(?P<top>(?:\d[\d,]*)?\.?\d+|\d[\d,]*)"
    r"(?:\s*/\s*(?P<under>\d+))?\s*(?P<percent>%?)"
)
MARKS = (
    re.compile(r"####\s*([^\n]+)"),
    re.compile(r"^\s*A:\s*([^\n]+)", re.MULTILINE),
    re.compile(r"answer\s*(?:is|:|=)\s*:?\s*([^\n]+)", re.IGNORECASE),
)
LONGEST = 1 << 16  # characters from the end in which an answer is looked for


def settled(text: str) -> str:
    """The end of a text, each run of blanks made one, no blank lines: the patterns here take time that grows with the
    cube of such a run, and linear time without."""
    lines = (" ".join(line.split()) for line in text[-LONGEST:].split("\n"))
    return "\n".join(line for line in lines if line)


def final(text: str) -> str | None:
    """The final answer as it is written; None where nothing marks one."""
    tail = settled(text)
    boxed = _boxed(tail)
    if boxed is not None:
        return boxed.strip()
    for mark in MARKS:
        found = mark.findall(tail)
        if found:
            return str(found[-1]).strip()
    return None


def _boxed(text: str) -> str | None:
    """What stands in the last `\\boxed{...}`, whose braces may be nested."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{")
    for place in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place]
    return None


def number(text: str) -> Fraction | None:
    """The number that a short text says: `1,234.50`, `$3`, `-2/3`, `\\frac{1}{2}`, `12%`; None where it says none."""
    plain = re.sub(r"\\d?frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2", text.replace("\\!", "").replace("\\%", "%"))
    found = VALUE.search(plain)
    if found is None:
        return None
    value = Fraction(found["top"].replace(",", ""))
    if found["under"]:
        if int(found["under"]) == 0:
            return None
        value /= int(found["under"])
    return (-value if found["sign"] == "-" else value) / (100 if found["percent"] else 1)


def says_number(text: str, right: str) -> bool:
    """Whether the text's final answer is the right number; without a marked one its last number counts.

    Raises ValueError where `right` is no number.
    """
    wanted = number(right)
    if wanted is None:
        raise ValueError(f"{right!r} is no number")
    said = final(text)
    if said is None:
        said = next((found[0] for found in reversed(list(VALUE.finditer(settled(text))))), "")
    found = number(said)
    return found is not None and (found == wanted or ("%" in said and "%" not in right and 100 * found == wanted))
