"""The model card holds what a run was made with."""

from __future__ import annotations

from pathlib import Path

from burnish import config
from burnish.engine.model_card import model_card


def test_the_model_card_holds_the_settings_as_they_were(tmp_path: Path) -> None:
    run = config.load(None, ['model.path=a: "b"', "data.train=d", "objective.beta=0.3"])
    card = model_card(run, ["train: d: 5 groups"])
    assert 'base_model: "a: \\"b\\""' in card and "beta = 0.3" in card and "    train: d: 5 groups" in card
    settings = tmp_path / "settings.toml"
    settings.write_text(card.split("```toml\n")[1].split("```")[0])
    assert config.load(str(settings)) == run
