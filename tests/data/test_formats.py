"""The formats of single projects: mappings on rows made up here, refusals by their words, and the real files whole."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from burnish.data.readers.formats import FORMATS
from burnish.data.readers.shapes import RECOGNISED, Useless
from burnish.errors import DataError
from burnish.group import Group, Labels, Message, Preferences, Scores, Unjudged
from tests.data.format_rows import (
    ALPACA,
    ARENA,
    EVAL,
    KAGGLE,
    LLMBAR,
    NEMO,
    PANDALM,
    ROWS,
    SHAREGPT,
    STEER2,
    STEER3,
    STEPS,
    TALK,
    TREE,
    TULU,
    ULTRA,
    VERSUS,
    WHERE,
    assistant,
    gpt,
    human,
    read,
    reply,
    texts,
    user,
)

FIRST = Preferences(((0, 1, 1.0),))


@pytest.mark.parametrize("name", FORMATS)
def test_each_row_is_recognised_as_one_format(name: str) -> None:
    for row in ROWS[name]:
        assert [other for other, (sign, _) in FORMATS.items() if sign(row)] == [name]
        assert [other for other, sign in RECOGNISED.items() if sign(row)] == []


# ------------------------------------------------------------------------------------------------- LLaMA-Factory


def test_sharegpt_pair() -> None:
    group = read("sharegpt", {**SHAREGPT, "system": "Be brief.", "id": 5, "category": "trees"})
    roles = ["system", "user", "assistant", "user"]
    assert isinstance(group.prompt, tuple) and [m.role for m in group.prompt] == roles
    assert group.prompt[0].content == "Be brief." and texts(group) == ["Elm.", "Cat."] and group.feedback == FIRST
    assert (group.id, group.meta) == ("5", {"category": "trees"})
    assert texts(read("sharegpt", {**SHAREGPT, "chosen": "Elm."})) == ["Elm.", "Cat."]


def test_sharegpt_label_and_imitation() -> None:
    row = {"conversations": [*TALK, gpt("Elm.")]}
    assert read("sharegpt", {**row, "kto_tag": False}).feedback == Labels((False,))
    assert read("sharegpt", {**row, "kto_tag": "True"}).feedback == Labels((True,))  # as CSV writes it
    group = read("sharegpt", row)
    assert isinstance(group.feedback, Unjudged) and texts(group) == ["Elm."] and len(group.prompt) == 3


def test_sharegpt_tools() -> None:
    tool = {"name": "look", "description": "looks", "parameters": {"type": "object", "properties": {}}}
    call = {"from": "function_call", "value": '{"name": "look", "arguments": {"at": "sky"}}'}
    said = [human("Look!"), call, {"from": "observation", "value": "blue"}, gpt("It is blue.")]
    group = read("sharegpt", {"conversations": said, "tools": json.dumps([tool])})
    made = {"type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}
    assert group.tools == ({"type": "function", "function": tool},)
    assert group.prompt[1:] == (Message("assistant", "", {"tool_calls": [made]}), Message("tool", "blue"))
    last = read("sharegpt", {"conversations": said[:2]})  # a call may be the answer itself
    assert last.completions[0].messages == (Message("assistant", "", {"tool_calls": [made]}),)


def test_alpaca() -> None:
    group = read("alpaca", {**ALPACA, "annotator": "me"})
    assert (group.prompt, texts(group), group.feedback) == ("Add.\n1 and 2", ["3", "12"], FIRST)
    assert group.meta == {"annotator": "me"}
    talk = read("alpaca", {**ALPACA, "input": "", "system": "Count.", "history": [["1+1?", "2"]]})
    assert isinstance(talk.prompt, tuple)
    assert [m.content for m in talk.prompt] == ["Count.", "1+1?", "2", "Add."]
    plain = {"instruction": "Add.", "input": None, "output": "3", "history": []}
    assert read("alpaca", plain).prompt == "Add." and isinstance(read("alpaca", plain).feedback, Unjudged)
    assert read("alpaca", {**plain, "kto_tag": True}).feedback == Labels((True,))


# ------------------------------------------------------------------------------------------- scored and ranked


def test_ultrafeedback_takes_the_first_score_that_all_have() -> None:
    group = read("ultrafeedback", ULTRA)
    assert group.feedback == Scores((8.5, 2.0)) and group.meta == {"scored_by": "overall_score"}
    assert (group.prompt, group.source, group.completions[0].model) == ("Why is snow white?", "made_up", "m1")
    assert group.completions[1].meta["ratings"] == {"honesty": 2.0, "helpfulness": None}

    def without(*names: str) -> dict[str, Any]:
        kept = [{k: v for k, v in c.items() if k not in names} for c in ULTRA["completions"]]
        return {**ULTRA, "completions": kept}

    assert read("ultrafeedback", without("overall_score")).feedback == Scores((4.75, 1.5))
    rated = without("overall_score", "fine-grained_score")
    assert isinstance(read("ultrafeedback", rated).feedback, Unjudged)  # one rating is "N/A"
    rated["completions"][1]["annotations"] = {"honesty": {"Rating": "2"}, "helpfulness": {"Rating": "1"}}
    assert read("ultrafeedback", rated).feedback == Scores((4.5, 1.5))


def test_helpsteer() -> None:
    assert read("helpsteer", NEMO).feedback == Scores((-1.0, 0.0))
    assert read("helpsteer", NEMO).prompt == (Message("user", "Hi"),)
    group = read("helpsteer", STEER3)
    assert texts(group) == ["Hello!", "Go."] and group.feedback == FIRST
    assert group.meta == {"domain": "general", "overall_preference": -2, "strength": pytest.approx(2 / 3)}
    assert texts(read("helpsteer", {**STEER3, "overall_preference": 1})) == ["Go.", "Hello!"]
    rated = read("helpsteer", STEER2)
    assert rated.feedback == Scores((3.0,)) and rated.prompt == "Hi"
    assert rated.completions[0].meta == {"helpfulness": 3.0, "correctness": 4.0, "verbosity": 1.0}
    longer = read("helpsteer", {**STEER2, "prompt": "Hi\n<extra_id_1>Assistant\nYes?\n<extra_id_1>User\nBye"})
    assert longer.prompt == (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Bye"))


def test_oasst_tree_gives_a_group_for_each_ranked_prompt() -> None:
    first, second = FORMATS["oasst"][1](TREE, WHERE)  # type: ignore[misc]
    assert first.prompt == (Message("user", "Who are you?"),) and texts(first) == ["A robot.", "A program."]
    assert first.feedback == Scores((-1.0, 0.0)) and first.completions[0].model == "m"
    assert first.completions[0].meta == {"message_id": "A ro", "synthetic": True}
    assert first.meta == {"message_tree_id": "t1", "tree_state": "ready_for_export", "lang": "en", "left_out": 1}
    assert second.prompt == (*first.prompt, Message("assistant", "A program."), Message("user", "Whose?"))
    assert second.feedback == Scores((0.0, -1.0)) and second.where == WHERE
    assert {first.id, second.id} == {"Who ", "Whos"}


# ------------------------------------------------------------------------------------------------------- votes


@pytest.mark.parametrize(
    ("row", "strength", "models", "about"),
    [
        (EVAL, 0.5, ["base", "mine"], {"annotator": "judge", "preference": 1.25}),
        ({**EVAL, "output_1": "No.", "output_2": "Hi!", "preference": "2"}, 1.0, ["mine", "base"], {"preference": "2"}),
        (LLMBAR, None, [None, None], {"label": 2}),
        (PANDALM, None, ["a", "b"], {"votes": [1, 1, 2], "majority": 1}),
    ],
)
def test_alpaca_eval(row: dict[str, Any], strength: float | None, models: list[Any], about: dict[str, Any]) -> None:
    group = read("alpaca_eval", row)
    assert (group.prompt, texts(group), group.feedback) == ("Say hi.", ["Hi!", "No."], FIRST)
    assert [c.model for c in group.completions] == models and group.meta.get("strength") == strength
    assert about.items() <= group.meta.items()
    assert group.source == row.get("dataset", row.get("subset", "")) and group.id == row.get("id", "")


def test_tulu_and_versus_baseline() -> None:
    group = read("tulu_votes", TULU)
    assert texts(group) == ["Hi!", "No."] and [c.model for c in group.completions] == ["b", "a"]
    vote = {"preference": TULU["preference"], "annotator": "annotator_3", "a_acceptable": False, "strength": 0.5}
    assert group.meta == vote
    assert read("tulu_votes", {**TULU, "preference": "a-is-better"}).meta["strength"] == 1.0
    group = read("versus_baseline", VERSUS)
    assert texts(group) == ["Hi!", "No."] and [c.model for c in group.completions] == ["b", "m"]
    assert group.meta == {"score": 0.2, "strength": pytest.approx(0.6)}
    assert texts(read("versus_baseline", {**VERSUS, "score": 0.7})) == ["No.", "Hi!"]


def test_arena_cuts_at_the_turn_that_was_voted_on() -> None:
    group = read("arena", ARENA)
    assert group.prompt == (Message("user", "Say hi."),) and texts(group) == ["Hi!", "No."]
    assert [c.model for c in group.completions] == ["b", "a"] and group.id == "81"
    assert group.meta == {"winner": "model_b", "judge": "expert_1", "turn": 1}
    same = [user("Say hi."), assistant("Hi!"), user("Again.")]
    talk = {"conversation_a": [*same, assistant("Hi again!")], "conversation_b": [*same, assistant("No.")]}
    group = read("arena", {**ARENA, **talk, "turn": 2, "winner": "model_a"})
    assert len(group.prompt) == 3 and texts(group) == ["Hi again!", "No."]


def test_arena_in_kaggle_columns() -> None:
    group = read("arena", KAGGLE)
    assert group.prompt == (Message("user", "Say hi."), Message("assistant", "Hi!"), Message("user", "Again."))
    assert texts(group) == ["Hi again!", "No."] and group.id == "30192"
    single = {**KAGGLE, "prompt": '["Say hi."]', "response_a": '["Hi!"]', "response_b": '["No."]'}
    assert (read("arena", single).prompt, texts(read("arena", single))) == ("Say hi.", ["Hi!", "No."])
    plain = {**KAGGLE, "prompt": '["a", "b"]', "response_a": "A list.", "response_b": "[1]"}
    assert (read("arena", plain).prompt, texts(read("arena", plain))) == ('["a", "b"]', ["A list.", "[1]"])


def test_a_vote_beside_texts_of_its_own_words() -> None:
    row = {
        "model_a": "a",
        "model_b": "b",
        "prompt": "Say hi.",
        "response_a": "No.",
        "response_b": "Hi!",
        "winner": "model_b",
    }
    assert texts(read("arena", row)) == ["Hi!", "No."]


# ------------------------------------------------------------------------------------- what is useless, what is wrong

USELESS = [
    ("alpaca_eval", {**EVAL, "preference": 1.5}, "a tie"),
    ("alpaca_eval", {**EVAL, "preference": 0}, "a tie"),
    ("alpaca_eval", {**EVAL, "preference": None}, "not judged"),
    ("alpaca_eval", {**PANDALM, "majority": 0}, "a tie"),
    ("alpaca_eval", {**PANDALM, "majority": None}, "no majority"),
    ("alpaca_eval", {**PANDALM, "output_2": " "}, "blank rejected answer"),
    ("tulu_votes", {**TULU, "preference": "tie"}, "a tie"),
    ("tulu_votes", {**TULU, "completion_a": "Hi!"}, "chosen equals rejected"),
    ("versus_baseline", {**VERSUS, "score": 0.5}, "a tie"),
    ("helpsteer", {**STEER3, "overall_preference": 0}, "a tie"),
    ("arena", {**ARENA, "winner": "tie (bothbad)"}, "both bad"),
    ("arena", {**KAGGLE, "winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1}, "a tie"),
    ("arena", {**ARENA, "turn": 2}, "before the user's last turn"),
    ("arena", {**ARENA, "conversation_b": [user("Say ho."), assistant("Ho!")]}, "different prompts"),
    ("arena", {**KAGGLE, "response_b": '["Hi!", null]'}, "empty rejected answer"),
    ("oasst", {"prompt": reply("Who?", None, reply("Me.", 0), role="prompter")}, "two ranked answers"),
    ("ultrafeedback", {**ULTRA, "completions": []}, "no completions"),
    ("sharegpt", {"conversations": [human("Hi"), gpt("")]}, "empty completion answer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "reason"), USELESS, ids=[f"{n}: {r}" for n, _, r in USELESS])
def test_a_row_that_teaches_nothing(name: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Useless, match=reason):
        FORMATS[name][1](row, WHERE)


VOTE = {"question_id": 82, "turn": 1, "model_a": "a", "model_b": "b", "winner": "model_a", "judge": "expert_2"}
FAULTS = [
    ("sharegpt", {**SHAREGPT, "conversations": TALK[:2]}, "chosen and rejected answer nothing"),
    ("sharegpt", {"conversations": TALK}, "ends with a turn of 'human'"),
    ("sharegpt", {"conversations": [gpt("Hello.")]}, "no human turn comes before"),
    ("sharegpt", {"conversations": [{"from": "narrator", "value": "x"}]}, "'narrator', none of human, gpt"),
    ("sharegpt", {"conversations": [user("x")]}, "'from' and 'value'"),
    ("sharegpt", {"conversations": [human("x"), "y"]}, "'from' and 'value'"),
    ("sharegpt", {**SHAREGPT, "kto_tag": True}, "one kind of feedback"),
    ("sharegpt", {**SHAREGPT, "rejected": None}, "'rejected' is null"),
    ("sharegpt", {**SHAREGPT, "images": ["a.png"]}, "comes with 'images'"),
    ("sharegpt", {**SHAREGPT, "tools": "a hammer"}, "'tools' must be a list"),
    ("sharegpt", {"conversations": [human("x"), {"from": "function_call", "value": "look!"}]}, "not JSON with 'name'"),
    ("sharegpt", {"conversations": TALK[:2], "kto_tag": 2}, "'kto_tag' must be true or false, not '2'"),
    ("alpaca", {**ALPACA, "chosen": 3}, "'chosen' must be text, not of the type int"),
    ("alpaca", {**ALPACA, "history": ["1+1?", "2"]}, "pairs of texts"),
    ("alpaca", {"instruction": "Add.", "output": ["3", "12"]}, "name its parts chosen and rejected"),
    ("ultrafeedback", {**ULTRA, "completions": ["text"]}, "list of at least one object"),
    ("helpsteer", {**NEMO, "completions": [{"completion": [assistant("x")], "rank": -1}]}, "a rank of -1"),
    ("helpsteer", {**NEMO, "completions": [{"completion": [user("x")], "rank": 0}]}, "begins with a turn"),
    ("helpsteer", {**STEER3, "overall_preference": -100}, "from -3 to 3"),
    ("helpsteer", {**STEER2, "helpfulness": "good"}, "must be a finite number, at most 1e\\+15 in size, not 'good'"),
    ("oasst", {"prompt": reply("Who?", None, role="narrator")}, "'narrator', neither prompter"),
    ("alpaca_eval", {**LLMBAR, "preference": 1.0}, "preference and label both judge the pair"),
    ("alpaca_eval", {**PANDALM, "label": 2}, "label and majority both judge the pair"),
    ("alpaca_eval", {**LLMBAR, "label": 3}, "'label' is 3"),
    ("alpaca_eval", {**EVAL, "preference": 2.5}, "'preference' is 2.5"),
    ("alpaca_eval", {k: v for k, v in EVAL.items() if k != "preference"}, "nothing judges output_1 and output_2"),
    ("alpaca_eval", {**EVAL, "prompt": "Say ho."}, "one is wanted"),
    ("tulu_votes", {**TULU, "preference": "b"}, "none of a-is-better"),
    ("versus_baseline", {**VERSUS, "score": 7}, "between 0 and 1"),
    ("arena", VOTE, r"a vote without the texts \(question_id 82, turn 1\): join the answers"),
    ("arena", {**ARENA, "winner": "gpt-4"}, "none of model_a, model_b, tie"),
    ("arena", {**ARENA, "turn": 3}, "there is no answer 3"),
    ("arena", {**ARENA, "conversation_b": None}, "'conversation_b' is null"),
    ("arena", {**KAGGLE, "winner": "model_a"}, "which is meant is not guessed"),
    ("arena", {**KAGGLE, "winner_tie": 1}, "one 1 and two 0"),
    ("arena", {**KAGGLE, "response_b": '["Hi!"]'}, "lists of 2, 2 and 1 turns"),
    ("stepwise", STEPS, "labels judge the steps of one answer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "message"), FAULTS, ids=[f"{n}: {m}" for n, _, m in FAULTS])
def test_a_bad_row_is_a_sentence_with_its_place(name: str, row: dict[str, Any], message: str) -> None:
    assert FORMATS[name][0](row) or row.get("completions") == ["text"]
    with pytest.raises(DataError, match=message) as error:
        FORMATS[name][1](row, WHERE)
    assert str(error.value).startswith(f"{WHERE}: ")


WRONG: list[Any] = [None, "", "?", 3, -1.5, True, [], ["x"], [None], {}, {"a": 1}, [{}], [{"role": 1, "from": []}]]


@pytest.mark.parametrize("name", FORMATS)
def test_no_value_in_any_column_ends_in_a_traceback(name: str) -> None:
    for row in ROWS[name]:
        for column in row:
            for value in WRONG:
                try:
                    FORMATS[name][0]({**row, column: value})
                    FORMATS[name][1]({**row, column: value}, WHERE)
                except (DataError, Useless):
                    continue


# ----------------------------------------------------------------------------------------------- the real files


@pytest.mark.parametrize(
    ("file", "name", "groups", "left_out"),
    [
        ("human/llmbar_pairs.jsonl", "alpaca_eval", 251, {}),
        ("human/pandalm_pairs.jsonl", "alpaca_eval", 496, {"tie": 70, "empty": 52}),
        ("human/tulu1_pairs.jsonl", "tulu_votes", 451, {"tie": 205, "invisible": 3}),
        ("nc/alpaca_eval_judge_hacks.jsonl", "versus_baseline", 119, {"tie": 1}),
    ],
)
def test_real_files_are_read_row_for_row(
    shared_data: Path, file: str, name: str, groups: int, left_out: dict[str, int]
) -> None:
    sign, reader = FORMATS[name]
    found: list[Group] = []
    useless: Counter[str] = Counter()
    with (shared_data / file).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            assert sign(row)
            try:
                group = reader(row, f"{file}:{number}")
            except Useless as reason:
                useless[next(word for word in ("tie", "empty", "invisible") if word in str(reason))] += 1
                continue
            assert isinstance(group, Group) and group.feedback == FIRST and group.prompt == row["prompt"]
            found.append(group)
    assert (len(found), dict(useless)) == (groups, left_out)


def test_real_votes_without_texts_say_what_is_missing(shared_data: Path) -> None:
    for file in ("human/mtbench_human_votes.jsonl", "human/mtbench_gpt4_verdicts.jsonl"):
        with (shared_data / file).open(encoding="utf-8") as lines:
            for line in lines:
                assert FORMATS["arena"][0](json.loads(line))
                with pytest.raises(DataError, match="without the texts"):
                    FORMATS["arena"][1](json.loads(line), WHERE)


def test_the_sharegpt_file_with_odd_columns(shared_data: Path) -> None:
    with (shared_data / "nasty" / "d02_sharegpt.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert [len(read("sharegpt", row).completions) for row in rows] == [2] * len(rows)
