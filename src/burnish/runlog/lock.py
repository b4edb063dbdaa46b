"""The lock on a run's folder: two processes never write one run. The system releases it where its holder dies."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from burnish.errors import StoreError


class Lock:
    """An exclusive `flock` of the file `lock` in a run's folder, from `take` until the `with` is left.

    Of a run's several processes the first takes it. `unsupported`: why there is none, where the file system has none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unsupported = ""
        self._file: TextIO | None = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            if not self.unsupported and self._is_current(self._file):
                (self.folder / "lock").unlink(missing_ok=True)
            self._file.close()

    def take(self, *, make: bool = False) -> None:
        """Take the lock of a folder that exists; with `make`, make the folder first. Taken twice it is held once.

        Raises StoreError where another process holds it, or the folder cannot be written.
        """
        try:
            if make and not self.folder.is_file():
                self.folder.mkdir(parents=True, exist_ok=True)
            while self._file is None and self.folder.is_dir():
                file = (self.folder / "lock").open("a+", encoding="utf-8")
                try:
                    self._lock(file)
                    if self._is_current(file):
                        file.truncate(0)
                        file.write(f"process {os.getpid()} on {socket.gethostname()}")
                        file.flush()
                        self._file = file
                finally:
                    if self._file is not file:
                        with suppress(OSError):  # of a full disk: what could not be written is tried again
                            file.close()
        except OSError as error:
            raise StoreError(f"run.dir = {self.folder} cannot be written: {error.strerror or error}") from error

    def hold(self) -> None:
        """Take a lock again whose file was deleted. Raises StoreError where another process has taken it since."""
        if self._file is not None and not self._is_current(self._file):
            self._file.close()
            self._file = None
            self.take()

    def _lock(self, file: TextIO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read() or "another process"
            raise StoreError(
                f"{self.folder} is being written by {holder}: a run has one writer. Stop that one, or name another "
                "run.dir"
            ) from None
        except OSError as error:  # a network's file system without locks
            self.unsupported = f"{self.folder} cannot be locked ({error.strerror}): start no second run in it"

    def _is_current(self, file: TextIO) -> bool:
        """Whether the file still has its name: who held the lock before has removed it when it left."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self.folder / "lock"))
        except FileNotFoundError:
            return False
