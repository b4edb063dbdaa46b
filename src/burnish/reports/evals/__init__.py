"""What an evaluation found, drawn from its records alone. No torch.

    records     answers, judgements and outcomes as lines of JSON, and the files that hold them
    habits      what can be told from an answer's text: refusals, lists, repetition, its writing
    wins        win rates from judged pairs
    passes      pass rates, pass@k and paired differences from checked answers
    moved       the panel: what differs from the baseline by more than its noise
    tasks       the harness's tasks, paired by document
    results     the figures of every suite, and the sentences that they allow
    terminal    the same on a terminal
    page        the same as a page
    exports     records in the forms that other tools read

To add a suite: its table in `config.evaluation`, what it runs in `evals`, and its figures here.
"""
