"""Tokens in, text out: one answer as it is written, cut at stop strings, never with half a character. No torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.answers.sampler import Finish

BROKEN = "\ufffd"  # what tokenizers decode half a character to


@dataclass(frozen=True)
class Manner:
    """How the answers of a request are written. `ends`: tokens that end an answer; `silent`: tokens without text (the
    tokenizer's control tokens); `stops`: texts that an answer is cut before; `limit`: most tokens."""

    tokenizer: Any
    limit: int
    ends: Collection[int] = frozenset()
    silent: Collection[int] = frozenset()
    stops: tuple[str, ...] = ()

    def text(self, ids: Sequence[int]) -> str:
        """What the tokens say."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


class Writer:
    """One answer: `add` its tokens in order, `end` it where it did not end by itself; both return the new text.

    The text of a token is what it adds to the text of those before it, since a token may be part of a character, and
    some tokenizers drop a space in front. `context` are the last tokens of a prompt that the answer goes on from.
    Text is held back while it may become a stop string or a character; half a character at the very end is left out.
    """

    def __init__(self, manner: Manner, context: Sequence[int] = ()) -> None:
        self.manner = manner
        self.ids: list[int] = []
        self.logps: list[float] = []
        self.starts: list[int] = []  # in the text, by token
        self.finish: Finish | None = None
        self.seen = ""  # decoded so far, and cut
        self.released = 0  # characters of it that were returned
        self._read = list(context)  # tokens with text, and the context
        self._known, self._done = 0, len(self._read)  # decoding starts at the first; before the second all is decoded

    def add(self, token: int, logp: float) -> str:
        """The next token, and nats of its log-prob; ignored where the answer is over. Raises ValueError for a log-prob
        that is not finite."""
        if self.finish is not None:
            return ""
        if not math.isfinite(logp):
            raise ValueError(f"the sampler gave a token the log-prob {logp}")
        self.ids.append(token)
        self.logps.append(logp)
        self.starts.append(len(self.seen))
        if token in self.manner.ends:
            return self.end("stop")
        if token not in self.manner.silent:
            self._read.append(token)
            if self._cut(self._decoded(last=False)):
                return self._release("stop")
        return self.end("length") if len(self.ids) >= self.manner.limit else self._release(None)

    def end(self, finish: Finish) -> str:
        """No token follows."""
        if self.finish is not None:
            return ""
        return self._release("stop" if self._cut(self._decoded(last=True)) else finish)

    def _decoded(self, last: bool) -> str:
        """The text of the newest tokens; empty while they end in the middle of a character."""
        before = self.manner.text(self._read[self._known : self._done])
        now = self.manner.text(self._read[self._known :])
        if last:
            return now.rstrip(BROKEN)[len(before) :]
        if len(now) <= len(before) or now.endswith(BROKEN):
            return ""
        self._known, self._done = self._done, len(self._read)
        return now[len(before) :]

    def _cut(self, new: str) -> bool:
        """Take the text in; whether a stop string ended it."""
        longest = max(map(len, self.manner.stops), default=1)
        start = max(0, len(self.seen) - longest + 1)
        self.seen += new
        found = [at for stop in self.manner.stops if (at := self.seen.find(stop, start)) >= 0]
        if found:
            self.seen = self.seen[: min(found)]
        return bool(found)

    def _release(self, finish: Finish | None) -> str:
        """The text that no later token can take back."""
        self.finish = finish
        upto = len(self.seen)
        if finish is None:
            upto -= max((_overlap(self.seen, stop) for stop in self.manner.stops), default=0)
        new = self.seen[self.released : upto]
        self.released = max(self.released, upto)
        return new


def _overlap(text: str, stop: str) -> int:
    """How many characters at the text's end might be the beginning of the stop string."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
