"""The final answer of a worked solution: where it is in the text, and whether it is the right number.

Thoughts (`<think>...</think>`) are left out. The answer is looked for in this order: LaTeX's last `\\boxed{...}` or
`\\fbox{...}` (MATH; one that is cut off before it closes holds none); the text in the last `<answer>` (DeepSeek-R1),
behind the last `####` (GSM8K), behind the last line that begins with `A:`, behind the last "answer is" or "answer:";
else, for numbers, the last number in the text. Of a marked answer that is a calculation, "3 * 4 = 12", the result
counts. A part of a calculation, a time (2:30), a ratio, a range, a bound (> 5) and a choice ("5 or 6") are no numbers,
and a number that is denied ("not 5") is passed over. Numbers are compared as fractions, exactly: 0.5 = 1/2 without
rounding. "50%" and 50 are equal, and so are "50%" and 0.5.
"""

from __future__ import annotations

import re
from fractions import Fraction

from burnish.answers.judges.thoughts import without_thoughts

LONGEST = 1 << 16  # characters from the end in which an answer is looked for
MARKS = (
    re.compile(r"<answer>\s*([^<]+)", re.IGNORECASE),
    re.compile(r"####\s*([^\n]+)"),
    re.compile(r"^\s*A:\s*([^\n]+)", re.MULTILINE),
    re.compile(r"answer[*_]*\s*(?:is|:|=)[*_]*\s*:?\s*([^\n]+)", re.IGNORECASE),
)
BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
TYPOGRAPHIC = str.maketrans("−﹣－‐‑⁄∕×·⋅÷：％", "-----//***/:%")
VULGAR = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
    "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip

NUMBER = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d++)(?:\.\d++)?|\.\d++)(?:[eE][-+]?\d{1,3}(?!\d))?"
SIGN = r"(?:(?<![\w)])[-+])?(?:[$€£¥] ?)?(?:(?<![\w)])[-+])?"
MIXED = r"(?:\d++ (?=\d+ ?/ ?\d))?"  # the whole of 3 1/2
PERCENT = r"(?: ?%| percent\b| per cent\b)?"
TERM = rf"{SIGN}{MIXED}{NUMBER}{PERCENT}"
SCALE = {"hundred": "e2", "thousand": "e3", "million": "e6", "billion": "e9", "trillion": "e12"}
SCALED = re.compile(rf"(?<![\d.,])(?P<size>{NUMBER}) ?(?P<word>{'|'.join(SCALE)}|dozen)s?\b(?! of\b)", re.IGNORECASE)
POWER = re.compile(
    rf"(?<![\d.,])(?P<size>{NUMBER}) ?[*x] ?10 ?(?:\^|\*\*) ?"
    r"(?:\{ ?(?P<braced>[-+]?\d{1,3}) ?\}|(?P<bare>[-+]?\d{1,3}))"
)
DENIED = re.compile(
    r"(?:\b(?:not|cannot|never|neither|nor)|n't|\b(?:less|more|fewer|greater|larger|smaller) than|≠|!="
    r"|(?<![\w/\"'])[<>]=?|[≤≥]|\\(?:neq?|leq?|geq?|lt|gt)) ?(?:\b(?:be|equal to) )?[$(]*$"
)
WITHIN = re.compile(  # what makes a number a part of something else: a command, an index, a function, twice of it
    r"(?:\\[a-zA-Z]+ ?(?:\[|(?:\[[^\]]{0,20}\])? ?\{)|[√_^]\{?|\b[A-Za-z]\("
    r"|\b(?:twice|double|triple|half(?: of)?|root of) [$(]*)$"
)
BEFORE = 40  # characters before a number that say whether it is meant
JOINED = (  # what makes of two numbers a calculation, a time, a ratio, a date, a range or a choice
    r"(?: ?\)* ?(?:\*\*|[-+*/^–]|x(?= ?\d)|(?:times|plus|minus|or|to|over|divided by|multiplied by)\b) ?\(* ?|[:,.—~∼])"
)
MORE = r"(?P<more> ?\)* ?[*/^] ?\(|!(?= ?[-+*/^=)])|\(|\^|[²³¹⁰-⁹]| (?:squared|cubed)\b| ?(?:√|π|\\sqrt|\\pi))?"
QUANTITY = re.compile(rf"{TERM}(?:{JOINED}{TERM})*{MORE}")
ALONE = re.compile(
    rf"(?P<sign>[-+]?)(?:[$€£¥] ?)?(?P<inner>[-+]?)(?:(?P<whole>\d+) )?(?P<top>{NUMBER})"
    rf"(?: ?/ ?(?P<under>{NUMBER}))?(?P<percent>{PERCENT})"
)
CALCULATION = re.compile(r"[*+^x]|[-–/]|times|plus|minus|over|by")
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d/]| ?/ ?\d)")
EQUALS = re.compile(r"[=≈≃≅⇒→]>?|->|\\(?:approx|Rightarrow|rightarrow|implies|to)\b")
SENTENCE = re.compile(r"(?<=[^.])[.!?](?= [A-Z(]|$)")
# 5, as 2+3=5; not "5, 6" or "5x"
AFTER = re.compile(
    r"\)*(?:[$€£¥]|$| \((?=[A-Za-z])|[.;:?](?: |$)|,? (?!(?:or|and|to)\b)[A-Za-z]{2,})"
)  # 5, as 2+3=5; not "5, 6" or "5x"
THOUSAND = re.compile(r"(?<=\d)[kK]\b")
FRACTION = re.compile(r"(?P<before>\d ?)?\\[dtc]?frac ?(?:\{ ?(-?[\d.,]+) ?\}|(\d)) ?(?:\{ ?([\d.,]+) ?\}|(\d))")
REPEATING = re.compile(r"(\d{0,30})\.(\d{0,30})\\(?:overline|bar|dot) ?\{(\d{1,30})\}")
FONT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:bf|it|rm|sf)|mbox|bm|boldsymbol|underline|emph) ?\{([^{}]*)\}")


