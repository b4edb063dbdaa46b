"""All figures of a report, from scored groups alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish import __version__
from burnish.reports.rewards import accuracy, advice, bestofn, beyond, calibration, ensemble, spread
from burnish.reports.rewards import probes as form
from burnish.reports.rewards.columns import Answers, PairMargins
from burnish.reports.rewards.records import Probed, ScoredGroup, ScoredGroups, Scorer, refuse


def report(
    groups: Sequence[ScoredGroup],
    scorers: Sequence[Scorer],
    *,
    probes: Probed | None = None,
    trained_on: Sequence[float] | None = None,
    words: bool = True,
) -> dict[str, Any]:
    """All figures as JSON, every scorer side by side; what cannot be known is None or says why.

    `trained_on` are gold scores of the chosen answers in the scorers' training data; `words` trains the bag of words
    (seconds). Raises DataError where groups, scorers and probes do not fit together.
    """
    scored = ScoredGroups(
        tuple(groups), tuple(scorers), probes or {}, None if trained_on is None else tuple(trained_on)
    )
    refuse(scored)
    answers = Answers.of(scored.groups, [scorer.name for scorer in scorers])
    pairs = PairMargins.of(scored.groups, answers)
    figures: dict[str, Any] = {
        "version": __version__,
        "groups": len(groups),
        "answers": len(answers.lengths),
        "prompts": int(answers.prompts.max(initial=-1)) + 1,
        "pairs": len(pairs),
        "scorers": [_described(scorer) for scorer in scorers],
        "accuracy": accuracy.accuracy(scored.groups, pairs, probe=words),
        "calibration": {
            name: calibration.calibration(margins, pairs.prompts, pairs.weights) if len(pairs) else None
            for name, margins in pairs.margins.items()
        },
        "length_correlation": spread.length_correlation(answers),
        "spread": spread.spread(answers, levels={scorer.name: scorer.kind != "implicit" for scorer in scorers}),
        "best_of_n": bestofn.best_of_n(answers),
        "beyond_training": beyond.beyond_training(answers, pairs, scored.trained_on),
        "probes": form.probed(answers, pairs, scored.probes),
        "order": form.ORDER,
        "ensembles": ensemble.disagreement(answers, pairs, scorers),
    }
    return {**figures, "advice": advice.advice(figures, scorers)}


def _described(scorer: Scorer) -> Mapping[str, Any]:
    names = ("name", "kind", "detail", "beta")
    return {name: getattr(scorer, name) for name in names} | {"members": list(scorer.members)}
