"""The records of a run: one frozen class for each kind of line in `log.jsonl`, and the codec between the two.

A line is one flat JSON object: `"record"` (the kind), `"time"`, the record's fields, and its `metrics`, each under its
own name; no metric may be called as a field is. A field that is None is left out. JSON has no infinities and no NaN:
they are written as the strings "inf", "-inf" and "nan".

To add a kind: write its class with `@kind("name")` above it. Readers of older and of newer logs see what they know:
a kind that is not known here is passed over; a number that is no field joins `metrics` where the kind has them, and
any other unknown field is dropped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, get_type_hints

NOT_FINITE = ("nan", "inf", "-inf")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every record has. Two records are equal when all but their times are."""

    kind: ClassVar[str] = ""
    real: ClassVar[Mapping[str, bool]] = {}  # the fields but for `metrics`, and whether each is a real number
    required: ClassVar[tuple[str, ...]] = ()  # the fields without a default

    time: float = field(default=0.0, compare=False)
    """Seconds since 1970 when it was written, to the millisecond; the log sets it."""


R = TypeVar("R", bound=Record)
KINDS: dict[str, type[Record]] = {}
FORMER_KINDS = {"fresh": "refresh"}  # what older logs call it, what it is called now


def kind(name: str) -> Callable[[type[R]], type[R]]:
    """The kind of record that a class holds, as `"record"` names it in the file."""

    def register(record: type[R]) -> type[R]:
        hints, fields, missing = get_type_hints(record), dataclasses.fields(record), dataclasses.MISSING
        record.kind = name
        record.real = {f.name: hints[f.name] in (float, float | None) for f in fields if f.name != "metrics"}
        record.required = tuple(f.name for f in fields if f.default is missing and f.default_factory is missing)
        KINDS[name] = record
        return record

    return register


@kind("run")
@dataclass(frozen=True, kw_only=True)
class RunRecord(Record):
    """A run's start; a resumed run has one more for each time it was taken up.

    Example: RunRecord(objective="dpo", steps=200, first_step=0, notes=("train: pairs.jsonl: 3607 groups",))
    """

    objective: str
    """The objective, or the mixture of several with their weights: "dpo + 0.2 sft"."""
    steps: int
    """Optimiser steps that the run is to make in all."""
    first_step: int
    """Steps already done when it was taken up; 0 for a new run."""
    notes: tuple[str, ...] = ()
    """The sentences about data and settings that were printed before the first step."""


@kind("reference")
@dataclass(frozen=True, kw_only=True)
class ReferenceRecord(Record):
    """Where the stored log-probs of the reference came from.

    Example: ReferenceRecord(weights="5f0c9e...", computed=3607, stored=0, seconds=4.7)
    """

    weights: str
    """Digest of the reference's weights."""
    computed: int
    """Groups computed before this run's first step."""
    stored: int
    """Groups taken from the store, where an earlier run left them."""
    seconds: float
    """Wall time of the computation."""


@kind("step")
@dataclass(frozen=True, kw_only=True)
class StepRecord(Record):
    """An optimiser step. Values are exact means over the whole step.

    Example: StepRecord(step=1, loss=0.6931, lr=2e-6, grad_norm=4.1, tokens=5120, seconds=0.41, groups=64,
    metrics={"logratio/chosen": 0.0, "rewards/accuracies": 0.5})
    """

    step: int
    """Optimiser steps done, this one among them: the first is 1."""
    loss: float
    """Sum of the losses over the number of units of the step; 0 where there was no group to learn from."""
    lr: float | None = None
    """The learning rate of this step; None where there was no group to learn from."""
    grad_norm: float | None = None
    """The gradient's norm before clipping; None where there was no group to learn from."""
    tokens: int = 0
    """Input tokens computed; a prompt that its completions share counts once."""
    seconds: float = 0.0
    """Wall time of the step, of its refresh too where it had one; evaluations and checkpoints are not in it."""
    groups: int | None = None
    """Groups that taught something; None in logs that do not say."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The objective's metrics, and `imbalance`, `staleness`, `seconds/training` where they apply: docs/metrics.md."""


@kind("completion")
@dataclass(frozen=True, kw_only=True)
class CompletionRecord(Record):
    """A completion that a step learned from: what next month's diagnostics are drawn from.

    Example: CompletionRecord(step=1, group="row-17", index=0, length=42, logp=-61.4, reference_logp=-61.4, reward=0.0)
    """

    step: int
    """The step that it was part of."""
    group: str
    """The id of its group."""
    index: int
    """Its place among the group's completions, from 0."""
    length: int
    """Its tokens, end-of-turn included."""
    logp: float | None = None
    """Sum of the policy's log-probs over its tokens, nats, before the step; None for a reward model."""
    reference_logp: float | None = None
    """The same of the reference; None where there is none."""
    reward: float | None = None
    """The reward inside the loss; None where the objective has none."""


