"""Answers that repeat their prompt, contradict their own judgement, or are one sentence for everything."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.audit import Auditor, audit
from burnish.findings import Finding
from burnish.group import Completion, Feedback, Group, Labels, Message, Preferences, Scores, Turns, Unjudged

WON = Preferences(((0, 1, 1.0),))


def group(prompt: Turns, *answers: str, feedback: Feedback = WON, line: int = 1, **more: Any) -> Group:
    return Group(prompt, tuple(map(Completion, answers)), feedback, where=f"d.jsonl:{line}", **more)


def findings(*groups: Group) -> dict[str, Finding]:
    auditor = Auditor()
    auditor.take(groups)
    return {finding.code: finding for finding in audit(auditor).findings}


QUESTION = "What is the sum of 2 and 2?"


@pytest.mark.parametrize(
    "answer",
    [
        f"{QUESTION} 4",
        f"\n {QUESTION}\n\n4",
        "What is the  sum of 2 and 2?4",  # a doubled blank
        "what is the\u00a0sum\tof 2 and 2? It is 4",
        f"Question: {QUESTION}\nAnswer: 4",
        f"**{QUESTION}** 4",
    ],
)
def test_answers_that_begin_with_their_prompt_are_counted_with_their_share(answer: str) -> None:
    turns = (Message("system", "Be brief."), Message("user", QUESTION))
    rows = [group(QUESTION, answer, "5"), group(turns, "4", answer), group(QUESTION, "4", "5"), group("Hi", "a", "b")]
    finding = findings(*rows)["prompt-repeated"]
    assert (finding.severity, finding.count) == ("warn", 2)
    assert "2 rows of 4 (50%)" in finding.message


@pytest.mark.parametrize("answer", ["4", f"Four is the answer to the question {QUESTION}", "What is the sum?"])
def test_answers_that_mention_or_shorten_their_prompt_are_not(answer: str) -> None:
    assert not {"prompt-repeated", "prompt-as-answer"} & findings(group(QUESTION, answer, "5")).keys()


def test_a_few_repeated_prompts_are_a_note() -> None:
    rows = [group(f"{QUESTION} ({k})", f"{QUESTION} ({k}) 4" if not k else "4", f"{k}") for k in range(40)]
    assert findings(*rows)["prompt-repeated"].severity == "note"


def test_an_answer_that_is_its_prompt_but_for_a_blank() -> None:
    assert findings(group(QUESTION, "4", QUESTION.replace(" ", "  ")))["prompt-as-answer"].count == 1


@pytest.mark.parametrize(
    ("feedback", "judged_apart"),
    [
        (Scores((1.0, 0.0, 0.5)), True),
        (Scores((1.0, 1.0, 0.5)), False),
        (Labels((True, False, False)), True),
        (Preferences(((0, 2, 1.0), (0, 1, 1.0))), True),
        (Preferences(((0, 2, 1.0), (1, 2, 1.0))), False),
    ],
)
def test_the_same_text_judged_two_ways(feedback: Feedback, judged_apart: bool) -> None:
    assert ("same-text" in findings(group("Which?", "this", "this", "that", feedback=feedback))) == judged_apart


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (("caf\u00e9 A", "cafe\u0301 A"), "composition-only"),
        (("\uac00", "\u1100\u1161"), "composition-only"),
        (("A  b", "A b"), "whitespace-only"),
        (("\ufb01ne", "fine"), "normal-form-only"),
    ],
)
def test_answers_that_look_the_same(answers: tuple[str, str], code: str) -> None:
    both = findings(group("Which?", *answers)), findings(group("Which?", *answers, feedback=Scores((0.0, 1.0))))
    assert all(code in each for each in both)


@pytest.mark.parametrize(
    ("meta", "below"),
    [
        ({"chosen_score": 1, "rejected_score": 2}, True),
        ({"score_chosen": "1", "score_rejected": "2.5"}, True),
        ({"chosen-rating": 1.0, "rejected-rating": 4.0}, True),
        ({"chosen_score": 2, "rejected_score": 2}, False),
        ({"chosen_score": 2, "rejected_score": True}, False),
    ],
)
def test_a_chosen_answer_with_the_lower_score(meta: dict[str, Any], below: bool) -> None:
    assert ("score-below" in findings(group("Which?", "a", "b", meta=meta))) == below


def test_a_negative_margin_is_a_lower_score() -> None:
    assert "score-below" in findings(group("Which?", "a", "b", feedback=Preferences(((0, 1, 1.0),), (-1.0,))))


def test_one_sentence_as_every_rejected_answer() -> None:
    stock = ("I cannot help with that.", "I cannot  help with that.")
    rows = [group(f"Name city {k}.", f"City {k}", stock[k % 2] if k % 3 else f"No {k}") for k in range(12)]
    finding = findings(*rows)["stock-rejected"]
    assert (finding.count, finding.examples) == (8, (stock[0],))
    assert "stock-chosen" not in findings(*rows)


def test_short_answers_that_recur_are_no_stock_answers() -> None:
    assert not any(
        "stock" in code for code in findings(*[group(f"Is {k} odd?", *"yn"[:: 1 - k % 2 * 2]) for k in range(12)])
    )


def test_an_answer_that_is_desirable_and_undesirable() -> None:
    rows = [group("Which?", "this", feedback=Labels((value,)), line=line) for line, value in ((1, True), (2, False))]
    assert findings(*rows)["contradiction"].examples == ("opposite of d.jsonl line 1",)


def test_prompts_without_answers_are_named_with_their_other_columns() -> None:
    finding = findings(group("Which?", feedback=Unjudged(), meta={"good": "a", "bad": "b"}))["no-answers"]
    assert finding.severity == "note" and "good, bad" in finding.message
