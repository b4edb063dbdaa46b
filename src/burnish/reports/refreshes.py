"""The end of a run with fresh answers in words: what they were worth, how far they went, what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.runlog.records import RefreshRecord

SILENT = 0.8  # share of prompts without signal from which it is said
ROWS = (  # metric, its name in words, its unit
    ("reward", "reward", ""),
    ("gold", "gold", ""),
    ("judge_accuracy", "judge agrees with gold", ""),
    ("kl/answer", "KL to the reference", " nats an answer"),
    ("length", "length", " tokens"),
    ("distinct", "distinct answers", ""),
    ("finished", "finished", ""),
    ("no_signal", "prompts without signal", ""),
)


def words(refreshes: Sequence[RefreshRecord]) -> list[str]:
    """What the policy's own answers were like at first and at last: means over a tenth of the refreshes each."""
    if not refreshes:
        return []
    tenth = max(1, len(refreshes) // 10)
    drifts = []
    for name, label, unit in ROWS:
        first, last = _mean(name, refreshes[:tenth]), _mean(name, refreshes[-tenth:])
        if first is not None and last is not None:
            drifts.append(f"{label} {first:.3g} -> {last:.3g}{unit}")
    which = "the one refresh" if len(refreshes) == 1 else f"first and last tenth of {len(refreshes)} refreshes"
    lines = [f"own answers, {which}: {', '.join(drifts)}"]
    silent = _mean("no_signal", refreshes)
    if silent is not None and silent > SILENT:
        lines.append(
            f"in {silent:.0%} of the prompts all answers scored alike, so that there was nothing to learn from: easier "
            "(or harder) prompts, more answers (source.k), or a judge that grades instead of passing and failing."
        )
    seconds = {part: _mean(f"seconds/{part}", refreshes) for part in ("sampling", "judging", "measuring")}
    parts = [f"{value:.3g} s {part}" for part, value in seconds.items() if value is not None]
    if parts:
        lines.append(f"a refresh took {', '.join(parts)}")
    return lines


def _mean(name: str, refreshes: Sequence[RefreshRecord]) -> float | None:
    """The mean of a metric where it is a number; None where it never is."""
    values = [record.metrics.get(name, float("nan")) for record in refreshes]
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else None
