"""Answers from the policy itself, in this process.

A prompt is computed once for its K answers, and keys and values are stored in place. A finished answer leaves the next
step, and a finished prompt's slot takes the next prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from burnish.answers.sampler import Decoding, Sampled
from burnish.answers.sampler.cache import CachedStep, KeyValueCache, Prefill
from burnish.answers.sampler.draw import Uniforms, draw
from burnish.answers.sampler.stock import answer_padded
from burnish.data.prompts import Prompt
from burnish.engine.attention import KEYWORD
from burnish.engine.engine import Engine
from burnish.engine.logprob import logits_of, product_of
from burnish.engine.pack import divide
from burnish.engine.prune import kept_rows
from burnish.tensors import GroupSpans, Span

ROWS = 64  # unfinished answers at a time
LEAST_SHARED = 64  # tokens of a prompt from which its keys are stored once for all its answers


@dataclass
class UnfinishedAnswer:
    """The tokens that an answer has so far, and where it stands in the cache."""

    prompt: int  # which of the prompts
    number: int  # which of its answers
    row: int  # slot * k + number
    uniforms: Uniforms
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


@dataclass
class ProcessSampler:
    """Samples from the engine's policy; a `burnish.answers.sampler.Sampler`.

    `terminal` are the tokens that end an answer. `rows`, the unfinished answers at a time, changes the draws by
    rounding only.
    """

    engine: Engine
    terminal: frozenset[int]
    rows: int = ROWS

    def __call__(
        self, prompts: Sequence[Prompt], k: int, decoding: Decoding, seed: int, step: int
    ) -> list[list[Sampled]]:
        """For each prompt its k answers, in order; see `burnish.answers.sampler.Sampler`."""
        module = self.engine.policy.module
        training = module.training
        module.eval()
        try:
            with torch.no_grad():
                if not self.engine.shared or self.engine.plain_head:
                    return answer_padded(self.engine.policy, self.terminal, prompts, k, decoding, seed, step, self.rows)
                return _Session(self, prompts, k, decoding, seed, step).run()
        finally:
            module.train(training)

    def publish(self, version: int) -> None:
        """Nothing to do: the sampler computes with the policy's weights themselves."""


