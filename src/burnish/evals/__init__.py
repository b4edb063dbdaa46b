"""Models at work, written down as records that `reports/` reads.

`rewards` has reward models, ensembles and policies score groups of answers; `implicit` is the reward that a policy
holds itself.
"""
