"""The twenty-five checks of IFEval (2311.07911): instructions that a program can verify.

A check is a function of an answer and its keywords. *Strict*: it holds on the answer as it is. *Loose*: on the answer,
or without its first line, its last, both, each also without its asterisks. A blank answer keeps nothing. The keywords
are regular expressions where the published checkers take them as such.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.errors import DataError

Check = Callable[..., bool]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    def enter(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return enter


def kept(answer: str, instructions: Sequence[str], keywords: Sequence[Mapping[str, Any]], *, loose: bool) -> list[bool]:
    """For each instruction whether the answer keeps it. Keywords that are None count as absent.

    Raises DataError for an unknown instruction, or for keywords that it does not have.
    """
    verdicts = []
    for name, given in zip(instructions, keywords, strict=True):
        if name not in CHECKS:
            raise DataError(f"IFEval has no instruction {name!r}; it has {', '.join(sorted(CHECKS))}")
        set_keywords = {key: value for key, value in given.items() if value is not None}
        try:
            texts = _texts(answer, loose)
            verdicts.append(any(text.strip() and CHECKS[name](text, **set_keywords) for text in texts))
        except (TypeError, re.error) as error:
            raise DataError(f"IFEval's {name} cannot be checked with {set_keywords}: {error}") from error
    return verdicts


def _texts(answer: str, loose: bool) -> list[str]:
    if not loose:
        return [answer]
    lines = answer.split("\n")
    shorter = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    whole = [answer, *shorter]
    return [*whole, *(text.replace("*", "") for text in whole)]


def _compares(count: int, relation: str, number: int) -> bool:
    if relation not in ("less than", "at least"):
        raise TypeError(f"a relation is 'less than' or 'at least', not {relation!r}")
    return count < number if relation == "less than" else count >= number


# -- letters and words ------------------------------------------------------------------------------------------------


@check("change_case:capital_word_frequency")
def capital_words(text: str, capital_relation: str, capital_frequency: int) -> bool:
    words = re.findall(r"\w+(?:[-'’.]\w+)*", text)
    return _compares(sum(word.isupper() for word in words), capital_relation, capital_frequency)


@check("change_case:english_capital")
def upper_case(text: str) -> bool:
    return text.isupper() and language_of(text) in ("en", None)


@check("change_case:english_lowercase")
def lower_case(text: str) -> bool:
    return text.islower() and language_of(text) in ("en", None)


@check("keywords:existence")
def keywords_stand(text: str, keywords: Sequence[str]) -> bool:
    return all(re.search(word, text, re.IGNORECASE) for word in keywords)


@check("keywords:forbidden_words")
def words_are_absent(text: str, forbidden_words: Sequence[str]) -> bool:
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


@check("keywords:frequency")
def keyword_frequency(text: str, keyword: str, relation: str, frequency: int) -> bool:
    return _compares(len(re.findall(keyword, text, re.IGNORECASE)), relation, frequency)


@check("keywords:letter_frequency")
def letter_frequency(text: str, letter: str, let_relation: str, let_frequency: int) -> bool:
    return _compares(text.lower().count(letter.lower()), let_relation, let_frequency)


@check("language:response_language")
def is_in_language(text: str, language: str) -> bool:
    return language_of(text) in (language, None)


@check("punctuation:no_comma")
def no_comma(text: str) -> bool:
    return "," not in text


# -- lengths ----------------------------------------------------------------------------------------------------------


@check("length_constraints:number_words")
def number_words(text: str, relation: str, num_words: int) -> bool:
    return _compares(len(re.findall(r"\w+", text)), relation, num_words)


@check("length_constraints:number_sentences")
def number_sentences(text: str, relation: str, num_sentences: int) -> bool:
    return _compares(len(sentences(text)), relation, num_sentences)


@check("length_constraints:number_paragraphs")
def number_paragraphs(text: str, num_paragraphs: int) -> bool:
    pieces = re.split(r"\s?\*\*\*\s?", text)
    if any(not piece.strip() for piece in pieces[1:-1]):
        return False
    return sum(bool(piece.strip()) for piece in pieces) == num_paragraphs


@check("length_constraints:nth_paragraph_first_word")
def nth_paragraph(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    pieces = text.split("\n\n")
    if sum(bool(piece.strip()) for piece in pieces) != num_paragraphs or nth_paragraph > len(pieces):
        return False
    words = pieces[nth_paragraph - 1].split()
    word = words[0].lstrip("'").lstrip('"') if words else ""
    return re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


# -- forms ------------------------------------------------------------------------------------------------------------


@check("detectable_format:number_bullet_lists")
def bullets(text: str, num_bullets: int) -> bool:
    return len(re.findall(r"^\s*(?:\*[^*].*|-.*)$", text, re.MULTILINE)) == num_bullets


@check("detectable_format:number_highlighted_sections")
def highlights(text: str, num_highlights: int) -> bool:
    """The two patterns run apart: over `**bold**` the first finds the two openings, which are blank."""
    single = [part for part in re.findall(r"\*[^\n*]*\*", text) if part.strip("*").strip()]
    double = [part for part in re.findall(r"\*\*[^\n*]*\*\*", text) if part[2:-2].strip()]
    return len(single) + len(double) >= num_highlights


@check("detectable_format:multiple_sections")
def sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"\s?{section_spliter}\s?\d+\s?", text)) >= num_sections


@check("detectable_format:title")
def has_title(text: str) -> bool:
    return any(title.strip("<>").strip() for title in re.findall(r"<<[^\n]+>>", text))


@check("detectable_format:json_format")
def is_json(text: str) -> bool:
    body = text.strip()
    for mark in ("```json", "```Json", "```JSON", "```"):
        body = body.removeprefix(mark)
    try:
        json.loads(body.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


@check("detectable_format:constrained_response")
def says_yes_no_or_maybe(text: str) -> bool:
    return any(f"My answer is {word}." in text for word in ("yes", "no", "maybe"))


@check("detectable_content:number_placeholders")
def placeholders(text: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


@check("detectable_content:postscript")
def postscript(text: str, postscript_marker: str) -> bool:
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    pattern = known.get(postscript_marker.strip(), postscript_marker.lower())
    return re.search(pattern, text.lower()) is not None


@check("combination:repeat_prompt")
def repeats_prompt(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


@check("combination:two_responses")
def two_responses(text: str) -> bool:
    pieces = [piece.strip() for piece in text.split("******")]
    if not all(pieces[1:-1]):
        return False
    full = [piece for piece in pieces if piece]
    return len(full) == 2 and full[0] != full[1]


@check("startend:end_checker")
def ends_with(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


@check("startend:quotation")
def is_quoted(text: str) -> bool:
    body = text.strip()
    return len(body) > 1 and body.startswith('"') and body.endswith('"')


# -- what the checks rest on ------------------------------------------------------------------------------------------

NOT_ENDS = r"(?<!\b[A-Z])(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bvs)(?<!\bMrs)(?<!\be\.g)(?<!\bi\.e)(?<!\betc)"


def sentences(text: str) -> list[str]:
    """Parts that end in . ! or ? before a blank, but for initials and usual abbreviations."""
    parts = re.split(rf"(?:{NOT_ENDS}\.|[!?])[\"'”’)*\]]*\s+", text)
    return [part for part in parts if part.strip()]


def language_of(text: str) -> str | None:
    """The code of a text's language; None where it is uncertain. Raises DataError where langdetect is missing."""
    try:
        from langdetect import DetectorFactory, LangDetectException, detect
    except ImportError as error:
        raise DataError("IFEval's checks of languages need langdetect: pip install 'burnish[ifeval]'") from error
    DetectorFactory.seed = 0  # it draws samples of the text
    try:
        return str(detect(text))
    except LangDetectException:
        return None
