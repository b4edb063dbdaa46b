"""The groups of one side of the data in token space, and what was left out of them, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.audit import Auditor
from burnish.config import Run
from burnish.data import render, views
from burnish.errors import DataError
from burnish.findings import counted
from burnish.group import EncodedGroup, Group
from burnish.loop.refusals import refuse_missing_margins
from burnish.objectives.mixture import Mixture


def encoded(
    run: Run, renderer: render.Renderer, groups: Sequence[Group], mixture: Mixture, name: str, lines: list[str],
    auditor: Auditor,
) -> list[EncodedGroup]:  # fmt: skip
    """The groups of one side in token space, those that teach this objective nothing left out; `lines` say what.

    Raises DataError where the objective's feedback is missing, or nothing is left.
    """
    used = [views.keep_used(group, mixture.views) for group in groups]
    rendered, report = render.encode_all(
        renderer, used, max_length=run.data.max_length, overlong=run.data.overlong, look=auditor.take
    )
    unused = sum(len(a.completions) - len(b.completions) for a, b in zip(groups, used, strict=True))
    lines += [f"  {counted(unused, 'answer')} set aside: {mixture.name} does not look at them"] * bool(unused)
    lines += [f"  {line}" for line in report.lines()]
    for part in mixture.parts:
        refusal = views.missing_feedback(rendered, part.objective.view, part.objective.name)
        if refusal:
            raise DataError(refusal)
    usable = [g for g in rendered if views.usable(g, mixture.views)]
    refuse_missing_margins(mixture, usable)
    if len(usable) < len(rendered):
        lines.append(
            f"  {counted(len(rendered) - len(usable), 'group')} left out: no answer in them is better than another, "
            "or good"
        )
    if not usable:
        reasons = "\n".join(line for line in lines if line.startswith((name, "  ")))
        raise DataError(f"data.{name}: nothing is left to train on:\n{reasons}")
    sizes = [len(c) for g in usable for c in g.completion_ids]
    prompt_sizes = [len(g.prompt_ids) for g in usable]
    lines.append(
        f"  {name}: {counted(len(usable), 'group')} in use: prompts {np.mean(prompt_sizes):.0f} tokens on average "
        f"(longest {max(prompt_sizes)}), completions {np.mean(sizes):.0f} (longest {max(sizes)})"
    )
    return usable
