"""Runs whose answers come from a server: a model of its own, in this process, behind vLLM's dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from burnish import config
from burnish.answers.sampler.process import ProcessSampler
from burnish.engine import canary, model
from burnish.engine.engine import Engine
from burnish.errors import ConfigError
from burnish.lab.policy import EOS
from tests.answers.sampler.server import ScriptedServer, sampling
from tests.loop.online import world


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.make(tmp_path_factory.mktemp("served"))


class Served:
    """The model in `folder` as a server has it; `reads` changes the tensors that it reads from a folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        policy = model.Policy(module, module, "served", torch.float32, module.config._attn_implementation)
        verdict = canary.decide(policy, "auto")
        self.engine = Engine(policy, 512, shared=verdict.shared, plain_head=verdict.plain_head, pruned=verdict.pruned)
        self.sampler = ProcessSampler(self.engine, frozenset({EOS}))
        self.handed: list[Path] = []
        self.modes: set[int] = set()
        self.reads: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = lambda tensors: tensors

    def reload(self, folder: Path) -> None:
        self.handed.append(folder)
        self.modes |= {file.stat().st_mode & 0o777 for file in folder.iterdir()}
        tensors = self.reads(world.load_file(folder / "model.safetensors"))
        self.engine.policy.module.load_state_dict(tensors, strict=False)  # a tied head is not in the file


@pytest.fixture
def served(place: Path) -> Iterator[tuple[Served, list[str]]]:
    """A server's model, and the settings of a run that asks it."""
    server = Served(place / "sft")
    with ScriptedServer(sampling(server.sampler, server.reload)) as running:
        yield server, ["source.sampler=server", f"source.url={running.url}"]


def test_a_server_answers_with_the_trainers_weights(place: Path, served: tuple[Served, list[str]]) -> None:
    server, settings = served
    folder = world.run(place, "reload", *settings, steps=3)
    assert [handed.name for handed in server.handed] == ["version-0", "version-1", "version-2"]
    for record in world.records(folder, "refresh"):
        assert record["mismatch/mean"] < 1e-5 and record["mismatch/max_ratio"] < 1.001


def test_others_may_read_what_a_server_is_handed(place: Path, served: tuple[Served, list[str]]) -> None:
    """safetensors makes files for their owner alone; the folder's own bits say what the umask allows."""
    server, settings = served
    folder = world.run(place, "modes", *settings, steps=1)
    assert server.modes == {server.handed[0].stat().st_mode & 0o666}
    model_folder = folder / "model"
    assert {file.stat().st_mode & 0o777 for file in model_folder.iterdir()} == {model_folder.stat().st_mode & 0o666}


UNFIT = {
    "no adapter": (["source.update=lora"], "adapter.kind = 'none' trains none"),
    "an adapter": (["source.update=reload", "adapter.kind=lora"], "an adapter is trained: use 'lora'"),
    "dora": (["source.update=lora", "adapter.kind=lora", "adapter.dora=true"], "adapter.dora = true"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_an_update_that_does_not_go_with_the_adapter_is_refused_from_the_settings(case: str, tmp_path: Path) -> None:
    """Neither model nor data nor server exist."""
    changes, reason = UNFIT[case]
    nowhere = ["source.sampler=server", "source.url=http://127.0.0.1:9", *changes]
    with pytest.raises(ConfigError, match=reason):
        config.load(None, world.overrides(tmp_path, "run", *nowhere))
