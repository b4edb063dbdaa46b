"""The common formats, row -> group: a short function for each, and the rule that recognises its rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from burnish.data.identity import SIDE_SCORES, gap_between, side_score_gap
from burnish.data.readers.messages import templated, tools_of
from burnish.data.readers.values import Fault, flag, parsed
from burnish.errors import DataError
from burnish.group import (
    LARGEST,
    Completion,
    Feedback,
    Group,
    Labels,
    Message,
    Preferences,
    Scores,
    Turns,
    Unjudged,
    contents,
    from_json,
    trainable,
    turns,
)

Row = Mapping[str, Any]
TURN = re.compile(r"\n\n(Human|Assistant):[ ]?")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython", "observation", "environment")
ABOUT_PAIR = (*chain(*SIDE_SCORES), "margin", "annotator", "category")  # columns kept with a pair
COMMA = re.compile(r"[+-]?\d[\d.]*,[\d.,]*")  # a number with a decimal comma, or with commas between thousands
# A character that shows: none of white space, zero-width and joining characters, soft hyphen, fillers, selectors.
VISIBLE = re.compile(
    "[^\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064"
    "\u2066-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0]"
)


class Useless(Exception):
    """A row that is whole but teaches nothing; its message is the reason that it is counted under."""


def _field(row: Row, name: str, where: str) -> Any:
    if row.get(name) is None:
        raise DataError(f"{where}: '{name}' is {'null' if name in row else 'missing'}")
    return row[name]


def conversation(value: Any, where: str, what: str) -> Turns:
    """Text or messages, as `messages.templated` and `group.turns` read them, with roles that a template can know.

    Raises DataError for a role outside `ROLES`.
    """
    parsed_turns = turns(templated(value, where, what), where, what)
    if not isinstance(parsed_turns, str):
        for message in parsed_turns:
            if message.role not in ROLES:
                known = ", ".join(ROLES[:5])
                raise DataError(f"{where}: a message of the {what} has the role {message.role[:40]!r}, none of {known}")
    return parsed_turns


def _answer(value: Any, where: str, name: str) -> Turns:
    answer = conversation(value, where, f"{name} answer")
    text = "".join(contents(answer))
    if not VISIBLE.search(text) and not (not isinstance(answer, str) and any(m.extra for m in answer)):
        kind = "an empty" if not text else "a blank" if not text.strip() else "an invisible (zero-width)"
        raise Useless(f"{kind} {name} answer")
    return answer


def _answer_of(message: Message, where: str, name: str) -> tuple[Message, ...]:
    """A turn of the assistant as an answer, under the same rule."""
    if not message.extra:
        _answer(message.content, where, name)
    return (message,)


def _pairs(row: Row, where: str) -> Group:
    """`prompt`, `chosen`, `rejected`, as text or messages; without `prompt`, the messages that both begin with."""
    chosen, rejected = _field(row, "chosen", where), _field(row, "rejected", where)
    if "prompt" not in row:
        return _implicit_prompt(row, chosen, rejected, where)
    prompt = conversation(_field(row, "prompt", where), where, "prompt")
    sides = [_answer(x, where, name) for x, name in ((chosen, "chosen"), (rejected, "rejected"))]
    if isinstance(sides[0], str) != isinstance(sides[1], str):
        kinds = ["text" if isinstance(side, str) else "a list of messages" for side in sides]
        raise DataError(f"{where}: chosen is {kinds[0]} and rejected is {kinds[1]}; write both the same way")
    return _pair(row, prompt, [_without_prompt(side, prompt) for side in sides], where)


def _without_prompt(side: Turns, prompt: Turns) -> Turns:
    """Some files repeat the prompt's messages in front of each answer (a prompt of text: as the user's one turn)."""
    if isinstance(side, str):
        return side
    given = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return side[len(given) :] if len(side) > len(given) and side[: len(given)] == given else side


def _pair(row: Row, prompt: Turns, sides: list[Any], where: str) -> Group:
    for side, name in zip(sides, ("chosen", "rejected"), strict=True):
        for at, which in ((0, "begins"), (-1, "ends")):
            if not isinstance(side, str) and side[at].role != "assistant":
                role = side[at].role
                raise DataError(f"{where}: the {name} answer {which} with a turn of the {role}, not the assistant")
    if sides[0] == sides[1]:
        raise Useless("chosen equals rejected")
    models = [row.get("chosen_model"), row.get("rejected_model")]
    completions = tuple(Completion(s, m if isinstance(m, str) else None) for s, m in zip(sides, models, strict=True))
    meta = {name: row[name] for name in ABOUT_PAIR if isinstance(row.get(name), (int, float, str))}
    return Group(prompt, completions, Preferences(((0, 1, 1.0),), _margin(meta, where)), where=where, meta=meta)


def _margin(meta: Mapping[str, Any], where: str) -> tuple[float, ...]:
    """By how much the chosen answer is better, where the row has both scores, or the margin itself."""
    for name in (*chain(*SIDE_SCORES), "margin"):
        if isinstance(meta.get(name), str) and COMMA.fullmatch(meta[name].strip()):
            raise DataError(f"{where}: '{name}' is {meta[name]!r}: write numbers with a point, and without commas")
    margin = meta.get("margin")
    gap = side_score_gap(meta)
    gap = gap_between(margin, 0) if gap is None and margin is not None else gap
    if gap is None:
        return ()
    if not trainable(gap):
        raise DataError(f"{where}: a margin of {gap:g}: numbers beyond {LARGEST:g} cannot be trained on; scale them")
    return (gap,)


def _implicit_prompt(row: Row, chosen: Any, rejected: Any, where: str) -> Group:
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise DataError(
            f"{where}: chosen and rejected are plain text without a prompt, and where the prompt ends is not guessed; "
            "add a 'prompt' field"
        )
    left, right = conversation(chosen, where, "chosen side"), conversation(rejected, where, "rejected side")
    common = 0
    while common < min(len(left), len(right)) - 1 and left[common] == right[common]:
        common += 1
    if not common:
        raise DataError(f"{where}: chosen and rejected share no leading message, so there is no prompt")
    prompt = left[:common]
    assert not isinstance(prompt, str)
    return _pair(row, prompt, [left[common:], right[common:]], where)


def _hh(row: Row, where: str) -> Group:
    """Two whole transcripts, `Human:` and `Assistant:` in turn; the answers follow the last `Assistant:`."""
    sides = [_transcript(_field(row, name, where), where, name) for name in ("chosen", "rejected")]
    for side, name in zip(sides, ("chosen", "rejected"), strict=True):
        if side[-1].role != "assistant":
            raise Useless(f"the {name} transcript ends with the human's turn, not with the assistant")
        _answer_of(side[-1], where, name)
    if sides[0][:-1] != sides[1][:-1]:
        raise Useless("the two transcripts have different prompts")
    if sides[0][0].role != "user":
        raise DataError(f"{where}: the transcript begins with the assistant, so the first turn answers nothing")
    return _pair(row, sides[0][:-1], [side[-1:] for side in sides], where)


def _transcript(text: Any, where: str, name: str) -> tuple[Message, ...]:
    if not isinstance(text, str) or not TURN.match(text):
        raise DataError(f"{where}: the {name} side is not a transcript that begins with '\\n\\nHuman:'")
    turns(text, where, f"{name} side")  # refuses half characters
    parts = TURN.split(text)[1:]
    spoken = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message(SPEAKERS[speaker], content.strip()) for speaker, content in spoken)


def _ranked(row: Row, where: str) -> Group:
    """`prompt` and `completions`: texts, or objects with text and score (or rank, the lowest being the best)."""
    prompt = conversation(_field(row, "prompt", where), where, "prompt")
    given = _listed(_field(row, "completions", where))
    if not isinstance(given, list):
        raise DataError(f"{where}: 'completions' must be a list, or a list as JSON in a text, not {str(given)[:40]!r}")
    if not given:
        raise DataError(f"{where}: 'completions' is empty: K = 0 answers to this prompt")
    answers, scores = [], []
    for c in given:
        if isinstance(c, Mapping):
            text = c.get("text", c.get("content", c.get("messages")))
            model = c.get("model")
            answers.append(Completion(_answer(text, where, "completion"), model if isinstance(model, str) else None))
            scores.append(_score_of(c, where))
        else:
            answers.append(Completion(_answer(c, where, "completion")))
    column = _listed(row.get("scores"))
    if isinstance(column, list) and column:
        if any(x is not None for x in scores) and scores != column:
            raise DataError(f"{where}: 'scores' and the completions' own scores differ; keep one of them")
        scores = list(column)
    known = [x for x in scores if x is not None]
    if known and (len(known) != len(scores) or len(scores) != len(answers)):
        raise DataError(f"{where}: {len(answers)} completions but {len(known)} scores or ranks")
    if any(isinstance(x, bool) or not isinstance(x, (int, float)) or not trainable(x) for x in known):
        raise DataError(f"{where}: a score is no number, or beyond {LARGEST:g}")
    feedback: Feedback = Scores(tuple(map(float, known))) if known else Unjudged()
    return Group(prompt, tuple(answers), feedback, where=where)


def _listed(value: Any) -> Any:
    """A list that a column holds as JSON in a text, as CSV must; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    inside = parsed(value.encode("utf-8", "surrogatepass"), "")
    return value if isinstance(inside, Fault) else inside


