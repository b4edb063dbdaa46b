"""The final answer of a worked solution: where it is in the text, and whether it is the right number.

It is looked for in this order: LaTeX's last `\\boxed{...}` (MATH); the text behind the last `####` (GSM8K), behind the
last line that begins with `A:`, behind the last "answer is" or "answer:"; else, for numbers, the last number in the
text. Numbers are compared as fractions, exactly: 0.5 = 1/2 without rounding. "50%" is right where the right answer is
50, and where it is 0.5.
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
    """The end of a text with single blanks and no blank lines: the patterns take time that grows with the cube of a run
    of blanks, and linear time without."""
    lines = (" ".join(line.split()) for line in text[-LONGEST:].split("\n"))
    return "\n".join(line for line in lines if line)


def final(text: str) -> str | None:
    """The final answer as it is written; None where nothing marks it."""
    tail = settled(text)
    boxed = _boxed(tail)
    if boxed is not None:
        return boxed.strip()
    for mark in MARKS:
        marked = mark.findall(tail)
        if marked:
            return str(marked[-1]).strip()
    return None


def _boxed(text: str) -> str | None:
    """The content of the last `\\boxed{...}`, whose braces may be nested."""
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
    """The number in a short text: `1,234.50`, `$3`, `-2/3`, `\\frac{1}{2}`, `12%`; None where it has none."""
    plain = re.sub(r"\\d?frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2", text.replace("\\!", "").replace("\\%", "%"))
    match = VALUE.search(plain)
    if match is None:
        return None
    value = Fraction(match["top"].replace(",", ""))
    if match["under"]:
        if int(match["under"]) == 0:
            return None
        value /= int(match["under"])
    return (-value if match["sign"] == "-" else value) / (100 if match["percent"] else 1)


def says_number(text: str, right: str) -> bool:
    """Whether the text's final answer is the right number; where no answer is marked the last number counts.

    Raises ValueError where `right` is no number.
    """
    wanted = number(right)
    if wanted is None:
        raise ValueError(f"{right!r} is no number")
    answer = final(text)
    if answer is None:
        answer = next((match[0] for match in reversed(list(VALUE.finditer(settled(text))))), "")
    value = number(answer)
    return value is not None and (value == wanted or ("%" in answer and "%" not in right and 100 * value == wanted))
