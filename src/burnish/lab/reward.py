"""Explicit and implicit reward side by side on the flash cards: reward models and DPO from the same pairs, one report.

The gold utility of every answer is known here, so the report shows what it cannot elsewhere: accuracy on true
preferences, best-of-n against gold, and how well answers better than the training data's are told apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import LlamaForCausalLM

from burnish import config
from burnish.data.readers import read
from burnish.engine import candidates
from burnish.evals import rewards
from burnish.group import Completion, Group, Preferences, Scores, to_json
from burnish.lab import policy, quickstart, world
from burnish.loop import members as ensemble
from burnish.loop import train
from burnish.reports.rewards import report, write
from burnish.reports.rewards.page import page, picture
from burnish.reports.rewards.terminal import print_report
from burnish.runlog.progress import Progress

RM_EPOCHS, RM_LR, RM_GROUPS = 5.0, 2e-3, 64
ANSWERS = 16  # fresh ones to a card


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """How big the job is; tests run a smaller one."""

    seed: int = 0
    members: int = 3
    base: quickstart.QuickstartSettings = field(default_factory=quickstart.QuickstartSettings)
    epochs: float = RM_EPOCHS
    answers: int = ANSWERS


def run(out: Path, settings: RewardSettings) -> dict[str, Any]:
    """SFT, pairs, reward models, DPO, fresh answers of the SFT policy with their gold utility, and the report on them.

    Leaves sft/, rm/, dpo/, pairs.jsonl, fresh.jsonl and report.{json,svg,html} in `out`; returns the report's figures.
    """
    console = Console(highlight=False, soft_wrap=True)
    out.mkdir(parents=True, exist_ok=True)
    base = settings.base
    with quickstart.quiet_transformers(), quickstart.single_thread():
        reference = quickstart.make_sft(out, base)
        pairs, _ = quickstart.write_pairs(reference, out, base, console)
        chosen = chosen_utilities(pairs.groups)
        ensemble.run(config.load(None, reward_overrides(out, settings)))
        train.run(config.load(None, quickstart.overrides(out, base)))
        write_fresh(reference, out / "fresh.jsonl", settings)
        return _report(out, console, chosen)


def reward_overrides(out: Path, settings: RewardSettings) -> list[str]:
    """The reward models' run, as a user would say it after `burnish train`."""
    return [
        f"model.path={out / 'sft'}",
        "model.dtype=float32",
        f"data.train={out / 'pairs.jsonl'}",
        "objective.name=bradley_terry",
        f"optim.lr={RM_LR}",
        f"optim.epochs={settings.epochs}",
        f"optim.groups_per_step={RM_GROUPS}",
        f"reward.members={settings.members}",
        f"run.dir={out / 'rm'}",
        "run.overwrite=true",
        "engine.threads=1",
        f"seed={settings.seed}",
    ]


def write_fresh(reference: LlamaForCausalLM, file: Path, settings: RewardSettings) -> None:
    """Fresh answers of the SFT policy to every card, scored by their gold utility."""
    cards = [card for card in world.CARDS for _ in range(settings.answers)]
    answers = policy.sample(reference, cards, torch.Generator().manual_seed(settings.seed + 77))
    lines = []
    for start in range(0, len(answers), settings.answers):
        kept = [a for a in answers[start : start + settings.answers] if a.finished and world.writable(a)]
        if len(kept) < 2:
            continue
        scores = Scores(tuple(answer.utility for answer in kept))
        completions = tuple(Completion(answer.text) for answer in kept)
        group = Group(kept[0].card.prompt, completions, scores, id=kept[0].card.prompt, source="fresh")
        lines.append(json.dumps(to_json(group), ensure_ascii=False))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def chosen_utilities(groups: Sequence[Group]) -> list[float]:
    """Gold utility of the preferred answer of every pair."""
    cards = {card.prompt: card for card in world.CARDS}
    utilities = []
    for group in groups:
        assert isinstance(group.prompt, str) and isinstance(group.feedback, Preferences)
        winner = group.feedback.triples[0][0]
        utilities.append(world.Answer(cards[group.prompt], str(group.completions[winner].messages)).utility)
    return utilities


def _report(out: Path, console: Console, chosen: Sequence[float]) -> dict[str, Any]:
    settings = config.load_partly(None, ["model.dtype=float32"])
    with Progress() as progress:
        scored, _ = rewards.score(
            read(str(out / "fresh.jsonl")).groups,
            candidates.find([str(out / "rm"), str(out / "dpo")]),
            settings,
            stage=lambda name: progress.stage(f"scoring with {name}"),
            probes=100,
            hows=("mean", "worst", "uncertainty"),
            coef=0.5,
        )
    write(out / "scored.jsonl", scored)
    figures = report(scored.groups, scored.scorers, probes=scored.probes, trained_on=chosen, words=False)
    print_report(figures, console)
    (out / "report.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (out / "report.html").write_text(page(figures), encoding="utf-8")
    (out / "report.svg").write_text(picture(figures), encoding="utf-8")
    console.print(f"\nrecords, figures, picture and page lie in {out}", markup=False)
    return figures
