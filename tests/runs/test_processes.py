"""One process = two = three: the same losses, metrics, gradients and weights, whatever is divided and however."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.filesystem import FileSystemReader
from transformers import AutoModelForCausalLM, Gemma4TextConfig

from burnish.engine import checkpoint
from burnish.engine.distributed import balance
from burnish.runlog.log import read_rows
from tests.runs.cli import rows
from tests.runs.processes import Harm, ended, start
from tests.zoo import save_model_dir

SETTINGS = [
    "model.dtype=float64", "optim.lr=1e-3", "optim.groups_per_step=4", "optim.steps=5", "engine.threads=1",
    "engine.token_budget=120",
]  # fmt: skip
KINDS: dict[str, tuple[str, list[str]]] = {
    "llama": ("llama", []),
    "tied": ("gpt2", []),
    "lora": ("llama", ["adapter.kind=lora", "adapter.rank=4"]),
    "dora": ("llama", ["adapter.kind=lora", "adapter.rank=4", "adapter.dora=true"]),
    "checkpointing": ("qwen3", ["engine.gradient_checkpointing=true"]),
    "experts": ("mixtral", ["model.router_aux_coef=0.01"]),
    "padded": ("gemma3", ["engine.layout=padded"]),
    "hybrid": ("qwen3_next", []),
    "whole_step": ("llama", ["objective.name=bco_pair_batch_shift"]),
    "mismatched": ("llama", ["objective.name=kto"]),
    "running": ("llama", ["objective.name=beta_dpo"]),
    "whole_distributions": ("llama", ["objective.name=tdpo2"]),
    "moving_reference": ("llama", ["reference.update=ema", "reference.alpha=0.2"]),
    "live_adapter": ("llama", ["adapter.kind=lora", "adapter.rank=4", "reference.scores=live"]),
    "reward_model": ("llama", ["objective.name=bradley_terry"]),
    "one_group": ("llama", ["optim.groups_per_step=1"]),
    "held_out": ("llama", ["data.eval_fraction=0.3", "eval.every=2"]),
    "bfloat16": ("llama", ["model.dtype=bfloat16"]),
    "bfloat16_lora": ("llama", ["model.dtype=bfloat16", "adapter.kind=lora", "adapter.rank=4"]),
}

SLOW = pytest.mark.slow
OFTEN = ("llama", "experts", "hybrid", "whole_step", "moving_reference", "live_adapter", "bfloat16_lora")  # else slow

LOOSER = {"bfloat16": 0.05, "bfloat16_lora": 0.05, "hybrid": 1e-5}  # the last computes its recurrence in float32


def command(model: Path, data: Path, out: Path, store: Path, *settings: str) -> list[str]:
    paths = [f"model.path={model}", f"data.train={data}", f"run.dir={out}"]
    if not any(setting.startswith("reference.update") for setting in settings):
        paths.append(f"reference.store={store}")
    return ["train", *paths, *SETTINGS, *settings]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    found = {family: save_model_dir(root / family, family, "plain") for family in {f for f, _ in KINDS.values()}}
    return found | {"data": root / "pairs.jsonl"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = (folder / "model").glob("*.safetensors")
    return load_file(file)


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    dropped = ("time", "seconds", "imbalance", "tokens")
    found = [{k: v for k, v in r.items() if k not in dropped} for r in read_rows(folder) if r["record"] == kind]
    return sorted(found, key=lambda r: (r["step"], r.get("group", ""), r.get("index", 0)))


def assert_same(one: Path, other: Path, tolerance: float) -> None:
    """Losses, metrics, gradient norms and per-completion numbers of every step, and the weights at the end."""
    for kind in ("step", "completion", "eval"):
        ours, theirs = records(one, kind), records(other, kind)
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert a.keys() == b.keys()
            for name, value in a.items():
                if isinstance(value, float):
                    assert math.isclose(value, b[name], rel_tol=tolerance, abs_tol=tolerance), (kind, name, a, b)
                else:
                    assert value == b[name]
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=5 * tolerance)


@pytest.mark.parametrize("kind", [k if k in OFTEN else pytest.param(k, marks=SLOW) for k in KINDS])
def test_one_is_two_is_three(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    family, settings = KINDS[kind]
    for count in (1, 2, 3):
        wanted = command(folders[family], folders["data"], tmp_path / str(count), tmp_path / f"s{count}", *settings)
        codes = ended(start(count, tmp_path / f"out{count}", *wanted))
        assert codes == [0] * count, (tmp_path / f"out{count}-0").read_text()
        assert_same(tmp_path / "1", tmp_path / str(count), LOOSER.get(kind, 1e-9))


BUFFERS = {  # of the families' state dictionaries, which no gradient moves, and values away from their initial ones
    "deepseek_v3": ("e_score_correction_bias", [0.3, -0.2, 0.5, 0.1]),
    "gemma4": ("layer_scalar", [0.7]),
}


def with_buffers(folder: Path, family: str) -> Path:
    """A model whose persistent buffers have the values above."""
    save_model_dir(folder, "llama" if family == "gemma4" else family, "plain")
    if family == "gemma4":
        size = json.loads((folder / "config.json").read_text())["vocab_size"]
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(
            Gemma4TextConfig(
                vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, head_dim=8, global_head_dim=8, max_position_embeddings=512,
                hidden_size_per_layer_input=0, layer_types=["sliding_attention", "full_attention"],
            )
        ).save_pretrained(folder)  # fmt: skip
    held, (ending, values) = load_file(folder / "model.safetensors"), BUFFERS[family]
    held |= {name: torch.tensor(values) for name in held if name.endswith(ending)}
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("settings", [[], ["model.dtype=bfloat16", "optim.steps=1"]])
@pytest.mark.parametrize("family", BUFFERS)
def test_buffers_that_belong_to_the_files_are_handed_out_and_saved(
    folders: dict[str, Path], tmp_path: Path, family: str, settings: list[str]
) -> None:
    model, (ending, values) = with_buffers(tmp_path / "model", family), BUFFERS[family]
    for count in (1, 2):
        wanted = command(model, folders["data"], tmp_path / str(count), tmp_path / f"s{count}", *settings)
        codes = ended(start(count, tmp_path / f"out{count}", *wanted))
        assert codes == [0] * count, (tmp_path / f"out{count}-0").read_text()
        kept = [value for name, value in weights(tmp_path / str(count)).items() if name.endswith(ending)]
        assert kept and all(torch.equal(value.float(), torch.tensor(values)) for value in kept)
    assert_same(tmp_path / "1", tmp_path / "2", 0.05 if settings else 1e-5)  # both compute norms in float32


@pytest.mark.parametrize("family", ["llama", *(pytest.param(f, marks=SLOW) for f in ("gpt2", "mixtral", "gemma3"))])
def test_gradients_in_float32(folders: dict[str, Path], tmp_path: Path, family: str) -> None:
    """After one step AdamW's first moment is (1 - beta1) x gradient."""
    moments = []
    for count in (1, 2, 3):
        settings = ["model.dtype=float32", "optim.steps=2", "save.every=1", "optim.max_grad_norm=0"]
        wanted = command(folders[family], folders["data"], tmp_path / str(count), tmp_path / "store", *settings)
        assert ended(start(count, tmp_path / "out", *wanted)) == [0] * count
        moments.append(first_moments(tmp_path / str(count) / "checkpoints" / "step-1"))
    for found in moments[1:]:
        assert found.keys() == moments[0].keys()
        for name, value in found.items():
            torch.testing.assert_close(value, moments[0][name], rtol=1e-6, atol=1e-6 * float(value.abs().max()))


