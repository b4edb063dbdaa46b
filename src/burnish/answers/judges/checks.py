"""The checks by name: an answer and what its row expects -> a score from 0 to 1. No state, no network.

What a row expects is in the prompt's `meta`: each check looks in its usual fields, or in the field named by
`judge.field`. A row without it raises `Missing`, which is no fault of the answer. Where a check raises anything else,
`verifier` tries it on a harmless answer: a check that breaks only on the given answer makes that answer wrong.
"""

from __future__ import annotations

import ast
import json
import math
import re
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from burnish.answers.judges import answers, expressions, ifeval, sandbox
from burnish.answers.judges.thoughts import without_thoughts
from burnish.errors import DataError

LONGEST = 200_000  # characters of an answer that a check reads; longer answers are wrong
HARMLESS = "0"  # a number, a word, a program and a JSON text: no sound check breaks on it


class Missing(Exception):
    """The row lacks what is expected, or has it in no form that can be checked; the message names what is missing."""


@dataclass(frozen=True)
class Request:
    """An answer to check. `settings` are the judge's: pattern, schema, target, unit, field, seconds."""

    prompt: str
    answer: str
    meta: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def reply(self) -> str:
        """The answer without the thoughts before it."""
        return without_thoughts(self.answer)

    def expected(self, *names: str) -> Any:
        """The row's value under the first of these names that it has, or under `judge.field`. Raises Missing."""
        field = str(self.settings.get("field") or "")
        wanted = (field,) if field else names
        for name in wanted:
            if self.meta.get(name) is not None:
                return self.meta[name]
        raise Missing(f"the row has no field {' or '.join(wanted)}, which says what is expected")


@dataclass(frozen=True)
class Check:
    """A row of the table."""

    name: str
    run: Callable[[Request], float]
    fields: tuple[str, ...]  # the usual fields of what is expected
    summary: str
    may_hang: bool = False  # it may never end, and runs in a process that can be stopped
    setting: str = ""  # the judge's key that takes the place of the row's field
    required: bool = False  # `setting` or judge.field must be set
    longest: float = LONGEST
    timed: bool = False  # it has a limit of time besides
    package: str = ""  # it cannot do without, which `extra` of burnish installs
    extra: str = ""

    @property
    def settings(self) -> tuple[str, ...]:
        """The judge's keys that this check uses."""
        keys = (self.setting, "unit") if self.setting == "target" else (self.setting,)
        return ("field", *filter(None, keys), *(("seconds",) if self.may_hang or self.timed else ()))


# -- numbers and expressions ------------------------------------------------------------------------------------------

WORKED = ("final", "answer", "solution", "reference")  # a number, or a worked solution that ends in one


def _wanted(request: Request) -> tuple[str, bool]:
    """(the row's final answer, whether a mark (`####`, `\\boxed{}`, ...) points to it)."""
    value = request.expected(*WORKED)
    whole = isinstance(value, float) and math.isfinite(value)
    text = answers.settled(format(Decimal(repr(value)), "f") if whole else str(value))  # 1e-05 is read as 0.00001
    marked = answers.final(text)
    return (text, False) if marked is None else (marked, True)


def number(request: Request) -> float:
    wanted, marked = _wanted(request)
    if answers.number(wanted) is None or (answers.numbers(wanted) > 1 and not marked):
        raise Missing(f"the row's expected answer {wanted[:80]!r} is no number, and no solution that marks one")
    return float(answers.says_number(answers.settled(request.answer), wanted))


def mathematics(request: Request) -> float:
    """The same number, or an expression that math-verify proves equal. Unlike in `number`, `5x` or `5\\sqrt{2}` is not
    5, and of an answer in a sentence its first formula counts."""
    wanted, _ = _wanted(request)
    text = answers.settled(request.answer)
    given, marked = answers.boxed(text), answers.final(text)
    if marked is None and answers.value(wanted) is not None:
        return float(answers.says_number(text, wanted))
    if given is None:
        written = text if marked is None else marked
        in_words = marked is not None and answers.value(wanted) is not None and not expressions.FORMULA.search(written)
        if in_words and answers.says_number(text, wanted, strict=True):
            return 1.0
        given = expressions.formula(written, last=marked is None)
    return float(expressions.same(given, wanted))


# -- texts and forms --------------------------------------------------------------------------------------------------


