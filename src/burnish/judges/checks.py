"""The checks by name: an answer and what its row expects -> a score from 0 to 1. No state, no files, no network.

What a row expects stands in the prompt's `meta`; each check looks for it in its usual fields, or in the one named by
`judge.field`. A row without it raises `Missing`: that is no fault of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.judges import answers, ifeval, sandbox

FENCE = re.compile(r"```[ \t]*[\w+-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
LONGEST = 200_000  # characters of an answer that a check reads; what is longer is wrong, whatever it says


class Missing(Exception):
    """The row does not say what is expected; the message names the fields that were looked for."""


@dataclass(frozen=True)
class Request:
    """One answer to check. `settings` are the judge's own: pattern, schema, target, field, seconds."""

    prompt: str
    answer: str
    meta: Mapping[str, Any]
    settings: Mapping[str, Any]

    def expected(self, *names: str) -> Any:
        """The row's value under the first of these names, or under the one that the judge was told."""
        own = str(self.settings.get("field") or "")
        wanted = (own,) if own else names
        for name in wanted:
            if self.meta.get(name) is not None:
                return self.meta[name]
        raise Missing(f"the row has none of the fields {', '.join(wanted)}")


@dataclass(frozen=True)
class Check:
    """One row of the table: `patient` checks may not end by themselves and run where they can be stopped."""

    name: str
    run: Callable[[Request], float]
    summary: str
    patient: bool = False
    settings: tuple[str, ...] = ("field",)


def number(request: Request) -> float:
    right = str(request.expected("final", "answer", "solution", "reference"))
    try:
        return float(answers.says_number(request.answer, answers.final(right) or right))
    except ValueError as error:
        raise Missing(f"the row's expected answer cannot be compared: {error}") from None


def mathematics(request: Request) -> float:
    """The same number, or else the same final expression but for blanks and case."""
    right = str(request.expected("final", "answer", "solution", "reference"))
    wanted = answers.final(right) or right
    if answers.says_exactly(request.answer, wanted):
        return 1.0
    try:
        return float(re.search(r"[A-Za-z\\]", wanted) is None and answers.says_number(request.answer, wanted))
    except ValueError:
        return 0.0


def exact(request: Request) -> float:
    return float(answers.says_exactly(request.answer, str(request.expected("answer", "final", "reference"))))


def contains_pattern(request: Request) -> float:
    pattern = str(request.settings.get("pattern") or request.expected("pattern"))
    return float(re.search(pattern, request.answer, re.DOTALL) is not None)


def whole_pattern(request: Request) -> float:
    pattern = str(request.settings.get("pattern") or request.expected("pattern"))
    return float(re.fullmatch(pattern, request.answer.strip(), re.DOTALL) is not None)


def schema(request: Request) -> float:
    import jsonschema

    wanted = request.settings.get("schema") or request.expected("schema")
    fenced = FENCE.search(request.answer)
    try:
        value = json.loads(fenced.group(1) if fenced else request.answer)
        jsonschema.validate(value, wanted)
    except (ValueError, RecursionError, jsonschema.ValidationError):
        return 0.0
    except jsonschema.SchemaError as error:
        raise Missing(f"the schema itself is not one: {error.message[:200]}") from None
    return 1.0


def length(request: Request) -> float:
    """1 at the target, falling evenly to 0 at no words and at twice the target."""
    target = float(request.settings.get("target") or request.expected("target"))
    return max(0.0, 1 - abs(len(request.answer.split()) - target) / target)


def code(request: Request) -> float:
    """1 where the answer's program passes the row's tests in the sandbox: `test` with `entry_point` as HumanEval has
    them, or `tests`, a list of assertions."""
    tests = request.meta.get("tests")
    limits = sandbox.Limits(seconds=float(request.settings.get("seconds") or 10.0))
    blocks = FENCE.findall(request.answer)
    body = max(blocks, key=len) if blocks else request.answer
    if isinstance(tests, Sequence) and not isinstance(tests, str):
        return float(sandbox.run("\n".join([body, *map(str, tests)]), limits).passed)
    test, entry = str(request.expected("test")), str(request.meta.get("entry_point", ""))
    head = "" if re.search(rf"^\s*def\s+{re.escape(entry)}\s*\(", body, re.MULTILINE) else request.prompt
    # a signature given again needs the imports that stood above it in the prompt
    above = request.prompt.split("def " + entry)[0] if not head and entry and "def " + entry in request.prompt else ""
    program = f"{above}\n{head}{body}\n{test}\n" + (f"check({entry})\n" if "def check" in test else "")
    return float(sandbox.run(program, limits).passed)


def instructions(request: Request, *, loose: bool = False, share: bool = False) -> float:
    names, keywords = request.expected("instruction_id_list"), request.meta.get("kwargs")
    if not isinstance(keywords, Sequence) or len(keywords) != len(names):
        raise Missing("the row's kwargs do not fit its instruction_id_list")
    kept = ifeval.kept(request.answer, names, keywords, loose=loose)
    return sum(kept) / max(1, len(kept)) if share else float(all(kept))


CHECKS: dict[str, Check] = {
    one.name: one
    for one in (
        Check("gsm8k", number, "the final number is the right one, as GSM8K's solutions mark it"),
        Check("numeric", number, "the final number is the right one"),
        Check("math", mathematics, "the final answer is the right number or expression, \\boxed{...} first"),
        Check("exact", exact, "the final answer, or the whole of it, is the expected text"),
        Check("regex", contains_pattern, "the pattern is found in the answer", True, ("field", "pattern")),
        Check("format", whole_pattern, "the pattern matches the whole answer", True, ("field", "pattern")),
        Check("json_schema", schema, "the answer is JSON that fits the schema", True, ("field", "schema_file")),
        Check("length", length, "words aimed at: 1 there, 0 at none and at twice as many", False, ("field", "target")),
        Check("code", code, "the answer's program passes the row's tests, in a sandbox"),
        Check("ifeval", instructions, "IFEval: all instructions kept, strictly", True),
        Check("ifeval_loose", lambda r: instructions(r, loose=True), "IFEval: all kept, loosely", True),
        Check("ifeval_share", lambda r: instructions(r, share=True), "IFEval: the share of instructions kept", True),
    )
}


def described() -> list[tuple[str, str]]:
    """(name, what it checks) of every check."""
    return [(one.name, one.summary) for one in CHECKS.values()]


def score(name: str, request: Request) -> float:
    """The check's score. An answer longer than any sound one, or on which the check itself breaks, gets 0."""
    if len(request.answer) > LONGEST:
        return 0.0
    return CHECKS[name].run(request)
