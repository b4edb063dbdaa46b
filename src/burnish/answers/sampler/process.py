"""Answers from the policy itself, in this process: prompts computed once for their K answers, keys and values in place,
finished answers gone from the next step, and new prompts in their stead."""

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

ROWS = 64  # answers written at the same time
WORTH_SHARING = 64  # tokens of a prompt from which its keys lie apart, once for all its answers


@dataclass
class Writing:
    """One answer on its way."""

    prompt: int  # which of the prompts
    number: int  # which of its answers
    row: int  # slot * k + number
    uniforms: Uniforms
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


@dataclass
class ProcessSampler:
    """Answers with the engine's policy as it stands. `terminal` are the tokens that end an answer, `rows` the answers
    written at the same time: neither changes what is drawn, but for rounding."""

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
        """The weights are the policy's own."""


class _Session:
    """One call: the prompts that wait, the slots, and the answers that are being written."""

    def __init__(
        self, sampler: ProcessSampler, prompts: Sequence[Prompt], k: int, decoding: Decoding, seed: int, step: int
    ) -> None:
        self.engine, self.terminal = sampler.engine, sampler.terminal
        self.prompts, self.k, self.decoding, self.seed, self.step = prompts, k, decoding, seed, step
        self.device = self.engine.policy.device
        slots = max(1, min(len(prompts), -(-sampler.rows // k)))
        longest = max((len(p.ids) for p in prompts), default=0)
        self.cache = KeyValueCache(slots, k, longest, split=longest >= WORTH_SHARING)
        self.lengths = torch.ones(slots, dtype=torch.long, device=self.device)  # of the prompts in the slots
        self.waiting = list(range(len(prompts)))[::-1]
        self.free = list(range(slots))
        self.alive: list[Writing] = []
        self.done: list[list[Sampled | None]] = [[None] * k for _ in prompts]

    def run(self) -> list[list[Sampled]]:
        while self.waiting or self.alive:
            if self.waiting and (not self.alive or len(self.free) >= max(1, self.cache.slots // 8)):
                self._admit()
            if self.alive:
                self._step()
        return [[one for one in answers if one is not None] for answers in self.done]

    def _admit(self) -> None:
        """Fill the free slots: their prompts in as few passes as the token budget asks for, first tokens drawn."""
        count = min(len(self.free), len(self.waiting))
        chosen = [(self.free.pop(0), self.waiting.pop()) for _ in range(count)]
        for part in divide([len(self.prompts[p].ids) for _, p in chosen], self.engine.token_budget):
            admitted = [chosen[i] for i in part]
            logits = self._prefill(admitted)
            new = [
                Writing(
                    prompt, number, slot * self.k + number,
                    Uniforms(self.seed, self.step, self.prompts[prompt].key, number),
                )
                for slot, prompt in admitted
                for number in range(self.k)
            ]  # fmt: skip
            self._write(new, logits.repeat_interleave(self.k, dim=0) if self.k > 1 else logits)

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
        """One token of every answer that is being written."""
        at = torch.tensor([len(one.ids) - 1 for one in self.alive], device=self.device)
        rows = torch.tensor([one.row for one in self.alive], device=self.device)
        self.cache.make_room(int(at.max()) + 1)
        step = CachedStep(self.cache, rows, at, self.lengths)
        positions = self.lengths[rows // self.k] + at
        logits = self._logits([one.ids[-1] for one in self.alive], positions, step, None)
        alive, self.alive = self.alive, []
        self._write(alive, logits)
        self._shrink()

    def _logits(self, ids: list[int], positions: Tensor, layout: Prefill | CachedStep, rows: Tensor | None) -> Tensor:
        policy = self.engine.policy
        options = {KEYWORD: layout, "position_ids": positions[None], "use_cache": False}
        hidden = policy.decoder(input_ids=torch.tensor([ids], device=self.device), **options).last_hidden_state[0]
        head = policy.head
        hidden = (hidden if rows is None else hidden.index_select(0, rows)).to(head.weight.dtype)
        return logits_of(product_of(hidden, head.weight), getattr(head, "bias", None), policy.transform)

    def _write(self, answers: list[Writing], logits: Tensor) -> None:
        """Draw the next token of each answer; those that end are done, the others stay alive."""
        uniforms = torch.tensor([one.uniforms[len(one.ids)] for one in answers], dtype=torch.float64)
        tokens, logps = draw(logits, uniforms.to(self.device), self.decoding)
        for one, token, logp in zip(answers, tokens.tolist(), logps.tolist(), strict=True):
            one.ids.append(token)
            one.logps.append(logp)
            ended = token in self.terminal
            if not ended and len(one.ids) < self.decoding.max_new_tokens:
                self.alive.append(one)
                continue
            self.done[one.prompt][one.number] = Sampled(tuple(one.ids), tuple(one.logps), "stop" if ended else "length")
        held = {one.row // self.k for one in self.alive}
        for slot in sorted({one.row // self.k for one in answers} - held - set(self.free)):
            self.free.append(slot)

    def _shrink(self) -> None:
        """When nothing waits any more and half of the slots are empty, the products leave those out."""
        used = sorted({one.row // self.k for one in self.alive})
        if self.waiting or not used or 2 * len(used) > self.cache.slots:
            return
        chosen = torch.tensor(used, device=self.device)
        self.cache.keep_slots(chosen)
        self.lengths = self.lengths.index_select(0, chosen)
        place = {slot: new for new, slot in enumerate(used)}
        for one in self.alive:
            one.row = place[one.row // self.k] * self.k + one.number
        self.free = []
