"""A run's objective, or weighted mixture of them: a step's feedback and scores -> un-reduced losses, and what divides
them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from burnish.data.views import label_view, pair_view, winner_view
from burnish.group import EncodedGroup
from burnish.objectives import Objective, feedback
from burnish.objectives.feedback import StepGroups, StepSums
from burnish.tensors import Losses, Metric, PackedBatch, ScalarScores, TokenScores

State = dict[str, dict[str, float]]  # running averages by objective


@dataclass(frozen=True)
class WeightedObjective:
    """One objective with its hyper-parameters, and its weight in the sum."""

    objective: Objective
    params: Mapping[str, Any]
    weight: float = 1.0

    def units(self, groups: Sequence[EncodedGroup]) -> int:
        """What the summed losses of these groups are divided by; counted before the first backward pass."""
        if self.objective.unit == "group":
            return len(groups)
        if self.objective.unit == "pair":
            kept = self.params.get("keep")
            return sum(len(pair_view(group)) for group in groups) if kept is None else len(kept)
        if self.objective.view == "rollouts":
            by_token = self.params.get("agg", f"{self.objective.unit}_mean") == "token_mean"
            by_token = by_token and self.params.get("level") != "sequence_sum"  # one term an answer, whatever agg says
            return sum(len(ids) if by_token else 1 for group in groups for ids in group.completion_ids)
        if self.objective.view == "labels":
            return sum(len(label_view(group)) for group in groups)
        trained = [(group, k) for group in groups for k in winner_view(group)]
        if self.objective.unit == "completion":
            return len(trained)
        return sum(len(group.completion_ids[k]) for group, k in trained)

    @property
    def arguments(self) -> dict[str, Any]:
        """The parameters of the function itself: not those of running averages or advantages."""
        others = self.objective.running_settings | self.objective.advantage_settings
        return {name: value for name, value in self.params.items() if name not in others}

    def closed_form(self, groups: Sequence[EncodedGroup]) -> float | None:
        """Mean loss when the policy is its reference; None where it depends on the log-probs themselves."""
        if self.objective.view != "pairs" or self.objective.running is not None:
            return None
        value = self.objective.at_reference(self.params)
        if value is None:
            return None
        values = [weight * value for group in groups for _, _, weight in pair_view(group)]
        return sum(values) / len(values)


@dataclass(frozen=True)
class StepLoss:
    """The parts, ready for the microbatches of one step."""

    parts: tuple[WeightedObjective, ...]
    units: tuple[int, ...]
    step: StepGroups

    def __call__(self, scores: TokenScores | ScalarScores, batch: PackedBatch) -> list[Losses]:
        """Un-reduced losses of each part, on one of the step's microbatches."""
        losses = []
        for part in self.parts:
            view = feedback.view_of(part.objective, batch, scores, self.step)
            losses.append(part.objective.function(scores, view, **part.params))
        return losses

    def total(self, losses: Sequence[Losses]) -> Tensor:
        """This microbatch's share of the step's loss: sum over parts of weight x sum of losses / the step's units."""
        shares = [
            part.weight * of_part.values.sum() / units
            for part, of_part, units in zip(self.parts, losses, self.units, strict=True)
        ]
        return torch.stack(shares).sum() if len(shares) > 1 else shares[0]

    def metrics(self, losses: Sequence[Losses]) -> dict[str, Metric]:
        """The metrics of all parts, where two have one the first part's; in a mixture each part's loss besides."""
        metrics: dict[str, Metric] = {}
        for part, of_part in zip(self.parts, losses, strict=True):
            metrics = {**of_part.metrics, **metrics}
            if len(self.parts) > 1:
                metrics[f"loss/{part.objective.name}"] = Metric.of(of_part.values)
        return metrics


@dataclass(frozen=True)
class Mixture:
    """What a run minimises: one objective, or several with weights."""

    parts: tuple[WeightedObjective, ...]

    def needs(self, what: str) -> bool:
        return any(what in part.objective.needs for part in self.parts)

    @property
    def views(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.objective.view for part in self.parts))

    @property
    def name(self) -> str:
        return " + ".join(f"{p.weight:g} {p.objective.name}" if p.weight != 1 else p.objective.name for p in self.parts)

    @property
    def settings(self) -> str:
        """The objectives' settings in words: `dpo: beta=0.1, label_smoothing=0.0`."""
        parts = (
            (p.objective.name, ", ".join(f"{name}={value}" for name, value in p.params.items())) for p in self.parts
        )
        return "; ".join(f"{name}: {values or 'none'}" for name, values in parts)

    def start(self) -> State:
        """The running averages before the first step."""
        return {p.objective.name: dict(p.objective.running.start) for p in self.parts if p.objective.running}

    def advance(
        self, state: State, groups: Sequence[EncodedGroup], sums: StepSums | None, seed: int, step: int
    ) -> tuple[State, Mixture]:
        """(running averages after these groups, the mixture with this step's values filled in). What is drawn, is
        drawn by `seed` and `step`."""
        moved, parts = dict(state), []
        for part in self.parts:
            running = part.objective.running
            if running is None:
                parts.append(part)
                continue
            if sums is None:
                raise ValueError(f"{part.objective.name} needs the step's sums")
            settings = {name: part.params[name] for name in part.objective.running_settings if name in part.params}
            generator = feedback.generator(seed, step, part.objective.name)
            pairs = feedback.pair_sums(groups, sums)
            moved[part.objective.name], given = running.update(state[part.objective.name], pairs, generator, **settings)
            parts.append(replace(part, params=dict(part.params) | given))
        return moved, Mixture(tuple(parts))

    def holding(self, state: State) -> Mixture:
        """The mixture with the running averages as they stand, for a look that must not move them."""
        parts = []
        for part in self.parts:
            given = part.objective.running.given if part.objective.running else ()
            averages = {k: v for k, v in state.get(part.objective.name, {}).items() if k in given}
            parts.append(replace(part, params=dict(part.params) | averages))
        return Mixture(tuple(parts))

    def at(
        self, groups: Sequence[EncodedGroup], sums: StepSums | None = None, seed: int = 0, step: int = 0
    ) -> StepLoss:
        """The loss of a step of these groups. `sums` are the first pass's, for an objective of the whole step; without
        them each microbatch is taken for the step."""
        parts = tuple(replace(part, params=part.arguments) for part in self.parts)
        return StepLoss(parts, tuple(part.units(groups) for part in parts), StepGroups(groups, sums, seed, step))

    def closed_form(self, groups: Sequence[EncodedGroup]) -> float | None:
        """Mean loss when the policy is its reference; None where a part's depends on the log-probs themselves."""
        values = [part.closed_form(groups) for part in self.parts]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return sum(part.weight * value for part, value in zip(self.parts, known, strict=True))
