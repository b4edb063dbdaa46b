"""The verb that answers over HTTP: serve."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from burnish.cli.frame import explained, quiet
from burnish.errors import ConfigError, ModelError


class Served(NamedTuple):
    """What a server needs of a model folder."""

    sampler: Any  # burnish.answers.sampler.Sampler
    renderer: Any  # burnish.data.render.Renderer
    reload: Callable[[Path], None]  # reads the weights of another folder of the same model
    longest: int | None  # tokens up to which the model is exact, where its configuration says
    vocabulary: int  # rows of its embedding


def serve(
    model: Annotated[str, typer.Argument(help="folder of a Hugging Face causal LM, or its hub name")],
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 is all of this machine's")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 8000,
    name: Annotated[str, typer.Option(help="what clients call the model; unset: the folder's name")] = "",
    template: Annotated[str, typer.Option(help="chat template: auto, plain, hh, chatml, or a .jinja file")] = "auto",
    dtype: Annotated[str, typer.Option(help="bfloat16, float32 or float64")] = "bfloat16",
    rows: Annotated[int, typer.Option(min=1, help="answers written at the same time")] = 64,
    waiting: Annotated[int, typer.Option(min=1, help="prompts that may wait; more get 503")] = 512,
    key_env: Annotated[str, typer.Option(help="environment variable with the key that clients must bring")] = "",
    reload: Annotated[bool, typer.Option("--reload", help="Let clients have weights read anew: POST /reload.")] = False,
) -> None:
    """Serve a model over HTTP as OpenAI does: completions and chats, with log-probs and token ids, streamed or whole.

    For small models, tests and judges; for speed use vLLM. Needs pip install burnish[serve].
    """
    with explained():
        from burnish.answers import serving

        serving.need()
        key = os.environ.get(key_env, "") if key_env else ""
        if key_env and not key:
            raise ConfigError(f"--key-env {key_env}: this environment variable is empty or not set")
        quiet()
        from burnish.answers.serving.routes import app

        served = in_process(model, template, dtype, rows)
        called = name or Path(model).resolve().name if Path(model).is_dir() else name or model
        made = app(
            served.sampler, served.renderer, called, reload=served.reload if reload else None, key=key,
            longest=served.longest, vocabulary=served.vocabulary, most_waiting=waiting, most_together=rows,
        )  # fmt: skip
        serving.run(made, host, port, lambda url: typer.echo(f"{called} is served at {url}/v1 (interrupt to stop)"))


def in_process(model: str, template: str = "auto", dtype: str = "bfloat16", rows: int = 64) -> Served:
    """The model of a folder, answering in this process. Raises BurnishError with a sentence."""
    import torch

    from burnish import config
    from burnish.answers.sampler import process
    from burnish.data import render, tokenizers
    from burnish.engine import loading
    from burnish.engine import model as models

    run = config.load_partly(None, [f"model.path={model}", f"model.dtype={dtype}"])
    models.require_model_dir(model)
    tokenizer = tokenizers.load_tokenizer(model)
    renderer = render.Renderer(tokenizer, template)
    engine, _ = loading.make_engine(models.load_policy(run.model, tokenizer_size=len(tokenizer)), run)
    policy = engine.policy
    models.cast_for_compute(policy)  # after the layout was proved in float32
    text = policy.base.config.get_text_config()
    longest = getattr(text, "max_position_embeddings", None)

    def reload(folder: Path) -> None:
        fresh = models.load_base(run.model.model_copy(update={"path": str(folder)}), quantize=False, place="host")
        weights, own = dict(fresh.named_parameters()), dict(policy.base.named_parameters())
        shapes = {name: one.shape for name, one in own.items()}
        if {name: one.shape for name, one in weights.items()} != shapes:
            raise ModelError(f"{folder} is not the same model as {model}: its weights have other names or shapes")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])

    return Served(
        process.Sampler(engine, frozenset(renderer.terminal), rows), renderer, reload,
        longest if isinstance(longest, int) and longest > 0 else None,
        int(policy.base.get_input_embeddings().weight.shape[0]),
    )  # fmt: skip


def register(app: typer.Typer) -> None:
    """Hang the verb on the command line."""
    app.command()(serve)
