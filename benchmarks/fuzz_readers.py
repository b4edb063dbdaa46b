"""Coverage-guided fuzzing of the readers and the audit: `python benchmarks/fuzz_readers.py -max_total_time=600`.

Needs `pip install atheris` (Linux, CPython). A crash, a hang of more than ten seconds or more than 1 GiB of memory
stops it and leaves the input behind; nothing else is an answer but groups or a DataError.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["burnish.data.readers", "burnish.group", "burnish.audit"]):
    from burnish.audit import Auditor, audit
    from burnish.data.readers import READERS, read
    from burnish.errors import DataError

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".jsonl.gz", ".jsonl.zst")
FORMATS = ("auto", *READERS)
FOLDER = Path(tempfile.mkdtemp(prefix="burnish-fuzz-"))


def one_input(content: bytes) -> None:
    """The first two bytes choose the suffix and the format, the rest is the file."""
    if len(content) < 2:
        return
    path = FOLDER / f"a{SUFFIXES[content[0] % len(SUFFIXES)]}"
    path.write_bytes(content[2:])
    train = Auditor()
    try:
        train.take(read(str(path), format=FORMATS[content[1] % len(FORMATS)], keep_faults=True).groups)
    except DataError:
        return
    json.dumps(audit(train, probe=False).to_json(), default=str)


def main() -> None:
    limits = ["-timeout=10", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *limits, *sys.argv[1:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
