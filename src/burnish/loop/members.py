"""Several reward models instead of one: the same run again from other seeds, with other heads and other data orders.

Where they disagree, none of them knows (2310.02743, 2312.09244).
"""

from __future__ import annotations

from pathlib import Path

from burnish.config import Run
from burnish.engine import distributed
from burnish.engine.distributed import World
from burnish.loop import train
from burnish.loop.refusals import mixture_of


def run(config: Run) -> list[Path]:
    """Train `reward.members` models, each into a folder of its own below `run.dir`; one is an ordinary run.

    With `run.resume` members that are finished are left as they are. Raises as `train.run` does.
    """
    with distributed.joined(config) as world:
        return members(config, world)


def members(config: Run, world: World) -> list[Path]:
    if config.reward.members == 1:
        return [train.run(config, world=world)]
    mixture_of(config)  # refuses members of what is no reward model
    folders = []
    for number in range(config.reward.members):
        folder = Path(config.run.dir) / f"member-{number}"
        folders.append(folder)
        started = config.run.resume and (folder / "config.toml").exists()
        settings = {
            "seed": config.seed + number,
            "run": config.run.model_copy(update={"dir": str(folder), "resume": started}),
            "reward": config.reward.model_copy(update={"members": 1}),
        }
        train.run(config.model_copy(update=settings), world=world)
    return folders
