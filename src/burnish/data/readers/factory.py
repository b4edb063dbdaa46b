"""The two formats of LLaMA-Factory, each as preferences, as KTO's labels, or as plain imitation.

Source of the column names: data/README.md of the repository hiyouga/LLaMA-Factory (2025). Columns that its
dataset_info.json has under other names must be renamed to the default names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from burnish.data.readers.columns import MEDIA, Formats, about, absent, flag_of, parsed_json, refuse_media, text_of
from burnish.data.readers.messages import tools_of
from burnish.data.readers.shapes import Row, _answer, _field, _pair, conversation
from burnish.errors import DataError
from burnish.group import Completion, Feedback, Group, Labels, Unjudged

SPEAKERS = {
    "human": "user",
    "gpt": "assistant",
    "system": "system",
    "observation": "tool",
    "function_call": "assistant",
}
SPEAKERS |= {"user": "user", "assistant": "assistant", "tool": "tool"}  # seen besides the documented names
SIDES = ("chosen", "rejected")
USED = ("system", "tools", *SIDES, "chosen_model", "rejected_model", "kto_tag", *MEDIA)


def _is_sharegpt(row: Row) -> bool:
    """`conversations: [{from, value}, ...]`, whatever else there is."""
    return isinstance(row.get("conversations"), list)


def _sharegpt(row: Row, where: str) -> Group:
    """`conversations` with `chosen` and `rejected` (a pair), with `kto_tag` (a label), or alone (imitation).

    Without `chosen` the last turn, which must be gpt's, is the answer. `system` is put in front; `tools` is a list of
    functions or its JSON. Raises DataError for a conversation that cannot be cut into prompt and answer.
    """
    refuse_media(row, where)
    given = _field(row, "conversations", where)
    if not isinstance(given, list) or not given:
        raise DataError(f"{where}: 'conversations' must be a list of at least one turn")
    spoken = [_turn(turn, where, "conversation") for turn in given]
    spoken = _system(row, spoken, where) + spoken
    tools = _tools(row.get("tools"), where)
    if _has_pair(row, where):
        if spoken[-1]["role"] not in ("user", "tool"):
            raise DataError(
                f"{where}: the conversation ends with gpt's own turn, so chosen and rejected answer nothing"
            )
        sides = []
        for name in SIDES:
            answer = _field(row, name, where)
            answer = {"from": "gpt", "value": answer} if isinstance(answer, str) else answer
            sides.append(_answer([_turn(answer, where, f"{name} answer")], where, name))
        group = replace(_pair(row, conversation(spoken, where, "prompt"), sides, where), tools=tools)
    else:
        if spoken[-1]["role"] != "assistant":
            last = str(given[-1].get("from"))
            raise DataError(f"{where}: the conversation ends with a turn of {last!r}, so it holds no answer to learn")
        if not any(turn["role"] == "user" for turn in spoken[:-1]):
            raise DataError(f"{where}: no human turn comes before the answer, so there is no prompt")
        group = _single(row, spoken[:-1], spoken[-1:], where, tools)
    return about(group, row, "conversations", *USED)


def _is_alpaca(row: Row) -> bool:
    """`instruction` with `output`, or with `chosen` and `rejected`; none of the columns of other formats."""
    judged = {"chosen", "rejected"} <= set(row) or "output" in row
    return "instruction" in row and judged and not {"prompt", "conversations", "completions", "output_1"} & set(row)


def _alpaca(row: Row, where: str) -> Group:
    """`instruction` and `input`, joined with a newline, are the prompt, after `history: [[question, answer], ...]`.

    The answers are `chosen` and `rejected` (a pair), or `output`, with `kto_tag` (a label) or without (imitation).
    """
    refuse_media(row, where)
    parts = [text_of(row, "instruction", where), "" if row.get("input") is None else text_of(row, "input", where)]
    question = "\n".join(part for part in parts if part)
    before = _system(row, [], where) + _history(row, where)
    prompt = [*before, {"role": "user", "content": question}] if before else question
    if _has_pair(row, where):
        sides = [_answer(text_of(row, name, where), where, name) for name in SIDES]
        group = _pair(row, conversation(prompt, where, "prompt"), sides, where)
    else:
        if isinstance(row.get("output"), list):
            raise DataError(f"{where}: 'output' is a list, an older form of a pair; name its parts chosen and rejected")
        group = _single(row, prompt, text_of(row, "output", where), where, ())
    return about(group, row, "instruction", "input", "output", "history", *USED)


def _has_pair(row: Row, where: str) -> bool:
    paired = any(row.get(name) is not None for name in SIDES)
    if paired and not absent(row.get("kto_tag")):
        raise DataError(f"{where}: both chosen/rejected and kto_tag; a row has one kind of feedback")
    return paired


def _single(row: Row, prompt: Any, answer: Any, where: str, tools: tuple[Mapping[str, Any], ...]) -> Group:
    feedback: Feedback = Unjudged()
    if not absent(row.get("kto_tag")):
        feedback = Labels((flag_of(row, "kto_tag", where),))
    completion = Completion(_answer(answer, where, "completion"))
    return Group(conversation(prompt, where, "prompt"), (completion,), feedback, where=where, tools=tools)


def _turn(turn: Any, where: str, what: str) -> dict[str, Any]:
    """`{from, value}` -> `{role, content}`; a function call becomes the assistant's tool call."""
    if not isinstance(turn, Mapping) or "from" not in turn or "value" not in turn:
        raise DataError(f"{where}: a turn of the {what} is no object with 'from' and 'value'")
    speaker, value = turn["from"], turn["value"]
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        known = ", ".join(list(SPEAKERS)[:5])
        raise DataError(f"{where}: a turn of the {what} is from {str(speaker)[:40]!r}, none of {known}")
    if speaker == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(value, where)}
    return {"role": SPEAKERS[speaker], "content": value}


