"""Whatever bytes a file holds, reading it gives groups or a sentence: no traceback, no hang, no flood of memory."""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.audit import Auditor, audit
from burnish.data.readers import READERS, read
from burnish.errors import DataError
from burnish.group import to_json

SEEDS = [
    b'{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}\n{"prompt": "A", "chosen": "B", "rejected": "C"}\n',
    b'[{"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "assistant", "content": "b"}],'
    b' "rejected": [{"role": "assistant", "content": "c"}]}]',
    b'{"chosen": "\\n\\nHuman: a\\n\\nAssistant: b", "rejected": "\\n\\nHuman: a\\n\\nAssistant: c"}\n',
    b'{"prompt": "p", "completions": [{"text": "a", "score": 1}, {"text": "b", "rank": 2}]}\n',
    b"prompt,chosen,rejected\na,b,c\n",
]
NAMES = ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.jsonl.zst"]


def look_at(name: str, content: bytes) -> None:
    """Read and audit a file; anything but an answer or a DataError is a failure."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            for group in read(str(path), keep_faults=True).groups:
                json.dumps(to_json(group))
        except DataError as error:
            assert str(error)
        train = Auditor()
        train.read(str(path))
        found = audit(train, probe=False)
        json.dumps(found.to_json(), default=str)
        assert all(finding.line() for finding in found.findings)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A sound file with some bytes cut, changed, repeated or put in."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["cut", "put", "change", "repeat"]))
        if kind == "cut":
            del content[at : at + draw(st.integers(1, 12))]
        elif kind == "put":
            content[at:at] = draw(
                st.binary(max_size=8) | st.sampled_from([b"\\ud83d", b"1e999", b"NaN", b"null", b"[", b'"'])
            )
        elif kind == "repeat":
            content[at:at] = content[max(0, at - 20) : at] * draw(st.integers(1, 3))
        elif at < len(content):
            content[at] = draw(st.integers(0, 255))
    return bytes(content)


@settings(max_examples=300, deadline=4000, suppress_health_check=[HealthCheck.too_slow])
@given(content=broken() | st.binary(max_size=200), name=st.sampled_from(NAMES), packed=st.booleans())
def test_bytes_give_an_answer_or_a_sentence(content: bytes, name: str, packed: bool) -> None:
    look_at(name, gzip.compress(content)[: len(content) + 10] if packed else content)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=6) | st.sampled_from(["user", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "score", "rank", "from", "value", "messages"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
COLUMNS = st.sampled_from([
    "prompt", "chosen", "rejected", "completion", "completions", "label", "messages", "conversations", "instruction",
    "output", "context", "response1", "response2", "overall_preference", "output_1", "output_2", "preference", "votes",
    "majority", "winner", "conversation_a", "conversation_b", "model_a", "model_b", "question", "answer", "kwargs",
    "instruction_id_list", "scores", "tools", "meta", "id", "source", "replies", "group_json", "preferences", "kto_tag",
])  # fmt: skip


@settings(max_examples=300, deadline=4000, suppress_health_check=[HealthCheck.too_slow])
@given(row=st.dictionaries(COLUMNS, VALUES, min_size=1, max_size=6), format=st.sampled_from(["auto", *READERS]))
def test_any_json_row_in_any_format(row: dict[str, Any], format: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text(json.dumps(row) + "\n")
        try:
            groups = read(str(path), format=format, keep_faults=True).groups
        except DataError:
            return
        train = Auditor()
        train.take(groups)
        audit(train, probe=False)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 50_000, b'{"prompt": "' + b"x" * 3_000_000, b"9" * 5000]
)
def test_deep_and_long_input_ends_soon(content: bytes) -> None:
    began = time.perf_counter()
    for name in ("a.jsonl", "a.json"):
        look_at(name, content)
    assert time.perf_counter() - began < 10


def test_a_packed_bomb_is_refused_within_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes that unpack to one endless line end at the longest row allowed."""
    monkeypatch.setattr("burnish.data.readers.files.LONGEST_ROW", 1 << 20)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"0" * (8 << 20)))
    with pytest.raises(DataError, match="more than 1 MiB"):
        read(str(tmp_path / "a.jsonl.gz"))
