"""Rewards of held-out answers by every scorer: reward models, ensembles of them, and policies' implicit rewards.

Each scorer renders the groups with its tokenizer; the results are the records that `reports.rewards` is drawn from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from burnish.answers.judges.ensemble import How, combine, moments
from burnish.config import ModelConfig, Run
from burnish.data import render, tokenizers
from burnish.data.views import pair_view
from burnish.engine import reward_model, scoring, weights
from burnish.engine.candidates import Candidate
from burnish.errors import DataError
from burnish.evals.implicit import frozen_engine, implicit, implicit_scale
from burnish.group import Completion, EncodedGroup, Group, Message, Scores, transcript
from burnish.reports.rewards.probes import PROBES
from burnish.reports.rewards.records import ScoredGroup, ScoredGroups, Scorer

StartStage = Callable[[str], Callable[[int, int], None]]  # a stage's name -> its progress, called with (done, total)


def score(
    groups: Sequence[Group], scorers: Sequence[tuple[str, list[Candidate]]], run: Run, *, stage: StartStage,
    probes: int, hows: Sequence[How], coef: float,
) -> tuple[ScoredGroups, int]:  # fmt: skip
    """(the rewards of every group that fits all scorers, the number of groups that do not fit).

    `scorers` are (name, members), a single member where there is no ensemble; `hows` are the ways to combine members.
    The answers of the first `probes` groups are scored with their form edited, too. Raises ModelError where a scorer
    cannot be loaded, DataError where no group fits.
    """
    candidates = [candidate for _, members in scorers for candidate in members]
    renderers = {candidate.name: _renderer(candidate, run) for candidate in candidates}
    limits = {candidate.name: _limit(candidate, run) for candidate in candidates}
    kept, encoded = _fitting(groups, renderers, limits)
    for candidate in candidates:
        tokenizer, size = renderers[candidate.name].tokenizer, weights.rows(_model(candidate, run))
        tokenizers.refuse_foreign_ids(tokenizer, size, str(candidate.folder), encoded[candidate.name])
    if not kept:
        raise DataError(f"none of the {len(groups)} groups fits every model: all are too long, or empty")
    edits = _edited(kept[:probes])
    rewards: dict[str, list[tuple[float, ...]]] = {}
    probed: dict[str, dict[str, list[tuple[float | None, ...]]]] = {name: {} for name in edits}
    named: list[Scorer] = []
    for name, members in scorers:
        for candidate in members:
            rows = [renderers[candidate.name].encode(group) for edit in edits.values() for group in edit]
            values = _score(candidate, [*encoded[candidate.name], *rows], run, stage(candidate.name))
            rewards[candidate.name] = values[: len(kept)]
            for place, edit in enumerate(edits):
                first = len(kept) + place * len(kept[:probes])
                of_edited = values[first : first + len(kept[:probes])]
                probed[edit][candidate.name] = _edited_rewards(kept, edits[edit], of_edited)
            named.append(_scorer(candidate, run))
        if len(members) > 1:
            named += _combined(name, [candidate.name for candidate in members], rewards, probed, hows, coef)
    lengths = encoded[named[0].name]
    records = [
        _record(group, i, lengths[i], {scorer.name: rewards[scorer.name][i] for scorer in named})
        for i, group in enumerate(kept)
    ]
    return ScoredGroups(tuple(records), tuple(named), probed), len(groups) - len(kept)


def _renderer(candidate: Candidate, run: Run) -> render.Renderer:
    tokenizer = tokenizers.load_tokenizer(str(candidate.folder), trust_remote_code=run.model.trust_remote_code)
    full = candidate.run is None and reward_model.reads_full(str(candidate.folder))
    return render.Renderer.of(run.data, tokenizer, full=full)


def _model(candidate: Candidate, run: Run) -> ModelConfig:
    return run.model.model_copy(update={"path": str(candidate.folder), "dtype": _dtype(run)})


def _limit(candidate: Candidate, run: Run) -> int:
    """The longest prompt + answer, in tokens, that the model's positions and `data.max_length` allow."""
    text = weights.configuration(_model(candidate, run)).get_text_config()
    known = [run.data.max_length, getattr(text, "max_position_embeddings", None)]
    return min((x for x in known if isinstance(x, int) and x > 0), default=1 << 30)


def _fitting(
    groups: Sequence[Group], renderers: Mapping[str, render.Renderer], limits: Mapping[str, int]
) -> tuple[list[Group], dict[str, list[EncodedGroup]]]:
    """(the groups that fit every scorer; scorer -> the same groups in its tokens)."""
    encoded = {name: renderer.encode_many(groups) for name, renderer in renderers.items()}

    def fits(name: str, group: EncodedGroup) -> bool:
        longest = max((len(ids) for ids in group.completion_ids), default=0)
        sound = bool(group.prompt_ids) and all(group.completion_ids)
        return sound and len(group.prompt_ids) + longest <= limits[name]

    good = [i for i in range(len(groups)) if all(fits(name, rows[i]) for name, rows in encoded.items())]
    return [groups[i] for i in good], {name: [rows[i] for i in good] for name, rows in encoded.items()}


