"""What `burnish plan` says is what a run takes: parameters, moments, kept tensors, operations, counted on real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from burnish import config
from burnish.engine import attention, model
from burnish.engine.engine import Engine
from burnish.engine.masters import adamw
from burnish.errors import ConfigError, ModelError
from burnish.group import EncodedGroup, Unjudged
from burnish.loop.memory import devices, measure, plan
from burnish.loop.memory.footprint import footprint
from burnish.runlog.log import read_rows
from tests.runs.cli import burnish, rows
from tests.zoo import save_model_dir

GPU = devices.Device("gpu", 80 << 30, 1e14)


def group(prompt: int, *answers: int) -> EncodedGroup:
    ids = tuple((3,) * n for n in answers)
    return EncodedGroup("g", (4,) * prompt, ids, (True,) * len(ids), Unjudged())


GROUPS = [group(20, 10, 14), group(9, 30, 3), group(33, 8, 8)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: save_model_dir(root / family, family, "plain") for family in ("llama", "gpt2", "gemma2", "mixtral")}


def run_of(folder: Path, *settings: str) -> config.Run:
    return config.load_partly(None, [f"model.path={folder}", "model.dtype=float32", *settings])


def on_shapes(folder: Path, adapter: str = "none") -> model.Policy:
    policy = model.load_policy(
        config.ModelConfig(path=str(folder), dtype="float32"), config.AdapterConfig(kind=adapter), place="nowhere"
    )
    policy.module.to("meta")
    return policy


class Counted:
    """Bytes of the storages that autograd keeps on a real pass, weights aside."""

    def __init__(self, policy: model.Policy) -> None:
        self.weights = {p.untyped_storage().data_ptr() for p in policy.module.parameters()}
        self.kept: dict[int, torch.Tensor] = {}

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in self.weights:
            self.kept.setdefault(place, tensor)
        return tensor

    @property
    def total(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self.kept.values())


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_shapes_keep_and_compute_what_numbers_do(folders: dict[str, Path], family: str, adapter: str) -> None:
    real = model.load_policy(
        config.ModelConfig(path=str(folders[family]), dtype="float32"), config.AdapterConfig(kind=adapter)
    )
    attention.register()
    real.base.set_attn_implementation(attention.NAME)
    engine = Engine(real, 1 << 20)
    (batch,) = engine.plan(GROUPS)
    counted, operations = Counted(real), FlopCounterMode(display=False)
    with operations, torch.autograd.graph.saved_tensors_hooks(counted.keep, lambda tensor: tensor):
        logps = engine.score(batch).logps
        forward = operations.get_total_flops()
        logps.sum().backward()
    policy = on_shapes(folders[family], adapter)
    policy.base.set_attn_implementation(attention.NAME)
    found = footprint(policy, GROUPS, shared=True, fused_attention=False)
    assert (found.forward, found.backward) == (forward, operations.get_total_flops() - forward)
    assert found.kept == pytest.approx(counted.total, rel=0.02)  # positions and masks lie elsewhere on shapes
    assert 0.6 * found.forward < found.layers_forward < found.forward
    assert found.activations(checkpointing=True) < found.activations(checkpointing=False)
    assert found.tokens == batch.input_ids.numel()


def test_weights_gradients_and_moments_are_those_of_the_run(folders: dict[str, Path]) -> None:
    run = run_of(folders["llama"])
    parts = plan.fixed_bytes(plan.survey(run, fused=False))
    real = model.load_policy(run.model)
    parameters = [p for _, p in real.trainable()]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = adamw(parameters, lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0)
    optimizer.step()
    moments = sum(v.nbytes for state in optimizer.state.values() for v in state.values() if v.ndim)
    size = sum(p.nbytes for p in parameters)
    assert parts == {"weights": size, "float32 masters": 0, "gradients": size, "optimiser": moments, "reference": 0}
    half = plan.fixed_bytes(plan.survey(run_of(folders["llama"], "model.dtype=bfloat16"), fused=False))
    assert half == {**parts, "weights": size // 2, "float32 masters": size}


def test_an_adapter_trains_what_peft_says(folders: dict[str, Path]) -> None:
    run = run_of(folders["llama"], "adapter.kind=lora", "adapter.rank=4", "model.dtype=bfloat16")
    found = plan.survey(run, fused=False)
    trained, every = model.load_policy(run.model, run.adapter).module.get_nb_trainable_parameters()
    assert (found.trained, found.trained + found.frozen) == (trained, every)
    parts = plan.fixed_bytes(found)
    assert (
        parts["optimiser"] == 8 * trained and parts["weights"] == 2 * every and parts["float32 masters"] == 4 * trained
    )


def test_a_reference_in_memory_is_a_second_model(folders: dict[str, Path]) -> None:
    for settings, size in (
        (["reference.scores=live"], 4), (["reference.update=ema"], 8), (["objective.name=tdpo2"], 4), ([], 0),
        (["objective.name=simpo"], 0), (["adapter.kind=lora", "reference.scores=live"], 0),
    ):  # fmt: skip
        found = plan.survey(run_of(folders["llama"], *settings), fused=False)
        assert plan.reference_bytes(found) == size * (found.trained + found.frozen), settings


def test_divided_weights(folders: dict[str, Path]) -> None:
    """A process of four has a quarter of masters, gradients and moments, and a few layers in one piece."""
    found = plan.survey(run_of(folders["llama"], "model.dtype=bfloat16"), fused=True)
    parts = plan.fixed_bytes(found, 4)
    assert parts["weights"] == parts["gradients"] == found.trained and parts["optimiser"] == 2 * found.trained
    assert parts["layers put together"] >= 2 * (found.outside + 2 * found.layer)


@pytest.mark.parametrize("settings", [[], ["engine.gradient_checkpointing=true"], ["adapter.kind=lora"]])
def test_the_largest_budget_is_the_largest(folders: dict[str, Path], settings: list[str]) -> None:
    found = plan.survey(run_of(folders["llama"], *settings, "optim.groups_per_step=512"), fused=False)
    fixed = sum(plan.fixed_bytes(found).values())
    budgets = []
    for memory in range(40 << 20, 400 << 20, 40 << 20):
        budget = plan.largest_budget(found, memory)
        budgets.append(budget)
        assert fixed + plan.activation_bytes(found, budget) <= memory
        if budget < found.step_tokens:
            assert fixed + plan.activation_bytes(found, budget + plan.GRAIN) > memory
    assert budgets == sorted(budgets) and budgets[-1] > budgets[0]
    with pytest.raises(ConfigError, match="longest group alone"):
        plan.largest_budget(found, fixed)


def test_advice_helps(folders: dict[str, Path]) -> None:
    run = run_of(folders["llama"], "reference.scores=live", "optim.groups_per_step=512")
    small = devices.Device("small", 64 << 20, 1e12, fused=False)
    found = plan.survey(run, fused=False)
    now = plan.plan(found, small).total
    assert now > small.usable
    told = plan.advice(found, small)
    assert [words.split()[0] for words, _ in told][:3] == [
        "reference.scores", "engine.gradient_checkpointing", "engine.token_budget",
    ]  # fmt: skip
    assert all(total < now for _, total in told) and any(total <= small.usable for _, total in told)


def test_time_is_operations_over_speed(tmp_path: Path) -> None:
    transformers.LlamaConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=3, num_attention_heads=8, vocab_size=500
    ).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    found = plan.survey(run_of(tmp_path), fused=True)
    one, four = plan.plan(found, GPU, mfu=0.5), plan.plan(found, GPU, shard=2, replicate=2, mfu=0.5)
    assert one.seconds == pytest.approx(one.operations / (0.5 * GPU.speed)) and four.seconds == one.seconds / 4
    weights = found.trained - found.outside
    assert one.operations == pytest.approx(6 * weights * found.step_tokens, rel=0.1)  # and attention, and the head


def test_no_weight_is_read_and_the_command_says_it_all(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_model_dir(tmp_path / "m", "llama", "plain")
    (folder / "model.safetensors").write_bytes(b"no weights at all")
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    places = ["plan", f"model.path={folder}", f"data.train={data}", "optim.lr=1e-6", "optim.groups_per_step=4"]
    small = [*places, "engine.token_budget=512"]
    assert burnish(*small, "--device", "h100") == 0
    told = capsys.readouterr().out
    assert "12 groups of" in told and "optimiser" in told and "fits" in told and "TFLOP/s" in told
    assert burnish(*small, "--json", "--device", "cpu") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["total"] == sum(said["bytes"].values()) and said["seconds"] > 0
    assert burnish(*places, "--device", "cpu", "--memory", "0.01") == 0
    assert "does NOT fit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.path=nowhere/at/all"], "there is no folder"),
        ([], "name the folder of the model"),
        (["model.path={llama}", "--device", "abacus"], "h100, h200"),
        (["model.path={llama}", "--devices", "3", "scale.shard=2"], "there are 3 processes"),
        (["model.path={llama}", "optim.lr=quick"], "optim.lr"),
        (["nothing.toml"], "nothing.toml"),
    ],
)
def test_refusals(
    words: Sequence[str], told: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert burnish("plan", *[word.format(**folders) for word in words]) == 2
    err = capsys.readouterr().err
    assert told in err and "Traceback" not in err


@pytest.mark.parametrize("family", ["mixtral", "qwen3_next", "lfm2", "mamba", "llama4", "gpt_oss"])
def test_families_that_run_otherwise(tmp_path: Path, family: str) -> None:
    """Experts, recurrence, convolution, padded rows: all on shapes, in any type."""
    folder = save_model_dir(tmp_path / "m", family, "plain")
    wide, half = (
        plan.survey(run_of(folder, f"model.dtype={kind}"), fused=True).foot for kind in ("float32", "bfloat16")
    )
    assert wide.forward == half.forward > 0 and half.kept < wide.kept <= 2 * half.kept


def test_a_family_that_asks_for_numbers_is_refused(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(*_: Any, **__: Any) -> None:
        torch.zeros(1, device="meta").item()

    monkeypatch.setattr(Engine, "score", asks)
    with pytest.raises(ModelError, match="cannot be run on shapes alone"):
        plan.survey(run_of(folders["llama"]), fused=False)


def test_a_measured_budget_lies_within_memory() -> None:
    def peak(budget: int) -> int:
        return 1000 + 7 * budget + budget * budget // 5000  # not quite a line

    best = measure.largest(peak, 512, 100_000, 400_000)
    assert best % plan.GRAIN == 0 and peak(best) <= 400_000 < peak(int(best * 1.25))
    assert measure.largest(peak, 512, 4096, 10**9) == 4096
    assert measure.largest(peak, 512, 4096, 10) == 512


# -- budgets in a run ----------------------------------------------------------------------------------------------


SETTINGS = ["model.dtype=float64", "optim.lr=1e-3", "optim.groups_per_step=4", "optim.steps=3", "engine.threads=1"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return path


def losses(folder: Path) -> list[float]:
    return [r["loss"] for r in read_rows(folder) if r["record"] == "step"]


def test_out_of_memory_halves_the_budget_of_that_step(
    folders: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    places = ["train", f"model.path={folders['llama']}", f"data.train={data}", *SETTINGS, "objective.name=beta_dpo"]
    places.append(f"reference.store={tmp_path / 'store'}")
    assert burnish(*places, f"run.dir={tmp_path / 'a'}") == 0
    score, step = Engine.score, torch.optim.AdamW.step
    done, passes = [0], [0, 0, 0, 0]

    def short_of_memory(self: Engine, batch: Any, **more: Any) -> Any:
        if torch.is_grad_enabled():
            passes[min(done[0], 3)] += 1
            if done[0] == 1 and batch.input_ids.numel() > 70:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return score(self, batch, **more)

    def counted(self: torch.optim.AdamW, *args: Any) -> Any:
        done[0] += 1
        return step(self, *args)

    monkeypatch.setattr(Engine, "score", short_of_memory)
    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    capsys.readouterr()
    assert burnish(*places, f"run.dir={tmp_path / 'b'}") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "out of memory" in line]
    assert len(told) > 1 and all(line.startswith("step 2: ") for line in told)
    assert passes[1] > passes[0] == passes[2]  # the budget is the configured one again after the step
    assert losses(tmp_path / "a") == pytest.approx(losses(tmp_path / "b"), rel=1e-12)
    assert [r["step"] for r in read_rows(tmp_path / "b") if r["record"] == "completion"] == [
        r["step"] for r in read_rows(tmp_path / "a") if r["record"] == "completion"
    ]


def test_what_cannot_be_made_smaller_is_told(
    folders: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    score = Engine.score

    def out_of_memory(self: Engine, batch: Any, **more: Any) -> Any:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, batch, **more)

    monkeypatch.setattr(Engine, "score", out_of_memory)
    places = ["train", f"model.path={folders['llama']}", f"data.train={data}", *SETTINGS, "objective.name=simpo"]
    assert burnish(*places, f"run.dir={tmp_path / 'a'}") == 3
    assert "lower engine.token_budget" in capsys.readouterr().err


def test_a_budget_that_is_found_changes_no_result(
    folders: dict[str, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    places = [f"model.path={folders['llama']}", f"data.train={data}", *SETTINGS, "optim.groups_per_step=12"]
    assert burnish("train", *places, f"run.dir={tmp_path / 'a'}") == 0
    found = plan.survey(config.load(None, places), fused=False)
    wanted = sum(plan.fixed_bytes(found).values()) + plan.activation_bytes(found, 256)
    assert found.longest < 256 < found.step_tokens
    monkeypatch.setattr(plan, "free_memory", lambda: int(wanted / plan.CPU_SHARE) + 1000)
    capsys.readouterr()
    assert burnish("train", *places, f"run.dir={tmp_path / 'b'}", "engine.token_budget=auto") == 0
    assert "engine.token_budget = auto: 256 tokens" in capsys.readouterr().out
    assert 'token_budget = "auto"' in (tmp_path / "b" / "config.toml").read_text()
    assert losses(tmp_path / "a") == pytest.approx(losses(tmp_path / "b"), rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["adapter.kind=lora", "reward.train=head", "objective.name=bradley_terry"], "nothing to adapt"),
        (["source.refresh_every=1"], "nobody judges them"),
        (["source.k=3"], "source.k is about fresh answers"),
        (["stop.when=gold"], "offline there is no judge"),
    ],
)
def test_a_plan_is_refused_what_its_run_is_refused(
    folders: dict[str, Path], settings: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert burnish("plan", f"model.path={folders['llama']}", *settings) == 2
    assert message in capsys.readouterr().err


def test_a_plan_of_fresh_answers_needs_no_data_set(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "What is 1+1?", "answer": "2"}\n', encoding="utf-8")
    fresh = [f"source.prompts={prompts}", "source.refresh_every=1", "judge.kind=verifier", "judge.name=gsm8k"]
    words = ["objective.name=rloo", "source.max_new_tokens=8", "optim.groups_per_step=4", "engine.token_budget=512"]
    assert burnish("plan", f"model.path={folders['llama']}", *words, *fresh) == 0
    assert "data: 1 prompt, 4 answers each" in capsys.readouterr().out
