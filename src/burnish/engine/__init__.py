"""The engine: log-probs, rewards and gradients of packed groups by one model, and the models themselves.

`PackedBatch x model -> TokenScores`. A step's groups are divided into microbatches, each microbatch is one forward pass
in which a prompt is computed once for its K completions, and only rows that predict a completion token reach the head.
The engine knows no objective and no loop.

In what order to read it:

    pack            groups -> microbatches under a token budget
    engine          a microbatch -> per-token log-probs, rewards, the KL
    scoring         numbers of whole completions, in the order of the groups
    attention       who attends to whom in a flat row, and the kernels
    logprob         hidden states x head -> log-probs, without keeping logits
    divergence      the KL over the vocabulary, and what is measured of fresh answers
    canary          whether a model may share prompts, tried at load

    model           loading and saving a policy; reward_model, value_head: the other two heads
    loading         a policy in one process or divided over several; distributed, sharding: what that takes
    masters         float32 weights of a bfloat16 model, and the optimiser
    reference       the reference's log-probs: stored (reference_store), or live
    checkpoint      saving a run; merge: folding an adapter into its base

    norms, adapters, prune      the same numbers in fewer passes, each proved on the loaded model
    candidates, likelihood      models on disk to score with; how near data is to a model

How to add to it. A family whose logits are transformed: a line in `model.head_transform`. An attention kernel: a
function over `Layout.tiles()` that `attention.attend` chooses. Another number for every token: a field of `ForwardPass`
and of `tensors.TokenScores`, computed in `Engine._fused` and `Engine._plain`. A change that can change a log-prob
raises `engine.VERSION`, so that stored reference log-probs are computed again.
"""
