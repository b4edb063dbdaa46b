"""Keys and values of the answers that are being written, in place.

A slot holds one prompt and its K answers. Where prompts are long, a prompt's keys lie there once, beside each answer's
own; else each answer's row begins with its prompt's, and attention is two products. The rows
of a decoding step are the newest tokens of all unfinished answers, one flat row of the model's input, each at its own
position; `CachedStep` is what the attention kernel is handed for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from burnish.engine.attention import Layout

FIRST = 32  # tokens of an answer that there is room for at first; doubled as needed


@dataclass
class KeyValueCache:
    """Static storage by layer: prompts [slots, key heads, longest prompt, width], answers [slots * k, ...]. Not
    `split`: answers' rows begin with `longest` columns for their prompt, and nothing is stored apart."""

    slots: int
    k: int
    longest: int  # tokens of a prompt
    split: bool = True
    prompt_keys: list[Tensor] = field(default_factory=list)
    prompt_values: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    @property
    def room(self) -> int:
        """Tokens of an answer that there is room for."""
        return self.keys[0].shape[2] - self.ahead if self.keys else 0

    @property
    def ahead(self) -> int:
        """Columns before an answer's first token."""
        return 0 if self.split else self.longest

    def store(self, layer: int, keys: Tensor, values: Tensor, spans: Sequence[tuple[int, int, int]]) -> None:
        """A layer's keys and values [key heads, tokens, width] of prompts that lie in one row: (slot, start, stop)."""
        if layer == len(self.keys):
            for kept, of_answers, new in (
                (self.prompt_keys, self.keys, keys), (self.prompt_values, self.values, values),
            ):  # fmt: skip
                heads, _, width = new.shape
                if self.split:
                    kept.append(new.new_zeros(self.slots, heads, self.longest, width))
                of_answers.append(new.new_zeros(self.slots * self.k, heads, self.ahead + FIRST, width))
        for slot, start, stop in spans:
            if self.split:
                self.prompt_keys[layer][slot, :, : stop - start] = keys[:, start:stop]
                self.prompt_values[layer][slot, :, : stop - start] = values[:, start:stop]
                continue
            rows = slice(slot * self.k, (slot + 1) * self.k)
            self.keys[layer][rows, :, : stop - start] = keys[:, start:stop]
            self.values[layer][rows, :, : stop - start] = values[:, start:stop]

    def make_room(self, tokens: int) -> None:
        """At least so many tokens an answer."""
        if tokens <= self.room:
            return
        size = self.ahead + max(tokens, 2 * self.room)
        for kept in (self.keys, self.values):
            for layer, old in enumerate(kept):
                new = old.new_zeros(*old.shape[:2], size, old.shape[3])
                new[:, :, : old.shape[2]] = old
                kept[layer] = new

    def keep_slots(self, slots: Tensor) -> None:
        """Only these slots, in this order: the rest are finished."""
        rows = (slots[:, None] * self.k + torch.arange(self.k, device=slots.device)).flatten()
        for kept in (self.prompt_keys, self.prompt_values):
            kept[:] = [old.index_select(0, slots) for old in kept]
        for kept in (self.keys, self.values):
            kept[:] = [old.index_select(0, rows) for old in kept]
        self.slots = len(slots)


@dataclass
class Prefill(Layout):
    """The layout of prompts alone, whose keys and values go into the cache as they are computed."""

    cache: KeyValueCache | None = None
    into: Sequence[tuple[int, int, int]] = ()

    def see(self, key: Tensor, value: Tensor) -> None:
        assert self.cache is not None
        self.cache.store(self.calls - 1, key, value, self.into)


