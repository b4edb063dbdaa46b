"""Several runs side by side, from their records alone. No torch.

    differences  which settings differ
    tracks       quality, KL, length and cost of a run along its way
    quality      how good a run is: by gold, by a win rate, or by held-out accuracy
    levels       at equal KL, at each one's best point, at equal cost
    paired       the same prompts, run against run
    picks        which run to keep, by a stated rule
    comparison   all of it as figures, with the sentences that they allow
    terminal     the same on a terminal
    page         the same as a page; its frontier as a picture

In `levels` a run's figure at a point is a mean over a window of its refreshes, with an interval from their scatter.
"""
