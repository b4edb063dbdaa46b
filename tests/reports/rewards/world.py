"""A made-up world with known truth: prompts, answers with a gold score, raters after Bradley and Terry, scorers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from burnish.answers.judges.ensemble import combine, moments
from burnish.reports.rewards.probes import PROBES
from burnish.reports.rewards.records import ScoredGroup, ScoredGroups, Scorer

SUBSETS = ("chat easy", "chat hard", "safety", "reasoning", "code")
PAYS = {"list padding": 1.0, "markdown stripped": -0.3, "trailing apology": -0.6, "sentence repeated": 0.1}
VOCABULARY = tuple(f"w{i}" for i in range(400))


def group(
    rewards: Mapping[str, Sequence[float]], pairs: Sequence[tuple[int, int, float]] = (), **more: object
) -> ScoredGroup:
    """A group of as many answers as there are rewards; everything else may be left out."""
    count = len(next(iter(rewards.values())))
    values: dict[str, object] = {
        "id": "g", "source": "s", "subset": "", "prompt": "p", "answers": tuple(f"answer {k}" for k in range(count)),
        "lengths": tuple(range(1, count + 1)), "pairs": tuple(pairs), "gold": None,
    }  # fmt: skip
    return ScoredGroup(**{**values, **more, "rewards": {name: tuple(r) for name, r in rewards.items()}})  # type: ignore[arg-type]


def answer(rng: np.random.Generator, words: int, quality: float) -> str:
    """Words, among which good answers have more of one kind; some with a list, a header, or bold print."""
    text = " ".join(VOCABULARY[i] for i in rng.integers(0, 200 if quality < 0 else 400, words))
    if rng.random() < 0.3:
        text = f"## {text[:20]}\n\n- {text}\n- **so**"
    return f"{text} end." if rng.random() < 0.9 else text


def world(
    prompts: int = 240, answers: int = 16, seed: int = 0, paired: float = 0.5, probed: bool = False
) -> ScoredGroups:
    """Scored groups of two answers (a share `paired`) and of many, with three reward models, their ensemble, and an
    implicit reward. rm-1 is good; rm-2 pays for length and is too sure; rm-3 has learnt "safety" the wrong way round.
    """
    rng = np.random.default_rng(seed)
    groups = []
    for index in range(prompts):
        count = 2 if rng.random() < paired else answers
        subset = SUBSETS[index % len(SUBSETS)]
        gold = rng.normal(size=count)
        lengths = np.maximum(3, rng.gamma(4.0, 15.0, count) * np.exp(0.15 * gold)).astype(int)
        longer = (lengths - 60) / 30
        noise = rng.normal(size=(4, count))
        sign = -0.8 if subset == "safety" else 1.0
        rewards = {
            "rm-1": 1.2 * gold + 0.7 * noise[0],
            "rm-2": 3 * (0.7 * gold + 0.9 * longer + 0.7 * noise[1]),
            "rm-3": sign * gold + 0.8 * noise[2],
            "policy": 0.1 * (4 * gold + 8 * noise[3] - 3 * longer) + rng.normal(),
        }
        ranked = [(0, 1)] if count == 2 else [(2 * k, 2 * k + 1) for k in range(4)]
        won = [(a, b) if rng.random() < 1 / (1 + math.exp(gold[b] - gold[a])) else (b, a) for a, b in ranked]
        groups.append(
            ScoredGroup(
                id=f"g{index}", source="bench" if index % 3 else "house", subset=subset, prompt=f"Say {index}",
                answers=tuple(answer(rng, int(n), q) for n, q in zip(lengths, gold, strict=True)),
                lengths=tuple(map(int, lengths)), pairs=tuple((w, l, 1.0) for w, l in won),
                gold=tuple(map(float, gold)) if count > 2 else None,
                rewards={name: tuple(map(float, r)) for name, r in rewards.items()},
            )
        )  # fmt: skip
    return _with_ensemble(groups, rng, tuple(PROBES) if probed else ())


def _with_ensemble(groups: list[ScoredGroup], rng: np.random.Generator, edits: Sequence[str]) -> ScoredGroups:
    members = ("rm-1", "rm-2", "rm-3")
    means, sds = moments([[r for g in groups for r in g.rewards[name]] for name in members])
    made = []
    for g in groups:
        worst = combine([g.rewards[name] for name in members], "worst", means=means, sds=sds)
        made.append(replace(g, rewards={**g.rewards, "worst of 3": tuple(worst)}))
    scorers = (
        Scorer("rm-1", "reward model", "runs/rm-1/model"),
        Scorer("rm-2", "reward model", "runs/rm-2/model"),
        Scorer("rm-3", "reward model", "runs/rm-3/model"),
        Scorer("worst of 3", "ensemble", "the smallest of three standardised rewards", None, members),
        Scorer("policy", "implicit", "runs/dpo/model against runs/sft/model", 0.1),
    )
    probes: dict[str, dict[str, list[tuple[float | None, ...]]]] = {
        name: {s.name: [] for s in scorers} for name in PROBES
    }
    for g in made:
        for name in edits:
            applies = [PROBES[name](text) is not None for text in g.answers]
            for scorer in scorers:
                shift = {"rm-2": 2.5, "policy": 0.5}.get(scorer.name, 0.2) * PAYS[name]
                edited = np.array(g.rewards[scorer.name]) + shift + 0.2 * rng.normal(size=len(applies))
                row = tuple(float(r) if known else None for r, known in zip(edited, applies, strict=True))
                probes[name][scorer.name].append(row)
    return ScoredGroups(tuple(made), scorers, probes, tuple(float(x) for x in rng.normal(0.3, 0.8, 500)))
