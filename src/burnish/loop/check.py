"""`burnish check`: the identities everything rests on, proved on the user's own model and data in half a minute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.config import Run
from burnish.engine import canary, model, reward_model
from burnish.engine.engine import Engine, ForwardPass, scalar_scores, token_scores
from burnish.engine.model import Policy
from burnish.engine.scoring import by_completion, rewards
from burnish.errors import BurnishError, ConfigError
from burnish.group import EncodedGroup
from burnish.loop.prepare import Prepared, prepare
from burnish.loop.schedule import step_indices
from burnish.objectives.feedback import StepSums
from burnish.tensors import PackedBatch

GROUPS = 2  # of the quick check
PROMPT_TOKENS, ANSWER_TOKENS = 24, 12  # kept of each of its groups: the identities hold for every length
GENERATED = 12
RELATIVE = 2e-5  # float32, of the largest entry
NATS = 1e-4


@dataclass(frozen=True)
class CheckResult:
    """One identity: did it hold, and what was measured."""

    name: str
    passed: bool
    measured: str


def run(config: Run, whole: int = 0) -> list[CheckResult]:
    """Run every check in float32 (whatever `model.dtype` says: rounding would hide what is looked for).

    `whole` is a number of groups to look at uncut; 0 looks at the starts of two groups, in seconds.
    """
    config = config.model_copy(update={"model": config.model.model_copy(update={"dtype": "float32"})})
    prepared = prepare(config)
    if not prepared.train:
        raise ConfigError(
            "burnish check looks at a data set, and this run's answers are all fresh: give it data.train and an "
            "offline objective; layout and start are proved again when the run begins"
        )
    scalar = prepared.mixture.needs("scalar")
    if scalar:
        terminal, head_only = set(prepared.terminal), config.reward.train == "head"
        policy, _ = reward_model.load_reward_model(
            config.model, config.adapter, prepared.tokenizer, terminal, head_only=head_only, seed=config.seed
        )
    else:
        policy = model.load_policy(config.model, config.adapter)
    verdict = canary.decide(policy, config.engine.layout)
    policy.module.eval()
    chosen = step_indices(0, len(prepared.train), min(whole or GROUPS, len(prepared.train)), config.seed)
    groups = [prepared.train[i] if whole else shortened(prepared.train[i]) for i in chosen]
    engine = Engine(policy, 1 << 30, shared=verdict.shared, plain_head=verdict.plain_head, pruned=verdict.pruned)
    findings = [CheckResult("layout", True, verdict.line)]
    checks: list[Callable[[Engine, Prepared, Sequence[EncodedGroup]], CheckResult]] = [
        packed_is_padded,
        one_microbatch_is_many,
        *([rewards_are_transformers] if scalar else [fused_head_is_plain, starts_at_closed_form, sampling_is_training]),
    ]
    for check in checks:
        try:
            findings.append(check(engine, prepared, groups))
        except (BurnishError, RuntimeError) as error:
            findings.append(CheckResult(check.__name__.replace("_", " "), False, str(error).splitlines()[0]))
    return findings


def shortened(group: EncodedGroup) -> EncodedGroup:
    """The end of a group's prompt and the start of its answers, whose cost no long text decides."""
    answers = tuple(ids[:ANSWER_TOKENS] for ids in group.completion_ids)
    return replace(group, prompt_ids=group.prompt_ids[-PROMPT_TOKENS:], completion_ids=answers)


def packed_is_padded(engine: Engine, prepared: Prepared, groups: Sequence[EncodedGroup]) -> CheckResult:
    """Log-probs and gradients: many groups in one row against one padded row a completion, stock attention."""
    packed, packed_gradient = _scores_and_gradient(engine, prepared, groups)
    with engine.policy.stock():
        padded, gradient = _scores_and_gradient(replace(engine, shared=False), prepared, groups)
    nats = float((packed - padded).abs().max())
    off = _relative(packed_gradient, gradient)
    what = "rewards differ by at most" if engine.policy.scalar else "log-probs differ by at most"
    text = f"{what} {nats:.1e}{'' if engine.policy.scalar else ' nats'}, gradients by {off:.1e} of the largest"
    return CheckResult("packed = padded", nats <= NATS and off <= RELATIVE * 10, text)


def one_microbatch_is_many(engine: Engine, prepared: Prepared, groups: Sequence[EncodedGroup]) -> CheckResult:
    whole = _scores_and_gradient(engine, prepared, groups)[1]
    parts = _scores_and_gradient(replace(engine, token_budget=1), prepared, groups)[1]
    off = _relative(parts, whole)
    return CheckResult("one microbatch = many", off <= RELATIVE, f"gradients differ by {off:.1e} of the largest")


def rewards_are_transformers(engine: Engine, prepared: Prepared, groups: Sequence[EncodedGroup]) -> CheckResult:
    """A reward model's numbers are those of the model's own forward, each answer alone."""
    burnish_values = torch.tensor([value for row in rewards(engine, groups) for value in row])
    with engine.policy.stock():
        stock_values = canary.stock_numbers(engine.policy, list(groups)).cpu()
    off = float((burnish_values - stock_values).abs().max())
    return CheckResult(
        "rewards = transformers'", off <= NATS, f"rewards of {len(burnish_values)} answers differ by at most {off:.1e}"
    )