def exact(request: Request) -> float:
    right = str(request.expected("answer", "final", "reference"))
    return float(request.reply.casefold().split() == right.casefold().split())


def _pattern(request: Request) -> re.Pattern[str]:
    pattern = str(request.settings.get("pattern") or request.expected("pattern"))
    try:
        return re.compile(pattern, re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise Missing(f"the row's pattern {pattern[:80]!r} is no regular expression: {error}") from None


def contains_pattern(request: Request) -> float:
    return float(_pattern(request).search(request.answer) is not None)


def whole_pattern(request: Request) -> float:
    return float(_pattern(request).fullmatch(request.answer.strip()) is not None)


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, contents) of a text's fenced blocks; an open block reaches to the end. Linear time."""
    fenced = []
    for block in text.split("```")[1::2]:
        word, _, rest = block.partition("\n")
        label = word.strip().lower()
        named = label == "" or re.fullmatch(r"[\w+.-]+", label) is not None
        fenced.append((label, rest) if named and "\n" in block else ("", block))
    return fenced


def schema(request: Request) -> float:
    """JSON as in its standard, without NaN, that fits the schema. `format` in a schema is ignored, as is usual."""
    import jsonschema
    from jsonschema_specifications import REGISTRY  # with it no reference of a schema is fetched from the network
    from referencing.exceptions import Unresolvable

    wanted = request.settings.get("schema")
    if wanted is None:
        wanted = request.expected("schema")
    wanted = json.loads(wanted) if isinstance(wanted, str) else wanted  # columns of tables often hold it as text
    kind = jsonschema.validators.validator_for(wanted)
    try:
        kind.check_schema(wanted)
    except jsonschema.SchemaError as error:
        raise Missing(f"the schema itself is not one: {error.message[:200]}") from None
    try:
        return float(kind(wanted, registry=REGISTRY).is_valid(_json(request.reply)))
    except ValueError:
        return 0.0
    except Unresolvable as error:
        raise Missing(f"the schema refers to what is not in it: {error!s:.200}") from None


