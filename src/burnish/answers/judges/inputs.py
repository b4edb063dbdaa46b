"""What judges read besides the answers, as a hash: a run that goes on must be judged as it was. No torch.

That is the text and the fields of the prompts' rows, and the files that the judges' tables name: votes, schemas, a
language model's template, reward models. Functions of the user's are not read: who mends one may go on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from burnish.config import JudgeConfig
from burnish.data.prompts import Prompt
from burnish.errors import ConfigError
from burnish.group import transcript


def fingerprint(tables: Sequence[JudgeConfig], prompts: Sequence[Prompt]) -> str:
    """Hash of what the judges of some tables read; empty where there is no judge. Raises ConfigError for a file that
    cannot be read."""
    if not tables:
        return ""
    digest = hashlib.sha256()
    for prompt in prompts:
        row = [transcript(prompt.group.prompt), prompt.group.meta]
        digest.update(json.dumps(row, sort_keys=True, default=repr).encode())
    for table in tables:
        for key, paths in table.inputs.items():
            for name, file in (pair for path in paths for pair in _files(Path(path))):
                try:
                    with file.open("rb") as stream:
                        content = hashlib.file_digest(stream, "sha256").hexdigest()
                except OSError as error:
                    raise ConfigError(f"judge.{key}: {file} cannot be read: {error.strerror}") from error
                digest.update(f"{key} {name} {content}\n".encode())
    return digest.hexdigest()[:32]


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of a file, of a folder's files, or of the models in a run's folder. Nothing of a hub's name."""
    if path.is_file():
        yield "", path
    models = sorted(folder for folder in (path / "model", *path.glob("member-*/model")) if folder.is_dir())
    for folder in models or [path]:
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(path)
            if file.is_file() and name.name != "README.md" and not any(part.startswith(".") for part in name.parts):
                yield name.as_posix(), file
