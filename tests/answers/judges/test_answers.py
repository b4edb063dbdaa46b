"""Final answers are found where solutions put them, and compared as numbers, exactly."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from burnish.answers.judges.answers import final, number, says_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18), ("1,234.50", Fraction(2469, 2)), ("$3", 3), ("-2/3", Fraction(-2, 3)), (".5", Fraction(1, 2)),
        (r"\frac{1}{2}", Fraction(1, 2)), (r"\dfrac{-3}{4}", Fraction(-3, 4)), ("12%", Fraction(3, 25)),
        ("about 7 apples", 7), ("7.", 7), ("3/0", None), ("none", None), ("", None),
    ],
)  # fmt: skip
def test_numbers(text: str, value: Fraction | int | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2+2=4\n#### 4", "4"), ("#### 1\nno:\n#### 2", "2"), ("so\nA: 12 apples", "12 apples"),
        ("The answer is 7.", "7."), ("Final answer: x", "x"), (r"so \boxed{\frac{1}{2}} it is", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2}", "2"), (r"\boxed{unclosed", None), ("nothing", None), ("", None),
    ],
)  # fmt: skip
def test_where_an_answer_stands(text: str, found: str | None) -> None:
    assert final(text) == found


@pytest.mark.parametrize(
    ("text", "right", "verdict"),
    [
        ("first 3, then 5", "5", True), ("first 5, then 3", "5", False), ("#### 5 and 6 besides", "5", True),
        ("#### none of 5", "7", False), ("50%", "50", True), ("50%", "0.5", True), ("50", "0.5", False),
        ("no number", "1", False), ("", "1", False), ("#### 1,000", "1000", True), ("#### 0.1", "1/10", True),
        ("It is 10.00 dollars", "10", True), ("-4", "4", False),
    ],
)  # fmt: skip
def test_verdicts(text: str, right: str, verdict: bool) -> None:
    assert says_number(text, right) is verdict


def test_a_right_answer_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="is no number"):
        says_number("4", "four")


def test_ten_megabytes_take_no_time() -> None:
    assert says_number("9" * 10_000_000 + "\n#### 3", "3") and not says_number("a" * 10_000_000, "3")


def test_gsm8k_solutions_are_judged_as_their_authors_judged_them(shared_data: Path) -> None:
    lines = (shared_data / "verifiable" / "gsm8k_solution_groups.jsonl").read_text(encoding="utf-8").splitlines()
    groups = [json.loads(line) for line in lines]
    verdicts = [(says_number(c["text"], g["final"]), bool(c["score"])) for g in groups for c in g["completions"]]
    assert len(verdicts) > 2000 and all(ours == theirs for ours, theirs in verdicts)
