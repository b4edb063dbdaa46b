"""The verb that says what a run will need: plan."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from burnish import config as configuration
from burnish.cli.frame import Settings, explained, file_and_words, quiet
from burnish.config.refusals import refuse_combinations
from burnish.errors import ConfigError

if TYPE_CHECKING:
    from burnish.loop.memory.devices import Device
    from burnish.loop.memory.plan import Plan, Survey

GIB = 1 << 30


def plan(
    settings: Settings = None,
    device: Annotated[str, typer.Option(help="h100, h200, a100-80, ..., cpu; unset: what this machine has")] = "",
    memory: Annotated[
        float | None, typer.Option(min=0.01, help="GiB of it, for another device", show_default=False)
    ] = None,
    tflops: Annotated[
        float | None, typer.Option(min=0.001, help="its TFLOP/s of dense products", show_default=False)
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(min=1, help="processes, one a device; unset: as `scale` says, or 1", show_default=False),
    ] = None,
    mfu: Annotated[float, typer.Option(min=0.01, max=1, help="share of that speed that training reaches")] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="The numbers alone, in bytes and seconds.")] = False,
) -> None:
    """What a run will need: memory by what it is for, time of a step, and what to change where it does not fit.

    No weights are loaded: a model's config.json (and tokenizer, where data.train is set) is enough.
    """
    file, words = file_and_words(settings)
    run = configuration.load_partly(file, words)
    if run.data.train or run.source.prompts:
        run = configuration.load(file, words)
    refuse_combinations(run)
    with explained():
        quiet()
        from burnish.engine import distributed
        from burnish.loop.memory import devices as device_table
        from burnish.loop.memory import plan as planning

        if not run.model.path:
            raise ConfigError("model.path: name the folder of the model to plan for (its config.json is enough)")
        target = device_table.find(device, memory, tflops)
        devices = devices or run.scale.replicate * (run.scale.shard or 1)
        replicate, shard = distributed.shape(run, devices)
        survey = planning.survey(run, fused=target.fused)
        outcome = planning.plan(survey, target, shard=shard, replicate=replicate, mfu=mfu)
        changes = planning.advice(survey, target, shard=shard)
    if as_json:
        numbers = {"bytes": outcome.parts, "total": outcome.total, "usable": target.usable}
        numbers |= {"token_budget": outcome.budget, "operations": outcome.operations, "seconds": outcome.seconds}
        typer.echo(json.dumps(numbers | {"changes": dict(changes)}))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    _print(console, survey, outcome, target, f"{devices} x " if devices > 1 else "", mfu)
    fits = outcome.total <= target.usable
    if not fits or (changes and outcome.total > 0.9 * target.usable):
        console.print("\nwhat would make it smaller, the cheapest first:" if changes else "\nnothing here makes it fit")
        for change, total in changes:
            verdict = "fits" if total <= target.usable else "does not fit yet"
            saved = (outcome.total - total) / GIB
            console.print(f"  {change}: {saved:.1f} GiB less, {total / GIB:.1f} GiB: {verdict}", markup=False)


def _print(console: Console, survey: Survey, outcome: Plan, device: Device, several: str, mfu: float) -> None:
    """Memory by what it is for, whether it fits, and the time of a step."""
    console.print(survey.line, markup=False)
    console.print(
        f"model: {(survey.trained + survey.frozen) / 1e6:,.1f}M parameters, {survey.trained / 1e6:,.1f}M trained, in "
        f"{survey.run.model.dtype}; microbatches of {outcome.budget} tokens, {survey.step_tokens:,.0f} tokens a step"
    )
    table = Table("for", "GiB", box=None, padding=(0, 2, 0, 0))
    table.columns[1].justify = "right"
    for name, value in outcome.parts.items():
        if value:
            table.add_row(name, f"{value / GIB:.2f}")
    table.add_row("together", f"{outcome.total / GIB:.2f}")
    console.print(table)
    room = device.usable - outcome.total
    verdict = (
        f"fits, {room / GIB:.1f} GiB to spare" if room >= 0 else f"does NOT fit: {-room / GIB:.1f} GiB are missing"
    )
    console.print(
        f"{several}{device.name}: {device.usable / GIB:.1f} GiB usable of {device.memory / GIB:.1f}: {verdict}"
    )
    console.print(
        f"a step: {outcome.operations / 1e12:,.3g} TFLOP, {outcome.seconds:,.3g} s at {mfu:.0%} of "
        f"{device.speed / 1e12:,.3g} TFLOP/s ({survey.step_tokens / outcome.seconds:,.0f} tokens/s)"
    )


def register(app: typer.Typer) -> None:
    """Hang the verb on the command line."""
    app.command()(plan)
