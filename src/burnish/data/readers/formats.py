"""The formats of single projects: a short function for each, and the rule that recognises its rows by their columns.

Scored and ranked answers are read in this module, two answers with a vote in `votes`, LLaMA-Factory's files in
`factory`. The other columns of a row (annotator, category, strength, ...) go to the group's meta.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from burnish.data.readers.columns import Formats, about, absent, number, number_of, plain, text_of
from burnish.data.readers.factory import FACTORY
from burnish.data.readers.shapes import Row, Useless, _answer, _field, conversation
from burnish.data.readers.votes import VOTES, vote
from burnish.errors import DataError
from burnish.group import Completion, Feedback, Group, Scores, Unjudged

SCORES = ("overall_score", "fine-grained_score")
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
SPOKEN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")  # how HelpSteer 1 and 2 write the turns of a longer prompt
ROLES = {"prompter": "user", "assistant": "assistant"}


def _objects(row: Row, name: str, where: str) -> list[Mapping[str, Any]]:
    """A column that is a list of at least one object."""
    items = _field(row, name, where)
    if not isinstance(items, list) or not items or not all(isinstance(item, Mapping) for item in items):
        raise DataError(f"{where}: '{name}' must be a list of at least one object")
    return items


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# ----------------------------------------------------------------------------------------------- UltraFeedback


def _is_ultrafeedback(row: Row) -> bool:
    return {"instruction", "completions"} <= set(row) and "prompt" not in row


def _ultrafeedback(row: Row, where: str) -> Group:
    """`instruction`, `completions: [{model, response, overall_score, fine-grained_score, annotations}]` (OpenBMB).

    The scores are the first of overall_score, fine-grained_score, mean rating that every completion has;
    `meta.scored_by` names it. Ratings are kept in each completion's meta; the judge's essays, several times as long
    as the answers, are not.
    """
    if row.get("completions") == []:  # the published file has a few
        raise Useless("no completions")
    answers = []
    kinds: dict[str, list[float | None]] = {name: [] for name in (*SCORES, "mean rating")}
    for c in _objects(row, "completions", where):
        text = _answer(c.get("response"), where, "completion")
        scores = {name: number_of(c, name, where) for name in SCORES if c.get(name) is not None}
        ratings = _ratings(c.get("annotations"))
        known = [rating for rating in ratings.values() if rating is not None]
        for name in SCORES:
            kinds[name].append(scores.get(name))
        kinds["mean rating"].append(sum(known) / len(known) if known and len(known) == len(ratings) else None)
        meta = {**scores, **({"ratings": ratings} if ratings else {})}
        meta |= {"principle": plain(c["principle"])} if not absent(c.get("principle")) else {}
        answers.append(Completion(text, _name(c.get("model")), meta))
    prompt = conversation(text_of(row, "instruction", where), where, "prompt")
    feedback: Feedback = Unjudged("no kind of score is given for every completion")
    meta = {}
    for name, values in kinds.items():
        complete = tuple(value for value in values if value is not None)
        if len(complete) == len(answers):
            feedback, meta = Scores(complete), {"scored_by": name}
            break
    group = Group(prompt, tuple(answers), feedback, where=where, meta=meta)
    return about(group, row, "instruction", "completions", "models")


def _ratings(annotations: Any) -> dict[str, float | None]:
    """Aspect -> rating, None where the annotator gave no number ("N/A")."""
    if not isinstance(annotations, Mapping):
        return {}
    given = {str(k): v.get("Rating") if isinstance(v, Mapping) else None for k, v in annotations.items()}
    return {name: number(value) for name, value in given.items()}


# --------------------------------------------------------------------------------------------- HelpSteer, NeMo-RL


def _is_helpsteer(row: Row) -> bool:
    ranked = {"context", "completions"} <= set(row) and "prompt" not in row
    compared = {"context", "response1", "response2", "overall_preference"} <= set(row)
    return ranked or compared or {"prompt", "response", "helpfulness"} <= set(row)


def _helpsteer(row: Row, where: str) -> Group:
    """NVIDIA's three forms: answers ranked (NeMo-RL), two compared (HelpSteer3), one rated (HelpSteer 1 and 2)."""
    if "completions" in row:
        return _nemo(row, where)
    return _compared(row, where) if "response1" in row else _rated(row, where)


def _nemo(row: Row, where: str) -> Group:
    """`context` and each `completions[k].completion` are messages; `rank` 0 is the best, so scores are minus ranks."""
    prompt = conversation(_field(row, "context", where), where, "context")
    answers, scores = [], []
    for c in _objects(row, "completions", where):
        answer = _answer(_field(c, "completion", where), where, "completion")
        if not isinstance(answer, str) and answer[0].role != "assistant":
            raise DataError(f"{where}: a completion begins with a turn of the role {answer[0].role}, not assistant")
        scores.append(-_rank(c, where))
        answers.append(Completion(answer, _name(c.get("model"))))
    return about(Group(prompt, tuple(answers), Scores(tuple(scores)), where=where), row, "context", "completions")


def _rank(item: Row, where: str) -> float:
    rank = number_of(item, "rank", where)
    if rank < 0:
        raise DataError(f"{where}: a rank of {rank:g}; ranks count from the best upwards: or is it a score?")
    return rank


