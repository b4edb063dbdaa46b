"""An adapter at another strength adds that many times its change, to the layers that are named and to no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from burnish.engine.merge import merge
from burnish.engine.strength import GROUPS, scaled
from burnish.errors import ModelError
from tests.zoo import save_model_dir


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base, and an adapter on all of its linear layers; the ranks' scale is the square root's."""
    root = tmp_path_factory.mktemp("strength")
    base = save_model_dir(root / "base", "llama", "plain")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    names = [name for group in GROUPS.values() for name in group]
    settings = LoraConfig(r=4, lora_alpha=6, target_modules=names, use_rslora=True, alpha_pattern={"v_proj": 3})
    adapted = get_peft_model(model, settings)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    adapted.save_pretrained(root / "adapter")
    about = json.loads((root / "adapter" / "adapter_config.json").read_text())
    (root / "adapter" / "adapter_config.json").write_text(json.dumps({**about, "base_model_name_or_path": str(base)}))
    return base, root / "adapter"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict())


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("group", [None, "attention", "mlp"])
def test_a_weight_is_its_base_and_so_many_times_the_change(
    folders: tuple[Path, Path], tmp_path: Path, strength: float, group: str | None
) -> None:
    base, adapter = folders
    merge(str(adapter), str(tmp_path / "whole"))
    merge(str(scaled(adapter, tmp_path / "scaled", strength, group)), str(tmp_path / "part"))
    before, whole, part = weights(base), weights(tmp_path / "whole"), weights(tmp_path / "part")
    changed = 0
    for name, value in part.items():
        counts = group is None or any(layer in name for layer in GROUPS[group])
        expected = before[name] + (strength if counts else 0.0) * (whole[name] - before[name])
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)
        changed += not torch.equal(whole[name], before[name])
    assert changed == 7 * len({name.split(".")[2] for name in part if "layers" in name})


@pytest.mark.parametrize("strength", [-0.5, 0.3, 1.2])
def test_merging_at_a_strength_is_merging_the_scaled_adapter(
    folders: tuple[Path, Path], tmp_path: Path, strength: float
) -> None:
    _, adapter = folders
    merge(str(scaled(adapter, tmp_path / "scaled", strength)), str(tmp_path / "one"))
    merge(str(adapter), str(tmp_path / "other"), strength)
    one, other = weights(tmp_path / "one"), weights(tmp_path / "other")
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_has_no_strength_is_said(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, adapter = folders
    with pytest.raises(ModelError, match="cannot be read"):
        scaled(tmp_path, tmp_path / "x", 0.5)
    about = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "dora").mkdir()
    (tmp_path / "dora" / "adapter_config.json").write_text(json.dumps({**about, "use_dora": True}))
    with pytest.raises(ModelError, match="no plain LoRA adapter"):
        scaled(tmp_path / "dora", tmp_path / "x", 0.5)