def _score_of(completion: Row, where: str) -> Any:
    """The score, higher is better; or minus the rank, 0 or 1 being the best (ranks must not be negative)."""
    if "score" in completion or "rank" not in completion:
        return completion.get("score")
    rank = completion["rank"]
    if isinstance(rank, bool) or not isinstance(rank, (int, float)):
        return rank
    if rank < 0:
        raise DataError(f"{where}: a rank of {rank}; ranks count from 0 or 1, the best, upwards: or is it a 'score'?")
    return -rank


def _unpaired(row: Row, where: str) -> Group:
    """One answer and a yes or no: `prompt`, `completion` and `label`, or `messages` that end with it, and `label`."""
    label = flag(row.get("label"))
    if label is None:
        raise DataError(f"{where}: 'label' must be true or false, not {str(row.get('label'))[:40]!r}")
    return replace(_sft(row, where), feedback=Labels((label,)))


def _sft(row: Row, where: str) -> Group:
    """One answer to imitate: `prompt` and `completion`, or `messages` that end with the answer."""
    if "messages" in row:
        whole = conversation(row["messages"], where, "conversation")
        if isinstance(whole, str) or whole[-1].role != "assistant" or len(whole) < 2:
            raise DataError(f"{where}: 'messages' must end with the assistant's answer to a prompt")
        return Group(whole[:-1], (Completion(_answer_of(whole[-1], where, "given")),), where=where)
    prompt = conversation(_field(row, "prompt", where), where, "prompt")
    return Group(prompt, (Completion(_answer(_field(row, "completion", where), where, "completion")),), where=where)