def _compared(row: Row, where: str) -> Group:
    """`overall_preference` from -3 (response1 much better) to 3 (response2); its strength is its size, of 3."""
    degree = number_of(row, "overall_preference", where)
    if degree not in range(-3, 4):
        raise DataError(f"{where}: 'overall_preference' is {degree:g}, not a whole number from -3 to 3")
    if degree == 0:
        raise Useless("a tie")
    prompt = conversation(_field(row, "context", where), where, "context")
    sides = (text_of(row, "response1", where), text_of(row, "response2", where))
    group = vote(prompt, sides, (row.get("model1"), row.get("model2")), int(degree > 0), where)
    group = replace(group, meta={"strength": abs(degree) / 3})
    return about(group, row, "context", "response1", "response2", "model1", "model2")


def _rated(row: Row, where: str) -> Group:
    """One answer with five ratings; helpfulness is the score, and all of them are in the completion's meta."""
    parts = SPOKEN.split(text_of(row, "prompt", where))
    spoken = [{"role": "user", "content": parts[0]}]
    for speaker, text in zip(parts[1::2], parts[2::2], strict=True):
        spoken.append({"role": speaker.lower(), "content": text})
    if spoken[-1]["role"] != "user":
        raise DataError(f"{where}: the prompt ends with the assistant's own turn, so the response answers nothing")
    ratings = {name: number_of(row, name, where) for name in ATTRIBUTES if row.get(name) is not None}
    score = number_of(row, "helpfulness", where)
    answer = _answer(text_of(row, "response", where), where, "completion")
    prompt = conversation(parts[0] if len(spoken) == 1 else spoken, where, "prompt")
    group = Group(prompt, (Completion(answer, _name(row.get("model")), ratings),), Scores((score,)), where=where)
    return about(group, row, "prompt", "response", "model", *ATTRIBUTES)


# --------------------------------------------------------------------------------------------- Open Assistant's trees


def _is_oasst(row: Row) -> bool:
    root = row.get("prompt")
    return isinstance(root, Mapping) and {"text", "role"} <= set(root) and "chosen" not in row


def _oasst(row: Row, where: str) -> list[Group]:
    """A message tree: `prompt: {text, role: prompter, replies: [{text, role: assistant, rank, replies}, ...]}`.

    Every prompter's message with two or more ranked answers is a group; rank 0 is the best, so the score is its minus.
    Unranked and empty answers, and those deleted or rejected in review, are left out and counted in `meta.left_out`;
    nothing that follows a deleted message is used.
    """
    groups: list[Group] = []
    waiting: deque[tuple[Any, list[dict[str, Any]]]] = deque([(_field(row, "prompt", where), [])])
    while waiting:
        node, before = waiting.popleft()
        replies = node.get("replies") if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or not isinstance(replies or [], list):
            raise DataError(f"{where}: a message of the tree is no object with text, role and a list of replies")
        if _gone(node):
            continue
        role = ROLES.get(str(node.get("role")))
        if role is None:
            role = str(node.get("role"))[:40]
            raise DataError(f"{where}: a message of the tree has the role {role!r}, neither prompter nor assistant")
        path = [*before, {"role": role, "content": text_of(node, "text", where)}]
        waiting.extend((reply, path) for reply in replies or [])
        group = _ranking(path, replies or [], where) if role == "user" else None
        if group is not None:
            named = replace(group, id=_name(node.get("message_id")) or "")
            groups.append(about(named, {**row, "lang": node.get("lang")}, "prompt"))
    if not groups:
        raise Useless("a tree without two ranked answers to one prompt")
    return groups


def _gone(message: Mapping[str, Any]) -> bool:
    return bool(message.get("deleted")) or message.get("review_result") is False


def _ranking(path: list[dict[str, Any]], replies: list[Any], where: str) -> Group | None:
    answers, scores = [], []
    for reply in replies:
        whole = isinstance(reply, Mapping) and reply.get("role") == "assistant" and reply.get("rank") is not None
        if not whole or _gone(reply):
            continue
        try:
            answer = _answer(text_of(reply, "text", where), where, "completion")
        except Useless:
            continue
        meta = {k: plain(reply[k]) for k in ("message_id", "synthetic", "labels") if not absent(reply.get(k))}
        answers.append(Completion(answer, _name(reply.get("model_name")), meta))
        scores.append(-_rank(reply, where))
    if len(answers) < 2:
        return None
    meta = {"left_out": len(replies) - len(answers)} if len(replies) > len(answers) else {}
    prompt = conversation(path, where, "prompt")
    return Group(prompt, tuple(answers), Scores(tuple(scores)), where=where, meta=meta)


# ------------------------------------------------------------------------------------------------ judged step by step


def _is_stepwise(row: Row) -> bool:
    steps, labels = row.get("completions"), row.get("labels")
    texts = isinstance(steps, list) and all(isinstance(step, str) for step in steps)
    return "prompt" in row and texts and isinstance(labels, list)


def _stepwise(row: Row, where: str) -> Group:
    """TRL's stepwise supervision: `completions` are the steps of one answer, `labels` judge them one by one."""
    raise DataError(
        f"{where}: the labels judge the steps of one answer, and a preference is about whole answers; give each whole "
        "answer one label (prompt, completion, label), or scores to several (prompt, completions, scores)"
    )


FORMATS: Formats = {
    **FACTORY,
    "ultrafeedback": (_is_ultrafeedback, _ultrafeedback),
    "helpsteer": (_is_helpsteer, _helpsteer),
    "oasst": (_is_oasst, _oasst),
    "stepwise": (_is_stepwise, _stepwise),
    **VOTES,
}
