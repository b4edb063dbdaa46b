"""Judged answers in the form that the run's objectives look at. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from burnish.answers.answered import Answered
from burnish.data.pairing import PairRule, preferred
from burnish.data.views import usable
from burnish.group import EncodedGroup, Labels, Scores, Unjudged


@dataclass(frozen=True)
class ObjectiveView:
    """Objectives of pairs get pairs by the named rule. Those of labels get yes and no by the pass mark, or by the
    group's own mean. The others get the judge's feedback as it is."""

    views: tuple[str, ...]  # what the run's objectives look at: "pairs", "labels", "lists", "rollouts" ...
    rule: PairRule

    def __call__(self, answered: Answered) -> EncodedGroup | None:
        """The group to train on; None where it teaches the objectives nothing."""
        group = answered.encoded
        if "pairs" in self.views:
            lengths = [len(ids) for ids in group.completion_ids]
            judged = replace(answered.texts, feedback=group.feedback)
            group = replace(group, feedback=preferred(judged, self.rule, lengths).feedback)
        elif "labels" in self.views and isinstance(group.feedback, Scores):
            group = replace(group, feedback=_labels(group.feedback.values, self.rule.pass_mark))
        teaches = not isinstance(group.feedback, Unjudged) and usable(group, self.views)
        return group if teaches else None


def _labels(scores: Sequence[float], pass_mark: float | None) -> Labels | Unjudged:
    if min(scores) == max(scores) and pass_mark is None:
        return Unjudged("all scores alike")
    mark = sum(scores) / len(scores) if pass_mark is None else pass_mark
    return Labels(tuple(value >= mark for value in scores))