def first_moments(folder: Path) -> dict[str, torch.Tensor]:
    reader = FileSystemReader(folder)
    about = reader.read_metadata().state_dict_metadata
    room = {name: torch.empty(m.size) for name, m in about.items() if name.endswith("exp_avg")}
    checkpoint.load(folder, room)
    return room


def test_the_reference_is_computed_once_and_shared(folders: dict[str, Path], tmp_path: Path) -> None:
    """Two processes fill the store, each its groups; one, and three, find everything there."""
    for count in (2, 1, 3):
        wanted = command(folders["llama"], folders["data"], tmp_path / str(count), tmp_path / "store")
        assert ended(start(count, tmp_path / "out", *wanted)) == [0] * count
        (told,) = [r for r in read_rows(tmp_path / str(count)) if r["record"] == "reference"]
        assert (told["computed"], told["stored"]) == ((12, 0) if count == 2 else (0, 12))
        for a, b in zip(records(tmp_path / "2", "step"), records(tmp_path / str(count), "step"), strict=True):
            assert math.isclose(a["loss"], b["loss"], rel_tol=1e-9)


@pytest.mark.parametrize(
    "kind", ["lora", "moving_reference", *(pytest.param(k, marks=SLOW) for k in ("llama", "running"))]
)
def test_another_number_of_processes_goes_on(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Two processes, then one, then three end where one would have: and one asked to stop is all asked to stop."""
    family, settings = KINDS[kind]
    wanted = command(folders[family], folders["data"], tmp_path / "whole", tmp_path / "store1", *settings)
    assert ended(start(1, tmp_path / "out", *wanted, "optim.steps=9")) == [0]
    wanted = command(folders[family], folders["data"], tmp_path / "parts", tmp_path / "store", *settings)
    for count, step in ((2, 2), (1, 5)):
        harm = Harm(count - 1, step, "SIGTERM")
        children = start(
            count, tmp_path / "out", *wanted, "optim.steps=9", f"run.resume={str(step > 2).lower()}", harm=harm
        )
        assert ended(children) == [75] * count
        assert f"stopped after step {step + 1} of 9" in (tmp_path / "out-0").read_text()
    assert ended(start(3, tmp_path / "out", *wanted, "optim.steps=9", "run.resume=true")) == [0] * 3
    assert_same(tmp_path / "whole", tmp_path / "parts", 1e-9)


def test_copies_of_divided_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    for count, settings in ((1, []), (4, ["scale.replicate=2", "scale.shard=2", "save.every=2"])):
        wanted = command(folders["gpt2"], folders["data"], tmp_path / str(count), tmp_path / f"s{count}", *settings)
        assert ended(start(count, tmp_path / "out", *wanted)) == [0] * count
    assert "2 copies of them" in (tmp_path / "out-0").read_text()
    assert_same(tmp_path / "1", tmp_path / "4", 1e-9)


@pytest.mark.parametrize(("kind", "code"), [("fail", 3), ("SIGKILL", -9)])
def test_one_that_dies_takes_the_others_with_it(folders: dict[str, Path], tmp_path: Path, kind: str, code: int) -> None:
    wanted = command(folders["llama"], folders["data"], tmp_path / "run", tmp_path / "store", "save.every=1")
    began = time.monotonic()
    codes = ended(start(3, tmp_path / "out", *wanted, harm=Harm(1, 2, kind)), 30)
    assert time.monotonic() - began < 25 and codes[1] == code and None not in codes and 0 not in codes
    said = {rank: (tmp_path / f"out-{rank}").read_text().splitlines()[-1:] for rank in range(3)}
    spoken = [line for lines in said.values() for line in lines if line.startswith("burnish: ")]
    if kind == "fail":
        assert spoken == ["burnish: this one process has come to harm"] == said[1]
    else:
        assert len(spoken) == 1 and "lost the others: one of them was killed" in spoken[0]


def test_under_torchrun_a_refusal_is_said_once_and_first(folders: dict[str, Path], tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "burnish"]
    wanted = command(folders["llama"], tmp_path / "nothing.jsonl", tmp_path / "run", tmp_path / "store")
    refused = subprocess.run([*launch, *wanted], capture_output=True, text=True, timeout=120, check=False)
    said = refused.stderr
    assert refused.returncode != 0 and "does not exist" in said
    assert said.index("burnish: ") < said.index("ChildFailedError")  # torchrun's own report comes after it
    assert refused.stderr.count("burnish: ") == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["scale.shard=3"], "there are 2 processes"),
        (["scale.tensor=2"], "tensor parallelism"),
        (["optim.lr=fast"], "optim.lr"),
    ],
)
def test_refusals(folders: dict[str, Path], tmp_path: Path, settings: list[str], words: str) -> None:
    wanted = command(folders["llama"], folders["data"], tmp_path / "run", tmp_path / "store", *settings)
    codes = ended(start(2, tmp_path / "out", *wanted))
    said = "".join((tmp_path / f"out-{rank}").read_text() for rank in range(2))
    assert set(codes) <= {1, 2} and words in said and said.count("burnish: ") == 1


def test_groups_are_divided_evenly() -> None:
    """Longest first: nobody has more than 4/3 of the mean and the longest, whichever is more; each group once."""
    draw = random.Random(0)
    for parts in (1, 2, 3, 8):
        sizes = [draw.randrange(1, 500) for _ in range(40)]
        shares = balance(sizes, parts)
        assert sorted(i for share in shares for i in share) == list(range(40))
        loads = [sum(sizes[i] for i in share) for share in shares]
        assert max(loads) <= 4 / 3 * max(sum(sizes) / parts, max(sizes))
    assert balance([3, 3, 2, 2, 2], 2) == [[0, 3], [1, 2, 4]] or balance([3, 3, 2, 2, 2], 2) == [[0, 2, 4], [1, 3]]
    assert balance([5], 3) == [[0], [], []]
