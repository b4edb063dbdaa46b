"""The model card of a trained model: the README.md of its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from burnish.config import Run, to_toml


def model_card(run: Run, notes: Sequence[str], reads: str = "") -> str:
    """Front matter for the hub, what was said of data and objective, and the settings as they were. `reads`: where a
    reward model is read."""
    library = "peft" if run.adapter.kind != "none" else "transformers"
    objectives = [objective.name for objective in run.objective]
    base = json.dumps(run.model.path)  # a YAML string whatever the path holds
    front = f"---\nbase_model: {base}\nlibrary_name: {library}\ntags: [burnish, {', '.join(objectives)}]\n---\n"
    title = f"{Path(run.model.path).resolve().name}, polished with {' + '.join(objectives)}"
    scoring = f"## Scoring\n\nThe reward is the scalar head's output at {reads}.\n\n" if reads else ""
    data = "\n".join(f"    {note}" for note in notes)
    return (
        f"{front}\n# {title}\n\nTrained with burnish.\n\n"
        f"{scoring}## Data and objective\n\n{data}\n\n## Settings\n\n```toml\n{to_toml(run)}```\n"
    )