class _Session:
    """A call of the sampler: the prompts that wait, the slots, and the unfinished answers."""

    def __init__(
        self, sampler: ProcessSampler, prompts: Sequence[Prompt], k: int, decoding: Decoding, seed: int, step: int
    ) -> None:
        self.engine, self.terminal = sampler.engine, sampler.terminal
        self.prompts, self.k, self.decoding, self.seed, self.step = prompts, k, decoding, seed, step
        self.device = self.engine.policy.device
        slots = max(1, min(len(prompts), -(-sampler.rows // k)))
        longest = max((len(p.ids) for p in prompts), default=0)
        self.cache = KeyValueCache(slots, k, longest, split=longest >= LEAST_SHARED)
        self.lengths = torch.ones(slots, dtype=torch.long, device=self.device)  # of the prompts in the slots
        self.waiting = list(range(len(prompts)))[::-1]
        self.free = list(range(slots))
        self.unfinished: list[UnfinishedAnswer] = []
        self.done: list[list[Sampled | None]] = [[None] * k for _ in prompts]

    def run(self) -> list[list[Sampled]]:
        while self.waiting or self.unfinished:
            if self.waiting and (not self.unfinished or len(self.free) >= max(1, self.cache.slots // 8)):
                self._admit()
            if self.unfinished:
                self._step()
        return [[answer for answer in answers if answer is not None] for answers in self.done]

    def _admit(self) -> None:
        """Fill the free slots with prompts, in as few passes as the token budget allows, and draw first tokens."""
        count = min(len(self.free), len(self.waiting))
        chosen = [(self.free.pop(0), self.waiting.pop()) for _ in range(count)]
        for part in divide([len(self.prompts[p].ids) for _, p in chosen], self.engine.token_budget):
            admitted = [chosen[i] for i in part]
            logits = self._prefill(admitted)
            new = [
                UnfinishedAnswer(
                    prompt, number, slot * self.k + number,
                    Uniforms(self.seed, self.step, self.prompts[prompt].key, number),
                )
                for slot, prompt in admitted
                for number in range(self.k)
            ]  # fmt: skip
            self._extend(new, logits.repeat_interleave(self.k, dim=0) if self.k > 1 else logits)

    def _prefill(self, chosen: Sequence[tuple[int, int]]) -> Tensor:
        """Logits after each prompt [prompts, vocab]; its keys and values go into its slot."""
        ids = [list(self.prompts[prompt].ids) for _, prompt in chosen]
        starts = [0]
        for row in ids:
            starts.append(starts[-1] + len(row))
        into = [(slot, a, b) for (slot, _), a, b in zip(chosen, starts, starts[1:], strict=False)]
        for slot, a, b in into:
            self.lengths[slot] = b - a
        positions = torch.cat([torch.arange(len(row)) for row in ids]).to(self.device)
        spans = tuple(GroupSpans(Span(a, b - a), ()) for _, a, b in into)
        last = torch.tensor([b - 1 for _, _, b in into], device=self.device)
        layout = Prefill(spans, positions, torch.zeros_like(positions), cache=self.cache, into=into)
        if self.engine.pruned:
            layout.keep, last = kept_rows(last)
        return self._logits([token for row in ids for token in row], positions, layout, last)

    def _step(self) -> None:
        """Compute and draw the next token of every unfinished answer."""
        at = torch.tensor([len(answer.ids) - 1 for answer in self.unfinished], device=self.device)
        rows = torch.tensor([answer.row for answer in self.unfinished], device=self.device)
        self.cache.make_room(int(at.max()) + 1)
        step = CachedStep(self.cache, rows, at, self.lengths)
        positions = self.lengths[rows // self.k] + at
        logits = self._logits([answer.ids[-1] for answer in self.unfinished], positions, step, None)
        answers, self.unfinished = self.unfinished, []
        self._extend(answers, logits)
        self._shrink()

    def _logits(self, ids: list[int], positions: Tensor, layout: Prefill | CachedStep, rows: Tensor | None) -> Tensor:
        policy = self.engine.policy
        options = {KEYWORD: layout, "position_ids": positions[None], "use_cache": False}
        hidden = policy.decoder(input_ids=torch.tensor([ids], device=self.device), **options).last_hidden_state[0]
        head = policy.head
        hidden = (hidden if rows is None else hidden.index_select(0, rows)).to(head.weight.dtype)
        return logits_of(product_of(hidden, head.weight), getattr(head, "bias", None), policy.transform)

    def _extend(self, answers: list[UnfinishedAnswer], logits: Tensor) -> None:
        """Draw the next token of each answer; answers that end are done, the others stay unfinished."""
        uniforms = torch.tensor([answer.uniforms[len(answer.ids)] for answer in answers], dtype=torch.float64)
        tokens, logps = draw(logits, uniforms.to(self.device), self.decoding)
        for answer, token, logp in zip(answers, tokens.tolist(), logps.tolist(), strict=True):
            answer.ids.append(token)
            answer.logps.append(logp)
            ended = token in self.terminal
            if not ended and len(answer.ids) < self.decoding.max_new_tokens:
                self.unfinished.append(answer)
                continue
            sampled = Sampled(tuple(answer.ids), tuple(answer.logps), "stop" if ended else "length")
            self.done[answer.prompt][answer.number] = sampled
        held = {answer.row // self.k for answer in self.unfinished}
        for slot in sorted({answer.row // self.k for answer in answers} - held - set(self.free)):
            self.free.append(slot)

    def _shrink(self) -> None:
        """Drop the empty slots once they are half of all, and no prompt waits for them."""
        used = sorted({answer.row // self.k for answer in self.unfinished})
        if self.waiting or not used or 2 * len(used) > self.cache.slots:
            return
        chosen = torch.tensor(used, device=self.device)
        self.cache.keep_slots(chosen)
        self.lengths = self.lengths.index_select(0, chosen)
        moved = {slot: new for new, slot in enumerate(used)}
        for answer in self.unfinished:
            answer.row = moved[answer.row // self.k] * self.k + answer.number
        self.free = []