def _calls(value: Any, where: str) -> list[dict[str, Any]]:
    """`{"name", "arguments"}` or a list of such, as JSON in a text -> the tool calls that chat templates take."""
    given = parsed_json(value) if isinstance(value, str) else value
    calls = []
    for call in given if isinstance(given, list) else [given]:
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str) or "arguments" not in call:
            raise DataError(f"{where}: a function_call is not JSON with 'name' and 'arguments'")
        arguments = parsed_json(call["arguments"]) if isinstance(call["arguments"], str) else call["arguments"]
        if not isinstance(arguments, Mapping):
            raise DataError(f"{where}: the arguments of the function call '{call['name'][:40]}' are no JSON object")
        calls.append({"type": "function", "function": {"name": call["name"], "arguments": dict(arguments)}})
    if not calls:
        raise DataError(f"{where}: a function_call calls nothing")
    return calls


def _tools(value: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    """A list of functions, or its JSON; bare ones are wrapped as chat templates expect them."""
    tools = tools_of(value, where)
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in tools)


def _system(row: Row, spoken: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """The system column as the first turn, unless the conversation begins with the same."""
    if absent(row.get("system")):
        return []
    text = text_of(row, "system", where)
    if spoken and spoken[0]["role"] == "system":
        if spoken[0]["content"] != text:
            raise DataError(f"{where}: the column 'system' and the conversation's own system turn differ; keep one")
        return []
    return [{"role": "system", "content": text}]


def _history(row: Row, where: str) -> list[dict[str, Any]]:
    """`[[question, answer], ...]` as turns."""
    value = row.get("history")
    if absent(value):
        return []
    rounds = value if isinstance(value, list) else []
    texts = [list(r) for r in rounds if isinstance(r, (list, tuple)) and len(r) == 2 and all(map(_is_text, r))]
    if not rounds or len(texts) != len(rounds):
        raise DataError(f"{where}: 'history' must be a list of [question, answer] pairs of texts")
    return [{"role": role, "content": text} for r in texts for role, text in zip(("user", "assistant"), r, strict=True)]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


FACTORY: Formats = {"sharegpt": (_is_sharegpt, _sharegpt), "alpaca": (_is_alpaca, _alpaca)}
