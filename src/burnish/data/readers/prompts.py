"""Prompts without answers to learn from: plain prompts, GSM8K problems, IFEval's checkable instructions.

On-policy training learns from fresh answers to them; a verifier checks the answers against `meta`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from burnish.data.readers.shapes import VISIBLE, Row, Useless, _field, conversation
from burnish.errors import DataError
from burnish.group import Completion, Group, contents

FINAL = re.compile(r"####\s*(\S.*?)\s*$")
# The 25 checks of IFEval (Zhou et al. 2023, table 1), by family.
IFEVAL = {
    "keywords": ("existence", "frequency", "forbidden_words", "letter_frequency"),
    "language": ("response_language",),
    "length_constraints": ("number_sentences", "number_paragraphs", "number_words", "nth_paragraph_first_word"),
    "detectable_content": ("number_placeholders", "postscript"),
    "detectable_format": (
        "number_bullet_lists", "constrained_response", "number_highlighted_sections", "multiple_sections",
        "json_format", "title",
    ),
    "combination": ("two_responses", "repeat_prompt"),
    "startend": ("end_checker", "quotation"),
    "change_case": ("capital_word_frequency", "english_capital", "english_lowercase"),
    "punctuation": ("no_comma",),
}  # fmt: skip
ANSWERED = (  # in the names of columns that hold answers, or say which is better
    "chosen", "reject", "accept", "refuse", "prefer", "winner", "loser", "positive", "negative", "complet", "response",
    "output", "answer", "messages", "canonical", "repl", "label",
)  # fmt: skip
IFEVAL_IDS = frozenset(f"{family}:{check}" for family, checks in IFEVAL.items() for check in checks)


def _prompts(row: Row, where: str) -> Group:
    """`prompt`, for fresh answers; the other columns are for a verifier to check against."""
    prompt = conversation(_field(row, "prompt", where), where, "prompt")
    if not VISIBLE.search("".join(contents(prompt))):
        raise Useless("an empty prompt")
    return Group(prompt, (), where=where, meta={k: v for k, v in row.items() if k not in ("prompt", "id", "source")})


def _gsm8k(row: Row, where: str) -> Group:
    """The worked solution is the only answer (it can be imitated); `meta.answer` is the number after `####`."""
    question, solution = _field(row, "question", where), _field(row, "answer", where)
    if not isinstance(question, str) or not isinstance(solution, str):
        raise DataError(f"{where}: 'question' and 'answer' must be text")
    match = FINAL.search(solution)
    if not match:
        raise DataError(f"{where}: the answer has no final number after '####', so nothing could be checked against it")
    final = match.group(1).replace(",", "")
    return Group(question, (Completion(solution),), where=where, meta={"answer": final})


def _ifeval(row: Row, where: str) -> Group:
    """`prompt`, `instruction_id_list`, `kwargs`: IFEval's checkable instructions."""
    prompt = conversation(_field(row, "prompt", where), where, "prompt")
    names, settings = _field(row, "instruction_id_list", where), _field(row, "kwargs", where)
    if not isinstance(names, list) or not isinstance(settings, list) or len(names) != len(settings):
        raise DataError(f"{where}: instruction_id_list and kwargs must be lists of the same length")
    for name, setting in zip(names, settings, strict=True):
        if name not in IFEVAL_IDS:
            raise DataError(f"{where}: instruction {str(name)[:60]!r} is none of IFEval's 25")
        if not isinstance(setting, Mapping):
            raise DataError(f"{where}: the kwargs of {name} are no object")
    return Group(prompt, (), where=where, meta={"instruction_id_list": names, "kwargs": settings})


def _is_prompts(row: Row) -> bool:
    return (
        "prompt" in row
        and not {"instruction_id_list", "replies", "better"} & set(row)
        and not _answered(row)
        and not _is_tree(row)
    )


def _is_tree(row: Row) -> bool:
    """An OASST tree keeps the message itself, with its replies, under `prompt`."""
    return isinstance(row["prompt"], Mapping) and "replies" in row["prompt"]


PROMPTS: dict[str, tuple[Callable[[Row], bool], Callable[[Row, str], Group]]] = {
    "prompts": (_is_prompts, _prompts),
    "gsm8k": (lambda row: {"question", "answer"} <= set(row) and isinstance(row["answer"], str), _gsm8k),
    "ifeval": (lambda row: {"prompt", "instruction_id_list", "kwargs"} <= set(row) and not _answered(row), _ifeval),
}


def _answered(row: Row) -> bool:
    """Whether some other column could hold answers: then this is no file of prompts."""
    return any(any(word in str(name).lower() for word in ANSWERED) for name in row)
