"""Runs under odd circumstances: clocks that jump, folders that nobody may write, answers and prompts of almost nothing,
or of as much as fits, and a server that is killed while it is handed the weights."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from burnish import config
from burnish.answers.sampler import remote
from burnish.errors import BurnishError, JudgeError, StoreError
from burnish.loop.train import run as train
from burnish.runlog.log import read_rows
from tests.answers.sampler.server import ScriptedServer
from tests.loop.online import world
from tests.loop.online.test_server import Served

POSITIONS = 64  # of the world's policy


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.make(tmp_path_factory.mktemp("extremes"))


def asking(folder: Path, *prompts: str) -> str:
    file = folder / f"{len(prompts)}-{len(prompts[0])}.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt, "answer": "3"}) + "\n" for prompt in prompts))
    return f"source.prompts={file}"


def test_a_clock_that_jumps_changes_nothing_but_the_times_that_are_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = world.run(place, "steady", "save.every=2")
    true, calls = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: true() + (-1) ** next(calls) * 86400 * 400)
    broken = world.overrides(place, "jumping", "save.every=2")
    train(config.load(None, broken))
    assert world.equal(whole, place / "jumping")
    written = [row["time"] for row in read_rows(place / "jumping")]
    assert written != sorted(written)


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that is mounted to be read alone, which stops root, too."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("key", ["run.dir", "judge.cache", "reference.store"])
def test_a_folder_that_nobody_may_write_is_a_sentence(key: str, place: Path, sealed: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "1+1=", "chosen": "2", "rejected": "9"}) + "\n")
    offline = [f"model.path={place / 'sft'}", f"data.train={pairs}", f"run.dir={tmp_path / 'run'}", "optim.steps=1"]
    online = [text for text in world.overrides(place, "sealed") if not text.startswith("judge.")]
    asked = ["judge.kind=llm", "judge.url=http://127.0.0.1:9", "judge.model=m", "judge.max_tokens=9"]
    with pytest.raises(StoreError, match=f"{sealed}.*Read-only file system"):
        train(config.load(None, [*([*online, *asked] if key == "judge.cache" else offline), f"{key}={sealed / 'x'}"]))


def test_answers_of_nothing_are_judged_and_trained_on(place: Path) -> None:
    for judge in (f"judge.name={world.JUDGE}", "judge.name=gsm8k", "judge.name=length"):
        more = ["judge.field=answer"] if judge.endswith("gsm8k") else ["judge.target=3"] if "length" in judge else []
        folder = world.run(place, "nothing", judge, *more, steps=3)
        answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
        texts = [c["messages"] for a in answers for c in a["completions"]]
        assert "" in str(texts)


@pytest.mark.parametrize("objective", ["rloo", "ppo", "online_dpo", "grpo"])
def test_prompts_of_one_token_answered_with_one_token(objective: str, place: Path, tmp_path: Path) -> None:
    folder = world.run(
        place, f"one-{objective}", f"objective.name={objective}", asking(tmp_path, "1", "2", "3"),
        "source.max_new_tokens=1", "optim.groups_per_step=3", steps=3,
    )  # fmt: skip
    assert {r["length"] for r in world.records(folder, "completion")} <= {1}
    assert len(world.records(folder, "step")) == 3


def test_prompts_that_fill_the_model_are_refused_beyond_the_last_that_fits(place: Path, tmp_path: Path) -> None:
    fits = "1" * (POSITIONS - 8)
    world.run(place, "full", asking(tmp_path, fits, fits[:-1]), "optim.groups_per_step=2", steps=2)
    with pytest.raises(BurnishError, match="64"):
        world.run(place, "over", asking(tmp_path, fits + "1"), "optim.groups_per_step=1", steps=2)


@pytest.mark.parametrize("moment", [1, 2])
def test_a_server_killed_while_it_is_handed_weights_costs_nothing(
    place: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first hand-over, and at one between two steps; the resumed run is the unbroken one."""
    monkeypatch.setattr(remote, "ServerSampler", partial(remote.ServerSampler, retries=0))
    steps = ["source.sampler=server", "save.every=1"]
    with ScriptedServer(Served(place / "sft").script()) as running:
        whole = world.run(place, f"alive-{moment}", *steps, f"source.url={running.url}", steps=3)
    served, reloads = Served(place / "sft"), 0
    script = served.script()

    def killed(number: int, path: str, given: dict[str, Any]) -> Any:
        nonlocal reloads
        reloads += path == "/collective_rpc"
        if path == "/collective_rpc" and reloads > moment:
            raise ConnectionAbortedError  # closes the connection with no reply
        return script(number, path, given)

    broken = world.overrides(place, f"killed-{moment}", *steps, "run.overwrite=false", steps=3)
    with ScriptedServer(killed) as running, pytest.raises(JudgeError, match=running.url):
        train(config.load(None, [*broken, f"source.url={running.url}"]))
    with ScriptedServer(Served(place / "sft").script()) as running:
        train(config.load(None, [*broken, f"source.url={running.url}", "run.resume=true"]))
    assert world.equal(whole, place / f"killed-{moment}")
