"""Who answers a run's prompts: the policy in this process, or a server that is handed its weights."""

from __future__ import annotations

import os
from pathlib import Path

from burnish.answers.answerer import decoding_of
from burnish.answers.sampler import Sampler
from burnish.answers.sampler.process import ProcessSampler
from burnish.engine import checkpoint, model
from burnish.engine.engine import Engine
from burnish.loop.prepare import Prepared


def sampler_of(prepared: Prepared, engine: Engine) -> Sampler:
    """The policy in this process, or a server that is handed the weights through a folder that both can see."""
    run, policy = prepared.run, engine.policy
    if run.source.sampler == "process":
        return ProcessSampler(engine, prepared.ends)
    from burnish.answers.sampler.remote import ServerSampler

    def write(folder: Path) -> None:
        checkpoint.write_folder(folder, lambda part: model.save_model(policy, part, prepared.tokenizer), "weights")

    server = ServerSampler(
        run.source.url, key=os.environ.get(run.source.key_env, ""), write=write,
        folder=Path(run.run.dir) / "handed-over", update=run.source.update, terminal=prepared.ends,
    )  # fmt: skip
    server.check(decoding_of(run.source))
    return server
