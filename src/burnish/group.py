"""The one record of burnish: a prompt, K completions, and some feedback on them.

K=1 with a yes/no label is KTO's record, K=2 with one preference is a DPO pair, K=n with scores is a ranked list or
an on-policy group. Chosen and rejected are indices into `completions`, never prefixes of names. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from burnish.errors import DataError


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, e.g. `Message("user", "What is 7+5?")`."""

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)  # tool_calls, name, ... passed to the chat template


Turns = str | tuple[Message, ...]  # plain text, or a conversation


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `messages` is a string (plain text) or the assistant's (and tools') turns that follow the prompt."""

    messages: Turns
    model: str | None = None  # who wrote it, where known
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scores:
    """One number per completion, higher is better. `parts` are the numbers that a mixture of judges added up, by judge:
    `{"ifeval": (1.0, 0.0), "length": (0.2, 0.9)}`."""

    values: tuple[float, ...]
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Labels:
    """One yes/no per completion: desirable or not."""

    values: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Preferences:
    """`(winner, loser, weight)` triples of completion indices; weight 1.0 is a plain vote.

    `margins` says of each triple by how much the winner is better, in units of the data's scores; () where unknown.
    """

    triples: tuple[tuple[int, int, float], ...]
    margins: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Unjudged:
    """No feedback, and why; a judge that fails gives this, never a zero."""

    reason: str = "no feedback in the data"


Feedback = Scores | Labels | Preferences | Unjudged


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt (plain text or messages), its K completions, and the feedback on them.

    `where` is `file:row` for error messages; it takes no part in the content hash.
    """

    prompt: Turns
    completions: tuple[Completion, ...]
    feedback: Feedback = field(default_factory=Unjudged)
    id: str = ""
    source: str = ""  # name of the data set, for per-source figures
    where: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is known of a group's answers because the policy has just given them; by answer, nats a token.

    `version` is the number of optimiser steps the policy had behind it; `behavior` the log-probs as sampled (after
    temperature and truncation), `policy` the same tokens as the trainer computes them at that moment, `reference` the
    reference's. `advantages` and `returns` are by objective, for those that take credit from rewards; `limit` is the
    most tokens an answer could have had.
    """

    version: int
    behavior: tuple[tuple[float, ...], ...]
    policy: tuple[tuple[float, ...], ...] = ()
    reference: tuple[tuple[float, ...], ...] = ()
    values: tuple[tuple[float, ...], ...] = ()
    advantages: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    returns: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    limit: int = 0


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """A group in token space, as `render.Renderer.encode` makes it.

    `prompt_ids` ends where generation would begin; each of `completion_ids` is what generation would have produced,
    end-of-turn token included (`ended[k]` is False where the text was cut or no end-of-turn token exists).
    """

    id: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[tuple[int, ...], ...]
    ended: tuple[bool, ...]
    feedback: Feedback
    source: str = ""
    where: str = ""
    rollout: Rollout | None = field(default=None, repr=False)  # of fresh answers


def contents(turns: Turns) -> list[str]:
    """The content of each turn; of plain text, that text alone."""
    return [turns] if isinstance(turns, str) else [message.content for message in turns]


def whole_text(turns: Turns) -> str:
    """The contents of all turns, joined by newlines: what audits and lengths are taken of."""
    return "\n".join(contents(turns))


def last_text(turns: Turns) -> str:
    """The content of the last turn: what an answer says in the end, and what a prompt asks in the end."""
    return contents(turns)[-1] if turns else ""


def transcript(turns: Turns, between: str = "\n\n") -> str:
    """All turns as one text for people and judges, each with its role in front: `user: What is 7+5?`."""
    return turns if isinstance(turns, str) else between.join(f"{message.role}: {message.content}" for message in turns)


def to_json(group: Group) -> dict[str, Any]:
    """The group as burnish's JSONL holds it; `from_json` reads it back equal (but for `where`)."""
    row: dict[str, Any] = {"prompt": _turns_to_json(group.prompt)}
    row["completions"] = [
        {
            "messages": _turns_to_json(c.messages),
            **({"model": c.model} if c.model else {}),
            **({"meta": dict(c.meta)} if c.meta else {}),
        }
        for c in group.completions
    ]
    if isinstance(group.feedback, Scores):
        row["scores"] = list(group.feedback.values)
        if group.feedback.parts:
            row["parts"] = {name: list(values) for name, values in group.feedback.parts.items()}
    elif isinstance(group.feedback, Labels):
        row["labels"] = list(group.feedback.values)
    elif isinstance(group.feedback, Preferences):
        row["preferences"] = [list(triple) for triple in group.feedback.triples]
        if group.feedback.margins:
            row["margins"] = list(group.feedback.margins)
    else:
        row["unjudged"] = group.feedback.reason
    extra = {"id": group.id, "source": group.source, "tools": list(group.tools), "meta": dict(group.meta)}
    return {**row, **{name: value for name, value in extra.items() if value}}