def _score(
    candidate: Candidate, groups: list[EncodedGroup], run: Run, advance: Callable[[int, int], None]
) -> list[tuple[float, ...]]:
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        advance(min(done, len(groups)), len(groups))

    source = _model(candidate, run)
    if candidate.run is None:
        engine = frozen_engine(reward_model.open_reward_model(source), run)
        return scoring.rewards(engine, groups, tick)
    return implicit(candidate, source, groups, run, tick)


def _dtype(run: Run) -> str:
    """float32 unless `model.dtype` is set: rewards of two answers may differ by less than bfloat16's rounding."""
    return run.model.dtype if "dtype" in run.model.model_fields_set else "float32"


def _scorer(candidate: Candidate, run: Run) -> Scorer:
    where = weights.origin(_model(candidate, run))
    if candidate.run is None:
        return Scorer(candidate.name, "reward model", str(where))
    row, beta = implicit_scale(candidate.run)
    what = "log-ratio" if "reference" in row.needs else "log-prob"
    unit = " per token" if row.beta_unit == "per token" else ""
    unit += " to the initial reference, which moved in training" if candidate.run.reference.update != "never" else ""
    return Scorer(candidate.name, "implicit", f"{row.name}: {beta:g} x {what}{unit}; {where}", beta)


def _combined(
    name: str, members: list[str], rewards: dict[str, list[tuple[float, ...]]],
    probed: dict[str, dict[str, list[tuple[float | None, ...]]]], hows: Sequence[How], coef: float,
) -> list[Scorer]:  # fmt: skip
    """A scorer for each way to combine the members, which are standardised by their moments over these answers.

    The combined rewards are added to `rewards` and `probed`.
    """
    table = [[x for row in rewards[member] for x in row] for member in members]
    means, sds = moments(table)
    scorers = []
    for how in hows:
        combined = f"{name} ({how})"
        extra = {"coef": coef} if how == "uncertainty" else {}

        def joined(rows: Iterable[Sequence[float]], how: How = how, extra: dict[str, float] = extra) -> list[float]:
            return combine(list(rows), how, means=means, sds=sds, **extra)

        rewards[combined] = [
            tuple(joined(rewards[member][i] for member in members)) for i in range(len(rewards[members[0]]))
        ]
        for by in probed.values():
            by[combined] = [
                _joined_edits([by[member][i] for member in members], joined) for i in range(len(rewards[combined]))
            ]
        scorers.append(Scorer(combined, "ensemble", f"{len(members)} members, {how}", None, tuple(members)))
    return scorers


def _joined_edits(
    rows: list[tuple[float | None, ...]], joined: Callable[[Iterable[Sequence[float]]], list[float]]
) -> tuple[float | None, ...]:
    """The combined rewards of a group's edited answers; None where the edit does not apply to the answer."""
    applies = [k for k, value in enumerate(rows[0]) if value is not None]
    values = joined([[float(row[k] or 0.0) for k in applies] for row in rows]) if applies else []
    place = dict(zip(applies, values, strict=True))
    return tuple(place.get(k) for k in range(len(rows[0])))


def _edited(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Each probe's edit of every answer; an answer that it does not touch stays as it is."""
    return {
        name: [replace(group, completions=tuple(_edit(c, edit) for c in group.completions)) for group in groups]
        for name, edit in PROBES.items()
    }


def _edit(completion: Completion, edit: Callable[[str], str | None]) -> Completion:
    """The answer with its last text edited."""
    if isinstance(completion.messages, str):
        return replace(completion, messages=edit(completion.messages) or completion.messages)
    *before, last = completion.messages
    changed = Message(last.role, edit(last.content) or last.content, last.extra)
    return replace(completion, messages=(*before, changed))


def _edited_rewards(
    groups: Sequence[Group], edited: Sequence[Group], rewards: Sequence[tuple[float, ...]]
) -> list[tuple[float | None, ...]]:
    """Rewards of edited answers; None where the edit changed nothing, and for groups that were not edited."""
    rows: list[tuple[float | None, ...]] = [
        tuple(
            value if new.messages != old.messages else None
            for old, new, value in zip(group.completions, other.completions, row, strict=True)
        )
        for group, other, row in zip(groups, edited, rewards, strict=False)
    ]
    return rows + [(None,) * len(group.completions) for group in groups[len(rows) :]]


def _record(group: Group, index: int, encoded: EncodedGroup, rewards: Mapping[str, tuple[float, ...]]) -> ScoredGroup:
    gold = group.feedback.values if isinstance(group.feedback, Scores) else None
    return ScoredGroup(
        id=group.id or group.where or str(index),
        source=group.source,
        subset=str(group.meta.get("subset", "")),
        prompt=transcript(group.prompt, "\n"),
        answers=tuple(transcript(c.messages, "\n") for c in group.completions),
        lengths=tuple(len(ids) for ids in encoded.completion_ids),
        pairs=pair_view(encoded, "all"),
        gold=gold,
        rewards=rewards,
    )


def chosen_gold(groups: Iterable[Group]) -> tuple[float, ...] | None:
    """Gold scores of the best answers of training groups; None where the data has no scores."""
    gold = tuple(max(group.feedback.values) for group in groups if isinstance(group.feedback, Scores))
    return gold or None