def _corrections(row: Row, where: str) -> Group:
    """How an answer should have been: `prompt`, `better`, and `worse` where the answer that was given is known."""
    prompt = conversation(_field(row, "prompt", where), where, "prompt")
    better = _answer(_field(row, "better", where), where, "better")
    if row.get("worse") is None:
        return Group(prompt, (Completion(better),), where=where)
    worse = _answer(row["worse"], where, "worse")
    if isinstance(better, str) != isinstance(worse, str):
        raise DataError(f"{where}: better and worse are not written the same way: give both as text, or as messages")
    if better == worse:
        raise Useless("better equals worse")
    return Group(prompt, (Completion(better), Completion(worse)), Preferences(((0, 1, 1.0),)), where=where)


def _burnish(row: Row, where: str) -> Group:
    """burnish's record; empty answers make the row useless, as in every format."""
    if "completions" not in row and isinstance(row.get("group_json"), str):  # a Parquet file that `convert` wrote
        row = parsed(row["group_json"].encode(), where)
        if isinstance(row, Fault):
            raise DataError(row.message)
    group = from_json(row, where)
    prompt = conversation(row.get("prompt"), where, "prompt")
    answers = [_answer(completion["messages"], where, "completion") for completion in row["completions"]]
    completions = tuple(replace(c, messages=a) for c, a in zip(group.completions, answers, strict=True))
    return replace(group, prompt=prompt, completions=completions, tools=tools_of(row.get("tools"), where), where=where)


SHAPES: dict[str, Callable[[Row, str], Group]] = {
    "burnish": _burnish,
    "pairs": _pairs,
    "hh": _hh,
    "ranked": _ranked,
    "unpaired": _unpaired,
    "sft": _sft,
    "corrections": _corrections,
}


def _is_hh(row: Row) -> bool:
    sides = [row.get("chosen"), row.get("rejected")]
    return "prompt" not in row and all(isinstance(x, str) for x in sides) and any(TURN.match(str(x)) for x in sides)


def _is_burnish(row: Row) -> bool:
    completions = row.get("completions")
    first = completions[0] if isinstance(completions, list) and completions else None
    prompt_alone = completions == [] and "unjudged" in row  # as `convert` writes a prompt without answers
    return prompt_alone or (isinstance(first, Mapping) and "messages" in first) or "group_json" in row


def _is_ranked(row: Row) -> bool:
    return "prompt" in row and "completions" in row and not _is_burnish(row) and not isinstance(row.get("labels"), list)


RECOGNISED: dict[str, Callable[[Row], bool]] = {
    "burnish": _is_burnish,
    "pairs": lambda row: {"chosen", "rejected"} <= set(row) and not _is_hh(row) and "conversations" not in row
    and "instruction" not in row,
    "hh": _is_hh,
    "ranked": _is_ranked,
    "unpaired": lambda row: "label" in row and ({"prompt", "completion"} <= set(row) or "messages" in row),
    "sft": lambda row: ("messages" in row and not {"chosen", "label"} & set(row))
    or ({"prompt", "completion"} <= set(row) and not {"label", "baseline_completion"} & set(row)),
    "corrections": lambda row: {"prompt", "better"} <= set(row),
}  # fmt: skip