def settled(text: str) -> str:
    """The end of a text without thoughts, with single blanks, no blank lines and plain signs: the patterns take time
    that grows with the cube of a run of blanks, and linear time without."""
    tail = without_thoughts(text)[-LONGEST:].translate(TYPOGRAPHIC)
    tail = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))", "", tail)  # thin blanks between thousands
    tail = re.sub(r"(?<![\w)])(?<![\d)] )–(?=[\d$.])", "-", tail)  # a dash that is a sign: no range, no pause
    tail = re.sub(rf"(\d?) ?([{''.join(VULGAR)}])", lambda half: f"{half[1]} {VULGAR[half[2]]}", tail)
    lines = (" ".join(line.split()) for line in tail.split("\n"))
    return "\n".join(line for line in lines if line)


def final(text: str) -> str | None:
    """The final answer as it is written, nothing of a box that never closes; None where nothing marks it."""
    tail = settled(text)
    in_box = boxed(tail)
    if in_box is not None:
        return in_box
    for mark in MARKS:
        marked = mark.findall(tail)
        if marked:
            return str(marked[-1]).strip()
    return None


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{...}`, whose braces may be nested: "" where it is cut off, None without."""
    boxes = list(BOX.finditer(text))
    if not boxes:
        return None
    depth, begin = 0, boxes[-1].end()
    for place in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place].strip()
    return ""


def plain(text: str) -> str:
    """A text without what LaTeX and Markdown put around and into numbers: `\\textbf{}`, `12{,}345`, `\\frac{1}{2}`."""
    text = text.replace("{,}", ",").replace("\\!", "")
    text = re.sub(r"(?<=\d)(?:\\[,;: ]|~)(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\\(?:left|right|displaystyle)(?![a-zA-Z])|\^ ?(?:\\circ|\{ ?\\circ ?\})|°", "", text)
    text = re.sub(r"\\[,;:]", " ", text)
    text = re.sub(r"\\(?:times|cdot)(?![a-zA-Z])", "*", re.sub(r"\\div(?![a-zA-Z])", "/", text))
    text = FONT.sub(r" \1 ", FRACTION.sub(_slashed, REPEATING.sub(_repeating, text)))
    text = re.sub(r"(?<!\d)\*\*|\*\*(?!\d)|__|`|</?[a-zA-Z]{1,10}>", "", re.sub(r"\\([%$#&_ ])", r"\1", text))
    return _spoken(" ".join(text.split()))


def _spoken(text: str) -> str:
    """A text whose numbers have signs, exponents and fractions for words and habits: `minus 5`, `3 million`, `1'200`,
    `1.2 * 10^6`, `3-1/2`."""
    text = re.sub(r"(?<![\d'’])\d{1,3}(?:['’]\d{3})+(?!\d)", lambda digits: re.sub("['’]", "", digits[0]), text)
    text = re.sub(r"(?<![\d)%] )\b(?:minus|negative) (?=[\d$.])", "-", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<![\w.,/*+)-])(\d{1,9})-(\d)/(\d{1,2})(?![\d/])", r"\1 \2/\3", text)
    text = re.sub(rf"\b(between [$€£¥]?{NUMBER}) and\b", r"\1 to", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<![\w.,/])(\d{1,9}) and (?=\d{1,3}/\d{1,3}(?![\d/]))", r"\1 ", text)
    text = POWER.sub(lambda power: f"{power['size']}e{power['braced'] or power['bare']}", text)
    return SCALED.sub(_scaled, text)


def _scaled(number: re.Match[str]) -> str:
    size, word = number["size"], number["word"].lower()
    if word == "dozen":
        return f"{12 * int(size)}" if size.isdigit() and len(size) < 16 else number[0]
    return number[0] if "e" in size.lower() else size + SCALE[word]


def _slashed(fraction: re.Match[str]) -> str:
    before, *parts = fraction.groups()
    top, under = filter(None, parts)
    return f"{before.strip()} {top}/{under} " if before else f"{top}/{under} "


def _repeating(decimal: re.Match[str]) -> str:
    """A decimal whose last digits repeat for ever, as a fraction: 2.1666... = (216 - 21) / 90."""
    whole, once, again = decimal.groups(default="")
    top = int(f"{whole}{once}{again}") - int(f"0{whole}{once}")
    return f"{top}/{(10 ** len(again) - 1) * 10 ** len(once)} "


def number(text: str) -> Fraction | None:
    """The number that a short text says: `1,234.50`, `$3`, `-2/3`, `\\frac{1}{2}`, `3 1/2`, `12%`, and of a calculation
    its result, `3 * 4 = 12`; None where it says none."""
    written = _written(text)
    return None if written is None else _value(written)


def numbers(text: str) -> int:
    """How many numbers a text has; a calculation without its result is one."""
    return sum(1 for _ in QUANTITY.finditer(plain(text)))


def value(text: str) -> Fraction | None:
    """The number that a text is, but for words behind it; None for anything else, such as `5x` or `(1, 2)`."""
    text = _signed(plain(text).strip("$ "))
    match = QUANTITY.match(text)
    behind = match is not None and _alone(match) and AFTER.match(text, match.end())
    return _value(match[0]) if match is not None and behind and len(match[0]) <= 1000 else None


def says_number(text: str, right: str, *, strict: bool = False) -> bool:
    """Whether the text's final answer is the right number; where no answer is marked the last number counts.

    `strict`: a marked number must stand alone but for words behind it, unlike in `5x`. Raises ValueError where `right`
    is no number.
    """
    wanted = number(right)
    if wanted is None:
        raise ValueError(f"{right!r} is no number")
    marked = final(text)
    written = _last(settled(text)) if marked is None else _written(marked, strict)
    if written is None or len(written) > 1000:
        return False
    return same_number(_value(written), written, wanted, right)


def same_number(given: Fraction | None, written: str, wanted: Fraction, right: str) -> bool:
    """Whether two numbers are equal, a % apart that one of `written` and `right` has and the other lacks."""
    if given is None or has_percent(written) == has_percent(right):
        return given == wanted
    return given == wanted or (100 * given == wanted if has_percent(written) else given == 100 * wanted)


def has_percent(text: str) -> bool:
    return re.search("%|per ?cent", text) is not None


def _written(text: str, strict: bool = False) -> str | None:
    """The first number of the last part between equals signs that has one, in the first sentence that has one."""
    for sentence in SENTENCE.split(plain(text)):
        for part in reversed(EQUALS.split(sentence)):
            part = _signed(part.strip(" ($*_"))
            part = part if strict else THOUSAND.sub("e3", part)
            for match in QUANTITY.finditer(part):
                if DENIED.search(part, max(0, match.start() - BEFORE), match.start()):
                    continue
                if _alone(match):
                    return match[0] if not strict or AFTER.match(part, match.end()) else None
                if not CALCULATION.search(match[0]):
                    return None
    return None


def _signed(text: str) -> str:
    """A text with its first number's sign at the number, and without blanks between thousands: `- 5`, `70 000`."""
    text = re.sub(r"^([-+]) (?=[\d$.])", r"\1", text)
    return THOUSANDS.sub(lambda digits: digits[0].replace(" ", ""), text)


def _last(text: str) -> str | None:
    """The last number of a text that marks no answer; None where it is part of something else."""
    text = THOUSAND.sub("e3", plain(text))
    matches = [m for m in QUANTITY.finditer(text) if not DENIED.search(text, max(0, m.start() - BEFORE), m.start())]
    return matches[-1][0] if matches and _alone(matches[-1]) else None


def _alone(match: re.Match[str]) -> bool:
    """Whether a quantity is a number, and no part of something larger."""
    within = WITHIN.search(match.string, max(0, match.start() - BEFORE), match.start())
    return match["more"] is None and within is None and ALONE.fullmatch(match[0]) is not None


def _value(written: str) -> Fraction | None:
    match = ALONE.fullmatch(written)
    under = Fraction((match["under"] or "1").replace(",", "")) if match else 0
    if match is None or under == 0:
        return None
    size = int(match["whole"] or 0) + Fraction(match["top"].replace(",", "")) / under
    return (-size if "-" in (match["sign"], match["inner"]) else size) / (100 if match["percent"] else 1)
