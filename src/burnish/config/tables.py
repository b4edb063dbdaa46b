"""The tables of the configuration: every key with its default, its unit and its meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from burnish.config.base import Table, key
from burnish.config.online import JudgeConfig, SourceConfig, StopConfig


class ModelConfig(Table):
    path: str = key("", "folder of a Hugging Face causal LM, or of an adapter on one, or its hub name")
    dtype: Literal["bfloat16", "float32", "float64"] = key(
        "bfloat16", "type of the computation; bfloat16 keeps float32 master weights"
    )
    trust_remote_code: bool = key(False, "run code that comes with the model")
    allow_pickle: bool = key(False, "read weights that are pickles (*.bin), which may run any program")
    router_aux_coef: float = key(0.0, "weight of the load-balancing loss of a mixture of experts", ge=0)


class DataConfig(Table):
    train: str | list[str] = key("", "file, folder or hub name of the training groups; or a list of them")
    eval: str = key("", "held-out groups, evaluated along the way")
    format: str = key("auto", "how to read the files: auto (by their fields), or a name that `burnish formats` lists")
    template: str = key(
        "auto", "chat template: auto (the tokenizer's), plain, hh, chatml, one of its named ones, or a .jinja file"
    )
    template_args: dict[str, Any] = key({}, "values of the chat template's own variables, as {enable_thinking = false}")
    max_length: int | None = key(None, "longest prompt + completion", "tokens", ge=2)
    overlong: Literal["drop", "cut_prompt_left", "cut_completion"] = key("drop", "what happens to longer groups")
    control_tokens: Literal["text", "keep"] = key(
        "text", "control tokens inside the data's own text: encode them as text, or keep them acting"
    )
    bad_rows: Literal["refuse", "skip"] = key("refuse", "rows that cannot be read: stop, or leave them out and say so")
    split: str = key("train", "split of a hub data set that is trained on")
    eval_split: str = key("test", "split of a hub data set that is held out")
    limit: int | None = key(None, "only the first so many groups of each source, after the filters", "groups", ge=1)
    weights: list[float] | None = key(None, "copies of each source of data.train in an epoch: 0.5 is a half, 2 twice")
    eval_fraction: float | None = key(
        None, "share of the prompts that is held out, with all their groups, where data.eval is unset", gt=0, lt=1
    )
    dedupe: bool = key(False, "leave out groups that repeat an earlier one (but for case and white space)")
    contradictions: Literal["keep", "drop"] = key(
        "keep", "the same two answers preferred both ways: drop leaves all out"
    )
    max_length_gap: int | None = key(None, "leave out pairs whose answers differ more in length", "tokens", ge=0)
    min_score_gap: float | None = key(None, "leave out pairs whose scores differ less", "score", ge=0)
    max_score_gap: float | None = key(None, "leave out pairs whose scores differ more", "score", ge=0)
    max_pairs_per_prompt: int | None = key(None, "keep so many pairs of a prompt, drawn by the seed", "pairs", ge=1)
    length_match: bool = key(False, "as many pairs with the longer answer preferred as with the shorter, at every gap")


class PairsConfig(Table):
    rule: Literal[
        "best_vs_worst", "all", "threshold", "adjacent", "length_matched", "verifier_first", "strong_vs_weak"
    ] = key("best_vs_worst", "how scored, ranked and labelled groups become pairs")
    min_gap: float | None = key(None, "threshold, length_matched: least gap of the scores", "score", ge=0)
    max_gap: float | None = key(None, "threshold, length_matched: largest gap of the scores", "score", ge=0)
    max_length_ratio: float | None = key(None, "length_matched, verifier_first: longer over shorter at most", ge=1)
    pass_mark: float | None = key(None, "verifier_first: a score from which an answer is correct; unset: 1", "score")
    strong: list[str] = key([], "strong_vs_weak: models whose answers win")
    weak: list[str] = key([], "strong_vs_weak: models whose answers lose")
    max_pairs: int | None = key(None, "pairs made of one group at most", "pairs", ge=1)


class ObjectiveConfig(Table):
    name: str = key(
        "dpo",
        "the objective, one that `burnish objectives` lists; its settings are keys of the same table (objective.beta, "
        "...); [[objective]] lists several",
    )
    weight: float = key(1.0, "weight of this objective, where [[objective]] lists several that are summed", gt=0)
    params: dict[str, Any] = key({}, "the objective's own settings, as given")


class ReferenceConfig(Table):
    kind: Literal["initial", "path", "none"] = key(
        "initial", "initial: the policy before training (an adapter switched off); path: another model; or none"
    )
    path: str = key("", "the other model, for kind = path")
    store: str = key("", "folder of stored reference log-probs; empty: reference-store next to the run's folder")
    scores: Literal["auto", "stored", "live"] = key(
        "auto", "its log-probs: stored before training, or computed in every step; auto: stored where that will do"
    )
    update: Literal["never", "soft", "hard", "ema"] = key(
        "never", "whether it follows the policy: TR-DPO's soft and hard updates, or a moving average after every step"
    )
    alpha: float | None = key(
        None, "soft, ema: the policy's share in an update; unset: 0.6 for soft, 0.005 for ema", gt=0, le=1
    )
    every: int | None = key(None, "soft, hard: steps between updates; unset: 512", "steps", ge=1)

    @property
    def share(self) -> float:
        """The policy's share in an update."""
        default = {"soft": 0.6, "ema": 0.005}.get(self.update, 1.0)
        return default if self.alpha is None else self.alpha

    @property
    def interval(self) -> int:
        """Steps between updates."""
        return self.every or (1 if self.update == "ema" else 512)


