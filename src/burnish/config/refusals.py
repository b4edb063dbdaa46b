"""What a run is refused for by its configuration alone: each reason once, before anything is read or loaded."""

from __future__ import annotations

import importlib.util
import json

from burnish.config.online import HumanConfig, LLMConfig
from burnish.config.tables import Run
from burnish.errors import ConfigError

OFFLINE_SOURCE_KEYS = ("refresh_every", "epochs", "fresh", "replay", "curriculum", "is_cap")  # of no use when monitored

REQUEST_FIELDS = {  # of an LLM judge's request -> what sets them
    "model": "the key of that name", "max_tokens": "the key of that name", "temperature": "the key of that name",
    "max_completion_tokens": "the key of that name", "messages": "the key template", "stream": "reading whole replies",
    "n": "reading one reply to each request",
}  # fmt: skip


def refuse(run: Run) -> None:
    """Raises ConfigError for keys that are missing, and as `refuse_combinations` does."""
    if not run.model.path:
        raise ConfigError("model.path is missing: name the folder (or hub name) of the model to train")
    if not run.data.train and not (run.sampled and run.source.prompts):
        raise ConfigError("data.train is missing: name the file, folder or hub name of the training groups")
    refuse_combinations(run)


def refuse_combinations(run: Run) -> None:
    """Raises ConfigError for keys that cannot be meant together; the model and the data may still be missing."""
    if run.run.resume and run.run.overwrite:
        raise ConfigError("run.resume and run.overwrite contradict each other: go on with the run, or throw it away?")
    if run.optim.steps is not None and run.optim.epochs is not None:
        raise ConfigError("optim.steps and optim.epochs are both set: each says when to stop; keep one")
    _refuse_data(run)
    _refuse_reference(run)
    _refuse_adapter(run)
    for table in ("judge", "gold"):
        for judge in getattr(run, table):
            if isinstance(judge, LLMConfig):
                _refuse_requests(judge, table)
    _refuse_people(run)
    if run.sampled:
        _refuse_sampling(run)
    else:
        _refuse_offline(run)
    if run.sampled or run.monitored:
        _refuse_server(run)


def _refuse_people(run: Run) -> None:
    """People who judge in rounds beside others, or answers that they cannot compare; keys of rounds beside a file."""
    for judge in run.judge:
        if not isinstance(judge, HumanConfig):
            continue
        asked = {"wait", "share", "overlap", "raters", "reasons"} & judge.model_fields_set
        if judge.votes and asked:
            raise ConfigError(f"judge.{min(asked)} is about rounds, and judge.votes names votes at hand: keep one")
        if judge.votes:
            continue
        if len(run.judge) > 1:
            raise ConfigError("judge.kind = 'human' without judge.votes asks people in rounds, as the only judge")
        if run.source.k == 1:
            raise ConfigError("source.k = 1: people compare a prompt's answers with each other: two at least")
        if judge.raters and len(set(judge.raters)) < max(judge.overlap, len(judge.raters)):
            raise ConfigError(f"judge.overlap = {judge.overlap} needs as many people, all named in judge.raters once")


def _refuse_data(run: Run) -> None:
    """Weights that fit no sources, and two ways of holding groups out."""
    data = run.data
    names = [data.train] if isinstance(data.train, str) else list(data.train)
    if data.weights is not None and len(data.weights) != len(names):
        raise ConfigError(f"data.weights has {len(data.weights)} numbers for {len(names)} sources in data.train")
    if data.weights is not None and len(set(names)) < len(names):
        raise ConfigError("data.train names a source twice; with data.weights, give it once and a larger weight")
    if data.eval and data.eval_fraction is not None:
        raise ConfigError("data.eval and data.eval_fraction are both set: held-out groups come from one of them")


def _refuse_reference(run: Run) -> None:
    """References without a path, and references that move beside what cannot go with them."""
    reference = run.reference
    if reference.kind == "path" and not reference.path:
        raise ConfigError("reference.kind = 'path' needs reference.path, the model to compare with")
    if reference.path and reference.kind != "path":
        raise ConfigError("reference.path is set, but reference.kind is not 'path', so it would be ignored: set both")
    for name, kinds in (("alpha", ("soft", "ema")), ("every", ("soft", "hard"))):
        if getattr(reference, name) is not None and reference.update not in kinds:
            raise ConfigError(f"reference.{name} is set, but reference.update = '{reference.update}' ignores it")
    if reference.update == "never":
        return
    if reference.kind == "none":
        raise ConfigError("reference.update moves a reference, and reference.kind = 'none' leaves none to move")
    if reference.scores == "stored" or reference.store:
        raise ConfigError(
            "reference.update moves the reference, and stored log-probs are those of one that stands still: "
            "leave out reference.store and reference.scores = 'stored'"
        )
    if run.adapter.kind != "none":
        raise ConfigError(
            "reference.update moves the reference's weights, but with an adapter the reference is the same model with "
            "the adapter switched off: moving it would move the policy. Train all weights (adapter.kind = 'none')"
        )


