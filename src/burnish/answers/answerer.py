"""Prompts -> answers of the policy as it stands -> judged, measured, and with credit: groups like any other.

The measuring pass computes the fresh answers' log-probs with the trainer's own engine, policy and reference, and from
the same hidden states the exact KL and the entropy at every token. Estimates of the KL from the sampled tokens alone
have 4 (k1) to 13 (k3) times the variance, and it costs one product with the head.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from burnish.answers.figures import Figures, Seen, figures, mismatch
from burnish.answers.judges import Judge, Reports
from burnish.answers.judges.panel import as_scores
from burnish.answers.sampler import Decoding, Prompt, Sampled, Sampler
from burnish.config import SourceConfig
from burnish.data.pairing import PairRule, preferred
from burnish.data.prompts import Asked
from burnish.data.views import usable
from burnish.engine.distributed import World
from burnish.engine.divergence import look
from burnish.engine.engine import Engine, to_device
from burnish.engine.reference import Live
from burnish.errors import JudgeError
from burnish.group import Completion, EncodedGroup, Feedback, Group, Labels, Message, Rollout, Scores, Unjudged
from burnish.objectives.advantages import RolloutBatch
from burnish.objectives.mixture import Mixture
from burnish.tensors import PackedBatch


@dataclass(frozen=True)
class Fresh:
    """What a refresh gave, by prompt in the order asked: the group to train on (None where it teaches the objective
    nothing), the answers as text with what the judge said, their mean reward (None where unjudged); and figures."""

    groups: list[EncodedGroup | None]
    figures: Figures
    texts: list[Group]
    rewards: list[float | None]


@dataclass
class Answerer:
    """Answers prompts, has them judged, and measures them."""

    sampler: Sampler
    judge: Judge
    engine: Engine
    reference: Live | None
    mixture: Mixture
    rule: PairRule
    tokenizer: Any
    source: SourceConfig
    gold: Judge | None = None
    state: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.engine.world

    def __call__(self, asked: Sequence[Asked], moment: tuple[int, int]) -> Fresh:
        """The groups of one refresh. `moment` is (seed, steps done). Raises JudgeError where no group at all could be
        judged: nothing could be learnt."""
        began = time.perf_counter()
        sampled = self.world.lead(lambda: self._sample(asked, moment))
        drawn = time.perf_counter()
        texts = [
            self._text(name, one, answers)
            for name, one, answers in zip(_names(asked, moment[1]), asked, sampled, strict=True)
        ]
        judged, gold = self.world.lead(lambda: (self._judged(texts), self.gold(texts) if self.gold else []))
        if "rollouts" in self.mixture.views:  # credit is taken from numbers: of votes, the share of them won
            judged = [as_scores(one, self.source.k) for one in judged]
        self._refuse_silence(judged)
        told = time.perf_counter()
        encoded = [
            EncodedGroup(
                group.id, one.ids, tuple(a.ids for a in answers), tuple(a.finish == "stop" for a in answers),
                feedback, group.source, group.where,
                Rollout(moment[1], tuple(a.logps for a in answers), limit=self.source.max_new_tokens),
            )
            for one, group, answers, feedback in zip(asked, texts, sampled, judged, strict=True)
        ]  # fmt: skip
        measured = measure(self.engine, self.reference, encoded)
        groups = [one.onto(group) for one, group in zip(measured, encoded, strict=True)]
        watched: list[Feedback | None] = [*gold] if gold else [None] * len(groups)
        seen = [
            Seen(group, feedback, better, one.kl, one.entropy)
            for group, feedback, better, one in zip(groups, judged, watched, measured, strict=True)
        ]
        found = figures(seen)
        flat = [
            [row for g in groups if g.rollout for row in getattr(g.rollout, name)] for name in ("behavior", "policy")
        ]
        found |= mismatch(*flat) | dict(self.judge.report() if isinstance(self.judge, Reports) else {})
        credited, state, more = credit(self.mixture, groups, self.source.is_cap, self.state)
        found |= more
        ready = [self._for_objective(group, text) for group, text in zip(credited, texts, strict=True)]
        taught = [group if self._teaches(group) else None for group in ready]
        found["groups_used"] = sum(group is not None for group in taught) / max(1, len(taught))
        done = time.perf_counter()
        found |= {"seconds/sampling": drawn - began, "seconds/judging": told - drawn, "seconds/measuring": done - told}
        self.state = state
        written = [replace(text, feedback=feedback) for text, feedback in zip(texts, judged, strict=True)]
        return Fresh(taught, found, written, [_mean(feedback) for feedback in judged])

    def _sample(self, asked: Sequence[Asked], moment: tuple[int, int]) -> list[list[Sampled]]:
        counts: dict[str, int] = {}
        prompts = []
        for one in asked:
            counts[one.key] = counts.get(one.key, 0) + 1  # a prompt that is asked twice gets other answers
            prompts.append(Prompt(f"{one.key}/{counts[one.key]}", one.ids))
        self.sampler.publish(moment[1])
        return self.sampler(prompts, self.source.k, decoding_of(self.source), moment)

    def _text(self, name: str, one: Asked, answers: Sequence[Sampled]) -> Group:
        """The answers as text, without the token that ends them: what a judge reads."""
        completions = []
        for number, answer in enumerate(answers):
            ids = answer.ids[:-1] if answer.finish == "stop" else answer.ids
            text = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
            turns = text if isinstance(one.group.prompt, str) else (Message("assistant", text),)
            meta = {"finished": answer.finish == "stop", "tokens": len(answer.ids), "id": f"{name}/{number}"}
            completions.append(Completion(turns, "policy", meta))
        return replace(one.group, id=name, completions=tuple(completions), feedback=Unjudged("not judged yet"))

    def _judged(self, texts: Sequence[Group]) -> list[Feedback]:
        """What the judge says, less the penalty on answers that were cut; gold is left as it is."""
        off = self.source.unfinished_penalty
        return [_less_unfinished(one, group, off) for one, group in zip(self.judge(texts), texts, strict=True)]

    def _refuse_silence(self, judged: Sequence[Feedback]) -> None:
        reasons = [one.reason for one in judged if isinstance(one, Unjudged)]
        if judged and len(reasons) == len(judged):
            raise JudgeError(f"{self.judge.name} judged none of {len(judged)} groups of answers: {reasons[0]}")

    def _for_objective(self, group: EncodedGroup, text: Group) -> EncodedGroup:
        """The judge's feedback in the form that the objective looks at: pairs by the named rule, yes and no by the
        pass mark (or by the group's own mean)."""
        if "pairs" in self.mixture.views:
            lengths = [len(ids) for ids in group.completion_ids]
            return replace(
                group, feedback=preferred(replace(text, feedback=group.feedback), self.rule, lengths).feedback
            )
        if "labels" in self.mixture.views and isinstance(group.feedback, Scores):
            values = group.feedback.values
            if min(values) == max(values) and self.rule.pass_mark is None:
                return replace(group, feedback=Unjudged("all scores alike"))
            mark = sum(values) / len(values) if self.rule.pass_mark is None else self.rule.pass_mark
            return replace(group, feedback=Labels(tuple(value >= mark for value in values)))
        return group

    def _teaches(self, group: EncodedGroup) -> bool:
        return not isinstance(group.feedback, Unjudged) and usable(group, self.mixture.views)


def decoding_of(source: SourceConfig) -> Decoding:
    """How the configuration wants answers drawn."""
    return Decoding(source.max_new_tokens, source.temperature, source.top_p, source.top_k)


def _names(asked: Sequence[Asked], step: int) -> list[str]:
    """A name for each group of a refresh, no two alike: its prompt's, the step, and which time where one repeats."""
    counts: dict[str, int] = {}
    names = []
    for one in asked:
        name = f"{one.group.id or one.key[:12]}@{step}"
        counts[name] = counts.get(name, 0) + 1
        names.append(f"{name}#{counts[name]}" if counts[name] > 1 else name)
    return names


def _less_unfinished(feedback: Feedback, group: Group, penalty: float) -> Feedback:
    if not penalty or not isinstance(feedback, Scores):
        return feedback
    values = [
        value - penalty * (not completion.meta.get("finished", True))
        for value, completion in zip(feedback.values, group.completions, strict=True)
    ]
    return replace(feedback, values=tuple(values))


def _mean(feedback: Feedback) -> float | None:
    return sum(feedback.values) / len(feedback.values) if isinstance(feedback, Scores) else None


# ------------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Measured:
    """One group's answers as the trainer sees them: log-probs by token, KL and entropy summed by answer."""

    policy: tuple[tuple[float, ...], ...]
    reference: tuple[tuple[float, ...], ...] = ()
    values: tuple[tuple[float, ...], ...] = ()
    kl: tuple[float, ...] = ()
    entropy: tuple[float, ...] = ()

    def onto(self, group: EncodedGroup) -> EncodedGroup:
        assert group.rollout is not None
        known = replace(group.rollout, policy=self.policy, reference=self.reference, values=self.values)
        return replace(group, rollout=known)


@torch.no_grad()
def measure(engine: Engine, reference: Live | None, groups: Sequence[EncodedGroup]) -> list[Measured]:
    """Every group's answers through policy and reference, packed as a training step packs them."""
    own: dict[int, Measured] = {}
    module = engine.policy.module
    module.eval()
    for batch in engine.plan(groups):
        columns = _columns(engine, reference, batch, groups)
        if batch.idle:
            continue
        pieces = {
            name: [piece.tolist() for piece in column.double().cpu().split(batch.lengths.tolist())]
            for name, column in columns.items()
            if column is not None
        }
        at = 0
        for index in batch.group_index:
            stop = at + len(groups[index].completion_ids)
            rows = {name: found[at:stop] for name, found in pieces.items()}
            by_token = [tuple(map(tuple, rows.get(name, ()))) for name in ("policy", "reference", "values")]
            by_answer = [tuple(map(sum, rows.get(name, ()))) for name in ("kl", "entropy")]
            own[index] = Measured(by_token[0], by_token[1], by_token[2], by_answer[0], by_answer[1])
            at = stop
    module.train()
    engine.policy.settle()
    every = {index: one for part in engine.world.gather(own) for index, one in part.items()}
    return [every[index] for index in range(len(groups))]


def _columns(
    engine: Engine, reference: Live | None, batch: PackedBatch, groups: Sequence[EncodedGroup]
) -> dict[str, Tensor | None]:
    """By token of a microbatch: log-probs of policy and reference, values, KL and entropy. The last two are missing for
    a head of unknown make, of which only log-probs are to be had."""
    if engine.plain_head or (reference is not None and reference.engine.plain_head):
        scored = engine.score(batch)
        theirs = None if reference is None else reference.computed(batch)[0]
        return {"policy": scored.logps, "reference": theirs, "values": scored.values}
    on_device = to_device(batch, engine.policy.device)
    head, values = engine.head_and_values(on_device)
    their_head = None if reference is None else reference.head(batch)
    found = look(head, their_head, on_device.targets)
    return {"policy": found.policy, "reference": found.reference, "values": values, "kl": found.kl,
            "entropy": found.entropy}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- credit


def credit(
    mixture: Mixture, groups: Sequence[EncodedGroup], cap: float, state: Mapping[str, Mapping[str, float]]
) -> tuple[list[EncodedGroup], dict[str, Mapping[str, float]], Figures]:
    """(the groups with the advantages of every objective that takes credit, its state carried on, figures).

    Each token's advantage is weighted by `min(trainer's / sampler's probability, cap)`: truncated importance sampling
    of what the two compute differently. Answers of groups that nobody judged take no part.
    """
    parts = [part for part in mixture.parts if part.objective.advantages is not None]
    judged = [group for group in groups if isinstance(group.feedback, Scores)]
    moved = dict(state)
    found: Figures = {}
    if not parts or not judged:
        return list(groups), moved, found
    known = [group.rollout for group in judged if group.rollout is not None]
    rows = {name: [torch.tensor(row, dtype=torch.float64) for one in known for row in getattr(one, name)]
            for name in ("policy", "reference", "values", "behavior")}  # fmt: skip
    rewards = [v for g in judged if isinstance(g.feedback, Scores) for v in g.feedback.values]
    number = [i for i, group in enumerate(judged) for _ in group.completion_ids]
    rollouts = RolloutBatch(
        torch.tensor(rewards, dtype=torch.float64), torch.tensor(number), rows["policy"], rows["reference"] or None,
        rows["values"] or None, known[0].limit,
    )  # fmt: skip
    weights = [(p - b).exp().clamp(max=cap) for p, b in zip(rows["policy"], rows["behavior"], strict=True)]
    total = torch.cat([row for row in weights]) if weights else torch.ones(1)
    found["mismatch/capped"] = float((total >= cap).double().mean())
    made = list(judged)
    for part in parts:
        assert part.objective.advantages is not None
        name = part.objective.name
        own = {k: v for k, v in part.params.items() if k in part.objective.advantage_settings}
        given = part.objective.advantages(replace(rollouts, state=state.get(name, {})), **own)
        moved[name] = dict(given.state)
        found |= dict(given.metrics)
        own_weights = weights
        if part.params.get("level") == "sequence_sum":  # one ratio an answer: that of its product
            drift = [(p - b).sum() for p, b in zip(rows["policy"], rows["behavior"], strict=True)]
            own_weights = [d.exp().clamp(max=cap).expand(len(w)) for d, w in zip(drift, weights, strict=True)]
        scaled = [(a * w).tolist() for a, w in zip(given.by_token, own_weights, strict=True)]
        back = None if given.returns is None else [r.tolist() for r in given.returns]
        kept = [True] * len(rewards) if given.kept is None else given.kept.tolist()
        made = _with_credit(made, name, scaled, back, kept)
    replaced = {id(before): after for before, after in zip(judged, made, strict=True)}
    return [replaced.get(id(group), group) for group in groups], moved, found


def _with_credit(
    groups: Sequence[EncodedGroup], name: str, advantages: Sequence[Sequence[float]],
    returns: Sequence[Sequence[float]] | None, kept: Sequence[bool],
) -> list[EncodedGroup]:  # fmt: skip
    made, at = [], 0
    for group in groups:
        assert group.rollout is not None
        stop = at + len(group.completion_ids)
        rows = {**group.rollout.advantages, name: tuple(map(tuple, advantages[at:stop]))}
        back = dict(group.rollout.returns)
        if returns is not None:
            back[name] = tuple(map(tuple, returns[at:stop]))
        rollout = replace(group.rollout, advantages=rows, returns=back)
        feedback = group.feedback if any(kept[at:stop]) else Unjudged("rewards all alike")
        made.append(replace(group, rollout=rollout, feedback=feedback))
        at = stop
    return made
