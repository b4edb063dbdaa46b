"""Where the shared test data lies, if it is there: `BURNISH_SHARED`, or a `shared/` folder beside the repository."""

from __future__ import annotations

import os
from pathlib import Path


def shared_folder() -> Path | None:
    named = os.environ.get("BURNISH_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return folder if folder.is_dir() else None
