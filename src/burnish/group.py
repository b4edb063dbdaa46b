"""The one record of burnish: a prompt, K completions, and some feedback on them.

K=1 with a yes/no label is KTO's record, K=2 with one preference is a DPO pair, K=n with scores is a ranked list or
an on-policy group. Chosen and rejected are indices into `completions`, never prefixes of names. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from burnish.errors import DataError

LARGEST = 1e15  # of scores, margins and weights: their squares, summed over a step, stay within float32


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. Example: `Message("user", "What is 7+5?")`."""

    role: str  # system, user, assistant, tool, ...
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)  # tool_calls, name, ... passed to the chat template


Turns = str | tuple[Message, ...]  # plain text, or a conversation


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. Example: `Completion((Message("assistant", "12"),), model="llama-3-8b")`."""

    messages: Turns  # plain text, or the turns of the assistant (and its tools) that follow the prompt
    model: str | None = None  # who wrote it, where known
    meta: Mapping[str, Any] = field(default_factory=dict)  # what else the data says of it


@dataclass(frozen=True, slots=True)
class Scores:
    """One number per completion, higher is better. Example: `Scores((0.7, -1.2))`.

    `parts` are the numbers that a mixture of judges added up, by judge:
    `{"ifeval": (1.0, 0.0), "length": (0.2, 0.9)}`.
    """

    values: tuple[float, ...]
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Labels:
    """One yes/no per completion, desirable or not. Example: `Labels((True, False))`."""

    values: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Preferences:
    """Which completions are better than which. Example: `Preferences(((1, 0, 1.0),))`, the second beats the first."""

    triples: tuple[tuple[int, int, float], ...]  # (winner, loser, weight) by index; weight 1.0 is a plain vote
    margins: tuple[float, ...] = ()  # by how much each winner is better, in the data's scores; () where unknown


@dataclass(frozen=True, slots=True)
class Unjudged:
    """No feedback, and why. A failed judge gives this, never a zero. Example: `Unjudged("the judge timed out")`."""

    reason: str = "no feedback in the data"


Feedback = Scores | Labels | Preferences | Unjudged


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt, its K completions, and the feedback on them.

    Example: `Group("2+2=", (Completion(" 4"), Completion(" 5")), Preferences(((0, 1, 1.0),)), where="sums.jsonl:1")`.
    """

    prompt: Turns
    completions: tuple[Completion, ...]
    feedback: Feedback = field(default_factory=Unjudged)
    id: str = ""
    source: str = ""  # name of the data set, for per-source figures
    where: str = ""  # `file:row` for error messages; not written by `to_json`
    tools: tuple[Mapping[str, Any], ...] = ()  # that the chat template shows to the model
    meta: Mapping[str, Any] = field(default_factory=dict)  # what else the row says; verifiers check against it


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is known of a group's completions because the policy has sampled them itself.

    Rows are completions, columns tokens; log-probs are in nats. Example, of two completions of 3 tokens and 1 token:

        Rollout(version=40, behavior=((-0.1, -2.3, -0.4), (-1.7,)), policy=((-0.1, -2.2, -0.4), (-1.7,)),
                reference=((-0.2, -1.9, -0.4), (-2.0,)), advantages={"rloo": ((0.5, 0.5, 0.5), (-0.5,))}, limit=256)
    """

    version: int  # optimiser steps that the policy had behind it
    behavior: tuple[tuple[float, ...], ...]  # log-probs as sampled, after temperature and truncation
    policy: tuple[tuple[float, ...], ...] = ()  # log-probs of the same policy as the trainer computes them
    reference: tuple[tuple[float, ...], ...] = ()  # log-probs of the reference
    values: tuple[tuple[float, ...], ...] = ()  # a value head's, of the state in which each token was chosen
    advantages: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)  # by name of the objective
    returns: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)  # what a value head learns
    limit: int = 0  # the most tokens that a completion could have had


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """A group in token space, as `render.Renderer.encode` makes it.

    Example, where token 2 ends a turn and the second completion was cut:

        EncodedGroup("sums-1", prompt_ids=(1, 9, 412, 3), completion_ids=((88, 2), (91, 17, 5)), ended=(True, False),
                     feedback=Preferences(((0, 1, 1.0),)), source="sums", where="sums.jsonl:1")
    """

    id: str
    prompt_ids: tuple[int, ...]  # end where generation would begin
    completion_ids: tuple[tuple[int, ...], ...]  # what generation would have produced, end-of-turn token included
    ended: tuple[bool, ...]  # False where the text was cut, or where no end-of-turn token exists
    feedback: Feedback
    source: str = ""  # name of the data set
    where: str = ""  # `file:row` for error messages
    rollout: Rollout | None = field(default=None, repr=False)  # of fresh answers; None for those of a data set


def trainable(value: float | int) -> bool:
    """Whether a score or a margin is a number that a loss can be computed from: finite, and at most 1e15 in size."""
    return abs(value) <= LARGEST


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
    row: dict[str, Any] = {"prompt": turns_to_json(group.prompt)}
    row["completions"] = [
        {
            "messages": turns_to_json(c.messages),
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
    messages = []
    for message in value:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise DataError(f"{where}: a message of the {what} has no role")
        content = message.get("content")
        if content is None and (message.get("tool_calls") or message.get("function_call")):
            content = ""
        if not isinstance(content, str):
            raise DataError(f"{where}: a message of the {what} has no text as its content")
        extra = {k: v for k, v in message.items() if k not in ("role", "content") and v is not None}
        messages.append(Message(message["role"], _sound(content, where, what), extra))
    return tuple(messages)


def _sound(text: str, where: str, what: str) -> str:
    """The text. Raises DataError where it cannot be encoded: JSON lets half a surrogate pair through, UTF-8 not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: the {what} holds a lone surrogate, half a character; mend the row") from None
    return text