def _json(answer: str) -> Any:
    """The answer as JSON, or its last fenced block as JSON, blocks marked as json first. Raises ValueError."""
    fenced = blocks(answer)
    marked = [text for label, text in fenced if label.startswith("json")]
    try:
        return json.loads(answer, parse_constant=_no_constant)
    except ValueError:
        return json.loads((marked or [text for _, text in fenced] or [answer])[-1], parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def length(request: Request) -> float:
    """1 at the target, falling evenly to 0 at nothing and at twice the target."""
    target = float(request.settings.get("target") or request.expected("target"))
    if not (math.isfinite(target) and target > 0):
        raise Missing(f"the row's target {target:g} is no length")
    by_words = request.settings.get("unit", "words") == "words"
    count = len(request.answer.split()) if by_words else len(request.answer)
    return max(0.0, 1 - abs(count - target) / target)


def instructions(request: Request, *, loose: bool = False, share: bool = False) -> float:
    names, keywords = request.expected("instruction_id_list"), request.meta.get("kwargs")
    if not isinstance(keywords, Sequence) or not names or len(keywords) != len(names):
        raise Missing("the row's kwargs do not fit its instruction_id_list, or it has no instruction")
    try:
        kept = ifeval.kept(request.reply, names, [given or {} for given in keywords], loose=loose)
    except DataError as error:
        raise Missing(str(error)) from None
    return sum(kept) / len(kept) if share else float(all(kept))


# -- programs ---------------------------------------------------------------------------------------------------------

TESTS = ("test", "tests", "test_list")
FIRST = re.compile(
    r"^(?:from [\w.]+ import|import \w|(?:async )?def \w|class \w+[:(]|@\w|[A-Za-z_]\w* ?=)", re.MULTILINE
)
WARNINGS = threading.Lock()  # their filters belong to the whole process


def code(request: Request) -> float:
    """1 where the answer's program passes the row's tests in the sandbox: a text with `check(candidate)` and an
    `entry_point`, as in HumanEval, or assertions. The program is the answer's fenced block, or the whole answer."""
    tests, entry = request.expected(*TESTS), str(request.meta.get("entry_point") or "")
    text = tests if isinstance(tests, str) else "\n".join(map(str, tests))
    if re.search(r"^def check\b", text, re.MULTILINE) and not re.search(r"^check\(", text, re.MULTILINE):
        if not entry.isidentifier():
            raise Missing("the row's tests are a function `check`, and it has no field entry_point for what to check")
        text += f"\ncheck({entry})\n"
    try:
        with WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise Missing(f"the row's tests are no Python: {error}") from None
    # as literals, so that an answer that leaves a quote open does not swallow the tests behind it
    parts = [f"exec(compile({part!a}, 'answer.py', 'exec'), globals())" for part in _parts(request, entry)]
    limits = sandbox.Limits(seconds=float(request.settings.get("seconds") or 10.0))
    return float(sandbox.run("\n".join([*parts, text]), limits).passed)


def _parts(request: Request, entry: str) -> list[str]:
    """What is run before the tests: the answer alone, or behind the prompt's code. An answer that repeats the signature
    needs the prompt's code above it (imports, helpers); an answer that does not goes on from the signature."""
    defined = re.compile(rf"^[ \t]*(?:async def|def|class)[ \t]+{re.escape(entry)}\b", re.MULTILINE)
    body = _program(request.reply, defined)
    fenced = [text for _, text in blocks(request.prompt) if entry and defined.search(text)]
    given = fenced[-1] if fenced else request.prompt
    signature = defined.search(given) if entry else None
    if signature is None:
        return [body]
    first = FIRST.search(given)  # what precedes it is prose
    begin = min(first.start() if first else signature.start(), signature.start())
    if defined.search(body):
        return [given[begin : signature.start()], body]
    return [f"{given[begin:].rstrip()}\n{_indented(body)}"]


def _program(answer: str, defined: re.Pattern[str]) -> str:
    """The fenced block that is the program: the last that defines what is asked for, else the longest in Python."""
    fenced = blocks(answer)
    if not fenced:
        return answer
    python = [text for label, text in fenced if label in ("", "py", "python", "python3")]
    texts = python or [text for _, text in fenced]
    return next((text for text in reversed(texts) if defined.search(text)), max(texts, key=len))


def _indented(body: str) -> str:
    """A function's body, indented where its first line, or all of it, lost that."""
    lines = [line for line in body.split("\n") if line.strip()]
    if not lines or lines[0][0] in " \t":
        return body
    first_only = len(lines) > 1 and lines[1][0] in " \t" and not lines[0].rstrip().endswith(":")
    return "    " + body.lstrip("\n") if first_only else "\n".join("    " + line for line in body.split("\n"))


# -- the table --------------------------------------------------------------------------------------------------------

PATTERN, IFEVAL = ("pattern",), ("instruction_id_list",)
TABLE = (
    Check("gsm8k", number, WORKED, "the final number is the right one, as GSM8K's solutions mark it"),
    Check("numeric", number, WORKED, "the final number is the right one"),
    Check("math", mathematics, WORKED, "the final answer is the right number or expression, \\boxed{...} first",
          may_hang=True, package="math_verify", extra="math"),
    Check("exact", exact, ("answer", "final", "reference"), "the answer is the expected text but for case and blanks"),
    Check("regex", contains_pattern, PATTERN, "the pattern is found in the answer; . is any character",
          may_hang=True, setting="pattern", required=True),
    Check("format", whole_pattern, PATTERN, "the pattern matches the whole answer, blanks around it aside",
          may_hang=True, setting="pattern", required=True),
    Check("json_schema", schema, ("schema",), "the answer, or its fenced block, is JSON that fits the schema",
          may_hang=True, setting="schema_file"),
    Check("length", length, ("target",), "1 at the target (words or characters), evenly to 0 at none and at twice it",
          setting="target", required=True, longest=math.inf),
    Check("code", code, TESTS, "the answer's program passes the row's tests, in a sandbox", timed=True),
    Check("ifeval", instructions, IFEVAL, "IFEval: 1 where all instructions are kept, strictly", may_hang=True),
    Check("ifeval_loose", lambda r: instructions(r, loose=True), IFEVAL, "IFEval: 1 where all are kept, loosely",
          may_hang=True),
    Check("ifeval_share", lambda r: instructions(r, share=True), IFEVAL, "IFEval: the share of instructions kept",
          may_hang=True),
)  # fmt: skip
CHECKS: dict[str, Check] = {check.name: check for check in TABLE}


def described() -> list[tuple[str, str, str]]:
    """(name, usual fields of what is expected, what it checks) of every check, in the table's order."""
    return [(check.name, ", ".join(check.fields), check.summary) for check in TABLE]
