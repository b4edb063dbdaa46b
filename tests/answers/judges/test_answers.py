"""Final answers are found where solutions put them, and compared as numbers, exactly."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from burnish.answers.judges.answers import final, number, says_number
from burnish.answers.judges.thoughts import without_thoughts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18), ("1,234.50", Fraction(2469, 2)), ("$3", 3), ("-2/3", Fraction(-2, 3)), (".5", Fraction(1, 2)),
        (r"\frac{1}{2}", Fraction(1, 2)), (r"\dfrac{-3}{4}", Fraction(-3, 4)), ("12%", Fraction(3, 25)),
        ("about 7 apples", 7), ("7.", 7), ("3/0", None), ("none", None), ("", None), ("50 percent", Fraction(1, 2)),
        ("3 1/2", Fraction(7, 2)), (r"-3\frac{1}{2}", Fraction(-7, 2)), (r"\tfrac12", Fraction(1, 2)), ("1.5e3", 1500),
        (r"12{,}345", 12345), (r"12,\!345", 12345), (r"12\,345", 12345), ("70 000", 70000), ("70.000", 70),
        (r"\textbf{18}", 18), ("**18**", 18), (r"18 \text{ dollars}", 18), (r"18^\circ", 18), (r"\$18", 18),
        ("- 5", -5), ("-$5", -5), ("$-5", -5), ("COVID-19", 19), (r"0.1\overline{6}", Fraction(1, 6)),
        ("x=5", 5), ("3 * 4 = 12", 12), ("12 = 3 * 4", 12), ("3 times 4, which is 12", 12), ("12. As 3 * 5 = 15", 12),
        ("1/2 * 12 = 6 per day for 9 days", 6), ("(3 + 4) * 2 = 14", 14), ("$3 + $4 = $7", 7), (r"3 \times 4 = 12", 12),
        ("minus 5", -5), ("It is negative $5", -5), ("8 minus 5", None), ("1.5 million people", 1_500_000),
        ("5 thousand", 5000), ("3 dozen eggs", 36), ("1'200", 1200), (r"1.2 \times 10^{6}", 1_200_000),
        ("2 * 10^-2", Fraction(1, 50)), ("3-1/2", Fraction(7, 2)), ("5k", 5000), ("<b>5</b>", 5), ("5!", 5),
        ("5!/3!", None), ("not 12", None), ("isn't 12", None), ("not 12 but 13", 13), (r"x \ne 12", None),
        ("x ≥ 12", None), (">12", None), ("between 12 and 15", None),
        ("12—15", None), ("12~15", None), (r"\sqrt{2}", None), ("√2", None), ("a_2", None),
        ("f(2)", None), (r"\sqrt[3]{2}", None),
        ("less than 12", None), ("cannot be 12", None), ("neither 12 nor 13", None), ("twice 12", None),
        ("half of 12", None), ("the square root of 12", None), ("12 squared", None),
        ("3 and 1/2 cups", Fraction(7, 2)), ("at least 12", 12), ("12€", 12), ("12 (twelve)", 12),
        ("3 * 4", None), ("(3 + 4) * 2", None), ("16-3-4", None), ("5 or 6", None), ("5 to 6", None), ("2:30", None),
        ("2024-05-03", None), ("1.2.3", None), ("5,6", None), ("5^2", None), ("5²", None), (r"5\sqrt{2}", None),
    ],
)  # fmt: skip
def test_numbers(text: str, value: Fraction | int | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2+2=4\n#### 4", "4"), ("#### 1\nno:\n#### 2", "2"), ("so\nA: 12 apples", "12 apples"),
        ("The answer is 7.", "7."), ("Final answer: x", "x"), (r"so \boxed{\frac{1}{2}} it is", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2}", "2"), (r"\boxed{unclosed", ""), ("nothing", None), ("", None),
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
        ("It is 10.00 dollars", "10", True), ("-4", "4", False), ("It is −5", "5", False), ("It is −5", "-5", True),
        ("It is –5", "-5", True), ("from 3–5", "-5", False), ("It is 3½", "7/2", True), ("1\u202f234", "1234", True),
        ("3 * 4", "4", False), ("2:30", "30", False), ("**Answer**: 5", "5", True), (r"$\fbox{5}$ and 6", "5", True),
        ("It is 13, not 12.", "13", True), ("It is 13, not 12.", "12", False), ("between 12 and 15", "15", False),
        ("<answer>12</answer> I checked it 3 times.", "12", True), ("<answer>12</answer> 3", "3", False),
        (r"It is 3. \boxed{3", "3", False), ("50", "50%", True), ("0.5", "50%", True), ("5", "50%", False),
        ("9 * 2 = $18. The answer is **18**", "18", True), ("#### 5 percent", "0.05", True),
    ],
)  # fmt: skip
def test_verdicts(text: str, right: str, verdict: bool) -> None:
    assert says_number(text, right) is verdict


@pytest.mark.parametrize(
    "text",
    [
        "<think>maybe the answer is 7</think> It is 3", r"<thinking>\boxed{7}</thinking>3", "#### 7</think>3",
        "[THINK]#### 7[/THINK]3", "◁think▷#### 7◁/think▷3", "#### 3\n<think>or the answer is 7", "<channel|>3",
        "<|channel|>analysis<|message|>#### 7<|end|><|start|>assistant<|channel|>final<|message|>3",
        "<think>#### 7</think><think>#### 8</think>3",
    ],
)  # fmt: skip
def test_thoughts_are_left_out(text: str) -> None:
    assert says_number(text, "3") and not says_number(text, "7")


def test_thoughts_that_never_end_hold_no_answer() -> None:
    assert without_thoughts("<think>#### 3") == "" and not says_number("<think>#### 3", "3")


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


def test_a_calculation_says_its_result_and_none_of_its_other_numbers(shared_data: Path) -> None:
    lines = (shared_data / "verifiable" / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    calculations = [(re.findall(r"<<(.*)=(.*?)>>", row["answer"]), row["final"]) for row in rows]
    given = [(calls[-1], right) for calls, right in calculations if calls]
    given = [(text, right) for (text, result), right in given if result.replace(",", "") == right.replace(",", "")]
    assert len(given) == 583
    for calculation, right in given:
        text = f"So the answer is {calculation} = {right}."
        others = {
            other for other in re.findall(r"\d+(?:\.\d+)?|\.\d+", calculation) if Fraction(other) != number(right)
        }
        assert says_number(text, right), text
        assert not any(says_number(text, other) for other in others), text
