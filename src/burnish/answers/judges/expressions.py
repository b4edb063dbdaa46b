"""Whether two answers are the same mathematics: equal numbers, equal words, or expressions that math-verify proves
equal (https://github.com/huggingface/Math-Verify). It runs where it can be stopped: some expressions take for ever."""

from __future__ import annotations

import re

from burnish.answers.judges import answers

LONGEST = 400  # characters of an expression; longer ones are compared as texts
FORMULA = re.compile(r"(?<![\\\w])\$\$?(?=\S)([^$]+?)(?<=\S)\$\$?(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
BLANK = re.compile(r"(?<!\d) | (?!\d)")  # between two digits it has a meaning
ABOUT = re.compile(r"^[\s$]*(?:\\approx|[≈=])")
BASE = re.compile(r"\d_ ?\{?(\d+)")
SIGNS = {
    "∞": r"\infty ", "π": r"\pi ", "²": "^{2}", "³": "^{3}", "≤": r"\le ", "≥": r"\ge ", "∪": r"\cup ", "∩": r"\cap ",
    "±": r"\pm ", "∅": r"\emptyset ", "θ": r"\theta ",
}  # fmt: skip
WORDS = re.compile(r"(?=.*[a-z]{3})[a-z][a-z ,.'()-]*", re.IGNORECASE)


def same(given: str, wanted: str) -> bool:
    """Whether a formula is the one wanted: as a text but for blanks, case and LaTeX's spacing, else as a number,
    exactly, else as mathematics. Words are compared as texts only."""
    texts = [BLANK.sub("", answers.plain(text)).casefold().strip("$") for text in (given, wanted)]
    if texts[0] == texts[1]:
        return True
    if WORDS.fullmatch(answers.plain(wanted)) or not texts[0] or max(len(given), len(wanted)) > LONGEST:
        return False
    given = ABOUT.sub("", given)
    value, number = answers.value(given), answers.value(wanted)
    if value is not None and number is not None:
        return answers.same_number(value, given, number, wanted)
    two_numbers = re.search(r"\d \d", answers.plain(given)) is not None  # math-verify would add them
    return not two_numbers and not _unlike(given, wanted) and _equal(_latex(given), _latex(wanted))


def _unlike(given: str, wanted: str) -> bool:
    """Whether two formulas differ in what math-verify does not see: the bases of numbers, a set and a tuple, the parts
    of a ratio, an equation that is false."""
    based = [BASE.findall(text) for text in (given, wanted)]
    held = [(r"\{" in text, text.lstrip("$ ").startswith("(") and "," in text) for text in (given, wanted)]
    sides = [answers.value(side) for side in given.split("=")]
    false = len(sides) == 2 and None not in sides and sides[0] != sides[1]
    return based[0] != based[1] or held[0] == held[1][::-1] != (False, False) or ":" in wanted or false


def _latex(text: str) -> str:
    """LaTeX for the signs that people type."""
    text = re.sub(r"√ ?(?:\(([^()]*)\)|(\d+|[A-Za-z]))", r"\\sqrt{\1\2}", text)
    return "".join(SIGNS.get(sign, sign) for sign in text)


def formula(text: str, last: bool) -> str:
    """The first formula of a text, or its last; the first sentence of a text without formulas."""
    formulas = [next(filter(None, match.groups())) for match in FORMULA.finditer(text)]
    return (formulas[-1 if last else 0] if formulas else answers.SENTENCE.split(text)[0]).strip().rstrip(". ")


def _equal(given: str, wanted: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    gold, target = (
        parse(f"${text.replace('$', '')}$", [LatexExtractionConfig()], "no_fallback", parsing_timeout=None)
        for text in (wanted, given)
    )
    return bool(verify(gold, target, timeout_seconds=None))