def turns_to_json(value: Turns) -> Any:
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
            if len(scores) != count or not all(map(trainable, scores)):
                raise DataError(f"{where}: {len(scores)} scores for {count} completions, or one is beyond {LARGEST:g}")
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
                if not sound or not 0 < weight <= LARGEST:
                    raise DataError(f"{where}: preference {[winner, loser, weight]} does not fit {count} completions")
            margins = tuple(float(x) for x in row.get("margins", ()))
            if margins and (len(margins) != len(triples) or not all(map(trainable, margins))):
                raise DataError(
                    f"{where}: {len(margins)} margins for {len(triples)} preferences, or one is beyond {LARGEST:g}"
                )
            return Preferences(triples, margins)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: '{given[0]}' cannot be read: {error}") from None
    return Unjudged(str(row.get("unjudged", Unjudged().reason)))


def encoded_to_json(group: EncodedGroup) -> dict[str, Any]:
    """A group in token space with all that is known of it; `encoded_from_json` reads it back equal."""
    row = asdict(replace(group, feedback=Unjudged()))
    return {**row, "feedback": [type(group.feedback).__name__, asdict(group.feedback)]}


def encoded_from_json(row: Mapping[str, Any]) -> EncodedGroup:
    """The group that `encoded_to_json` wrote."""
    kind, values = row["feedback"]
    kinds: dict[str, Any] = {cls.__name__: cls for cls in (Scores, Labels, Preferences, Unjudged)}
    feedback = kinds[kind](**{name: _tuples(value) for name, value in values.items()})
    rollout = None if row["rollout"] is None else Rollout(**{k: _tuples(v) for k, v in row["rollout"].items()})
    rest = {k: _tuples(v) for k, v in row.items() if k not in ("feedback", "rollout")}
    return EncodedGroup(**rest, feedback=feedback, rollout=rollout)


def _tuples(value: Any) -> Any:
    """A value of JSON with tuples for its lists."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return {key: _tuples(item) for key, item in value.items()} if isinstance(value, dict) else value
