"""The whole job on the flash cards: SFT, pairs from a noisy rater, DPO, and what it changed, in under a minute.

Run it with `python -m burnish.lab.quickstart [folder]`. DPO goes through `burnish.loop.train.run` on the written files,
exactly as `burnish train` would on anybody's model and pairs.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from burnish import config
from burnish.errors import BurnishError, StoreError
from burnish.group import Group, Preferences, to_json
from burnish.lab import picture, policy, world
from burnish.lab.measure import Evaluation, evaluate
from burnish.loop import train
from burnish.runlog import log
from burnish.runlog.progress import Progress
from burnish.runlog.records import CompletionRecord

PAIRS, HELD_OUT = 4000, 500  # drawn; ties are then left out
DPO_STEPS, GROUPS_PER_STEP, BETA, LR = 200, 64, 0.3, 2e-4


@dataclass(frozen=True, slots=True)
class QuickstartSettings:
    """How big the job is. The defaults are the quickstart's; tests run a smaller one."""

    seed: int = 0
    sft_steps: int = policy.SFT_STEPS
    pairs: int = PAIRS
    held_out: int = HELD_OUT
    dpo_steps: int = DPO_STEPS
    answers_per_card: int = 40
    rater: world.Rater = field(default_factory=world.Rater)


def main(out: str = "runs/quickstart") -> None:
    """Run everything into the folder `out`; raises BurnishError where it cannot be written."""
    run(Path(out), QuickstartSettings())


