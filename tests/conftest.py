"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.shared import shared_folder

torch.set_num_threads(1)  # two cores are shared by many small operations; one thread is the faster choice


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared data folder; the test skips, saying so, where it is absent, and fails where the gate demands it."""
    folder = shared_folder()
    if folder is None:
        if os.environ.get("BURNISH_REQUIRE_SHARED"):
            pytest.fail("the shared data is required here (BURNISH_REQUIRE_SHARED) and absent")
        pytest.skip("no shared data: set BURNISH_SHARED, or put shared/ beside the repository")
    return folder / "data"