def fused_head_is_plain(engine: Engine, prepared: Prepared, groups: Sequence[EncodedGroup]) -> CheckResult:
    if engine.plain_head:
        return CheckResult("fused head = plain head", True, "this model runs its own head")
    fused, fused_gradient = _scores_and_gradient(engine, prepared, groups)
    plain, gradient = _scores_and_gradient(replace(engine, plain_head=True), prepared, groups)
    nats, off = float((fused - plain).abs().max()), _relative(fused_gradient, gradient)
    text = f"log-probs differ by at most {nats:.1e} nats, gradients by {off:.1e} of the largest"
    return CheckResult("fused head = plain head", nats <= NATS and off <= RELATIVE, text)


def starts_at_closed_form(engine: Engine, prepared: Prepared, groups: Sequence[EncodedGroup]) -> CheckResult:
    name = "policy = reference"
    (batch,) = engine.plan(groups)
    with torch.no_grad():
        scores = token_scores(_scored(engine, prepared, batch), engine.score_reference(batch), batch)
        step = prepared.mixture.at(groups, at_rest(prepared, groups, scores.policy))
        mean = float(step.total(step(scores, batch)).double())
    gap = float((scores.policy - scores.reference).abs().max()) if scores.reference is not None else 0.0
    expected = prepared.mixture.closed_form(groups)
    if expected is None:
        return CheckResult(name, gap == 0.0, f"margins 0; the loss is {mean:.6f} (it has no closed form at the start)")
    held = gap == 0.0 and abs(mean - expected) <= 1e-6 * max(1.0, abs(expected))
    return CheckResult(name, held, f"largest log-ratio {gap:.1e}, loss {mean:.6f}, closed form {expected:.6f}")


def at_rest(prepared: Prepared, groups: Sequence[EncodedGroup], like: Tensor) -> StepSums | None:
    """The whole step's sums where policy = reference, held fixed, for objectives that ask for them."""
    if not prepared.mixture.needs("step") and not prepared.mixture.needs("mismatched"):
        return None
    lengths = torch.tensor([len(ids) for group in groups for ids in group.completion_ids], device=like.device)
    zeros = like.new_zeros(len(lengths))
    return StepSums(zeros, zeros, lengths, like.new_zeros(1))


def _scored(engine: Engine, prepared: Prepared, batch: PackedBatch) -> ForwardPass:
    """Log-probs with whatever else the objective asks of the head; the KL is taken from the initial policy."""
    head = engine.reference_head(batch) if prepared.mixture.needs("kl") else None
    return engine.score(batch, square=prepared.mixture.needs("square"), reference=head)


def sampling_is_training(engine: Engine, prepared: Prepared, groups: Sequence[EncodedGroup]) -> CheckResult:
    """Generate greedily from a training prompt; the log-probs of generation are those training would compute."""
    policy: Policy = engine.policy
    prompt = min(groups, key=lambda group: len(group.prompt_ids)).prompt_ids
    with policy.stock(), torch.no_grad():
        made = policy.module.generate(
            input_ids=torch.tensor([prompt], device=policy.device),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long, device=policy.device),
            max_new_tokens=GENERATED,
            do_sample=False,
            use_cache=True,
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=engine.pad_id,
        )
    tokens = made.sequences[0, len(prompt) :]
    stock_values = torch.stack(made.logits)[:, 0].float().log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    group = replace(groups[0], prompt_ids=prompt, completion_ids=(tuple(tokens.tolist()),), ended=(True,))
    (batch,) = engine.plan([group])
    with torch.no_grad():
        burnish_values = engine.score(batch).logps
    nats = float((burnish_values - stock_values).abs().max())
    text = f"log-probs of {len(tokens)} generated tokens differ by at most {nats:.1e} nats"
    return CheckResult("sampling = training", nats <= 10 * NATS, text)


def _scores_and_gradient(engine: Engine, prepared: Prepared, groups: Sequence[EncodedGroup]) -> tuple[Tensor, Tensor]:
    """Log-probs [all tokens], or rewards, in the groups' order, and the step gradient of the objective, flat."""
    parameters = [parameter for _, parameter in engine.policy.trainable()]

    def forward_backward(batch: PackedBatch) -> tuple[Tensor, ...]:
        if engine.policy.scalar:
            rewards, _ = engine.reward(batch)
            step = prepared.mixture.at(groups)
            step.total(step(scalar_scores(rewards, batch), batch)).backward()  # type: ignore[no-untyped-call]
            return torch.split(rewards.detach(), 1)
        scored = _scored(engine, prepared, batch)
        logps = scored.logps
        # The reference is moved off the policy by a fixed amount: at equality many gradients would vanish.
        shifted = logps.detach() - 0.1 * torch.sin(batch.targets.to(logps))
        step = prepared.mixture.at(groups, at_rest(prepared, groups, logps))
        step.total(step(token_scores(scored, shifted, batch), batch)).backward()  # type: ignore[no-untyped-call]
        return batch.split(logps.detach())

    numbers = torch.cat([piece for rows in by_completion(engine, groups, forward_backward) for piece in rows])
    gradient = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
    for parameter in parameters:
        parameter.grad = None
    return numbers, gradient


def _relative(left: Tensor, right: Tensor) -> float:
    return float((left - right).abs().max() / right.abs().max().clamp(min=1e-30))
