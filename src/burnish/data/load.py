"""The groups of a run before any tokenizer sees them: read, paired, filtered, mixed, and divided into train and eval.

Everything that is left out is counted and reported.
"""

from __future__ import annotations

from dataclasses import dataclass

from burnish.config import DataConfig, PairsConfig, Run
from burnish.data import filters
from burnish.data.pairing import Length, PairRule, make_pairs, preferred
from burnish.data.readers import FAULTS_LISTED, ReadResult, read
from burnish.errors import ConfigError, DataError
from burnish.findings import FindingCounts, counted, places, printable
from burnish.group import Group, Labels, Preferences, Scores


@dataclass(frozen=True)
class Gathered:
    """The groups to train on and those held out, and the lines for the user about them."""

    train: list[Group]
    evaluation: list[Group]
    lines: list[str]


def gather(run: Run, view: str, length: Length) -> Gathered:
    """Read what `run.data` names. `view` is the objective's: scores become pairs only where it uses pairs.

    `length` measures an answer for the filters, in tokens. Raises DataError or ConfigError with a sentence.
    """
    data, lines = run.data, list[str]()
    names = [data.train] if isinstance(data.train, str) else list(data.train)
    rule = rule_of(run.pairs)
    settings = filters.SelectSettings.of(data)
    limit = data.limit if settings == filters.SelectSettings() else None  # filters come first
    sources = {}
    for name in dict.fromkeys(names):
        groups = _paired(_read(name, data, data.split, "train", limit, lines), view, rule, settings, length, lines)
        sources[name] = groups
    # over all sources together: a group in two files is a duplicate, too
    train = _filtered([g for groups in sources.values() for g in groups], settings, length, run.seed, lines)
    kept = {id(group) for group in train}
    sources = {name: [g for g in groups if id(g) in kept][: data.limit] for name, groups in sources.items()}
    train = [group for groups in sources.values() for group in groups]
    evaluation: list[Group] = []
    if data.eval_fraction is not None:
        train, evaluation = filters.split_by_prompt(train, data.eval_fraction, run.seed)
        lines.append(
            f"held out: {counted(len(evaluation), 'group')} by prompt, {counted(len(train), 'group')} to train"
        )
        kept = {id(group) for group in train}
        sources = {name: [g for g in groups if id(g) in kept] for name, groups in sources.items()}
    elif data.eval:
        evaluation = _paired(
            _read(data.eval, data, data.eval_split, "eval", data.limit, lines), view, rule, settings, length, lines
        )
    if data.weights is not None:
        train = filters.mix(sources, dict(zip(names, data.weights, strict=True)), run.seed)
        weights = ", ".join(f"{name} x {weight:g}" for name, weight in zip(names, data.weights, strict=True))
        lines.append(f"mixed: {weights}: {counted(len(train), 'group')} in an epoch")
    return Gathered(train, evaluation, lines)


def rule_of(table: PairsConfig) -> PairRule:
    """The pair rule that a configuration's table names. Raises ConfigError for a setting that the rule ignores."""
    try:
        return PairRule(
            table.rule, table.min_gap, table.max_gap, table.max_length_ratio, table.pass_mark,
            tuple(table.strong), tuple(table.weak), table.max_pairs,
        )  # fmt: skip
    except ConfigError as error:
        raise ConfigError(f"[pairs] {error}") from None


def _read(name: str, data: DataConfig, split: str, side: str, limit: int | None, lines: list[str]) -> list[Group]:
    result = read(name, format=data.format, split=split, limit=limit, keep_faults=data.bad_rows == "skip")
    lines.append(f"{side}: {name}: {counted(len(result.groups), 'group')} read as {result.format} {result.note}")
    lines += [f"  {line}" for line in left_out(result)]
    if not result.groups:
        raise DataError(f"data.{side}: nothing is left of {name}:\n" + "\n".join(lines))
    return result.groups


def _paired(
    groups: list[Group], view: str, rule: PairRule, settings: filters.SelectSettings, length: Length, lines: list[str]
) -> list[Group]:
    """Scored and labelled groups with the rule's preferences in place of their scores: answers stay together, so that
    their prompt is computed once. Filters of pairs look at one pair at a time, so for them each pair is a group."""
    if view != "pairs":
        return groups
    judged = sum(isinstance(g.feedback, (Scores, Labels)) and len(g.completions) > 1 for g in groups)
    if not judged and rule == PairRule():
        return groups
    if settings.about_pairs or settings.max_pairs_per_prompt:
        made = [pair for group in groups for pair in (make_pairs([group], rule, length) if _many(group) else [group])]
    else:
        made = [_preferred(group, rule, length) for group in groups]
    pairs = sum(len(g.feedback.triples) for g in made if isinstance(g.feedback, Preferences))
    lines.append(f"  pairs: {rule.describe()}: {pairs:,} of {counted(judged, 'judged group')}")
    return made


def _many(group: Group) -> bool:
    return len(group.completions) > 1


def _preferred(group: Group, rule: PairRule, length: Length) -> Group:
    lengths = [length(c.messages) for c in group.completions] if rule.needs_lengths and _many(group) else None
    return preferred(group, rule, lengths)


def _filtered(
    groups: list[Group], settings: filters.SelectSettings, length: Length, seed: int, lines: list[str]
) -> list[Group]:
    kept, dropped = filters.apply(groups, settings, length, seed)
    lines += [f"  {line}" for line in dropped if line]
    return kept


def left_out(result: ReadResult) -> list[str]:
    """Lines about the rows of a source that are no groups: rows of no use by reason, rows that cannot be read."""
    tally = FindingCounts()
    for skip in result.skipped:
        tally.add(skip.reason, skip.where)
    lines = [
        f"{counted(count, 'row')} left out: {reason} ({places(tally.rows[reason], count)})"
        for reason, count in sorted(tally.counts.items(), key=lambda item: -item[1])
    ]
    if result.faults:
        lines.append(f"{counted(len(result.faults), 'row')} left out that cannot be read, as data.bad_rows says:")
        lines += [f"  {printable(fault.message)}" for fault in result.faults[:FAULTS_LISTED]]
    return lines
