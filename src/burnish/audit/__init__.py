"""Data looked at before a step is spent: what is broken, how it renders, what it would teach, what to do. No torch.

Read in this order:

* `auditor`: the pass over the groups. It hands each to `scan` (broken, repeated, contradictory?), `rendered` (what the
  tokenizer makes of it), `bias` (lengths and surface features of both answers), `contrast` (how far the answers and the
  raters are apart) and `near` (near copies of prompts).
* `verdict`: from what was kept to findings and figures, with `probe` (can a bag of words tell?) and `advice` (what to
  set).
* `tell` prints the result, `page` draws it.

To add a question, keep what it needs in the part that meets it, return `Finding`s from that part, and put its figures
into `verdict.audit`.
"""

from burnish.audit.auditor import Auditor
from burnish.audit.verdict import Audit, audit

__all__ = ["Audit", "Auditor", "audit"]
