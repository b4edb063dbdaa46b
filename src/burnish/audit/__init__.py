"""The audit of data before training: what is broken, how it renders, what it would teach, what to do. No torch.

Read in this order:

* `auditor`: the pass over the groups, which gives each to `scan` (broken, repeated or contradictory), `answers` (beside
  their prompts and each other), `rendered` (in
  tokens, with its template), `bias` (lengths and surface features of both answers), `contrast` (how far the answers
  and the raters are apart) and `near` (near copies of prompts).
* `verdict`: from what was kept to findings and figures, with `probe` (the accuracy of a bag of words) and `advice` (the
  settings to choose).
* `terminal` prints the result, `page` draws it.

To add a question, keep what it needs in the part that sees it, return `Finding`s from that part, and put its figures
into `verdict.audit`.
"""

from burnish.audit.auditor import Auditor
from burnish.audit.verdict import Audit, audit

__all__ = ["Audit", "Auditor", "audit"]
