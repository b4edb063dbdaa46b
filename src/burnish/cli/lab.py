"""The verbs of the built-in world: lab quickstart, lab reward, lab dial."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.frame import explained, quiet

Folder = Annotated[str, typer.Argument(help="folder for everything it makes")]


def quickstart(out: Folder = "runs/quickstart") -> None:
    """SFT, pairs, DPO and evaluation on flash cards, in about a minute."""
    with explained():
        quiet()
        from burnish.lab.quickstart import main

        main(out)


def reward(
    out: Folder = "runs/reward",
    seed: Annotated[int, typer.Option(min=0, help="of the models, the pairs and the answers")] = 0,
) -> None:
    """Reward models and DPO from the same pairs of flash cards, and the report on both, in about two minutes."""
    with explained():
        quiet()
        from burnish.lab.quickstart import QuickstartSettings
        from burnish.lab.reward import RewardSettings, run

        run(Path(out), RewardSettings(seed=seed, base=QuickstartSettings(seed=seed)))


def dial(
    out: Folder = "runs/dial",
    seeds: Annotated[int, typer.Option(min=1, help="worlds, each with its own policy, pairs and reward model")] = 3,
    steps: Annotated[int, typer.Option(min=20, help="optimiser steps of every arm")] = 200,
) -> None:
    """Offline DPO, online DPO and RLOO from one start, and a frozen judge: four panels, about four minutes a seed."""
    with explained():
        quiet()
        from burnish.lab.dial import DialSettings, run

        run(Path(out), DialSettings(seeds=seeds, steps=steps))


def register(app: typer.Typer) -> None:
    """Hang the verbs on the command line."""
    lab = typer.Typer(no_args_is_help=True, help="The built-in world of flash cards: no download, minutes on a laptop.")
    for verb in (quickstart, reward, dial):
        lab.command()(verb)
    app.add_typer(lab, name="lab")