def run(out: Path, settings: QuickstartSettings) -> dict[str, Any]:
    """SFT, pairs, DPO, evaluation; leaves sft/, pairs.jsonl, dpo/, quickstart.png and summary.json in `out`.

    Returns what summary.json holds. What an earlier quickstart left in `out` is replaced.
    """
    began = time.perf_counter()
    console = Console(highlight=False, soft_wrap=True)
    _make(out)
    with quiet_transformers(), single_thread():
        reference = make_sft(out, settings)
        pairs, held_out = write_pairs(reference, out, settings, console)
        train.run(config.load(None, overrides(out, settings)))
        polished: Any = AutoModelForCausalLM.from_pretrained(out / "dpo" / "model", dtype=torch.float32)
        before = _evaluate(console, "before", reference, reference, settings)
        after = _evaluate(console, "after", polished, reference, settings)
    chosen, rejected = log_ratios(out / "dpo", pairs.groups)
    window = max(1, settings.dpo_steps // 20)
    picture.draw(
        out / "quickstart.png",
        before,
        after,
        world.demonstrator_utility(),
        picture.LogRatioCurve.of(chosen, window),
        picture.LogRatioCurve.of(rejected, window),
    )
    summary = {
        "seed": settings.seed,
        "pairs": {"drawn": settings.pairs, "kept": len(pairs.groups), "ties": pairs.ties},
        "label_noise": world.label_noise(pairs.groups),
        "held_out_pairs": len(held_out.groups),
        "demonstrator_utility": world.demonstrator_utility(),
        "before": before.figures(),
        "after": after.figures(),
        "logratio": {"chosen": _last(chosen), "rejected": _last(rejected)},
        "seconds": round(time.perf_counter() - began, 1),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    console.print(in_words(summary, before, after, out), markup=False)
    return summary


def make_sft(out: Path, settings: QuickstartSettings) -> LlamaForCausalLM:
    """Train the SFT policy, with a display of its progress, and save it as `sft/`."""
    with Progress() as progress:
        stage = progress.stage("SFT", "steps")
        tick = lambda done, loss: stage(done, settings.sft_steps, f"loss {loss:.3f}")  # noqa: E731
        trained = policy.train_sft(settings.seed, settings.sft_steps, tick)
    policy.save(trained, out / "sft")
    return trained


def overrides(out: Path, settings: QuickstartSettings) -> list[str]:
    """The DPO run, as a user would say it after `burnish train`."""
    return [
        f"model.path={out / 'sft'}",
        "model.dtype=float32",
        f"data.train={out / 'pairs.jsonl'}",
        f"data.eval={out / 'pairs_held_out.jsonl'}",
        "objective.name=dpo",
        f"objective.beta={BETA}",
        f"optim.lr={LR}",
        f"optim.steps={settings.dpo_steps}",
        f"optim.groups_per_step={GROUPS_PER_STEP}",
        f"run.dir={out / 'dpo'}",
        "run.overwrite=true",
        "engine.threads=1",
        f"seed={settings.seed}",
    ]


def write_pairs(
    reference: LlamaForCausalLM, out: Path, settings: QuickstartSettings, console: Console
) -> tuple[world.JudgedPairs, world.JudgedPairs]:
    """Two answers of the SFT policy per drawn card, judged; training and held-out pairs as burnish JSONL.

    Held-out pairs are fresh answers to the same hundred cards: they test preferences, not new sums.
    """
    rng = random.Random(f"pairs {settings.seed}")
    generator = torch.Generator().manual_seed(settings.seed + 1)
    began = time.perf_counter()
    judged: list[world.JudgedPairs] = []
    for name, count in (("pairs", settings.pairs), ("pairs_held_out", settings.held_out)):
        cards = [card for card in rng.choices(world.CARDS, k=count) for _ in range(2)]
        pairs = world.judge(policy.sample(reference, cards, generator), settings.rater, rng)
        rows = [json.dumps(to_json(group), ensure_ascii=False) for group in pairs.groups]
        (out / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        judged.append(pairs)
    seconds = time.perf_counter() - began
    answers = 2 * (settings.pairs + settings.held_out)
    console.print(
        f"pairs: {answers} answers sampled and judged in {seconds:.1f} s ({answers / seconds:.0f}/s); "
        f"{len(judged[0].groups)} pairs to train on, {len(judged[1].groups)} held out, "
        f"{judged[0].ties + judged[1].ties} ties left out"
    )
    return judged[0], judged[1]


def log_ratios(run_dir: Path, groups: tuple[Group, ...]) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """`(step, log-ratio in nats)` of every chosen and every rejected answer trained on, from the run's log."""
    winners = {group.id: group.feedback.triples[0][0] for group in groups if isinstance(group.feedback, Preferences)}
    chosen: list[tuple[int, float]] = []
    rejected: list[tuple[int, float]] = []
    for record in log.read(run_dir, CompletionRecord):
        if record.group in winners and record.logp is not None and record.reference_logp is not None:
            side = chosen if record.index == winners[record.group] else rejected
            side.append((record.step, record.logp - record.reference_logp))
    return chosen, rejected


def in_words(summary: dict[str, Any], before: Evaluation, after: Evaluation, out: Path) -> str:
    """One screen that says what moved."""
    moved = summary["logratio"]
    gap = after.length.mean - before.length.mean
    drift = f"changed by {gap:+.2f} tokens" if abs(gap) > 0.5 else f"hardly moved ({gap:+.2f} tokens)"
    gained = after.utility.mean - before.utility.mean
    clear = abs(gained) > before.utility.half + after.utility.half
    verdict = ("DPO raised" if gained > 0 else "DPO lowered") if clear else "DPO did not clearly change"
    rows = [
        ("gold utility", before.utility, after.utility),
        ("share right", before.accuracy, after.accuracy),
        ("length, tokens", before.length, after.length),
        ("KL to SFT, nats", before.kl, after.kl),
    ]
    table = [f"  {name:<16}{b!s:>16}  ->{a!s:>16}" for name, b, a in rows]
    return "\n".join(
        [
            "",
            f"  {'':<16}{'before (SFT)':>16}    {'after (DPO)':>16}",
            *table,
            f"  {'finished':<16}{before.finished:>16.1%}  ->{after.finished:>16.1%}",
            "  (± is 95 % over the hundred cards, for one training seed)",
            "",
            f"{verdict} the gold utility ({gained:+.3f}), from {summary['pairs']['kept']} pairs of which the rater got "
            f"{summary['label_noise']:.0%} the wrong way round.",
            f"Over the last tenth of the steps chosen answers stood at {moved['chosen']:+.2f} nats from the reference "
            f"and rejected ones at {moved['rejected']:+.2f}:",
            f"  {_direction(moved['chosen'], moved['rejected'])}",
            f"Length {drift}. {_format(before, after)}",
            f"Everything lies in {out} (picture: {out / 'quickstart.png'}); {summary['seconds']:.0f} s in all.",
        ]
    )


def _direction(chosen: float, rejected: float) -> str:
    if rejected >= chosen:
        return "the gap is not what DPO asked for: nothing was learnt from the preferences."
    if chosen < 0:
        return (
            "both fell, rejected ones further. That is usual: DPO asks only for the difference, and a policy that "
            "moves on finds the reference's answers less likely, good ones among them."
        )
    return "the gap between them is what DPO asked for."


def _format(before: Evaluation, after: Evaluation) -> str:
    """How the marker, which carries no utility, moved."""
    shares = [sum("#" in answer.text for answer in e.answers) / len(e.answers) for e in (before, after)]
    return f"The marker '#', worth nothing to the rater, went from {shares[0]:.0%} to {shares[1]:.0%} of answers."


def _evaluate(
    console: Console, name: str, model: LlamaForCausalLM, reference: LlamaForCausalLM, settings: QuickstartSettings
) -> Evaluation:
    began = time.perf_counter()
    evaluation = evaluate(model, reference, seed=settings.seed + 2, answers_per_card=settings.answers_per_card)
    count, seconds = len(evaluation.answers), time.perf_counter() - began
    console.print(f"evaluation {name}: {count} answers, {count / seconds:.0f}/s")
    return evaluation


def _last(values: list[tuple[int, float]]) -> float:
    """Mean over the last tenth of the steps."""
    end = max(step for step, _ in values)
    kept = [value for step, value in values if step > 0.9 * end]
    return sum(kept) / len(kept)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{out} cannot be made a folder ({error.strerror}); name another one") from error


@contextmanager
def single_thread() -> Iterator[None]:
    """A model this small gains nothing from a second thread; and with one the result is the same on any core count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No weight-loading bars for a model of 108k parameters."""
    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except BurnishError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
