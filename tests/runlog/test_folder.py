"""The run's folder: nothing of another run, and nothing that is no run's, is deleted unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish import config
from burnish.errors import StoreError
from burnish.runlog.folder import claim_run_dir


def configured(folder: Path, *more: str) -> config.Run:
    return config.load(None, ["model.path=m", "data.train=d", f"run.dir={folder}", *more])


def test_claiming_a_folder_writes_the_configuration_without_this_starts_wishes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert claim_run_dir(configured(folder)) == folder
    again = configured(folder, "run.resume=true")
    claim_run_dir(again)
    assert config.load(str(folder / "config.toml")) == configured(folder)


def test_another_run_is_thrown_away_only_when_asked_and_nothing_else_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    claim_run_dir(configured(folder))
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_text("weights")
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds another run"):
        claim_run_dir(configured(folder))
    assert (folder / "model" / "model.safetensors").exists()
    claim_run_dir(configured(folder, "run.overwrite=true"))
    assert sorted(p.name for p in folder.iterdir()) == ["config.toml", "thesis.txt"]


def test_a_link_is_removed_and_what_it_points_to_is_not(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "model.safetensors").write_text("weights")
    claim_run_dir(configured(folder))
    (folder / "model").symlink_to(elsewhere)
    claim_run_dir(configured(folder, "run.overwrite=true"))
    assert not (folder / "model").exists() and (elsewhere / "model.safetensors").exists()


@pytest.mark.parametrize("key", ["model.path={}/model", "data.train={}/checkpoints/a.jsonl", "data.eval={}/log.jsonl"])
def test_overwriting_spares_what_the_new_run_is_made_from(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "run"
    claim_run_dir(configured(folder))
    with pytest.raises(StoreError, match=f"would delete {key.split('=')[0]}"):
        claim_run_dir(configured(folder, "run.overwrite=true", key.format(folder)))
    assert (folder / "config.toml").exists()


def test_folders_that_cannot_be_a_runs(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="is a file"):
        claim_run_dir(configured(file))
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        claim_run_dir(configured(file / "run"))
    with pytest.raises(StoreError, match="does not delete them"):
        claim_run_dir(configured(tmp_path, "run.overwrite=true"))
