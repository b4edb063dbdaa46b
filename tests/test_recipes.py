"""Every recipe is a configuration that burnish takes, and reads back equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish import config
from burnish.loop.refusals import mixture_of

RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_is_taken_and_read_back(file: Path, tmp_path: Path) -> None:
    run = config.load(str(file), ["model.path=m", "data.train=d", "source.prompts=p"] if file.name != "dpo.toml"
                      else ["model.path=m", "data.train=d"])  # fmt: skip
    mixture_of(run)
    again = tmp_path / "again.toml"
    again.write_text(config.to_toml(run))
    assert config.load(str(again)) == run


def test_there_are_recipes_of_the_dial() -> None:
    assert {"dpo", "online_dpo", "rloo_gsm8k", "grpo", "ppo"} <= {file.stem for file in RECIPES}
