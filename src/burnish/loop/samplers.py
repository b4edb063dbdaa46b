"""Who answers a run's prompts: the policy in this process, or a server that is handed its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.answers.answerer import decoding_of
from burnish.answers.http import key_of
from burnish.answers.measure import measure_groups
from burnish.answers.sampler import Decoding, Sampler
from burnish.answers.sampler.arrival import LONGEST, Arrival
from burnish.answers.sampler.process import ProcessSampler
from burnish.engine import checkpoint, model
from burnish.engine.engine import Engine
from burnish.group import EncodedGroup, Unjudged
from burnish.loop.prepare import Prepared

ROUNDING = {"bfloat16": 0.25, "float32": 0.01, "float64": 0.01}  # nats a token between two programs that compute alike


def sampler_of(prepared: Prepared, engine: Engine) -> Sampler:
    """The policy in this process, or a server that is handed the weights through a folder that both can see."""
    run, policy = prepared.run, engine.policy
    if run.source.sampler == "process":
        return ProcessSampler(engine, prepared.ends)
    from burnish.answers.sampler.remote import ServerSampler

    def write(folder: Path) -> None:
        checkpoint.write_folder(folder, lambda part: model.save_model(policy, part, prepared.tokenizer), "weights")

    def logps(ids: Sequence[int]) -> Sequence[float]:
        group = EncodedGroup("", tuple(ids[:1]), (tuple(ids[1:]),), (False,), Unjudged())
        (measured,) = measure_groups(engine, None, [group], Decoding())
        return (measured.sampled or measured.policy)[0]

    text = max((prompt.ids for prompt in prepared.prompts), key=len)[:LONGEST]
    server = ServerSampler(
        run.source.url, key=key_of(run.source.key_env), write=write,
        folder=Path(run.run.dir) / "handed-over", update=run.source.update, terminal=prepared.ends,
        arrival=Arrival(text, logps, ROUNDING[run.model.dtype], run.source.max_mismatch),
    )  # fmt: skip
    server.check(decoding_of(run.source))
    return server
