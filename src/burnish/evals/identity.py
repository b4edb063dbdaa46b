"""What decides a model's answers, as a hash: its files, its template, and how it computes.

A folder's files are read whole, so that weights that were trained on do not pass for those that answered before. A
model on a hub is known by its name, a server's by its address and name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from burnish.config import Run
from burnish.errors import ModelError
from burnish.evals.ask import Place

UNREAD = {"README.md", "report.html"}


def of_place(place: Place) -> str:
    """The hash of the model at a place. Raises ModelError for a file that cannot be read."""
    digest = hashlib.sha256(_settings(place.run).encode())
    for path in filter(None, (place.checkpoint, *_folders(place.run.model.path))):
        for file in _files(path):
            try:
                with file.open("rb") as stream:
                    digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
            except OSError as error:
                raise ModelError(f"{file} cannot be read: {error.strerror}") from None
    return digest.hexdigest()[:32]


def _settings(run: Run) -> str:
    data = run.data.model_dump(include={"template", "template_args", "control_tokens"})
    folders = [folder for folder in _folders(run.model.path) if folder is not None]
    return json.dumps([run.model.dtype, data, [] if folders else run.model.path], sort_keys=True, default=repr)


def _folders(path: str) -> list[Path | None]:
    """The folder of a model, and of the base of an adapter, as far as they lie on this machine."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return []
    about = folder / "adapter_config.json"
    if not about.exists():
        return [folder]
    try:
        base = json.loads(about.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError) as error:
        raise ModelError(f"{about} cannot be read: {error}") from None
    return [folder, *(_folders(base) if isinstance(base, str) else [])]


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in UNREAD and not file.name.startswith("."):
            yield file