@kind("eval")
@dataclass(frozen=True, kw_only=True)
class EvalRecord(Record):
    """The objective on the held-out groups.

    Example: EvalRecord(step=200, loss=0.6188, groups=455, metrics={"rewards/accuracies": 0.664})
    """

    step: int
    """Steps done when it was evaluated."""
    loss: float
    """The mean loss, by the objective's unit."""
    groups: int
    """Held-out groups."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The objective's metrics, as in a step."""


@kind("refresh")
@dataclass(frozen=True, kw_only=True)
class RefreshRecord(Record):
    """A refresh: the policy answered prompts, and the answers were judged and measured.

    Example: RefreshRecord(step=1, metrics={"answers": 96.0, "length": 5.4, "reward": 0.71, "kl/answer": 0.0})
    """

    step: int
    """The step that was the first to learn from the answers."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What the answers were like; docs/dial.md has a line for each."""


@kind("alarm")
@dataclass(frozen=True, kw_only=True)
class AlarmRecord(Record):
    """An alarm that rang at a refresh.

    Example: AlarmRecord(step=60, name="kl", text="the policy is 21 nats an answer from its reference, above ...")
    """

    step: int
    """The step of the refresh."""
    name: str
    """Its name, as in `stop.when`."""
    text: str
    """The sentence that the user saw."""


@kind("stopped")
@dataclass(frozen=True, kw_only=True)
class StoppedRecord(Record):
    """An alarm ended the run before its last step.

    Example: StoppedRecord(step=80, alarm="kl", best=60)
    """

    step: int
    """Steps done."""
    alarm: str
    """The alarm's name."""
    best: int
    """The step after which the weights were as they are kept."""


@kind("note")
@dataclass(frozen=True, kw_only=True)
class NoteRecord(Record):
    """What happened on the way: memory that ran out, a tracker that failed.

    Example: NoteRecord(step=3, text="out of memory", token_budget=4096)
    """

    text: str
    """What happened, in words."""
    step: int | None = None
    """The step in which it happened; None for what belongs to none."""
    token_budget: int | None = None
    """The token budget that the step was done again with."""
    tracker: str | None = None
    """The tracker that it is about."""
    lost: int | None = None
    """Records that did not reach the tracker."""


@kind("end")
@dataclass(frozen=True, kw_only=True)
class EndRecord(Record):
    """The run is finished and its model is written.

    Example: EndRecord(step=200)
    """

    step: int
    """Steps that the run was to make."""


def to_row(record: Record) -> dict[str, Any]:
    """The record as the line of the file holds it."""
    values = {name: getattr(record, name) for name in record.real}
    given = {name: value for name, value in values.items() if value is not None}
    row = {"record": record.kind, **given, **getattr(record, "metrics", {})}
    return {name: _plain(value) for name, value in row.items()}


def class_of(row: Mapping[str, Any]) -> type[Record] | None:
    """The class for a line's kind, by its present or its former name; None for a kind that is not known here."""
    return KINDS.get(FORMER_KINDS.get(row["record"], row["record"]))


def from_row(row: Mapping[str, Any], record: type[R]) -> R:
    """The record of a line. Raises ValueError where a field is missing that every version has written."""
    missing = [name for name in record.required if name not in row]
    if missing:
        raise ValueError(f"a record '{row['record']}' without '{missing[0]}'")
    values = {name: _typed(row[name], real) for name, real in record.real.items() if row.get(name) is not None}
    if "metrics" in record.__dataclass_fields__:
        others = {name: value for name, value in row.items() if name not in record.real}
        values["metrics"] = {name: float(value) for name, value in others.items() if is_number(value)}
    return record(**values)


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record by their names in the file, but for `time` and `step`."""
    row = {name: value for name, value in to_row(record).items() if name not in ("record", "time", "step")}
    return {name: float(value) for name, value in row.items() if is_number(value)}


def is_number(value: Any) -> bool:
    """Whether a value of a line is a number, or one of the strings that stand for those that are not finite."""
    if isinstance(value, str):
        return value in NOT_FINITE
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _typed(value: Any, real: bool) -> Any:
    if real:
        return float(value)
    return tuple(value) if isinstance(value, list) else value