class RewardConfig(Table):
    train: Literal["all", "head"] = key("all", "of a reward model, train all weights, or only its scalar head")
    members: int = key(1, "reward models trained one after the other, from different seeds and data orders", ge=1)


class AdapterConfig(Table):
    kind: Literal["none", "lora", "qlora"] = key("none", "train all weights, a LoRA, or a LoRA on a 4-bit base")
    rank: int = key(16, "rank of the LoRA", ge=1)
    alpha: float = key(32.0, "scale of the LoRA (alpha / rank)", gt=0)
    dropout: float = key(0.0, "dropout inside the LoRA; makes microbatching visible in the result", ge=0, lt=1)
    targets: str | list[str] = key("all-linear", "modules to adapt")
    rslora: bool = key(False, "scale by alpha / sqrt(rank)")
    dora: bool = key(False, "weight-decomposed LoRA")


class OptimConfig(Table):
    lr: float | None = key(None, "peak learning rate; unset: 5e-7 for all weights, 5e-6 for an adapter", gt=0, le=1)
    steps: int | None = key(None, "optimiser steps; unset: as many as the epochs need", "steps", ge=1)
    epochs: float | None = key(None, "passes over the data; unset: 1", "epochs", gt=0)
    groups_per_step: int = key(32, "groups in one optimiser step: the statistical choice", "groups", ge=1)
    schedule: Literal["linear", "cosine", "constant"] = key("linear", "the learning rate after warm-up")
    warmup: float = key(0.1, "share of the steps in which the rate rises", "fraction", ge=0, le=1)
    weight_decay: float = key(0.0, "decoupled weight decay of matrices", ge=0)
    max_grad_norm: float = key(1.0, "gradients are scaled down to this norm; 0: never", ge=0)
    beta1: float = key(0.9, "AdamW's first-moment decay", ge=0, lt=1)
    beta2: float = key(0.999, "AdamW's second-moment decay", ge=0, lt=1)

    @property
    def peak_lr(self) -> float:
        """`lr` as `load` resolved it."""
        assert self.lr is not None
        return self.lr


class ValueConfig(Table):
    backbone: Literal["shared", "own"] = key(
        "shared", "what a value head reads: the policy's hidden states, or those of a second copy of the policy"
    )


class EngineConfig(Table):
    token_budget: Annotated[int, Field(ge=1)] | Literal["auto"] = key(
        8192, "most input tokens in one forward pass; never changes a result; auto: the most that fits", "tokens"
    )
    layout: Literal["auto", "shared", "padded"] = key("auto", "share prompts where the model allows it; or force")
    gradient_checkpointing: bool = key(False, "recompute activations in backward: less memory, a third more time")
    float32_matmul_precision: Literal["highest", "high", "medium"] = key(
        "highest", "precision of float32 matrix products, as torch.set_float32_matmul_precision; medium is faster"
    )
    threads: int | None = key(None, "CPU threads; unset: torch's choice", ge=1)


