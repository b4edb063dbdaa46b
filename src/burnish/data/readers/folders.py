"""Which files of a folder hold its rows: none twice, no caches, no descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from burnish.data.readers.values import parsed
from burnish.errors import DataError

SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
PACKED = (".gz", ".zst", ".bz2", ".xz")
ABOUT_DATA = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "README.json"}
SPLITS = ("train", "test", "validation", "valid", "dev", "eval")


def plain_suffix(file: Path) -> str:
    return Path(file.stem).suffix.lower() if file.suffix.lower() in PACKED else file.suffix.lower()


def files_of(folder: Path) -> list[Path]:
    """The data files in a folder; of a saved data set those that its state.json names.

    Raises DataError where there is none, where they are of several splits, or where some seem to hold the same rows.
    """
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and plain_suffix(p) in SUFFIXES]
    files = [p for p in files if p.name not in ABOUT_DATA and not p.name.startswith("_")]
    files = [p for p in files if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    saved = {parent: _saved_files(parent) for parent in {p.parent for p in files}}
    files = [p for p in files if p.suffix != ".arrow" or not saved[p.parent] or p.name in saved[p.parent]]
    if not files:
        raise DataError(f"{folder} is a folder without {', '.join(SUFFIXES)} files")
    _refuse_copies(folder, files)
    parts = {part for p in files for part in re.split("[^a-z]+", str(p.relative_to(folder)).lower())}
    if len(parts & set(SPLITS)) > 1:
        names = ", ".join(p.name for p in files[:4])
        raise DataError(f"{folder} holds files of several splits ({names}): name the files that you mean")
    return files


def _saved_files(folder: Path) -> set[str]:
    """The files of a data set that `datasets` saved in the folder: caches of its maps and filters lie beside them."""
    state = folder / "state.json"
    value = parsed(state.read_bytes(), str(state)) if state.is_file() else None
    listed = value.get("_data_files") if isinstance(value, Mapping) else None
    names = {str(file["filename"]) for file in listed or () if isinstance(file, Mapping) and "filename" in file}
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise DataError(f"{folder}: state.json names {', '.join(missing[:4])}, and no such file is there")
    return names


def _refuse_copies(folder: Path, files: list[Path]) -> None:
    """Raises DataError for caches of `datasets`, and for files of one name in several forms."""
    stems: dict[Path, Path] = {}
    for p in files:
        stem = p.with_name(Path(p.stem).stem if p.suffix.lower() in PACKED else p.stem)
        cached = p.name.startswith("cache-") and p.suffix == ".arrow" and len(files) > 1
        if cached or stem in stems:
            why = f"{p.name} is a cache of `datasets`" if cached else f"{stems[stem].name} and {p.name}"
            raise DataError(f"{folder} seems to hold the same rows twice ({why}): name the files that you mean")
        stems[stem] = p
