"""An OpenAI-compatible server on top of any `burnish.answers.sampler.Sampler`: `burnish serve`. No torch.

`wire` is what goes over the line, `writing` turns tokens into text as they come, `batching` puts requests together,
`routes` is the app. FastAPI and uvicorn are an extra, and loaded when a server is made.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Callable
from typing import Any

from burnish.errors import ConfigError


def need() -> None:
    """Raises ConfigError, which names the extra, where the server's libraries are not installed."""
    for name in ("fastapi", "uvicorn"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ConfigError(f"a server needs {name}: pip install burnish[serve]") from None


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, but does not accept yet; port 0 takes a free one. Raises ConfigError with the reason."""
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, proto)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(where)
        except OSError:
            bound.close()
            raise
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"{host}, port {port}, cannot be listened on: {getattr(error, 'strerror', '') or error}"
        ) from None
    return bound


def run(app: Any, host: str, port: int, ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve an app of `routes.app` until interrupted; `ready` hears the address once it is bound. Raises ConfigError
    where it is taken, or where the extra is missing."""
    need()
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await asyncio.to_thread(app.state.stop)  # uvicorn would wait until all that is asked is answered
            await super().shutdown(sockets)

    bound = listen(host, port)
    ready(f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}")
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=10)
    try:
        Server(config).run(sockets=[bound])
    finally:
        bound.close()