class ScaleConfig(Table):
    shard: int | None = key(
        None, "processes that one copy of the weights is divided over; unset: all of a replica", "processes", ge=1
    )
    replicate: int = key(1, "such copies, each with groups of its own", "copies", ge=1)
    tensor: int = key(1, "processes that share each matrix product (tensor parallelism); only 1 for now", ge=1)


class EvalConfig(Table):
    every: int | None = key(None, "evaluate on data.eval after so many steps; unset: at the end", "steps", ge=1)
    prompts: int = key(100, "offline, with [gold]: prompts that the policy answers at each evaluation", "prompts", ge=1)


class SaveConfig(Table):
    every: int | None = key(None, "write a checkpoint after so many steps; unset: only when stopped", "steps", ge=1)
    keep: int = key(2, "checkpoints to keep", ge=1)


class RunConfig(Table):
    dir: str = key("runs/default", "folder of this run: config.toml, log.jsonl, model/")
    resume: bool = key(False, "go on from the newest checkpoint in run.dir")
    overwrite: bool = key(False, "throw away the run that run.dir holds")


class LogConfig(Table):
    answers: bool = key(True, "keep the text of fresh answers, with what the judge said of them, in answers.jsonl")
    completions: bool = key(True, "record every completion's numbers, from which later diagnostics are drawn")
    trackers: str | list[str] = key([], "trackers told of steps and evaluations: tensorboard, wandb, trackio, mlflow")


class Run(Table):
    """A whole run's configuration; `load` makes it, `to_toml` writes it with every value resolved."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    pairs: PairsConfig = PairsConfig()
    objective: tuple[ObjectiveConfig, ...] = (ObjectiveConfig(),)
    reference: ReferenceConfig = ReferenceConfig()
    reward: RewardConfig = RewardConfig()
    source: SourceConfig = SourceConfig()
    judge: tuple[JudgeConfig, ...] = ()
    gold: tuple[JudgeConfig, ...] = ()
    stop: StopConfig = StopConfig()
    value: ValueConfig = ValueConfig()
    adapter: AdapterConfig = AdapterConfig()
    optim: OptimConfig = OptimConfig()
    engine: EngineConfig = EngineConfig()
    scale: ScaleConfig = ScaleConfig()
    eval: EvalConfig = EvalConfig()
    save: SaveConfig = SaveConfig()
    run: RunConfig = RunConfig()
    log: LogConfig = LogConfig()
    seed: int = key(0, "order of the data, initial adapter", ge=0, lt=2**63)

    @property
    def sampled(self) -> bool:
        """Whether the run trains on answers that are sampled from its policy."""
        return self.source.refresh_every != "never" or bool(self.judge)

    @property
    def sampled_once(self) -> bool:
        """Whether they are sampled once, before the first step: offline training on the policy's own answers."""
        return self.source.refresh_every == "never" and bool(self.judge)

    @property
    def monitored(self) -> bool:
        """Whether an offline run's policy answers prompts at every evaluation, for [gold] to judge."""
        return bool(self.gold) and (not self.sampled or self.sampled_once)

    @model_validator(mode="before")
    @classmethod
    def _objective_settings(cls, values: Any) -> Any:
        """`[objective]`, or each of several `[[objective]]`, is written flat; its settings are gathered in `params`."""
        if not isinstance(values, dict) or not isinstance(values.get("objective"), (dict, list)):
            return values
        written = values["objective"] if isinstance(values["objective"], list) else [values["objective"]]
        gathered = []
        for table in written:
            flat = dict(table)
            params = {k: flat.pop(k) for k in list(flat) if k not in ("name", "weight")}
            gathered.append({**flat, "params": params})
        return {**values, "objective": tuple(gathered)}

    @field_validator("judge", "gold", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """`[judge]` is one; `[[judge]]` lists several, in the order in which they judge."""
        return (value,) if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value
