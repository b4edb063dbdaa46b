"""A disk that fills up: one sentence, nothing half-written left, and with some space freed the run goes on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs.cli import burnish, rows
from tests.zoo import save_model_dir

SETTINGS = [
    "model.dtype=float32", "optim.lr=1e-3", "optim.groups_per_step=4", "optim.steps=12", "save.every=2",
    "engine.threads=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_dir(tmp_path_factory.mktemp("model") / "llama", "llama", "plain")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB; skipped where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def filled(disk: Path, leaving: int) -> Path:
    """A file that leaves so many bytes of the disk free."""
    ballast = disk / "ballast"
    state = os.statvfs(disk)
    ballast.write_bytes(b"\0" * max(0, state.f_bavail * state.f_frsize - leaving))
    return ballast


@pytest.mark.parametrize("leaving", [0, 30_000, 200_000, 1_200_000])
def test_a_full_disk_is_a_sentence_and_freed_space_is_enough_to_go_on(
    leaving: int, model_dir: Path, small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """So little space that at first the folder, then the store, a checkpoint or the model cannot be written."""
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    places = ["train", f"model.path={model_dir}", f"data.train={data}", *SETTINGS, f"run.dir={small_disk / 'run'}"]
    ballast = filled(small_disk, leaving)
    assert burnish(*places) != 0
    message = capfd.readouterr().err
    assert "Traceback" not in message and "defect" not in message and message.count("burnish: ") == 1
    assert "space" in message.lower()
    assert not list(small_disk.rglob("*.part"))
    ballast.unlink()
    assert burnish(*places, "run.resume=true") == 0
    assert (small_disk / "run" / "model" / "model.safetensors").is_file()
