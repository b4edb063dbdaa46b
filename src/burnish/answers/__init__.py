"""Fresh answers: sampled from the policy, judged, measured by the trainer, and turned into groups with advantages.

In what order to read it:

    sampler/        K answers to each prompt with their log-probs: in this process, or from a server
    judges/         feedback on groups of answers: programs, reward models, language models, people
    answered        the record of a refresh: a prompt, its answers, and what becomes known of them
    answerer        a refresh: sample, judge, measure, advantages
    measure         answers through the trainer's own models: log-probs, exact KL, entropy, values
    advantages      rewards -> advantages at every token, by the objectives' own functions
    objective_view  judged answers in the form that the objective looks at
    figures         what fresh answers tell about a run
    http            calls to servers that may be busy, slow or gone

How to add to it: a judge, see `judges`; a sampler, see `sampler`.
"""
