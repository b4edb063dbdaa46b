"""The prompts that the policy answers: read, rendered and counted before any weight loads. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from burnish.config import Run
from burnish.data.identity import prompt_key
from burnish.data.readers import ReadResult, read
from burnish.data.render import Renderer
from burnish.data.truncate import EncodeReport
from burnish.data.views import winner_view
from burnish.errors import DataError
from burnish.findings import counted
from burnish.group import EncodedGroup, Group, Unjudged, last_text

NO_GROUP = Group("", ())


@dataclass(frozen=True)
class Prompt:
    """A prompt to answer.

    Example: `Prompt("9f2c71", (1, 345, 9), Group("What is 7+5?", (), meta={"answer": "12"}))`
    """

    key: str  # of its content: seeds its draws, and names it where its success is remembered
    ids: tuple[int, ...]  # tokens up to where the answer begins
    group: Group = NO_GROUP  # the row it came from; `meta` is what a verifier checks against


def prompts_of(run: Run, renderer: Renderer) -> tuple[list[Prompt], list[str]]:
    """(each different prompt once, lines for the user). An answer that the data prefers becomes `meta.reference`.

    Raises DataError where no prompt is left.
    """
    names = run.source.prompts or run.data.train
    prompts: dict[str, Prompt] = {}
    lines: list[str] = []
    report = EncodeReport()
    total = 0
    for name in [names] if isinstance(names, str) else names:
        bare = to_answer(run, name)
        total += len(bare)
        for group, encoded in zip(bare, renderer.encode_many(bare, report), strict=True):
            key = prompt_key(group)
            if encoded.prompt_ids and key not in prompts:
                prompts[key] = Prompt(key, encoded.prompt_ids, group)
    longest = run.data.max_length
    fitting = [p for p in prompts.values() if longest is None or len(p.ids) + run.source.max_new_tokens <= longest]
    if len(fitting) < len(prompts):
        lines.append(
            f"  {counted(len(prompts) - len(fitting), 'prompt')} left out: with source.max_new_tokens = "
            f"{run.source.max_new_tokens} they would pass data.max_length = {longest}"
        )
    if not fitting:
        raise DataError(f"source.prompts: no prompt is left of {counted(total, 'row')}\n" + "\n".join(lines))
    sizes = [len(prompt.ids) for prompt in fitting]
    lines.insert(
        0,
        f"prompts: {counted(len(fitting), 'different prompt')} of {counted(total, 'row')}, "
        f"{sum(sizes) / len(sizes):.0f} tokens on average (longest {max(sizes)})",
    )
    return fitting, lines + [f"  {line}" for line in report.lines()]


def to_answer(run: Run, name: str) -> list[Group]:
    """The rows of a source as prompts without answers. Raises DataError where it cannot be read."""
    groups = _read(run, name).groups
    return [replace(_with_reference(g), completions=(), feedback=Unjudged("to be answered")) for g in groups]


def _read(run: Run, name: str) -> ReadResult:
    """The rows of a source. Rows of no known format are prompts if they have a prompt: their other columns, such as
    `answer`, are for the judge."""
    format = run.source.format if run.source.prompts else run.data.format
    options: dict[str, Any] = {
        "split": run.data.split,
        "limit": run.data.limit,
        "keep_faults": run.data.bad_rows == "skip",
    }
    try:
        return read(name, format=format, **options)
    except DataError:
        if format != "auto":
            raise
        try:
            return read(name, format="prompts", **options)
        except DataError:
            pass
        raise


def _with_reference(group: Group) -> Group:
    """The group with the best of its answers, where it has answers, as `meta.reference`."""
    if not group.completions or "reference" in group.meta:
        return group
    encoded = EncodedGroup("", (), ((),) * len(group.completions), (), group.feedback)
    best = winner_view(encoded)
    if not best:
        return group
    return replace(group, meta={**group.meta, "reference": last_text(group.completions[best[0]].messages)})


def longest_group(run: Run, prompts: Sequence[Prompt]) -> EncodedGroup:
    """The largest group that the policy could answer with: memory is planned for it, and positions are checked."""
    longest = max(prompts, key=lambda prompt: len(prompt.ids))
    answer = (0,) * run.source.max_new_tokens
    name = longest.group.where or longest.group.id or "the longest prompt"
    return EncodedGroup(name, longest.ids, (answer,) * run.source.k, (False,) * run.source.k, Unjudged(), where=name)
