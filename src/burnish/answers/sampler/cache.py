"""Keys and values of unfinished answers, in place.

A slot holds a prompt and its K answers. The keys of a long prompt are stored once, apart from those of its answers. The
keys of a short prompt begin each answer's row, so that attention is two products. A decoding step computes the newest
token of every unfinished answer in a flat row of the model's input; `CachedStep` is its layout for the attention
kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from burnish.engine.attention import Layout

FIRST_ROOM = 32  # tokens of an answer that there is room for at first; doubled as needed


@dataclass
class KeyValueCache:
    """Static storage by layer: prompts [slots, key heads, longest prompt, width], answers [slots * k, ...].

    Where `split` is false, answers' rows begin with `longest` columns for their prompt, and prompts have no storage.
    """

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
        """Store a layer's keys and values [key heads, tokens, width] of prompts in a flat row; `spans` are (slot,
        start, stop)."""
        if layer == len(self.keys):
            for kept, of_answers, new in (
                (self.prompt_keys, self.keys, keys), (self.prompt_values, self.values, values),
            ):  # fmt: skip
                heads, _, width = new.shape
                if self.split:
                    kept.append(new.new_zeros(self.slots, heads, self.longest, width))
                of_answers.append(new.new_zeros(self.slots * self.k, heads, self.ahead + FIRST_ROOM, width))
        for slot, start, stop in spans:
            if self.split:
                self.prompt_keys[layer][slot, :, : stop - start] = keys[:, start:stop]
                self.prompt_values[layer][slot, :, : stop - start] = values[:, start:stop]
                continue
            rows = slice(slot * self.k, (slot + 1) * self.k)
            self.keys[layer][rows, :, : stop - start] = keys[:, start:stop]
            self.values[layer][rows, :, : stop - start] = values[:, start:stop]

    def make_room(self, tokens: int) -> None:
        """Grow the storage to at least `tokens` tokens an answer."""
        if tokens <= self.room:
            return
        size = self.ahead + max(tokens, 2 * self.room)
        for kept in (self.keys, self.values):
            for layer, old in enumerate(kept):
                new = old.new_zeros(*old.shape[:2], size, old.shape[3])
                new[:, :, : old.shape[2]] = old
                kept[layer] = new

    def keep_slots(self, slots: Tensor) -> None:
        """Keep these slots, in this order; the answers of the others are finished."""
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
    """The layout of a decoding step, shared by all layers.

    `rows` are the unfinished answers (slot * k + number), `at` the place of each one's newest token in its answer, and
    `prompts` the prompts' lengths.
    """

    cache: KeyValueCache
    rows: Tensor  # [B]
    at: Tensor  # [B]
    prompts: Tensor  # [slots]
    keep: None = None  # read by the engine's pruned last layer: all rows
    calls: int = 0
    biases: dict[int | None, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prompt_columns = int(self.prompts.max()) if self.cache.split else self.cache.longest
        # in sixteens: products of the same shape, step after step, are compiled once
        self.answer_columns = min(self.cache.room, -(-(int(self.at.max()) + 1) // 16) * 16)
        self.column = self.at + self.cache.ahead
        full = self.cache.slots * self.cache.k
        self.complete = len(self.rows) == full and bool(
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
            in_prompt = torch.arange(self.prompt_columns, device=device).expand(slots, k, -1)
            in_answer = torch.arange(self.answer_columns, device=device).expand(slots, k, -1)
            length = self.prompts[:, None, None]
            attended = torch.cat([in_prompt < length, in_answer <= at], dim=-1)
            if window is not None:
                attended &= length + at - torch.cat([in_prompt, in_answer + length], dim=-1) < window
            bias = torch.zeros(attended.shape, device=device).masked_fill_(~attended, float("-inf"))
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
        attention = self._split if cache.split else self._whole
        flat = attention(query, layer, window, softcap, sinks)
        return flat if self.complete else flat.index_select(0, self.rows)

    def _query(self, q: Tensor, kv: int, scale: float) -> Tensor:
        """[slots * k, key heads, queries of each, D]; rows of answers that have ended are 0."""
        heads, count, width = q.shape
        query = (q * scale).view(kv, heads // kv, count, width).permute(2, 0, 1, 3)
        if self.complete:
            return query.contiguous()
        return query.new_zeros(self.cache.slots * self.cache.k, *query.shape[1:]).index_copy_(0, self.rows, query)

    def _whole(
        self, query: Tensor, layer: int, window: int | None, softcap: float | None, sinks: Tensor | None
    ) -> Tensor:  # fmt: skip
        """Attention where a prompt's keys begin each answer's row."""
        cache, columns = self.cache, self.prompt_columns + self.answer_columns
        many, kv, group, width = query.shape
        scores = torch.bmm(query.view(-1, group, width), _flat(cache.keys[layer], columns).transpose(1, 2))
        scores = scores.view(cache.slots, cache.k, kv, group, columns).transpose(1, 2)
        p = self._softmax(scores, window, softcap, sinks).transpose(1, 2).reshape(-1, group, columns)
        values = _flat(cache.values[layer], columns)
        return torch.bmm(p.to(values.dtype), values).view(many, kv * group, -1)

    def _split(
        self, query: Tensor, layer: int, window: int | None, softcap: float | None, sinks: Tensor | None
    ) -> Tensor:  # fmt: skip
        """Attention where prompts' keys are stored apart: a product for a prompt and all its answers, and one for each
        answer by itself."""
        cache = self.cache
        slots, many = cache.slots, cache.k
        _, kv, group, width = query.shape
        queries = query.view(slots, many, kv, group, width).transpose(1, 2).reshape(slots * kv, many * group, width)
        to_prompt = torch.bmm(queries, _flat(cache.prompt_keys[layer], self.prompt_columns).transpose(1, 2))
        keys = _flat(cache.keys[layer], self.answer_columns)
        to_answer = torch.bmm(query.view(-1, group, width), keys.transpose(1, 2))
        scores = torch.cat(
            [
                to_prompt.view(slots, kv, many, group, self.prompt_columns),
                to_answer.view(slots, many, kv, group, self.answer_columns).transpose(1, 2),
            ],
            dim=-1,
        )
        p = self._softmax(scores, window, softcap, sinks).to(query.dtype)
        out = torch.bmm(
            p[..., : self.prompt_columns].reshape(slots * kv, many * group, self.prompt_columns),
            _flat(cache.prompt_values[layer], self.prompt_columns),
        )
        out = out.view(slots, kv, many, group, -1).transpose(1, 2)
        weights = p[..., self.prompt_columns :].transpose(1, 2).reshape(-1, group, self.answer_columns)
        out = out + torch.bmm(weights, _flat(cache.values[layer], self.answer_columns)).view(slots, many, kv, group, -1)
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
