"""Two answers and a vote on them -> one pair. A tie or a missing vote makes a row useless; two votes make it a fault.

`meta.strength`, where a vote has degrees, is its strength in (0, 1]; the vote itself stays in the meta as it was given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from burnish.data.readers.columns import Formats, about, absent, number_of, parsed_json, text_of
from burnish.data.readers.shapes import Row, Useless, _answer, _field, _pair, conversation
from burnish.errors import DataError
from burnish.group import Group, Message

SLIGHTLY = {
    "a-is-better": (0, 1.0), "a-is-slightly-better": (0, 0.5),
    "b-is-slightly-better": (1, 0.5), "b-is-better": (1, 1.0),
}  # fmt: skip
TIES = {"tie": "a tie", "tie (bothbad)": "a tie (both bad)", "both_bad": "a tie (both bad)"}
TIES |= {"tie (inconsistent)": "a tie (the verdict changed when the answers were swapped)"}
SPOKEN = ("user", "assistant")
COLUMNS = ("winner_model_a", "winner_model_b", "winner_tie")
Conversation = list[dict[str, Any]]


def vote(
    prompt: str | tuple[Message, ...], sides: tuple[Any, Any], models: tuple[Any, Any], winner: int, where: str
) -> Group:
    """The pair in which side `winner` (0 or 1) of `sides` was preferred; the chosen answer comes first."""
    order = (winner, 1 - winner)
    answers = [_answer(sides[side], where, name) for side, name in zip(order, ("chosen", "rejected"), strict=True)]
    names = {"chosen_model": models[order[0]], "rejected_model": models[order[1]]}
    return _pair(names, prompt, answers, where)


# ------------------------------------------------------------------------- AlpacaEval, AlpacaFarm, LLMBar, PandaLM


def _is_alpaca_eval(row: Row) -> bool:
    """`output_1` and `output_2`."""
    return {"output_1", "output_2"} <= set(row)


def _alpaca_eval(row: Row, where: str) -> Group:
    """`output_1` and `output_2`, answers to `instruction` (and `input`) or `prompt`, judged in one of three columns.

    `preference` (AlpacaEval): 1 is the first, 2 the second, between them degrees, 0 or 1.5 a tie; `label` (LLMBar): 1
    or 2; `majority` of three `votes` (PandaLM): 1, 2, or 0 for a tie. More than one of the three is refused.
    """
    given = [name for name in ("instruction", "prompt") if not absent(row.get(name))]
    if len(given) != 1:
        raise DataError(f"{where}: {' and '.join(given) or 'neither instruction nor prompt'} given; one is wanted")
    prompt: Any = row[given[0]]
    if not absent(row.get("input")):
        prompt = f"{text_of(row, given[0], where)}\n{text_of(row, 'input', where)}"
    winner, degree = _choice(row, where)
    makers = "generator" if "generator_1" in row else "model"
    names = ("output_1", "output_2")
    group = vote(
        conversation(prompt, where, "prompt"),
        (text_of(row, names[0], where), text_of(row, names[1], where)),
        (row.get(f"{makers}_1"), row.get(f"{makers}_2")),
        winner, where,
    )  # fmt: skip
    group = replace(group, meta=degree)
    return about(group, row, "instruction", "prompt", "input", *names, f"{makers}_1", f"{makers}_2")


def _choice(row: Row, where: str) -> tuple[int, dict[str, float]]:
    """(the winner's index, the strength where the judgment has degrees) from the one column that judges."""
    given = [name for name in ("preference", "label", "majority") if name in row]
    judging = [name for name in given if not absent(row[name])]
    if len(judging) > 1:
        raise DataError(f"{where}: {' and '.join(judging)} both judge the pair, and which one is meant is not guessed")
    if not given:
        raise DataError(f"{where}: nothing judges output_1 and output_2: no preference, label or majority")
    if not judging:
        raise Useless("no majority" if given == ["majority"] else "not judged")
    value, name = number_of(row, judging[0], where), judging[0]
    if (name == "preference" and value in (0, 1.5)) or (name == "majority" and value == 0):
        raise Useless("a tie")
    if not 1 <= value <= 2 or (name != "preference" and value not in (1, 2)):
        raise DataError(f"{where}: '{name}' is {value:g}; 1 is the first answer and 2 the second")
    return int(value > 1.5), {"strength": 2 * abs(value - 1.5)} if name == "preference" else {}


# ---------------------------------------------------------------------------------------- Tulu's human judgments


def _is_tulu(row: Row) -> bool:
    """`completion_a`, `completion_b` and `preference`."""
    return {"completion_a", "completion_b", "preference"} <= set(row)


def _tulu(row: Row, where: str) -> Group:
    """`prompt`, `completion_a`, `completion_b`, and `preference` in words, from a-is-better to b-is-better.

    Slightly better is strength 0.5, better 1.0.
    """
    if absent(row.get("preference")):
        raise Useless("not judged")
    word = text_of(row, "preference", where)
    if word == "tie":
        raise Useless("a tie")
    if word not in SLIGHTLY:
        raise DataError(f"{where}: 'preference' is {word[:40]!r}, none of {', '.join(SLIGHTLY)}, tie")
    winner, strength = SLIGHTLY[word]
    prompt = conversation(_field(row, "prompt", where), where, "prompt")
    sides = (text_of(row, "completion_a", where), text_of(row, "completion_b", where))
    group = vote(prompt, sides, (row.get("model_a"), row.get("model_b")), winner, where)
    group = replace(group, meta={"strength": strength})
    return about(group, row, "prompt", "completion_a", "completion_b", "model_a", "model_b")


# ---------------------------------------------------------------------------------- an answer against a baseline's


def _is_versus(row: Row) -> bool:
    """`completion` and `baseline_completion`."""
    return {"completion", "baseline_completion"} <= set(row)


def _versus(row: Row, where: str) -> Group:
    """`completion` and `baseline_completion`; `score` in 0..1 is the chance that a judge prefers the former."""
    if absent(row.get("score")):
        raise Useless("not judged")
    score = number_of(row, "score", where)
    if not 0 <= score <= 1:
        raise DataError(f"{where}: 'score' is {score:g}; the chance to beat the baseline lies between 0 and 1")
    if score == 0.5:
        raise Useless("a tie")
    prompt = conversation(_field(row, "prompt", where), where, "prompt")
    sides = (text_of(row, "completion", where), text_of(row, "baseline_completion", where))
    group = vote(prompt, sides, (row.get("model"), row.get("baseline_model")), int(score < 0.5), where)
    group = replace(group, meta={"strength": 2 * abs(score - 0.5)})
    return about(group, row, "prompt", "completion", "baseline_completion", "model", "baseline_model")


# --------------------------------------------------------------------------------------- MT-bench, Chatbot Arena


def _is_arena(row: Row) -> bool:
    """`model_a`, `model_b`, and who won: in `winner`, or in the three columns of Kaggle's file."""
    return ({"model_a", "model_b", "winner"} <= set(row) and "completion_a" not in row) or "winner_model_a" in row


def _arena(row: Row, where: str) -> Group:
    """A vote on two conversations with the same user turns, of which the last answers are compared.

    `conversation_a`, `conversation_b`: messages; or `prompt`, `response_a`, `response_b`: text, or JSON lists of turns.
    `turn` (MT-bench) is the number of answers before the vote was cast; what follows is left out. A vote on answers
    that differ before the user's last turn has no common prompt, so that the row is useless.
    """
    names = ("conversation_a", "conversation_b", "response_a", "response_b")
    texts = [name for name in names if row.get(name) is not None]
    if not texts:
        place = ", ".join(f"{name} {row[name]}" for name in ("question_id", "turn") if name in row)
        raise DataError(
            f"{where}: the row holds a vote without the texts{f' ({place})' if place else ''}: join the answers of the "
            "two models to it, as conversation_a and conversation_b (lists of messages), or as prompt, response_a and "
            "response_b"
        )
    winner = _winner(row, where)
    if texts[0] in names[:2]:
        prompt, sides = _split(_messages(row, names[0], where), _messages(row, names[1], where), where)
    else:
        prompt, sides = _battle(row, where)
    group = vote(prompt, sides, (row.get("model_a"), row.get("model_b")), winner, where)
    return about(group, row, *names, "prompt", "model_a", "model_b", *COLUMNS)


def _winner(row: Row, where: str) -> int:
    """0 for model_a, 1 for model_b. Raises Useless for a tie."""
    if not any(name in row for name in COLUMNS):
        word = text_of(row, "winner", where)
        if word in TIES:
            raise Useless(TIES[word])
        if word not in ("model_a", "model_b"):
            raise DataError(f"{where}: 'winner' is {word[:40]!r}, none of model_a, model_b, {', '.join(TIES)}")
        return int(word == "model_b")
    if not absent(row.get("winner")):
        raise DataError(f"{where}: winner and winner_model_a both judge the pair, and which is meant is not guessed")
    marks = [number_of(row, name, where) for name in COLUMNS]
    if sorted(marks) != [0, 0, 1]:
        raise DataError(f"{where}: {', '.join(COLUMNS)} must be one 1 and two 0, not {marks}")
    if marks[2]:
        raise Useless("a tie")
    return marks.index(1)


def _messages(row: Row, name: str, where: str) -> Conversation:
    """A conversation up to the answer that was voted on, as role and content alone."""
    messages = conversation(_field(row, name, where), where, name)
    if isinstance(messages, str):
        raise DataError(f"{where}: '{name}' must be a list of messages, not text")
    ends = [at for at, message in enumerate(messages, 1) if message.role == "assistant"]
    turn = len(ends) if row.get("turn") is None else number_of(row, "turn", where)
    if turn not in range(1, len(ends) + 1):
        raise DataError(f"{where}: '{name}' has {len(ends)} answers, so there is no answer {turn:g} to vote on")
    return [{"role": message.role, "content": message.content} for message in messages[: ends[int(turn) - 1]]]


def _battle(row: Row, where: str) -> tuple[str | tuple[Message, ...], tuple[Any, Any]]:
    """(prompt, two answers) of Kaggle's columns, in which each may be a JSON list with one text (or null) a turn."""
    columns = [_field(row, name, where) for name in ("prompt", "response_a", "response_b")]
    lists = [parsed_json(column) if isinstance(column, str) else column for column in columns]
    if not all(isinstance(x, list) and x and all(t is None or isinstance(t, str) for t in x) for x in lists):
        sides = (text_of(row, "response_a", where), text_of(row, "response_b", where))
        return conversation(columns[0], where, "prompt"), sides
    questions, left, right = ([text or "" for text in texts] for texts in lists)
    if not len(questions) == len(left) == len(right):
        sizes = f"{len(questions)}, {len(left)} and {len(right)} turns"
        raise DataError(f"{where}: prompt, response_a and response_b are lists of {sizes}; they must be equally long")
    if len(questions) == 1:
        return conversation(questions[0], where, "prompt"), (left[0], right[0])
    return _split(_interleaved(questions, left), _interleaved(questions, right), where)


def _interleaved(questions: list[str], answered: list[str]) -> Conversation:
    both = zip(questions, answered, strict=True)
    return [{"role": role, "content": text} for pair in both for role, text in zip(SPOKEN, pair, strict=True)]


def _split(left: Conversation, right: Conversation, where: str) -> tuple[str | tuple[Message, ...], tuple[Any, Any]]:
    """(the turns that both conversations begin with, what follows in each), where only answers follow."""
    questions = [[turn for turn in side if turn["role"] != "assistant"] for side in (left, right)]
    if questions[0] != questions[1]:
        raise Useless("the two conversations have different prompts")
    if left == right:
        raise Useless("chosen equals rejected")
    common = 0
    while common < min(len(left), len(right)) and left[common] == right[common]:
        common += 1
    rest = (left[common:], right[common:])
    if any(turn["role"] != "assistant" for side in rest for turn in side):
        raise Useless("the answers differ before the user's last turn, so they share no prompt")
    return conversation(left[:common], where, "prompt"), rest


VOTES: Formats = {
    "alpaca_eval": (_is_alpaca_eval, _alpaca_eval),
    "tulu_votes": (_is_tulu, _tulu),
    "versus_baseline": (_is_versus, _versus),
    "arena": (_is_arena, _arena),
}
