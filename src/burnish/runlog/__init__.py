"""What a run writes while it goes on: its folder, its log, and what a person and a tracker see of it. No torch.

    records     a frozen class for each kind of record, with a line for each field, and the codec to a line of the file
    log         the one writer and the one reader of `log.jsonl`
    folder      the run's folder: claimed, spared, resumed
    progress    what a person sees: a live display on a terminal, lines on a pipe
    trackers    the log's numbers, sent on to TensorBoard, Weights & Biases, trackio, MLflow

Read them in this order. A new kind of record is a class in `records` and a `log.write(...)` where it happens; its line
in docs/metrics.md is what makes it public. Reports read records and nothing else, so what a record lacks no later
report can show.
"""
