"""Whether weights that were handed to a server have arrived: its log-probs of a fixed text beside the trainer's.

A server may answer that it has read the weights, and have left some of them out. The text, and what the server goes on
with, have known log-probs: those that the trainer computes with the weights that it handed over. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from burnish.errors import TrainingError

LONGEST = 256  # tokens of the text
FURTHER = 32  # tokens that the server goes on with
GROWTH = 10.0  # rounding after later updates may be so many times that after the first
LEAST = 1e-4  # nats: a difference that is never taken for more than rounding


@dataclass
class Arrival:
    """Compares a server with the trainer after each update.

    text       token ids, the same at every update
    logps      the trainer's log-prob of every token of a text but the first, in nats
    rounding   most that the two may differ after the first update, mean over the tokens, in nats; after later ones it
               is ten times what they differed then, since the same rounding is all there may be
    limit      most that they may differ after any update; None: `rounding` says it
    """

    text: tuple[int, ...]
    logps: Callable[[Sequence[int]], Sequence[float]]
    rounding: float
    limit: float | None = None
    first: float | None = field(default=None, init=False)  # the mean difference after the first update

    def compare(self, ids: Sequence[int], server: Sequence[float | None], version: int) -> None:
        """Raises TrainingError where the server's log-probs are not those of the weights after `version` steps.

        `server`: its log-prob of every token of `ids` but the first, None where it gives none.
        """
        pairs = [(s, t) for s, t in zip(server, self.logps(ids), strict=True) if s is not None]
        difference = fmean(abs(s - t) for s, t in pairs)
        bound = self.limit or (self.rounding if self.first is None else max(LEAST, GROWTH * self.first))
        if not difference <= bound:  # NaN is beyond every bound
            raise TrainingError(
                f"the weights after step {version} have not arrived on the server as they are: of a text of "
                f"{len(pairs)} tokens its mean log-prob is {fmean(s for s, _ in pairs):.5f} nats, and the trainer's is "
                f"{fmean(t for _, t in pairs):.5f}; token by token they differ by {difference:.2g} on average, and at "
                f"most {bound:.2g} is rounding. The server's log may name weights that it did not load; an adapter "
                "(source.update = 'lora') needs none of them. For a server that computes in another precision, set "
                "source.max_mismatch"
            )
        self.first = difference if self.first is None else self.first
