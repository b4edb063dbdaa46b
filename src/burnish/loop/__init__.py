"""The loop: one for every method, and what it is made of.

To follow a batch, read in this order:

    prepare   configuration -> groups in tokens, objectives; `refusals` says what cannot be
    build     the trainer put together: policy, reference, source, optimiser (`references`, `samplers`, `online`,
              `once`)
    sources   where a step's groups come from: the dial
    train     the loop itself, with `backward()` in sight (`passes`: its forward passes, `update`: its optimiser's part)
    between   what happens between two steps: the next groups, evaluations, checkpoints, leaving (`rounds`: for votes)
    tally     what a step adds up to, over microbatches and processes
    watch     what becomes of a refresh: log, answers, `alarms`, the best weights

What surrounds the steps has a file a subject: `start`, `selfcheck`, `schedule`, `evaluate`, `resume`, `interrupt`,
`finish`. `check` proves the identities on a user's own model, `members` trains several reward models, `memory/` plans
and measures what a run needs. A new method is a function in `objectives/`, not a change here.
"""
