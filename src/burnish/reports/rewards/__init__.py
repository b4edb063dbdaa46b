"""How good reward models, and a policy's implicit reward, are on held-out judgements. No torch.

Read in this order:

* `records`: what scoring leaves behind, groups of answers with a reward from each scorer; reports are drawn from these
  files at any time.
* `columns`: the same as columns of numbers, one row an answer and one row a judged pair.
* `accuracy`, `calibration`, `spread`, `bestofn`, `beyond`, `probes`, `ensemble`: a question each, as figures for JSON.
* `figures`: all of them, with `advice` in plain sentences.
* `terminal` prints the figures, `page` draws them.

To add a question, write a module with a function of `Answers` and `PairMargins`, and put its figures into
`figures.report`; then a sentence in `advice`, lines in `terminal`, and a picture in `page`, where it deserves them.
"""

from burnish.reports.rewards.figures import report
from burnish.reports.rewards.records import ScoredGroup, ScoredGroups, Scorer, read, write

__all__ = ["ScoredGroup", "ScoredGroups", "Scorer", "read", "report", "write"]
