"""Runs whose answers come from a server: a model of its own, in this process, behind vLLM's dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from burnish import config
from burnish.answers.sampler.process import ProcessSampler
from burnish.engine import canary, model
from burnish.engine.engine import Engine
from burnish.errors import ConfigError, TrainingError
from burnish.lab.policy import EOS
from tests.answers.sampler.server import Script, ScriptedServer, sampling
from tests.answers.sampler.world import likeliest, score
from tests.loop.online import world


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.make(tmp_path_factory.mktemp("served"))


class Served:
    """The model in `folder` as a server has it. It leaves out the tensors whose names contain `skips`, in silence."""

    def __init__(self, folder: Path, skips: str | None = None) -> None:
        from transformers import AutoModelForCausalLM

        self.folder, self.skips = folder, skips
        module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        policy = model.Policy(module, module, "served", torch.float32, module.config._attn_implementation)
        verdict = canary.decide(policy, "auto")
        self.engine = Engine(policy, 512, shared=verdict.shared, plain_head=verdict.plain_head, pruned=verdict.pruned)
        self.sampler = ProcessSampler(self.engine, frozenset({EOS}))
        self.handed: list[Path] = []
        self.modes: set[int] = set()

    def reload(self, folder: Path) -> None:
        self.handed.append(folder)
        self.modes |= {file.stat().st_mode & 0o777 for file in folder.iterdir()}
        adapted = (folder / "adapter_config.json").exists()
        tensors = self._merged(folder) if adapted else world.load_file(folder / "model.safetensors")
        read = {name: tensor for name, tensor in tensors.items() if self.skips is None or self.skips not in name}
        self.engine.policy.module.load_state_dict(read, strict=False)  # a tied head is not in the file

    def _merged(self, folder: Path) -> dict[str, torch.Tensor]:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
        merged: dict[str, torch.Tensor] = PeftModel.from_pretrained(base, str(folder)).merge_and_unload().state_dict()
        return merged

    def script(self, prompts: bool = True) -> Script:
        """vLLM's dialect; without `prompts` no log-probs of prompts are given."""
        scored = partial(score, self.engine) if prompts else None
        return sampling(self.sampler, self.reload, partial(likeliest, self.engine), scored)


@pytest.fixture
def served(place: Path) -> Iterator[tuple[Served, list[str]]]:
    """A server's model, and the settings of a run that asks it."""
    server = Served(place / "sft")
    with ScriptedServer(server.script()) as running:
        yield server, ["source.sampler=server", f"source.url={running.url}"]


MATRIX = "layers.1.mlp.down_proj"  # left out alone; "" leaves out everything
LORA = ["source.update=lora", "adapter.kind=lora", "optim.lr=1e-2"]


@pytest.mark.parametrize("settings", [[], LORA, ["source.temperature=0.7", "source.top_k=20", "source.top_p=0.9"]])
def test_a_server_answers_with_the_trainers_weights(
    place: Path, served: tuple[Served, list[str]], settings: list[str]
) -> None:
    server, asked = served
    folder = world.run(place, "served", *asked, *settings, steps=3)
    assert [handed.name for handed in server.handed] == ["version-0", "version-1", "version-2"]
    for record in world.records(folder, "refresh"):
        assert record["mismatch/mean"] < 1e-5 and record["mismatch/max_ratio"] < 1.001


@pytest.mark.parametrize(
    ("settings", "skips", "prompts"),
    [([], "", True), ([], "", False), ([], MATRIX, True), (LORA, "", True), (LORA, MATRIX, True)],
)
def test_weights_that_do_not_arrive_end_the_run(place: Path, settings: list[str], skips: str, prompts: bool) -> None:
    server = Served(place / "sft", skips)
    with ScriptedServer(server.script(prompts)) as running, pytest.raises(TrainingError) as caught:
        world.run(place, "stale", "source.sampler=server", f"source.url={running.url}", *settings)
    assert [folder.name for folder in server.handed] == ["version-0", "version-1"], "noticed at the first step"
    numbers = r"mean log-prob is (-[0-9.]+) nats, and the trainer's is (-[0-9.]+); .* differ by ([0-9.e-]+)"
    both = re.search(numbers, str(caught.value))
    assert both is not None
    difference = float(both[3])
    assert difference > 1e-4 and both[1] != both[2]


def test_the_first_weights_that_do_not_arrive_end_the_run(place: Path, tmp_path: Path) -> None:
    """A server that was started with another model, and that reads nothing."""
    server = Served(place / "sft", "")
    with torch.no_grad():
        for parameter in server.engine.policy.module.parameters():
            parameter.mul_(1.05)
    with ScriptedServer(server.script()) as running, pytest.raises(TrainingError, match="after step 0"):
        world.run(place, "other", "source.sampler=server", f"source.url={running.url}")


def test_how_much_server_and_trainer_may_differ_is_a_setting(place: Path) -> None:
    server = Served(place / "sft", "")
    with ScriptedServer(server.script()) as running:
        folder = world.run(
            place, "allowed", "source.sampler=server", f"source.url={running.url}", "source.max_mismatch=9", steps=2
        )
    assert world.records(folder, "refresh")[-1]["mismatch/mean"] > 1e-4


def test_others_may_read_what_a_server_is_handed(place: Path, served: tuple[Served, list[str]]) -> None:
    """safetensors makes files for their owner alone; the folder's own bits say what the umask allows."""
    server, settings = served
    folder = world.run(place, "modes", *settings, steps=1)
    assert server.modes == {server.handed[0].stat().st_mode & 0o666}
    model_folder = folder / "model"
    assert {file.stat().st_mode & 0o777 for file in model_folder.iterdir()} == {model_folder.stat().st_mode & 0o666}


def test_an_adapter_on_an_adapter_is_handed_over_as_one_on_the_base_that_is_served(
    place: Path, served: tuple[Served, list[str]]
) -> None:
    first = world.run(place, "first", "adapter.kind=lora", "adapter.rank=3", "optim.lr=1e-2", steps=2)
    _, asked = served
    folder = world.run(place, "second", *asked, *LORA, f"model.path={first / 'model'}", "adapter.rank=2", steps=2)
    assert f"adapter {first / 'model'} on its base {place / 'sft'}" in (folder / "model" / "README.md").read_text()
    for record in world.records(folder, "refresh"):
        assert record["mismatch/mean"] < 1e-5 and record["mismatch/max_ratio"] < 1.001


UNFIT = {
    "no adapter": (["source.update=lora"], "adapter.kind = 'none' trains none"),
    "an adapter": (["source.update=reload", "adapter.kind=lora"], "an adapter is trained: use 'lora'"),
    "no server": (["source.sampler=process", "source.url=", "source.update=none"], "source.update is set, and"),
    "no server's key": (["source.sampler=process", "source.url=", "source.key_env=K"], "source.key_env is set, and"),
    "dora": (["source.update=lora", "adapter.kind=lora", "adapter.dora=true"], "adapter.dora = true"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_an_update_that_does_not_go_with_the_adapter_is_refused_from_the_settings(case: str, tmp_path: Path) -> None:
    """Neither model nor data nor server exist."""
    changes, reason = UNFIT[case]
    nowhere = ["source.sampler=server", "source.url=http://127.0.0.1:9", *changes]
    with pytest.raises(ConfigError, match=reason):
        config.load(None, world.overrides(tmp_path, "run", *nowhere))