@dataclass
class CachedStep:
    """One decoding step: `rows` are the answers (slot * k + number) whose newest token, number `at` of the answer, is
    computed; `prompts` [slots] are lengths. Everything here is shared by all layers."""

    cache: KeyValueCache
    rows: Tensor  # [B]
    at: Tensor  # [B]
    prompts: Tensor  # [slots]
    keep: None = None  # the engine's pruned last layer asks
    calls: int = 0
    biases: dict[int | None, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.widest = int(self.prompts.max()) if self.cache.split else self.cache.longest
        # in sixteens: products of the same shape, step after step, are compiled once
        self.newest = min(self.cache.room, -(-(int(self.at.max()) + 1) // 16) * 16)
        self.column = self.at + self.cache.ahead
        full = self.cache.slots * self.cache.k
        self.everyone = len(self.rows) == full and bool(
            (self.rows == torch.arange(full, device=self.rows.device)).all()
        )

    def bias(self, window: int | None) -> Tensor:
        """float32 [slots, 1, k, 1, prompt + answer tokens]: 0 where attended, -inf elsewhere."""
        if window not in self.biases:
            device = self.rows.device
            slots, k = self.cache.slots, self.cache.k
            at = torch.zeros(slots * k, dtype=torch.long, device=device)
            at[self.rows] = self.at
            at = at.view(slots, k, 1)
            before = torch.arange(self.widest, device=device).expand(slots, k, -1)
            own = torch.arange(self.newest, device=device).expand(slots, k, -1)
            length = self.prompts[:, None, None]
            seen = torch.cat([before < length, own <= at], dim=-1)
            if window is not None:
                seen &= length + at - torch.cat([before, own + length], dim=-1) < window
            bias = torch.zeros(seen.shape, device=device).masked_fill_(~seen, float("-inf"))
            self.biases[window] = bias[:, None, :, None, :]
        return self.biases[window]

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """q [heads, B, D], k and v [key heads, B, D] of the newest tokens -> [B, heads, D_v]."""
        cache, layer = self.cache, self.calls
        self.calls += 1
        cache.keys[layer][self.rows, :, self.column] = k.transpose(0, 1)
        cache.values[layer][self.rows, :, self.column] = v.transpose(0, 1)
        query = self._query(q, k.shape[0], scale)
        attended = self._split if cache.split else self._whole
        flat = attended(query, layer, window, softcap, sinks)
        return flat if self.everyone else flat.index_select(0, self.rows)

    def _query(self, q: Tensor, kv: int, scale: float) -> Tensor:
        """[slots * k, key heads, queries of each, D]; rows of answers that have ended are 0."""
        heads, count, width = q.shape
        query = (q * scale).view(kv, heads // kv, count, width).permute(2, 0, 1, 3)
        if self.everyone:
            return query.contiguous()
        return query.new_zeros(self.cache.slots * self.cache.k, *query.shape[1:]).index_copy_(0, self.rows, query)

    def _whole(
        self, query: Tensor, layer: int, window: int | None, softcap: float | None, sinks: Tensor | None
    ) -> Tensor:  # fmt: skip
        """Each answer's queries meet its prompt's keys and its own, which lie in one row."""
        cache, columns = self.cache, self.widest + self.newest
        many, kv, group, width = query.shape
        scores = torch.bmm(query.view(-1, group, width), _flat(cache.keys[layer], columns).transpose(1, 2))
        scores = scores.view(cache.slots, cache.k, kv, group, columns).transpose(1, 2)
        p = self._softmax(scores, window, softcap, sinks).transpose(1, 2).reshape(-1, group, columns)
        values = _flat(cache.values[layer], columns)
        return torch.bmm(p.to(values.dtype), values).view(many, kv * group, -1)

    def _split(
        self, query: Tensor, layer: int, window: int | None, softcap: float | None, sinks: Tensor | None
    ) -> Tensor:  # fmt: skip
        """A prompt's keys meet the queries of all its answers in one product; each answer's own keys meet its own."""
        cache = self.cache
        slots, many = cache.slots, cache.k
        _, kv, group, width = query.shape
        asked = query.view(slots, many, kv, group, width).transpose(1, 2).reshape(slots * kv, many * group, width)
        before = torch.bmm(asked, _flat(cache.prompt_keys[layer], self.widest).transpose(1, 2))
        own = torch.bmm(query.view(-1, group, width), _flat(cache.keys[layer], self.newest).transpose(1, 2))
        scores = torch.cat(
            [
                before.view(slots, kv, many, group, self.widest),
                own.view(slots, many, kv, group, self.newest).transpose(1, 2),
            ],
            dim=-1,
        )
        p = self._softmax(scores, window, softcap, sinks).to(query.dtype)
        out = torch.bmm(
            p[..., : self.widest].reshape(slots * kv, many * group, self.widest),
            _flat(cache.prompt_values[layer], self.widest),
        )
        out = out.view(slots, kv, many, group, -1).transpose(1, 2)
        tail = p[..., self.widest :].transpose(1, 2).reshape(-1, group, self.newest)
        out = out + torch.bmm(tail, _flat(cache.values[layer], self.newest)).view(slots, many, kv, group, -1)
        return out.reshape(slots * many, kv * group, -1)

    def _softmax(self, scores: Tensor, window: int | None, softcap: float | None, sinks: Tensor | None) -> Tensor:
        scores = scores if scores.dtype == torch.float64 else scores.float()
        if softcap is not None:
            scores = scores.div_(softcap).tanh_().mul_(softcap)
        scores += self.bias(window)
        if sinks is None:
            return scores.softmax(-1)
        slots, kv, many, group, _ = scores.shape
        column = sinks.to(scores.dtype).view(1, kv, 1, group, 1).expand(slots, kv, many, group, 1)
        return torch.cat([scores, column], dim=-1).softmax(-1)[..., :-1]


def _flat(kept: Tensor, tokens: int) -> Tensor:
    """[slots, heads, room, width] -> [slots * heads, the first tokens, width], without a copy."""
    return kept.flatten(0, 1)[:, :tokens]
