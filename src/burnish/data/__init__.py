"""Data: files and hub data sets -> groups -> token ids. No torch in this wing.

In what order to read it:

    readers/        rows of the field's formats -> groups
    load            the groups of a run: read, paired, filtered, mixed, held out
    pairing         scores, labels and rankings -> pairs, by a named rule
    filters         duplicates, contradictions, bounds on lengths and scores, mixtures, the held-out split
    identity        when two prompts or groups are the same, and draws by content
    prompts         the prompts that the policy answers itself

    render          text -> token ids: the chat template, and the boundary between prompt and completion
    tokenizers      transformers' tokenizers, and the same ids without transformers
    control_tokens  control tokens that people wrote stay text
    truncate        the length policy
    views           the feedback of an encoded group as objectives use it: pairs, lists, single completions

    convert         groups -> burnish's files; show: a group token by token

How to add to it. A format: see `readers`. A rule that makes pairs: a row of `pairing.RULES` and its branch in
`pairing._by_score`. A filter: a pure function in `filters` that returns what it kept and what it dropped, a field of
`filters.SelectSettings`, and the key `data.<name>` of the configuration. A built-in template: `tokenizers.BUILT_IN`.
"""
