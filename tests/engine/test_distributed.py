"""Which GPU a process takes."""

from __future__ import annotations

import pytest
import torch

from burnish.engine import distributed
from burnish.errors import ConfigError


def test_more_processes_than_gpus_are_refused_with_the_right_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [distributed._gpu_of(rank) for rank in (0, 1)] == [0, 1]
    with pytest.raises(ConfigError, match=r"has 2 GPUs .* --nproc-per-node 2"):
        distributed._gpu_of(2)
