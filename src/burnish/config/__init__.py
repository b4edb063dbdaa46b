"""The configuration: one frozen tree, read from TOML and `key=value` words, with every refusal a sentence.

`base` says what a table is. `tables` and `online` hold the tables: every key with its default, unit, limits and
meaning; a new key is one line there. `keys` describes them and refuses unknown ones, `load` reads and writes them,
`commented` writes them with their meanings, `refusals` says what cannot be meant together.

`[objective]` holds the objective's name and, beside it, the objective's own settings. Those are the keyword-only
arguments of its function, so they are checked where the function lives (`objectives.Objective.validate`).
"""

from __future__ import annotations

from burnish.config.commented import to_commented_toml
from burnish.config.keys import KeyRow, describe_keys
from burnish.config.load import load, load_partly, to_toml
from burnish.config.online import (
    HumanConfig,
    JudgeConfig,
    LLMConfig,
    RewardModelConfig,
    SourceConfig,
    StopConfig,
    VerifierConfig,
)
from burnish.config.tables import (
    AdapterConfig,
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    PairsConfig,
    ReferenceConfig,
    Run,
)

__all__ = [
    "AdapterConfig",
    "DataConfig",
    "HumanConfig",
    "JudgeConfig",
    "KeyRow",
    "LLMConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PairsConfig",
    "ReferenceConfig",
    "RewardModelConfig",
    "Run",
    "SourceConfig",
    "StopConfig",
    "VerifierConfig",
    "describe_keys",
    "load",
    "load_partly",
    "to_commented_toml",
    "to_toml",
]
