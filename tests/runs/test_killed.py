"""Runs on fresh answers that are killed nine times each: weights, log, answers and alarms are the unbroken run's."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from burnish import config
from burnish.loop.train import run as train
from burnish.runlog.log import read_rows
from tests.loop.online import world
from tests.loop.online.world import JUDGING
from tests.runs.test_survival import ended, kill, started

STEPS = 24
WATCHED = ["gold.kind=verifier", f"gold.name={JUDGING}:fewer", "stop.window=2", "stop.length=1.05", "stop.kl=0.01"]
KINDS = {
    "ppo": ["objective.name=ppo", "objective.kl_target=0.1", "objective.kl_horizon=100.0", "source.refresh_every=2",
            "source.epochs=2", "value.backbone=own"],
    "replay": ["objective.name=online_dpo", "source.replay=4"],
    "moving reference": ["objective.name=grpo", "objective.kl_coef=0.1", "reference.update=ema", "reference.alpha=0.2"],
    "adaptive": ["objective.name=rloo", "source.curriculum=adaptive"],
    "judges that fail": [f"judge.name={JUDGING}:unsteady", "source.max_unjudged=3"],
    "the best is kept": ["stop.when=gold"],
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.make(tmp_path_factory.mktemp("killed"))


def records_in(folder: Path) -> int:
    """Lines of a log that may be growing, or may not be there yet."""
    return sum(1 for _ in read_rows(folder)) if (folder / "log.jsonl").exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_nine_times_killed_it_is_the_unbroken_run(kind: str, place: Path) -> None:
    name = kind.replace(" ", "-")
    settings = [*WATCHED, *KINDS[kind], "save.every=3"]
    whole = train(config.load(None, world.overrides(place, f"whole-{name}", *settings, steps=STEPS)))
    broken = place / f"broken-{name}"
    places = ["train", *world.overrides(place, broken.name, *settings, "run.overwrite=false", steps=STEPS)]
    draw, kills, total = random.Random(kind), 0, records_in(whole)
    for target in [0, *sorted(draw.sample(range(2, total - 1), 8)), None]:
        resume = ["run.resume=true"] if (broken / "config.toml").exists() else []
        child = started(*places, *resume)
        if target is not None:
            while target and records_in(broken) < target and child.is_alive():
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.05 if target else 0.5))
            kill(child)
        code = ended(child)
        kills += code == -signal.SIGKILL
    assert code == 0 and kills >= 8
    assert world.equal(whole, broken)
    for record in ("alarm", "note", "stopped", "end"):
        assert world.records(whole, record) == world.records(broken, record)
    assert (whole / "answers.jsonl").read_bytes() == (broken / "answers.jsonl").read_bytes()
    assert not list((broken / "checkpoints").glob("*.part")) and not (broken / "lock").exists()
