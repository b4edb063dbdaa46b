"""The prompts that a run answers itself: read, rendered and counted before any weight loads. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from burnish.config import Run
from burnish.data.identity import prompt_key
from burnish.data.readers import ReadResult, read
from burnish.data.render import Renderer
from burnish.data.views import winner_view
from burnish.errors import ConfigError, DataError
from burnish.findings import counted
from burnish.group import EncodedGroup, Group, Unjudged, answer_text


@dataclass(frozen=True)
class Asked:
    """A prompt to answer: the group it came from (`meta` is what a verifier checks against), its tokens, and a key of
    its content, by which its draws are seeded and its success is remembered."""

    group: Group
    ids: tuple[int, ...]
    key: str


def prompts_of(run: Run, renderer: Renderer) -> tuple[list[Asked], list[str]]:
    """(each different prompt once, what the user is told). An answer that the data prefers becomes `meta.reference`.

    Raises DataError where no prompt is left.
    """
    names = run.source.prompts or run.data.train
    asked: dict[str, Asked] = {}
    lines: list[str] = []
    total = 0
    for name in [names] if isinstance(names, str) else names:
        found = _read(run, name)
        total += len(found.groups)
        bare = [replace(_with_reference(group), completions=(), feedback=Unjudged("to be answered"))
                for group in found.groups]  # fmt: skip
        for group, encoded in zip(bare, renderer.encode_many(bare), strict=True):
            key = prompt_key(group)
            if encoded.prompt_ids and key not in asked:
                asked[key] = Asked(group, encoded.prompt_ids, key)
    longest = run.data.max_length
    fitting = [one for one in asked.values() if longest is None or len(one.ids) + run.source.max_new_tokens <= longest]
    if len(fitting) < len(asked):
        lines.append(
            f"  {counted(len(asked) - len(fitting), 'prompt')} left out: with source.max_new_tokens = "
            f"{run.source.max_new_tokens} they would pass data.max_length = {longest}"
        )
    if not fitting:
        raise DataError(f"source.prompts: no prompt is left of {total} rows\n" + "\n".join(lines))
    sizes = [len(one.ids) for one in fitting]
    lines.insert(
        0,
        f"prompts: {counted(len(fitting), 'different prompt')} of {counted(total, 'row')}, "
        f"{sum(sizes) / len(sizes):.0f} tokens on average (longest {max(sizes)})",
    )
    return fitting, lines


def _read(run: Run, name: str) -> ReadResult:
    """The rows of a source. Rows that no format claims are prompts all the same if they have one: what else they hold,
    an `answer` for one, is for the judge."""
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
    """The best of the row's own answers, where it has any, as something to compare with."""
    if not group.completions or "reference" in group.meta:
        return group
    encoded = EncodedGroup("", (), ((),) * len(group.completions), (), group.feedback)
    best = winner_view(encoded)
    return replace(group, meta={**group.meta, "reference": answer_text(group.completions[best[0]])}) if best else group


def longest_group(run: Run, asked: Sequence[Asked]) -> EncodedGroup:
    """The largest group that answering could give: what memory is planned for, and positions are checked with."""
    most = max(asked, key=lambda one: len(one.ids))
    answer = (0,) * run.source.max_new_tokens
    name = most.group.where or most.group.id or "the longest prompt"
    return EncodedGroup(name, most.ids, (answer,) * run.source.k, (False,) * run.source.k, Unjudged(), where=name)


def refuse(run: Run, views: Sequence[str], scalar: bool) -> None:
    """What [source] and [judge] cannot mean, together and with the rest. Raises ConfigError with the reason."""
    source, dialled = run.source, run.sampled
    name = " + ".join(one.name for one in run.objective)
    if not dialled:
        dial = ("refresh_every", "epochs", "fresh", "replay", "curriculum", "is_cap") if run.monitored else ()
        changed = [
            key for key in dial or type(source).model_fields if getattr(source, key) != getattr(type(source)(), key)
        ]
        if changed:
            raise ConfigError(
                f"source.{changed[0]} is about fresh answers, and source.refresh_every = 'never' asks for none: set it "
                "to a number of steps"
            )
        if "gold" in run.stop.when:
            raise ConfigError("stop.when = 'gold' compares gold with a judge's reward, and offline there is no judge")
        if run.stop.when and not run.monitored:
            raise ConfigError(
                "stop.when listens to fresh answers, and there are none: set source.refresh_every or [gold]"
            )
        if "rollouts" in views:
            raise ConfigError(
                f"{name} trains on answers that the policy gives as it goes: set source.refresh_every (1 is on-policy) "
                "and a [judge]; with judged answers at hand, dpo or online_dpo learn from those"
            )
        return
    if not run.judge:
        raise ConfigError("source.refresh_every asks for fresh answers, and nobody judges them: add a [judge]")
    if scalar:
        raise ConfigError(f"{name} trains a reward model, which gives no answers: leave out [source] and [judge]")
    if run.sampled_once and "rollouts" in views:
        raise ConfigError(f"{name} needs answers of the policy as it stands: set source.refresh_every (1 is on-policy)")
    if not run.sampled_once and run.reference.scores == "stored":
        raise ConfigError("reference.scores = 'stored' is of a fixed data set; fresh answers need 'live' (or auto)")
    if source.fresh < 1 and (run.sampled_once or "rollouts" in views or not run.data.train):
        raise ConfigError(
            "source.fresh below 1 mixes fresh answers with those of data.train, which must hold feedback that "
            f"{name} can learn from, and the dial must be turned"
        )
    _refuse_arithmetic(run)
    if run.data.eval and "rollouts" in views:
        raise ConfigError(f"data.eval holds judged answers, and {name} has no loss on those: leave it out")


def _refuse_arithmetic(run: Run) -> None:
    source = run.source
    if source.curriculum == "adaptive" and any(one.kind in ("reward_model", "llm") for one in run.judge):
        raise ConfigError(
            "source.curriculum = 'adaptive' reads rewards as success, from 0 to 1: only verifiers do that"
        )
    if source.k == 1 and any(one.kind == "llm" and one.mode == "pairwise" for one in run.judge):
        raise ConfigError("judge.mode = 'pairwise' compares answers, and source.k = 1 gives one: use 'pointwise'")
    if source.fresh < 1 and run.optim.groups_per_step == 1:
        raise ConfigError("source.fresh below 1 mixes groups in a step, and optim.groups_per_step = 1 has room for one")
    if source.refresh_every != "never" and source.epochs > source.refresh_every:
        raise ConfigError(
            f"source.epochs = {source.epochs} steps for each group, and source.refresh_every = {source.refresh_every} "
            "leaves fewer until the next refresh"
        )
    if source.sampler == "server" and not source.url:
        raise ConfigError("source.sampler = 'server' needs source.url, its address")
    if source.sampler == "process" and source.url:
        raise ConfigError("source.url is set, and source.sampler = 'process' asks no server")