def from_json(row: Mapping[str, Any], where: str = "") -> Group:
    """Read one object of burnish's JSONL. Raises DataError naming `where` and what is wrong."""
    completions = row.get("completions")
    if not isinstance(completions, list) or not (completions or "unjudged" in row):
        raise DataError(f"{where}: 'completions' must be a list of at least one")
    answers = []
    for c in completions:
        if not isinstance(c, Mapping) or "messages" not in c:
            raise DataError(f"{where}: each completion is an object with 'messages'")
        if not isinstance(c.get("meta", {}), Mapping) or not isinstance(c.get("model"), (str, type(None))):
            raise DataError(f"{where}: a completion's 'meta' must be an object, and its 'model' a name")
        answers.append(Completion(turns(c["messages"], where, "completion"), c.get("model"), c.get("meta", {})))
    if not isinstance(row.get("meta", {}), Mapping):
        raise DataError(f"{where}: 'meta' must be an object")
    return Group(
        prompt=turns(row.get("prompt"), where, "prompt"),
        completions=tuple(answers),
        feedback=_feedback_from_json(row, len(answers), where),
        id=str(row.get("id", "")),
        source=str(row.get("source", "")),
        where=where,
        tools=tuple(row.get("tools", ())),
        meta=row.get("meta", {}),
    )


def turns(value: Any, where: str, what: str) -> Turns:
    """A string, or a list of `{"role", "content"}` objects. Raises DataError for anything else."""
    if isinstance(value, str):
        return _sound(value, where, what)
    if not isinstance(value, list) or not value:
        kind = "missing" if value is None else f"a {type(value).__name__}" if not isinstance(value, list) else "empty"
        raise DataError(f"{where}: the {what} is {kind}; it must be text or a list of messages")
    found = []
    for message in value:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise DataError(f"{where}: a message of the {what} has no role")
        content = message.get("content")
        if content is None and message.get("tool_calls"):
            content = ""
        if not isinstance(content, str):
            raise DataError(f"{where}: a message of the {what} has no text as its content")
        extra = {k: v for k, v in message.items() if k not in ("role", "content") and v is not None}
        found.append(Message(message["role"], _sound(content, where, what), extra))
    return tuple(found)


def _sound(text: str, where: str, what: str) -> str:
    """The text, if it can be encoded at all. JSON lets half a surrogate pair through; no tokenizer does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: the {what} holds a lone surrogate, half a character; mend the row") from None
    return text


def _turns_to_json(value: Turns) -> Any:
    if isinstance(value, str):
        return value
    return [{"role": m.role, "content": m.content, **m.extra} for m in value]


def _feedback_from_json(row: Mapping[str, Any], count: int, where: str) -> Feedback:
    given = [name for name in ("scores", "labels", "preferences") if name in row]
    if len(given) > 1:
        raise DataError(f"{where}: {' and '.join(given)} are both given; a group has one kind of feedback")
    try:
        if given and not isinstance(row[given[0]], list):
            raise DataError(f"{where}: '{given[0]}' must be a list")
        if given == ["scores"]:
            scores = tuple(float(x) for x in row["scores"])
            if len(scores) != count or not all(map(math.isfinite, scores)):
                raise DataError(f"{where}: {len(scores)} scores for {count} completions, or one is not finite")
            parts = row.get("parts", {})
            if not isinstance(parts, Mapping):
                raise DataError(f"{where}: 'parts' must be an object")
            return Scores(scores, {str(name): tuple(map(float, values)) for name, values in parts.items()})
        if given == ["labels"]:
            labels = tuple(row["labels"])
            if len(labels) != count or not all(isinstance(x, bool) for x in labels):
                raise DataError(f"{where}: labels must be {count} times true or false")
            return Labels(labels)
        if given == ["preferences"]:
            triples = tuple((int(w), int(l), float(x)) for w, l, x in row["preferences"])
            for winner, loser, weight in triples:
                sound = winner != loser and min(winner, loser) >= 0 and max(winner, loser) < count
                if not sound or not math.isfinite(weight) or weight <= 0:
                    raise DataError(f"{where}: preference {[winner, loser, weight]} does not fit {count} completions")
            margins = tuple(float(x) for x in row.get("margins", ()))
            if margins and (len(margins) != len(triples) or not all(map(math.isfinite, margins))):
                raise DataError(f"{where}: {len(margins)} margins for {len(triples)} preferences, or one is not finite")
            return Preferences(triples, margins)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: '{given[0]}' cannot be read: {error}") from None
    return Unjudged(str(row.get("unjudged", Unjudged().reason)))


def content_hash(group: Group) -> str:
    """Hash of what the group says: everything but where it was read from."""
    text = json.dumps(to_json(group), ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def encoded_to_json(group: EncodedGroup) -> dict[str, Any]:
    """A group in token space with all that is known of it; `encoded_from_json` reads it back equal."""
    row = asdict(replace(group, feedback=Unjudged()))
    return {**row, "feedback": [type(group.feedback).__name__, asdict(group.feedback)]}


def encoded_from_json(row: Mapping[str, Any]) -> EncodedGroup:
    """What `encoded_to_json` wrote."""
    kind, values = row["feedback"]
    kinds: dict[str, Any] = {one.__name__: one for one in (Scores, Labels, Preferences, Unjudged)}
    feedback = kinds[kind](**{name: _tuples(value) for name, value in values.items()})
    rollout = None if row["rollout"] is None else Rollout(**{k: _tuples(v) for k, v in row["rollout"].items()})
    rest = {k: _tuples(v) for k, v in row.items() if k not in ("feedback", "rollout")}
    return EncodedGroup(**rest, feedback=feedback, rollout=rollout)


def _tuples(value: Any) -> Any:
    """JSON's lists are our tuples."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return {key: _tuples(one) for key, one in value.items()} if isinstance(value, dict) else value
