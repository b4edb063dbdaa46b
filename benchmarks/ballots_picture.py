"""The picture of `ballots.py`: how many votes a decision takes, and what looking costs.

python benchmarks/ballots_picture.py results/ballots.json ../docs/how_many_votes.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS, FIXED, PEEKING = "#2b5f9e", "#555555", "#b5541c"


def draw(found: Mapping[str, Any], file: Path) -> None:
    """Left, votes to a decision by true win rate; right, wrong decisions where there is nothing to find."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (votes, errors) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    rows = [row for row in found["decisions"] if row["ties"] == 0 and row["rate"] >= 0.55]
    rates = [100 * row["rate"] for row in rows]
    own = [row["sequence"] for row in rows]
    votes.fill_between(rates, [row["10 %"] for row in own], [row["90 %"] for row in own], color=OURS, alpha=0.15, lw=0)
    votes.plot(
        rates, [row["median"] for row in own], "o-", color=OURS, label="look after every vote: median, 10 to 90 %"
    )
    votes.plot(rates, [row["80 %"] for row in own], ":", color=OURS, lw=2, label="... 80 % of ballots have ended")
    single = [row["one look"]["power 0.8"]["votes"] for row in rows]
    votes.plot(rates, single, "s--", color=FIXED, label="one look, 80 % power")
    votes.set(yscale="log", xlabel="true win rate, %", ylabel="votes", title="Votes until the better model is known")
    ticks = [10, 30, 100, 300, 1000, 3000]
    votes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    votes.minorticks_off()
    votes.legend(frameon=False)
    alike = next(row for row in found["decisions"] if row["rate"] == 0.5 and row["ties"] == 0)["decided by"]
    errors.plot(alike["votes"], [100 * v for v in alike["peeking"]], "^-", color=PEEKING, label="fixed 95 % interval")
    errors.plot(alike["votes"], [100 * v for v in alike["sequence"]], "o-", color=OURS, label="confidence sequence")
    errors.axhline(5, color="#888888", lw=1, ls=":")
    errors.text(3000, 6, "5 %", ha="right", color="#666666")
    errors.set(xlabel="votes, looked at after each", ylabel="ballots decided, %", ylim=(0, None),
               title="Two models that are alike, told apart")  # fmt: skip
    errors.legend(frameon=False)
    for axes in (votes, errors):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(file, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
