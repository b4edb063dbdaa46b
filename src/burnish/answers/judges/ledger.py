"""What a judge behind an endpoint has cost, and its replies so far; its key is in neither."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.errors import StoreError

CHARACTERS = 3.0  # of a token at least, where an endpoint does not count
FRAME = 10_000  # tokens that an endpoint may add to a request or a reply
COUNTS = ("read", "written", "requests", "cached", "estimated")


@dataclass
class Spend:
    """Tokens and US dollars, counted as replies come, whether or not they could be read."""

    prices: tuple[float, float]  # of a million tokens read, and of a million written
    budget: float | None = None
    read: int = 0
    written: int = 0
    requests: int = 0
    cached: int = 0
    estimated: int = 0  # replies without the endpoint's count of tokens
    reserved: float = 0.0  # dollars that requests in flight could cost
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def dollars(self) -> float:
        return (self.read * self.prices[0] + self.written * self.prices[1]) / 1e6

    def reserve(self, text: str, most: int) -> float | None:
        """Put aside what a request could cost at most; None where that would pass the budget."""
        cost = (len(text) / CHARACTERS * self.prices[0] + most * self.prices[1]) / 1e6
        with self._lock:
            if self.budget is not None and self.dollars + self.reserved + cost > self.budget:
                return None
            self.reserved += cost
        return cost

    def release(self, reserved: float) -> None:
        """Give back what was put aside for a request that failed."""
        with self._lock:
            self.reserved -= reserved

    def settle(self, reserved: float, usage: Any, text: str, limit: int, reply: str) -> None:
        """Enter what a request did cost: the endpoint's count where it can be true, else an estimate.

        `limit`: the tokens that the reply was allowed.
        """
        counted = usage if isinstance(usage, Mapping) else {}
        read = _believed(counted.get("prompt_tokens"), len(text.encode("utf-8", "replace")))
        written = _believed(counted.get("completion_tokens"), max(limit, len(reply.encode("utf-8", "replace"))))
        with self._lock:
            self.reserved -= reserved
            self.requests += 1
            if read is None or written is None:
                self.estimated += 1
                read, written = round(len(text) / CHARACTERS), round(len(reply) / CHARACTERS)
            self.read += read
            self.written += written

    def state(self) -> dict[str, int]:
        """What a checkpoint holds."""
        return {name: getattr(self, name) for name in COUNTS}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name in COUNTS:
            setattr(self, name, int(state[name]))


def _believed(count: Any, most: int) -> int | None:
    """A count of tokens that can be true: a token is a byte at least, and endpoints add a frame of their own."""
    return count if type(count) is int and 0 <= count <= most + FRAME else None


class ReplyCache:
    """Replies by the content of the question: `replies.jsonl`, appended a line at a time. A line cut short by a crash
    is passed over. Raises StoreError where the folder cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "replies.jsonl"
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines() if self._file.exists() else []
        except OSError as error:
            raise StoreError(f"judge.cache: {folder} cannot be used: {error.strerror}") from error
        for line in lines:
            try:
                row = json.loads(line)
                self._known[str(row["key"])] = str(row["reply"])
            except (ValueError, KeyError, TypeError):
                continue

    @staticmethod
    def key(**content: Any) -> str:
        """The key of a reply: a hash of everything that decides it."""
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> str | None:
        return self._known.get(key)

    def put(self, key: str, reply: str) -> None:
        line = json.dumps({"key": key, "reply": reply}) + "\n"
        with self._lock:
            self._known[key] = reply
            try:
                handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                try:
                    os.write(handle, line.encode())
                finally:
                    os.close(handle)
            except OSError as error:
                raise StoreError(f"{self._file} cannot be written: {error.strerror}. Free some space") from error
