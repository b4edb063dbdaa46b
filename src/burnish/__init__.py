"""burnish: preference post-training of language models, from offline DPO to on-policy methods with one dial.

The public names below are loaded when they are first used, so `import burnish` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burnish.config import Run
    from burnish.errors import BurnishError, ConfigError, DataError, ModelError, StoreError, TrainingError
    from burnish.group import Completion, Group, Labels, Message, Preferences, Scores, Unjudged
    from burnish.objectives import Objective
    from burnish.tensors import Losses, Metric, Pairs, Singles, TokenScores

__version__ = "0.1.0"

_HOMES = {
    "config": ("Run",),
    "errors": ("BurnishError", "ConfigError", "DataError", "ModelError", "StoreError", "TrainingError"),
    "group": ("Completion", "Group", "Labels", "Message", "Preferences", "Scores", "Unjudged"),
    "objectives": ("Objective",),
    "tensors": ("Losses", "Metric", "Pairs", "Singles", "TokenScores"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022  (by home, as above)
    "__version__",
    "Run",
    "BurnishError", "ConfigError", "DataError", "ModelError", "StoreError", "TrainingError",
    "Completion", "Group", "Labels", "Message", "Preferences", "Scores", "Unjudged",
    "Objective",
    "Losses", "Metric", "Pairs", "Singles", "TokenScores",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'burnish' has no attribute {name!r}")
    return getattr(import_module(f"burnish.{_HOME_OF[name]}"), name)