def _refuse_adapter(run: Run) -> None:
    """Adapters beside a number type, a package or a reward head that they cannot go with."""
    adapter = run.adapter
    if adapter.kind == "none":
        return
    if adapter.dora and run.model.dtype == "bfloat16":
        raise ConfigError(
            "adapter.dora rescales every weight, and in bfloat16 that alone moves the policy: use float32"
        )
    if adapter.kind == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError("adapter.kind = 'qlora' needs the bitsandbytes package, which is not installed; use 'lora'")
    if adapter.kind == "qlora" and run.model.dtype == "float64":
        raise ConfigError("adapter.kind = 'qlora' computes in bfloat16 or float32, not float64")
    if run.reward.train == "head":
        raise ConfigError("reward.train = 'head' trains the scalar head alone, so adapter.kind has nothing to adapt")


def _refuse_requests(judge: LLMConfig, table: str) -> None:
    """Two names of one limit, and further fields of a request that burnish sets itself, or that JSON cannot hold."""
    if judge.max_tokens is not None and judge.max_completion_tokens is not None:
        raise ConfigError(
            f"{table}.max_tokens and {table}.max_completion_tokens are one limit under two names: keep the one that "
            "the server takes"
        )
    for name in judge.request:
        if name in REQUEST_FIELDS:
            raise ConfigError(f"{table}.request.{name}: burnish sets this field itself, by {REQUEST_FIELDS[name]}")
    try:
        json.dumps(judge.request, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{table}.request holds what JSON cannot: {error}") from None


def _refuse_offline(run: Run) -> None:
    """Keys about fresh answers in a run that samples none to train on."""
    unset = type(run.source)()
    keys = OFFLINE_SOURCE_KEYS if run.monitored else tuple(type(run.source).model_fields)
    changed = [key for key in keys if getattr(run.source, key) != getattr(unset, key)]
    if changed:
        raise ConfigError(
            f"source.{changed[0]} is about fresh answers, and source.refresh_every = 'never' asks for none: set it "
            "to a number of steps"
        )
    if "gold" in run.stop.when:
        raise ConfigError("stop.when = 'gold' compares gold with a judge's reward, and offline there is no judge")
    if run.stop.when and not run.monitored:
        raise ConfigError("stop.when listens to fresh answers, and there are none: set source.refresh_every or [gold]")


def _refuse_sampling(run: Run) -> None:
    """Fresh answers that nobody judges, or that leave no room, no steps or no comparison."""
    source = run.source
    if not run.judge:
        raise ConfigError("source.refresh_every asks for fresh answers, and nobody judges them: add a [judge]")
    if not run.sampled_once and run.reference.scores == "stored":
        raise ConfigError("reference.scores = 'stored' is of a fixed data set; fresh answers need 'live' (or auto)")
    if source.fresh < 1 and (run.sampled_once or not run.data.train):
        raise ConfigError(
            "source.fresh below 1 mixes fresh answers with those of data.train, which must hold feedback that the "
            "objective can learn from, and source.refresh_every must be a number of steps"
        )
    if source.fresh < 1 and run.optim.groups_per_step == 1:
        raise ConfigError("source.fresh below 1 mixes groups in a step, and optim.groups_per_step = 1 has room for one")
    if source.curriculum == "adaptive" and any(judge.kind in ("reward_model", "llm") for judge in run.judge):
        raise ConfigError(
            "source.curriculum = 'adaptive' reads rewards as success, from 0 to 1: only verifiers do that"
        )
    if source.k == 1 and any(judge.kind == "llm" and judge.mode == "pairwise" for judge in run.judge):
        raise ConfigError("judge.mode = 'pairwise' compares answers, and source.k = 1 gives one: use 'pointwise'")
    if source.refresh_every != "never" and source.epochs > source.refresh_every:
        raise ConfigError(
            f"source.epochs = {source.epochs} steps for each group, and source.refresh_every = {source.refresh_every} "
            "leaves fewer until the next refresh"
        )


def _refuse_server(run: Run) -> None:
    """A sampling server without an address, or one that is handed weights which the run does not train."""
    source = run.source
    if source.sampler == "process":
        unset = type(source)()
        for name in ("url", "key_env", "update", "max_mismatch"):
            if getattr(source, name) != getattr(unset, name):
                raise ConfigError(f"source.{name} is set, and source.sampler = 'process' asks no server")
        return
    if not source.url:
        raise ConfigError("source.sampler = 'server' needs source.url, its address")
    if source.update == "lora" and run.adapter.kind == "none":
        raise ConfigError("source.update = 'lora' hands over an adapter, and adapter.kind = 'none' trains none")
    if source.update == "lora" and run.adapter.dora:
        raise ConfigError("source.update = 'lora' hands over an adapter, and vLLM reads none with adapter.dora = true")
    if source.update == "reload" and run.adapter.kind != "none":
        raise ConfigError("source.update = 'reload' hands over a whole model, and an adapter is trained: use 'lora'")
