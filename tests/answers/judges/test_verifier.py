"""The verifier judge: every check against right and wrong answers, real data, refusals, and functions of the user's."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish.answers.judges.checks import CHECKS
from burnish.answers.judges.ifeval import CHECKS as INSTRUCTIONS
from burnish.answers.judges.verifier import described, make
from burnish.config.online import VerifierConfig
from burnish.errors import ConfigError
from burnish.group import Completion, Group, Message, Scores, Unjudged

RANDOM_UPSTREAM = {1122, 1129}  # for letters that are none the published checker draws one
ADD = 'def add(a, b):\n    """The sum."""\n'
ADDED = {"test": "def check(f):\n    assert f(1, 2) == 3\n", "entry_point": "add"}
SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


def config(name: str, **given: Any) -> VerifierConfig:
    return VerifierConfig(name=name, **given)


def group(answers: list[str], prompt: str = "?", /, **meta: Any) -> Group:
    return Group(prompt, tuple(map(Completion, answers)), where="data.jsonl:7", meta=meta)


def scores(judge: Any, answers: list[str], prompt: str = "?", /, **meta: Any) -> tuple[float, ...]:
    (feedback,) = judge([group(answers, prompt, **meta)])
    assert isinstance(feedback, Scores), feedback
    return feedback.values


def reason(judge: Any, answers: list[str], /, **meta: Any) -> str:
    (feedback,) = judge([group(answers, **meta)])
    assert isinstance(feedback, Unjudged), feedback
    return feedback.reason


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "verifiable" / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("name", "given", "meta", "right", "wrong"),
    [
        ("gsm8k", {}, {"final": "3"}, ["#### 3", "so it is 3.0", "A: $3"], ["#### 4", "3, no: 4", ""]),
        ("gsm8k", {}, {"answer": "2+1=3\n#### 3"}, ["A: 3"], ["2"]),
        ("gsm8k", {}, {"final": 0.00001}, ["0.00001"], ["1"]),
        ("numeric", {"field": "n"}, {"n": 1200, "answer": 7}, ["1,200", "2400/2"], ["7", "none"]),
        ("math", {}, {"answer": r"\frac{1}{2}"}, [r"\boxed{\dfrac12}", r"\boxed{0.5}", "it is 1/2"], [r"\boxed{1}"]),
        ("math", {}, {"answer": "5"}, [r"\boxed{5}", "The answer is 5 apples.", r"\boxed{5\text{ cm}}", "is 5"],
         [r"\boxed{5\sqrt{2}}", r"\boxed{5x}", r"\boxed{(5,6)}", r"\boxed{5 or 6}", r"\boxed{5/0}", ""]),
        ("math", {}, {"answer": "(1,2)"}, [r"\boxed{\left( 1, 2 \right)}", "The answer is $(1,2)$."], ["12", "1"]),
        ("math", {}, {"solution": r"so \boxed{x+1}"}, [r"\boxed{x + 1}", "Answer: $x+1$."], [r"\boxed{x+2}", "1"]),
        ("math", {}, {"answer": "50"}, [r"\boxed{50\%}", r"\boxed{50^\circ}", "-50 + 100 = 50"], [r"\boxed{-50}"]),
        ("exact", {}, {"answer": "New  York"}, [" new york\n"], ["New York.", "The answer is New York", ""]),
        ("regex", {"pattern": r"\bcat.dog"}, {}, ["a cat\ndog"], ["scat dog", ""]),
        ("regex", {"field": "p"}, {"p": "^x"}, ["xy"], ["yx"]),
        ("format", {"pattern": "<a>.*</a>"}, {}, [" <a>x\ny</a>\n"], ["so <a>x</a>", "<a>x</a> then"]),
        ("json_schema", {}, {"schema": SCHEMA}, ['{"a": 1}', 'so:\n```json\n{"a": 1}\n```\nthere'],
         ['{"a": "1"}', "{}", "a", "", "[", '{"a": NaN}', '```\n{"b": 1}']),
        ("json_schema", {"field": "s"}, {"s": json.dumps(SCHEMA)}, ['```\n{"a": 2}\n```'], ["{}"]),
        ("length", {"target": 2}, {}, ["a b"], ["", "a b c d", "a " * 9]),
        ("length", {"field": "n", "unit": "characters"}, {"n": 3}, ["abc"], ["", "abcdef"]),
        ("code", {}, {"tests": ["assert f(1) == 2"]}, ["Here:\n```python\ndef f(x):\n    return x + 1\n```"],
         ["def f(x): return x", "no", ""]),
        ("ifeval", {}, {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [None]}, ["a b"], ["a, b", " "]),
        ("ifeval_loose", {}, {"instruction_id_list": ["startend:quotation"], "kwargs": [{}]}, ['So:\n"a"'], ["a"]),
    ],
)  # fmt: skip
def test_each_check(name: str, given: dict[str, Any], meta: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    judge = make(config(name, **given))
    assert judge.name == name
    assert scores(judge, right + wrong, **meta) == (1.0,) * len(right) + (0.0,) * len(wrong)


@pytest.mark.parametrize(
    ("wanted", "right", "wrong"),
    [
        (r"\frac{1}{2}", [r"\tfrac{1}{2}", r"\tfrac12", "50\\%", r"1 \over 2"], ["0.5000001", "2"]),
        (r"\frac{7}{2}", [r"3\frac{1}{2}", "3.5", "3 1/2"], [r"\frac{31}{2}", "-3.5"]),
        ("12345", [r"12,\!345", "12{,}345", "12 345"], ["12,34,5", "12.345"]),
        (r"2\sqrt{3}", [r"2\sqrt3", r"\sqrt{12}"], ["2", "23"]),
        (r"\text{Evelyn}", ["Evelyn", r"\text{evelyn}"], ["Elvyen", "E"]),
        ("5", ["x=5", "y = 5", r"5\text{ m}", r"\textbf{5}", "5.", r"\$5.00", "|-5|"], ["x>5", "5x", "5!", "5,6"]),
        ("12", ["3*4=12", "12=3*4", r"3 \cdot 4"], ["3*4=13"]),
        ("3", [], ["3*4=12", "12=3*4"]),
        ("11", ["11"], ["1 1", r"1\,1"]),
        ("100000", ["10^{5}", "10^5"], ["10", "5"]),
        ("-5", ["−5", "- 5"], ["5"]),
        (r"0.\overline{3}", [r"\frac{1}{3}"], ["0.333333"]),
        (r"(3,\infty)", [r"(3,\infty)", r"\left(3, \infty\right)"], [r"[3,\infty)", "3"]),
        ("90", [r"90^\circ", r"90^{\circ}", "90°", r"90\text{ degrees}"], [r"\frac{\pi}{2}"]),
        ("x^2+1", ["1+x^2", "x^2 + 1"], ["x^2-1", "x+1"]),
        (r"\{1,2\}", [r"\{2,1\}", "1, 2"], [r"\{1,3\}", "(1,2)"]),
        ("(1,2)", ["(1, 2)"], [r"\{1,2\}", "(2,1)"]),
        ("1010_2", ["1010_{2}"], ["1010_3", "10"]),
        ("10", [], ["10_2"]),
        ("2:3", ["2 : 3"], ["4:6"]),
        ("3", [r"\approx 3", "= 3", "5 - 2"], ["2=3", "3_2", r"\sqrt{3}", "3!"]),
        (r"50\%", ["50", "0.5", r"\frac{1}{2}"], ["5"]),
        (r"2\sqrt{3}\pi", ["2√3π", "2√(3)π"], ["2√(3π)"]),
        (r"x^{2}+y^{3}\leq 4", ["x²+y³≤4"], ["x²+y²≤4"]),
        (r"\frac{x+1}{2}", ["0.5x+0.5"], [r"\frac{x}{2}"]),
    ],
)  # fmt: skip
def test_mathematics_in_boxes(wanted: str, right: list[str], wrong: list[str]) -> None:
    answers = [rf"So it is $\boxed{{{answer}}}$." for answer in right + wrong]
    assert scores(make(config("math")), answers, final=wanted) == (1.0,) * len(right) + (0.0,) * len(wrong)


@pytest.mark.parametrize(
    ("wanted", "answer", "verdict"),
    [
        ("3", "The answer is 3 * 4 = 12.", 0), ("12", "The answer is 3 * 4 = 12 apples.", 1),
        ("5", "$\\fbox{5}$", 1), ("5", "The answer is $x = 5$.", 1), ("5", "The answer is $5$ for $n = 3$.", 1),
        ("3", "The answer is $5$ for $n = 3$.", 0), ("x^2+1", "So $f = 1 + x^2$.", 1), ("5", "The answer is 5!", 1),
        *((("3", f"The answer is {right}", 1)) for right in (
            "3 (2+1 = 3).", "$3 per week", "2+1 which is 3", "about 3", "3, since 1+2=3", "3 (three)", "3€",
            "3!", r"$\frac{6}{2}$", "2+1")),
        *((("3", f"The answer is {wrong}", 0)) for wrong in (
            "3x", "3 x", "$3x$", r"3\sqrt{2}", "(3, 5)", "3 or 4", "3k", "f(3)", "x^3", "not 3",
            "twice 3", "between 3 and 4")),
        ("3", "**Answer:** 2+1 = **3**", 1), ("3", "The answer is: There are 3 apples left", 1), ("3", r"\boxed{3", 0),
        ("5", r"<think>\boxed{7}</think>\boxed{5}", 1), ("5", r"<think>\boxed{5}", 0),
    ],
)  # fmt: skip
def test_mathematics_in_sentences(wanted: str, answer: str, verdict: int) -> None:
    assert scores(make(config("math")), [answer], final=wanted) == (verdict,)


def test_an_expression_that_takes_for_ever_costs_its_time_and_no_more() -> None:
    began = time.monotonic()
    judge = make(config("math", seconds=1.0))
    assert scores(judge, [r"\boxed{9^{9^{9^{9}}}}", r"\boxed{x=5}"], final="5") == (0.0, 1.0)
    assert time.monotonic() - began < 20


def test_a_missing_package_is_named_before_any_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"'math' needs math_verify: pip install 'burnish\[math\]'"):
        make(config("math"))


@pytest.mark.parametrize(
    ("name", "meta", "answer"),
    [
        ("exact", {"answer": "b"}, "b"), ("json_schema", {"schema": SCHEMA}, '{"a": 1}'),
        ("code", {"tests": ["assert f() == 2"]}, "def f(): return 2"),
        ("ifeval", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}, "a b"),
    ],
)  # fmt: skip
def test_thoughts_are_no_part_of_an_answer(name: str, meta: dict[str, Any], answer: str) -> None:
    thoughts = '<think>Well, a draft:\n```\ndef f(): return 1\n```\n```json\n{"a": "x"}\n```</think>'
    assert scores(make(config(name)), [thoughts + answer, "<think>" + answer], **meta) == (1.0, 0.0)


def test_scores_between_right_and_wrong() -> None:
    assert scores(make(config("length", target=4)), ["a", "a b c", "a b c d e f"]) == (0.25, 0.75, 0.5)
    two = {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]}
    assert scores(make(config("ifeval_share")), ["a", '"a"', "a, b"], **two) == (0.5, 1.0, 0.0)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("    return a + b\n", 1), ("return a + b", 1), ("c = a + b\n    return c", 1), ("c = a + b\nreturn c", 1),
        (ADD + "    return a + b", 1), ("```python\n" + ADD + "    return a + b\n```\nIt adds.", 1),
        ("```python\n    return a + b\n```", 1), ("```\ndef add(a, b): return a - b\n```\nNo:\n"
         "```\ndef add(a, b): return a + b\n```\nlike\n```python\nprint(add(1, 2), 'is three, as it must')\n```", 1),
        ("from __future__ import annotations\ndef add(a: int, b) -> int: return a + b", 1),
        ("    return a - b\n", 0), ("    pass", 0), ('    return a + b\n"""', 0), ("", 0), ("no program", 0),
        ("    return a + b\n\\", 0), ("import sys\nsys.exit(0)", 0), ("def check(f): pass", 0),
    ],
)  # fmt: skip
def test_a_program_may_go_on_or_begin_anew(answer: str, verdict: int) -> None:
    assert scores(make(config("code")), [answer], ADD, **ADDED) == (verdict,)


