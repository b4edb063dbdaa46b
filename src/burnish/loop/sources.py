"""Where a step's groups come from: a fixed data set, fresh answers, or some of both. This is the dial.

Each source is a pure function of the seed, the step and what was sampled so far; the last is its `state`, which a
checkpoint holds and a resumed run takes up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from burnish.answers.answered import Answered, Refresh
from burnish.data.prompts import Prompt
from burnish.group import EncodedGroup, encoded_from_json, encoded_to_json
from burnish.loop.schedule import step_indices
from burnish.stats import seed_sequence

REMEMBERED = 20.0  # answers to a prompt after which its older ones count less in the curriculum

StepInput = tuple[list[EncodedGroup], Refresh | None]  # a step's groups, and the refresh that was made for it, if any


@runtime_checkable
class Source(Protocol):
    """Gives each step its groups; a step may have none, where no answer to its prompts taught anything."""

    def next(self, step: int) -> StepInput:
        """The groups of optimiser step `step` (from 0), and the refresh where this call made one. Asked again for the
        same step it gives the same groups and refreshes nothing."""

    def state(self) -> dict[str, Any]:
        """What was sampled and must not be lost, as JSON can hold it."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""


@dataclass(frozen=True)
class Fixed:
    """`refresh_every = "never"`: shuffled epochs over one data set."""

    groups: Sequence[EncodedGroup]
    per_step: int
    seed: int
    end: int | None = None  # number of groups at which an epoch-bounded run ends

    def next(self, step: int) -> StepInput:
        indices = step_indices(step, len(self.groups), self.per_step, self.seed, self.end)
        return [self.groups[i] for i in indices], None

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """There is nothing to restore."""


@dataclass
class Refreshed:
    """Every `every` steps the policy answers as many prompts as the steps until the next time need. Where nobody could
    judge the answers, the next step asks the next prompts.

    `epochs` is the number of steps each group takes part in. With `replay`, `replay_share` of a step's groups are taken
    from earlier refreshes, at most `replay` steps old. `adaptive` asks prompts more often whose success is near one
    half: in proportion to p (1 - p), p their mean reward, which must lie in [0, 1].
    """

    prompts: Sequence[Prompt]
    answer: Callable[[Sequence[Prompt], int, int], Refresh]  # prompts, seed, step
    every: int
    per_step: int
    seed: int
    steps: int | None = None  # of the run: no answers are asked for that no step would use
    epochs: int = 1
    replay: int = 0
    replay_share: float = 0.5
    adaptive: bool = False
    refreshes: int = 0
    answered: int = -1  # the step of the last refresh
    buffer: list[EncodedGroup | None] = field(default_factory=list)  # None: an answer that teaches nothing
    past: list[EncodedGroup] = field(default_factory=list)
    success: dict[str, list[float]] = field(default_factory=dict)  # by prompt: sum of rewards, answers

    @property
    def from_past(self) -> int:
        """Groups of a step that replay gives, once there are any."""
        return min(round(self.replay_share * self.per_step), self.per_step - 1) if self.replay else 0

    def asked_at(self, step: int) -> int:
        """Prompts of the refresh at this step: what the steps until the next one need."""
        ahead = self.every if self.steps is None else min(self.every, max(1, self.steps - step))
        wanted = self.per_step - self.from_past
        return max(wanted, -(-ahead * wanted // self.epochs))

    def next(self, step: int) -> StepInput:
        refresh = None
        due = step % self.every == 0 or not self.buffer
        if due and self.answered != step:
            refresh = self._refresh(step)
            self.answered = step
        size, wanted = len(self.buffer), self.per_step - self.from_past
        order = step_indices(step % self.every, size, min(wanted, size), one_seed(self.seed, step // self.every))
        if self.epochs == 1:  # each group once: in the order they were asked
            first = (step % self.every) * wanted
            order = list(range(first, min(first + wanted, size)))
        groups = [group for group in (self.buffer[i] for i in order) if group is not None]
        return groups + self._replayed(step), refresh

    def _refresh(self, step: int) -> Refresh:
        refresh = self.answer([self.prompts[i] for i in self._which(step)], self.seed, step)
        if self.replay:
            self.past += [group for group in self.buffer if group is not None]
            self.past = [g for g in self.past if g.rollout and step - g.rollout.version <= self.replay]
        self.buffer = refresh.groups if refresh.unjudged is None else []
        self.refreshes += 1
        if self.adaptive:
            for answered in refresh.answered:
                self._learn(answered)
        return refresh

    def _which(self, step: int) -> list[int]:
        count, total = self.asked_at(step - step % self.every), len(self.prompts)
        if not self.adaptive:
            usual = self.asked_at(0)  # of every refresh but the last, which may need fewer
            return step_indices(self.refreshes, total, usual, self.seed)[:count]
        weights = np.array([self._weight(prompt.key) for prompt in self.prompts])
        draw = np.random.default_rng(seed_sequence(self.seed, step, 1))
        size = min(count, total)
        chosen = draw.choice(total, size, replace=False, p=weights / weights.sum()).tolist()
        return [int(i) for i in (chosen * -(-count // size))[:count]]

    def _weight(self, key: str) -> float:
        """p (1 - p) of the prompt's success, from a prior of one answer of each kind."""
        good, seen = self.success.get(key, [0.0, 0.0])
        p = (good + 1) / (seen + 2)
        return p * (1 - p)

    def _learn(self, answered: Answered) -> None:
        """Count a prompt's mean reward as its success; older answers fade."""
        key, reward = answered.prompt.key, answered.reward
        if reward is None:
            return
        good, seen = self.success.get(key, [0.0, 0.0])
        fade = 1 - 1 / REMEMBERED if seen >= REMEMBERED else 1.0
        self.success[key] = [good * fade + min(1.0, max(0.0, reward)), seen * fade + 1]

    def _replayed(self, step: int) -> list[EncodedGroup]:
        known = [g for g in self.past if g.rollout and step - g.rollout.version <= self.replay]
        if not known or not self.from_past:
            return []
        draw = np.random.default_rng(seed_sequence(self.seed, step, 2))
        return [known[i] for i in draw.choice(len(known), min(self.from_past, len(known)), replace=False)]

    def state(self) -> dict[str, Any]:
        return {
            "refreshes": self.refreshes,
            "answered": self.answered,
            "buffer": [None if group is None else encoded_to_json(group) for group in self.buffer],
            "past": [encoded_to_json(group) for group in self.past],
            "success": self.success,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.refreshes, self.answered = int(state["refreshes"]), int(state["answered"])
        self.buffer = [None if row is None else encoded_from_json(row) for row in state["buffer"]]
        self.past = [encoded_from_json(row) for row in state["past"]]
        self.success = {key: list(values) for key, values in state["success"].items()}


@dataclass(frozen=True)
class Mixed:
    """A step's groups from two sources; each gives as many as it was made to."""

    fresh: Refreshed
    static: Fixed

    def next(self, step: int) -> StepInput:
        fresh, refresh = self.fresh.next(step)
        return fresh + self.static.next(step)[0], refresh

    def state(self) -> dict[str, Any]:
        return self.fresh.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.fresh.restore(state)


def one_seed(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(seed_sequence(*numbers).generate_state(1, np.uint64)[0] >> 1)


def shares(per_step: int, fresh: float) -> tuple[int, int]:
    """(fresh, static) groups of a step; at least one of each where both are asked for."""
    sampled = min(per_step, max(1, round(fresh * per_step)))
    if fresh < 1 and sampled == per_step:
        sampled = per_step - 1
    return sampled, per_step - sampled
