"""Questions to a server over HTTP: retried, timed out, so many at a time, and the key in nothing that is said."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from burnish.errors import JudgeError

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
FIRST_WAIT, LONGEST_WAIT = 0.25, 30.0  # seconds between tries; doubled each time, up to this


@dataclass
class Wire:
    """One endpoint. `key` goes into the Authorization header and nowhere else; `concurrency` bounds the requests under
    way, so that a slow server is not buried."""

    url: str
    key: str = field(default="", repr=False)
    seconds: float = 60.0
    retries: int = 4
    concurrency: int = 8

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        limits = httpx.Limits(max_connections=self.concurrency)
        self._client = httpx.Client(timeout=self.seconds, headers=headers, limits=limits)

    def post(self, path: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The server's JSON object. Raises JudgeError with a sentence, once all tries have failed."""
        said = ""
        for attempt in range(self.retries + 1):
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * (0.5 + random.random() / 2)
            try:
                answer = self._client.post(f"{self.url.rstrip('/')}/{path.lstrip('/')}", json=payload)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                said = f"{type(error).__name__} {error}"
            else:
                if answer.is_success:
                    return self._object(answer)
                said = f"status {answer.status_code}: {answer.text[:300]}"
                if answer.status_code not in AGAIN:
                    break
                wait = max(wait, _asked_to_wait(answer))
            if attempt < self.retries:
                time.sleep(wait)
        raise JudgeError(self._plain(f"{self.url}: {said}"))

    def _object(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise JudgeError(self._plain(f"{self.url}: the answer is no JSON object: {answer.text[:200]!r}"))
        return found

    def _plain(self, text: str) -> str:
        """Without the key, which some servers send back in their errors."""
        return text.replace(self.key, "***") if self.key else text


def _asked_to_wait(answer: httpx.Response) -> float:
    """Seconds that the server asks for."""
    try:
        return min(LONGEST_WAIT, float(answer.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0
