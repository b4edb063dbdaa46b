"""Files that burnish writes: they read back equal, appear whole or not at all, and never replace anything unasked."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import json
import os
import resource
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data import convert, readers
from burnish.errors import ConfigError, DataError
from burnish.group import LARGEST, Completion, Group, Labels, Message, Preferences, Scores, Unjudged, from_json

SUFFIXES = list(convert.FORMS)
NASTY = "\u2028\u2029\x85\x00\ue000\U000f0000\ufeff\x1f\r\n\u202e\ud7ff\uffff\U0010ffff"

text = st.text(st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from(NASTY)), max_size=12)
number = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
value = st.recursive(
    st.one_of(st.none(), st.booleans(), number, text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=6,
)
about = st.dictionaries(text, value, max_size=3)
extra = st.dictionaries(
    text.filter(lambda k: k not in ("role", "content")), value.filter(lambda v: v is not None), max_size=2
)
message = st.builds(Message, st.sampled_from(["user", "assistant", "tool"]), text, extra)
turns = st.one_of(text, st.lists(message, min_size=1, max_size=3).map(tuple))
model = st.one_of(st.none(), text.filter(bool))
completions = st.lists(st.builds(Completion, turns, model, about), min_size=1, max_size=4).map(tuple)
finite = st.floats(-LARGEST, LARGEST)


@st.composite
def whole_groups(draw: st.DrawFn) -> Group:
    answers = draw(completions)
    count = len(answers)
    kinds: list[st.SearchStrategy[Any]] = [
        st.lists(finite, min_size=count, max_size=count).map(lambda v: Scores(tuple(v))),
        st.lists(st.booleans(), min_size=count, max_size=count).map(lambda v: Labels(tuple(v))),
        st.builds(Unjudged, text),
    ]
    if count > 1:
        weight = st.floats(0.001, 1e6)
        triple = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1), weight).filter(lambda t: t[0] != t[1])
        kinds.append(st.lists(triple, max_size=4).map(lambda v: Preferences(tuple(v))))
    tools = tuple(draw(st.lists(about, max_size=2)))
    feedback = draw(st.one_of(kinds))
    return Group(draw(turns), answers, feedback, draw(text), draw(text), "", tools, draw(about))


def some(count: int = 3) -> list[Group]:
    called = Message("assistant", "", {"tool_calls": [{"function": {"name": "f", "arguments": {}}}]})
    asked = (Message("system", "s"), Message("user", f"what?{NASTY}"))
    answers = (Completion((called, Message("tool", "4")), "m", {"seed": 1}), Completion("four ☃"))
    kinds = [Scores((1.0, 0.5)), Labels((True, False)), Preferences(((1, 0, 0.25),)), Unjudged("the judge failed")]
    return [
        Group(asked if i % 2 else "plain", answers, kinds[i % 4], f"g{i}", "src", "", ({"name": "f"},), {"k": [i]})
        for i in range(count)
    ]


def loaded(path: Path) -> list[Group]:
    """What a reader does: lines, or the one column of Parquet, through `from_json`."""
    if path.suffix == ".parquet":
        lines = pyarrow.parquet.read_table(path).column(convert.COLUMN).to_pylist()
        return [from_json(json.loads(line)) for line in lines]
    return [from_json(json.loads(line)) for line in path.read_bytes().splitlines() if line.strip()]


@settings(max_examples=60, deadline=None)
@given(st.lists(whole_groups(), min_size=1, max_size=3))
def test_json_lines_read_back_equal(groups: list[Group]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        assert convert.write(groups, str(path)) == len(groups)
        assert path.read_bytes().count(b"\n") == len(groups)
        assert [from_json(json.loads(line)) for line in path.read_bytes().split(b"\n") if line] == groups


@settings(max_examples=60, deadline=None)
@given(st.lists(whole_groups(), min_size=1, max_size=3))
def test_parquet_reads_back_equal(groups: list[Group]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        assert convert.write(groups, str(path)) == len(groups)
        assert loaded(path) == groups


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_burnish_reads_what_it_writes(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    assert convert.write(iter(some(5)), str(path)) == 5
    found = readers.read(str(path))
    assert found.format == "burnish" and [replace(g, where="") for g in found.groups] == some(5)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_groups_are_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        convert.write(some(), str(path))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_parquet_comes_in_blocks_with_columns_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "BLOCK_ROWS", 2)
    path = tmp_path / "x.parquet"
    convert.write(some(5), str(path))
    with pyarrow.parquet.ParquetFile(path) as file:
        assert file.num_row_groups == 3
    row = pyarrow.parquet.read_table(path).to_pylist()[1]
    assert row["feedback"] == "labels" and row["answer_texts"] == ["\n4", "four ☃"] and row["models"] == ["m", None]
    assert row["prompt_text"] == f"system: s\nuser: what?{NASTY}" and row["scores"] is None and row["id"] == "g1"
    monkeypatch.setattr(convert, "BLOCK_BYTES", 1)
    convert.write(some(5), str(path), overwrite=True)
    with pyarrow.parquet.ParquetFile(path) as file:
        assert file.num_row_groups == 5


def test_text_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "x.JSONL.gz"
    convert.write(some(1), str(path))
    assert "four ☃".encode() in gzip.decompress(path.read_bytes())
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": "half \ud800"}, "lone surrogate"),
        ({"id": "half \udfff"}, "lone surrogate"),
        ({"meta": {"x": "\ud83d\ude00"}}, "lone surrogate"),
        ({"meta": {"x": float("nan")}}, "cannot be written as JSON"),
        ({"meta": {"when": datetime.date(2026, 1, 1)}}, "date is not JSON serializable"),
        ({"meta": {"x": {1: "y"}}}, "'meta' would not read back"),
        ({"meta": {"x": {1: 2, "1": 3}}}, "'meta' would not read back"),
        ({"prompt": (Message("user", "x", {"role": "system"}),)}, "'prompt' would not read back"),
        ({"prompt": (Message("user", "x", {"name": None}),)}, "'prompt' would not read back"),
        ({"completions": (Completion((Message("tool", "x", {"content": "y"}),)),) * 2}, "'completions' would not"),
        ({"completions": ()}, "'completions' must be"),
        ({"feedback": Scores((1.0, float("inf")))}, "cannot be written as JSON"),
        ({"feedback": Scores((1.0,))}, "1 scores for 2 completions"),
    ],
)
def test_what_would_not_read_back_is_refused_with_its_place(
    suffix: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    bad = replace(some(1)[0], where="f:7", **change)
    with pytest.raises(DataError, match=f"f:7: .*{said}"):
        convert.write([*some(2), bad], str(path))
    assert list(tmp_path.iterdir()) == []


def test_a_tuple_in_the_meta_is_as_good_as_a_list() -> None:
    line = convert.line_of(replace(some(1)[0], meta={"scores": (1.0, 2.0)}))
    assert json.loads(line)["meta"] == {"scores": [1.0, 2.0]}
    assert "model" not in convert.line_of(Group("q", (Completion("a", ""),)))  # an empty name is no name


@pytest.mark.parametrize(
    ("name", "said"),
    [("x.json", "did you mean '.jsonl'"), ("x", "one of .jsonl"), ("x.jsonl.bz2", "did you mean"), ("x.csv", "one of")],
)
def test_an_unknown_suffix_is_refused_before_anything_is_read(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        convert.write(_untouchable(), str(tmp_path / name))


def _untouchable() -> Iterator[Group]:
    raise AssertionError("nothing may be read")
    yield


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_exists_is_replaced_only_when_asked(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_text("precious")
    with pytest.raises(DataError, match="exists already; name another file, or replace it \\(--overwrite\\)"):
        convert.write(_untouchable(), str(path))
    assert path.read_text() == "precious"
    link = tmp_path / f"link{suffix}"
    link.symlink_to(path)
    convert.write(some(), str(link), overwrite=True)
    assert link.is_symlink() and len(readers.read(str(path)).groups) == 3


def test_a_source_may_be_rewritten_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    convert.write(some(5), str(path))
    convert.write((g for g in readers.read(str(path)).groups if g.id != "g0"), str(path), overwrite=True)
    assert [g.id for g in loaded(path)] == ["g1", "g2", "g3", "g4"]


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"

    def slow() -> Iterator[Group]:
        yield some(1)[0]
        path.write_text("precious")

    with pytest.raises(DataError, match="appeared in the meantime"):
        convert.write(slow(), str(path))
    assert path.read_text() == "precious" and list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_hold_a_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        convert.write(some(), str(tmp_path / "d.jsonl"))
    with pytest.raises(DataError, match="does not exist"):
        convert.write(some(), str(tmp_path / "no" / "x.jsonl"))
    with pytest.raises(DataError, match=r"no groups to write, so .*x\.parquet is not written"):
        convert.write([], str(tmp_path / "x.parquet"))
    assert [p.name for p in tmp_path.iterdir()] == ["d.jsonl"]


def test_an_unwritable_folder_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:  # chmod does not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"x\.jsonl cannot be written: Permission denied; nothing was changed"):
        convert.write(some(), str(tmp_path / "x.jsonl"))


@contextlib.contextmanager
def _small_files(limit: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond `limit` bytes: as good as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_leaves_the_old_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_text("precious")
    big = replace(some(1)[0], prompt=os.urandom(1 << 19).hex())
    with (
        _small_files(1 << 18),
        pytest.raises(DataError, match="cannot be written: File too large; nothing was changed"),
    ):
        convert.write([big, *some()], str(path), overwrite=True)
    assert path.read_text() == "precious" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [DataError("f:9: not JSON"), KeyboardInterrupt()])
def test_a_source_that_breaks_off_leaves_nothing(suffix: str, error: BaseException, tmp_path: Path) -> None:
    def broken() -> Iterator[Group]:
        yield from some()
        raise error

    with pytest.raises(type(error)):
        convert.write(broken(), str(tmp_path / f"x{suffix}"))
    assert list(tmp_path.iterdir()) == []
