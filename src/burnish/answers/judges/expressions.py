"""Whether two answers are the same mathematics: equal numbers, equal words, or expressions that math-verify proves
equal (https://github.com/huggingface/Math-Verify). It runs where it can be stopped: some expressions take for ever."""

from __future__ import annotations

import re

from burnish.answers.judges import answers

LONGEST = 400  # characters of an expression; longer ones are compared as texts
FORMULA = re.compile(r"(?<![\\\w])\$\$?(?=\S)([^$]+?)(?<=\S)\$\$?(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
BLANK = re.compile(r"(?<!\d) | (?!\d)")  # between two digits it has a meaning
WORDS = re.compile(r"(?=.*[a-z]{3})[a-z][a-z ,.'()-]*", re.IGNORECASE)


def same(given: str, wanted: str) -> bool:
    """Whether a formula is the one wanted: as a text but for blanks, case and LaTeX's spacing, else as a number,
    exactly, else as mathematics. Words are compared as texts only."""
    texts = [BLANK.sub("", answers.plain(text)).casefold().strip("$") for text in (given, wanted)]
    if texts[0] == texts[1]:
        return True
    if WORDS.fullmatch(answers.plain(wanted)) or not texts[0] or max(len(given), len(wanted)) > LONGEST:
        return False
    value, number = answers.value(given), answers.value(wanted)
    if value is not None and number is not None:
        percent = answers.has_percent(given) and not answers.has_percent(wanted)
        return answers.same_number(value, number, percent=percent)
    two_numbers = re.search(r"\d \d", answers.plain(given)) is not None  # math-verify would add them
    return not two_numbers and _equal(given, wanted)


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