def test_a_program_gets_what_stands_above_its_signature_even_in_a_conversation() -> None:
    prompt = f"Complete this, please:\n\nimport math\n\ndef twice(x):\n    return 2 * x\n\n{ADD}"
    answer = "def add(a, b):\n    return math.floor(twice(a) / 2 + b)"
    for text in (prompt, f"Do it.\n```python\nimport math\ndef twice(x): return 2 * x\n{ADD}```"):
        asked = Group((Message("user", text),), (Completion(answer), Completion("```python\nx\n```")), meta=ADDED)
        assert make(config("code"))([asked]) == [Scores((1.0, 0.0))]


def test_of_messages_the_last_is_the_answer() -> None:
    turns = (Message("assistant", "3"), Message("tool", "4"), Message("assistant", "#### 5"))
    asked = Group("?", (Completion(turns), Completion(())), meta={"final": "5"})
    assert make(config("gsm8k"))([asked]) == [Scores((1.0, 0.0))]


@pytest.mark.parametrize(
    ("name", "given", "meta", "told"),
    [
        ("gsm8k", {}, {"other": "3"}, "no field final or answer or solution"),
        ("gsm8k", {"field": "n"}, {"final": "3"}, "no field n"),
        ("gsm8k", {}, {"final": "three"}, "is no number"),
        ("gsm8k", {}, {"answer": "2 and 3 make 5"}, "no solution that marks one"),
        ("gsm8k", {}, {"final": "9" * 5000}, "cannot check this row"),
        ("math", {}, {}, "no field final"),
        ("exact", {}, {}, "no field answer"),
        ("regex", {"field": "p"}, {"p": "("}, "is no regular expression"),
        ("regex", {"field": "p"}, {}, "no field p"),
        ("json_schema", {}, {}, "no field schema"),
        ("json_schema", {}, {"schema": {"type": 3}}, "is not one"),
        ("json_schema", {}, {"schema": "{"}, "cannot check this row"),
        ("json_schema", {}, {"schema": {"$ref": "#"}}, "cannot check this row"),
        ("json_schema", {}, {"schema": {"$ref": "http://127.0.0.1:9/x"}}, "refers to what is not in it"),
        ("length", {"field": "n"}, {"n": 0}, "is no length"),
        ("length", {"field": "n"}, {"n": "many"}, "cannot check this row"),
        ("code", {}, {}, "no field test"),
        ("code", {}, {"test": ADDED["test"]}, "no field entry_point"),
        ("code", {}, {"tests": ["assert ("]}, "are no Python"),
        ("ifeval", {}, {}, "no field instruction_id_list"),
        ("ifeval", {}, {"instruction_id_list": ["a:b"], "kwargs": [{}]}, "has no instruction 'a:b'"),
        ("ifeval", {}, {"instruction_id_list": ["punctuation:no_comma"]}, "kwargs do not fit"),
        ("ifeval", {}, {"instruction_id_list": [], "kwargs": []}, "has no instruction"),
        ("ifeval", {}, {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [3]}, "cannot check this row"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_checked_is_unjudged(
    name: str, given: dict[str, Any], meta: dict[str, Any], told: str
) -> None:
    judge = make(config(name, **given))
    for answer in ("3", "a" * 300_000):  # whatever the answers are
        found = reason(judge, [answer], **meta)
        assert found.startswith("data.jsonl:7: ") and told in found


def test_one_row_that_cannot_be_checked_leaves_the_others_alone() -> None:
    judge = make(config("gsm8k"))
    bad = Group("?", (Completion("3"),), id="x-1")
    first, second, third = judge([group(["3"], final="3"), bad, group([], final="3")])
    assert first == Scores((1.0,)) and third == Scores(())
    assert isinstance(second, Unjudged) and second.reason.startswith("x-1: ")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": ""}, "judge.name is missing"),
        ({"name": "GSM8"}, "did you mean 'gsm8k'"),
        ({"name": "zzzz"}, "They are: gsm8k, numeric"),
        ({"name": "gsm8k", "pattern": "x"}, "judge.pattern is set, and 'gsm8k' does not look at it"),
        ({"name": "gsm8k", "seconds": 3.0}, "judge.seconds is set"),
        ({"name": "regex", "pattern": "x", "unit": "characters"}, "judge.unit is set"),
        ({"name": "regex"}, "needs judge.pattern, or judge.field"),
        ({"name": "length"}, "needs judge.target, or judge.field"),
        ({"name": "regex", "pattern": "x", "field": "p"}, "leave one out"),
        ({"name": "format", "pattern": "("}, "is no regular expression"),
        ({"name": "json_schema", "schema_file": "none.json"}, "cannot be read as JSON"),
        ({"name": "none_such:f"}, "cannot be imported"),
        ({"name": ":f"}, "cannot be imported"),
        ({"name": "math:nothing"}, "math has no function nothing"),
        ({"name": "math:pi"}, "math has no function pi"),
        ({"name": "json:loads", "field": "x"}, "judge.field is set"),
        ({"name": "json:loads"}, "is not a function of prompt, answer, meta"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make(VerifierConfig(**given))


def test_a_schema_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    for text, told in (("{", "cannot be read"), ("[1]", "holds no object"), ('{"type": 3}', "is no JSON schema")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=told):
            make(config("json_schema", schema_file=str(file)))
    file.write_text(json.dumps(SCHEMA), encoding="utf-8")
    assert scores(make(config("json_schema", schema_file=str(file))), ['{"a": 1}', "{}"]) == (1, 0)
    file.write_text("{}", encoding="utf-8")  # an empty schema is one: any JSON fits
    assert scores(make(config("json_schema", schema_file=str(file))), ["[]", "{"]) == (1, 0)


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's in the current folder."""
    (tmp_path / "my_own_rules.py").write_text(
        "import numpy\nfrom fractions import Fraction\n"
        "def score(prompt, answer, meta):\n"
        "    if answer == 'raise': raise KeyError(answer)\n"
        "    if answer == 'exit': raise SystemExit(3)\n"
        "    odd = {'none': None, 'text': 'x', 'nan': float('nan'), 'huge': 10**400, 'yes': True, 'half': "
        "Fraction(1, 2), 'numpy': numpy.float32(0.25)}\n"
        "    return odd[answer] if answer in odd else len(prompt) + len(answer) + meta['n'] + meta.get('tokens', 0)\n",
        encoding="utf-8",
    )
    (tmp_path / "my_broken_rules.py").write_text("raise SystemExit(1)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield "my_own_rules:score"
    sys.modules.pop("my_own_rules", None)


def test_a_function_of_the_users(rules: str) -> None:
    judge = make(config(rules))
    assert judge.name == rules
    assert scores(judge, ["ab", "yes", "half", "numpy"], "p", n=1) == (4.0, 1.0, 0.5, float(np.float32(0.25)))
    told = Group("p", (Completion("ab", meta={"tokens": 5}),), meta={"n": 1})
    assert judge([told]) == [Scores((9.0,))]
    for answer, why in (
        ("raise", "raised KeyError"), ("exit", "raised SystemExit"), ("none", "gave None"), ("text", "gave 'x'"),
        ("nan", "gave nan"), ("huge", "raised OverflowError"),
    ):  # fmt: skip
        found = reason(judge, ["a", answer], n=1)
        assert found.startswith(f"data.jsonl:7: {rules}") and why in found
    with pytest.raises(ConfigError, match="cannot be imported: SystemExit"):
        make(config("my_broken_rules:score"))


def test_the_table_is_described() -> None:
    told = described()
    assert [name for name, _, _ in told] == list(CHECKS) and told[0][1] == "final, answer, solution, reference"
    assert all(fields and 10 < len(summary) < 100 for _, fields, summary in told)


def test_gsm8k_solutions_are_judged_as_their_authors_judged_them(shared_data: Path) -> None:
    stored = rows(shared_data, "gsm8k_solution_groups.jsonl")
    wanted = [Scores(tuple(one["score"] for one in row["completions"])) for row in stored]
    for name, field in (("gsm8k", ""), ("gsm8k", "reference"), ("math", "final")):
        judge = make(config(name, field=field))
        told = judge([group([c["text"] for c in row["completions"]], row["prompt"], **row) for row in stored])
        agreed = sum(ours == theirs for ours, theirs in zip(told, wanted, strict=True))
        assert agreed == len(stored) if name == "gsm8k" else agreed > 0.99 * len(stored)
    tests = rows(shared_data, "gsm8k_test.jsonl")
    told = make(config("gsm8k", field="answer"))([group([row["answer"], "none"], **row) for row in tests])
    assert told == [Scores((1.0, 0.0))] * len(tests)


def test_ifeval_verdicts_are_the_official_ones(shared_data: Path) -> None:
    oracle = [(row, [(row["response"], row)]) for row in rows(shared_data, "ifeval_gpt4_oracle.jsonl")]
    stored = rows(shared_data, "ifeval_response_groups.jsonl")
    everything = [*oracle, *((row, [(one["text"], one) for one in row["completions"]]) for row in stored)]
    kinds = {name for row, _ in everything for name in row["instruction_id_list"]}
    assert len(kinds) >= 24 and kinds <= set(INSTRUCTIONS)
    for name, verdict in (("ifeval", "strict"), ("ifeval_loose", "loose")):
        judge = make(config(name))
        chosen = [one for one in everything[:: 1 if name == "ifeval" else 4] if one[0]["key"] not in RANDOM_UPSTREAM]
        told = judge([group([text for text, _ in answers], row["prompt"], **row) for row, answers in chosen])
        agreed = total = 0
        for (_, answers), feedback in zip(chosen, told, strict=True):
            assert isinstance(feedback, Scores)
            agreed += sum(s == all(v[verdict]) for s, (_, v) in zip(feedback.values, answers, strict=True))
            total += len(answers)
        assert total > 400 and agreed / total >= 0.995, (name, agreed, total)


def test_humaneval_solutions_pass_and_broken_ones_fail(shared_data: Path) -> None:
    judge = make(config("code"))
    asked = []
    for row in rows(shared_data, "humaneval.jsonl")[::3]:
        prompt, body = row["prompt"], row["canonical_solution"]
        answers = [
            body,
            f"Sure:\n```python\n{prompt}{body}```\nDone.",
            "    return None\n",
            f"{prompt}    return 'x'\n",
        ]
        asked.append(group(answers, prompt, **row))
    assert judge(asked) == [Scores((1.0, 1.0, 0.0, 0.0))] * len(asked)


def test_many_answers_take_little_time() -> None:
    began = time.monotonic()
    assert scores(make(config("gsm8k")), ["so\n#### 3"] * 2000, final="3") == (1.0,) * 2000
    assert scores(make(config("regex", pattern="a+b")), ["so aab"] * 2000) == (1.0,) * 2000
    assert time.monotonic() - began < 10  # seconds; it takes about a quarter of one
