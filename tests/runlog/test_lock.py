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
from burnish.runlog.log import RunLog, read
from burnish.runlog.records import EndRecord

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


def test_a_lock_whose_file_was_deleted_is_taken_again_or_given_up(tmp_path: Path) -> None:
    """Who deletes the file, believing it old, lets a second process in: then one of the two stops."""
    with Lock(tmp_path) as lock, RunLog(tmp_path, lock=lock) as log:
        lock.take()
        (tmp_path / "lock").unlink()
        log.write(EndRecord(step=1))
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
        (tmp_path / "lock").unlink()
        with Lock(tmp_path) as other:
            other.take()
            with pytest.raises(StoreError, match="is being written by process"):
                log.write(EndRecord(step=2))
    assert [record.step for record in read(tmp_path, EndRecord)] == [1, 2]


def test_a_lock_that_cannot_be_written_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the holder's name does not fit; the same process may try again when there is space."""

    def full() -> str:
        raise OSError(28, "No space left on device")

    with Lock(tmp_path) as lock, monkeypatch.context() as patched:
        patched.setattr("socket.gethostname", full)
        with pytest.raises(StoreError, match="No space left"):
            lock.take()
    with Lock(tmp_path) as lock:
        lock.take()
