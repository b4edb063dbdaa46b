"""Rows of the formats of single projects, made up here (nothing is taken from a data set), and their reading."""

from __future__ import annotations

import json
from typing import Any

from burnish.data.readers.formats import FORMATS
from burnish.group import Group, to_json

WHERE = "data.jsonl:7"


def read(name: str, row: dict[str, Any]) -> Group:
    sign, reader = FORMATS[name]
    assert sign(row), f"a row of {name} is not recognised"
    found = reader(row, WHERE)
    assert isinstance(found, Group)
    assert found.where == WHERE and json.dumps(to_json(found))  # the meta can be written as JSON
    return found


def texts(group: Group) -> list[str]:
    return [c.messages if isinstance(c.messages, str) else c.messages[-1].content for c in group.completions]


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


TALK = [human("Name a tree."), gpt("Oak."), human("Another.")]
SHAREGPT = {"conversations": TALK, "chosen": gpt("Elm."), "rejected": gpt("Cat.")}
ALPACA = {"instruction": "Add.", "input": "1 and 2", "chosen": "3", "rejected": "12"}
ULTRA = {
    "source": "made_up", "instruction": "Why is snow white?", "models": ["m1", "m2"],
    "completions": [
        {"model": "m1", "response": "It scatters light.", "overall_score": 8.5, "fine-grained_score": 4.75,
         "annotations": {"honesty": {"Rating": "5", "Rationale": "long"}, "helpfulness": {"Rating": "4"}}},
        {"model": "m2", "response": "It is cold.", "overall_score": 2.0, "fine-grained_score": 1.5,
         "annotations": {"honesty": {"Rating": "2"}, "helpfulness": {"Rating": "N/A"}}},
    ],
}  # fmt: skip
NEMO = {
    "context": [user("Hi")],
    "completions": [{"completion": [assistant("Go.")], "rank": 1}, {"completion": [assistant("Hello!")], "rank": 0}],
}
STEER3 = {
    "domain": "general", "context": [user("Hi")], "response1": "Hello!", "response2": "Go.", "overall_preference": -2,
}  # fmt: skip
STEER2 = {"prompt": "Hi", "response": "Hello!", "helpfulness": 3, "correctness": 4, "verbosity": 1}
EVAL = {
    "dataset": "koala", "instruction": "Say hi.", "output_1": "Hi!", "output_2": "No.", "generator_1": "base",
    "generator_2": "mine", "annotator": "judge", "preference": 1.25,
}  # fmt: skip
LLMBAR = {"id": "x-1", "subset": "Natural", "prompt": "Say hi.", "output_1": "No.", "output_2": "Hi!", "label": 2}
PANDALM = {
    "prompt": "Say hi.", "output_1": "Hi!", "output_2": "No.", "model_1": "a", "model_2": "b",
    "votes": [1, 1, 2], "majority": 1,
}  # fmt: skip
TULU = {
    "prompt": "Say hi.", "model_a": "a", "model_b": "b", "completion_a": "No.", "completion_b": "Hi!",
    "preference": "b-is-slightly-better", "annotator": "annotator_3", "a_acceptable": False,
}  # fmt: skip
ARENA = {
    "question_id": 81, "model_a": "a", "model_b": "b", "winner": "model_b", "judge": "expert_1", "turn": 1,
    "conversation_a": [user("Say hi."), assistant("No."), user("Again."), assistant("No!")],
    "conversation_b": [user("Say hi."), assistant("Hi!"), user("Again."), assistant("Hi again!")],
}  # fmt: skip
KAGGLE = {
    "id": 30192, "model_a": "a", "model_b": "b", "prompt": '["Say hi.", "Again."]',
    "response_a": '["Hi!", "Hi again!"]', "response_b": '["Hi!", "No."]',
    "winner_model_a": "1", "winner_model_b": "0", "winner_tie": "0",
}  # fmt: skip
VERSUS = {
    "prompt": "Say hi.", "model": "m", "completion": "No.", "baseline_model": "b", "baseline_completion": "Hi!",
    "score": 0.2,
}  # fmt: skip
STEPS = {"prompt": "1+2+3?", "completions": ["1+2=3", "3+3=7"], "labels": [True, False]}


def reply(
    text: str, rank: int | None, *replies: dict[str, Any], role: str = "assistant", **more: Any
) -> dict[str, Any]:
    return {"text": text, "role": role, "rank": rank, "message_id": text[:4], "replies": list(replies), **more}


TREE = {
    "message_tree_id": "t1", "tree_state": "ready_for_export",
    "prompt": reply(
        "Who are you?", None,
        reply("A robot.", 1, synthetic=True, model_name="m"),
        reply("A program.", 0, reply("Whose?", None, reply("Yours.", 0), reply("Mine.", 1), role="prompter")),
        reply("spam", 2, reply("And?", None, reply("x", 0), reply("y", 1), role="prompter"), deleted=True),
        role="prompter", lang="en",
    ),
}  # fmt: skip
ROWS = {
    "sharegpt": [SHAREGPT, {"conversations": TALK[:2]}, {"conversations": TALK[:2], "kto_tag": True}],
    "alpaca": [ALPACA, {"instruction": "Add.", "output": "3"}, {"instruction": "A", "output": "3", "kto_tag": False}],
    "ultrafeedback": [ULTRA], "helpsteer": [NEMO, STEER3, STEER2], "oasst": [TREE],
    "alpaca_eval": [EVAL, LLMBAR, PANDALM], "tulu_votes": [TULU], "arena": [ARENA, KAGGLE],
    "versus_baseline": [VERSUS], "stepwise": [STEPS],
}  # fmt: skip
