"""One writer for a run's folder: the lock is held while the run goes on, and dies with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.errors import StoreError
from burnish.runlog.lock import Lock

HOLDER = "import sys, pathlib; from burnish.runlog.lock import Lock; lock = Lock(pathlib.Path(sys.argv[1])); " + (
    "lock.take(make=True); print('held', flush=True); sys.stdin.read()"
)


def test_it_is_refused_while_another_process_lives_and_free_when_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with Lock(folder) as lock, pytest.raises(StoreError, match=f"written by process {holder.pid} on"):
            lock.take()
        assert (folder / "lock").exists()  # who was refused removes nothing
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with Lock(folder) as lock:
            lock.take()
            lock.take(make=True)
            with Lock(folder) as other, pytest.raises(StoreError, match=f"process {os.getpid()} on"):
                other.take()
    assert not list(folder.iterdir())


def test_a_folder_is_made_only_when_asked(tmp_path: Path) -> None:
    with Lock(tmp_path / "run") as lock:
        lock.take()
        assert not (tmp_path / "run").exists()
        lock.take(make=True)
        assert (tmp_path / "run" / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_lock_whose_name_was_given_away_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder leaves, and removes the file, between this process's opening and locking it."""
    real, calls = Lock._lock, []

    def left_meanwhile(self: Lock, file: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            (tmp_path / "lock").unlink()
        real(self, file)  # type: ignore[arg-type]

    monkeypatch.setattr(Lock, "_lock", left_meanwhile)
    with Lock(tmp_path) as lock:
        lock.take()
        assert len(calls) == 2 and (tmp_path / "lock").exists()


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", none)
    with Lock(tmp_path) as lock:
        lock.take()
        assert "cannot be locked (Function not implemented)" in lock.unsupported
