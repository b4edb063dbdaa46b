"""Reports: words, pictures and pages made from records that lie on disk. Nothing here imports torch or runs a model.

    run         what a run's log says at its end: summary.txt
    refreshes   the words of a run with fresh answers, which `run` adds to its own
    charts      its pictures: summary.png and answers.png
    rewards/    what reward models and policies make of held-out judgements (`burnish reward-report`)
    history     a run read back whole, in whatever state it is; `trl` reads TRL's, `reading` chooses
    single/     the report of one run (`burnish report`)
    compare/    several runs side by side, and which to keep (`burnish compare`, `burnish sweep`)
    evals/      what an evaluation found (`burnish eval`)

A new report reads typed records (`runlog.log.read`), says what they mean in sentences, and is called where its command
ends. Start with `run`.
"""
