"""Fresh answers: sampled from the policy, judged, measured by the trainer, and turned into groups with advantages.

In what order to read it:

    sampler/        K answers to each prompt with their log-probs: in this process, or from a server
    judges/         feedback on groups of answers: programs, reward models, language models, people
    answerer        a refresh: sample, judge, measure, advantages
    figures         what fresh answers tell about a run
    http            calls to servers that may be busy, slow or gone

How to add to it: a judge, see `judges`; a sampler, see `sampler`.
"""
