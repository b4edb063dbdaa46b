"""Files and hub data sets in the field's formats -> groups. What a row is, is decided by its shape and said.

A row that cannot be read is a sentence with file and row. Rows that are whole but useless (an empty answer, two equal
answers, a transcript whose prompts differ) are left out, counted, and reported.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import DataError
from burnish.group import Completion, Feedback, Group, Labels, Message, Preferences, Scores, Unjudged, from_json, turns

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".json", ".parquet", ".ndjson")
TURN = re.compile(r"\n\n(Human|Assistant):[ ]?")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Skipped:
    """A row left out, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class ReadResult:
    """The groups of a source, the format they were read as, and the rows left out."""

    groups: list[Group]
    format: str
    skipped: tuple[Skipped, ...]
    note: str = ""


class _Useless(Exception):
    """A row that is whole but teaches nothing; its text is the reason it is counted under."""


def read(path: str, *, format: str = "auto", split: str = "train", limit: int | None = None) -> ReadResult:
    """Read a file, a folder of files, or a hub data set. Raises DataError with file, row and reason."""
    if format != "auto" and format not in SHAPES:
        raise DataError(f"data.format = '{format}' is none of {', '.join(['auto', *SHAPES])}")
    chosen = format
    groups: list[Group] = []
    skipped: list[Skipped] = []
    for number, (where, row) in enumerate(rows(path, split)):
        if limit is not None and number >= limit:
            break
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: a row must be an object with named fields, not a {type(row).__name__}")
        if chosen == "auto":
            chosen = detect(row, where)
        try:
            group = SHAPES[chosen](row, where)
        except _Useless as useless:
            skipped.append(Skipped(where, str(useless)))
            continue
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where}: not a row of the format '{chosen}': {error}") from None
        groups.append(_named(group, row, path, number))
    if not groups and not skipped:
        raise DataError(f"{path} holds no rows")
    return ReadResult(groups, chosen, tuple(skipped), "" if format != "auto" else "(recognised by its fields)")


def _named(group: Group, row: Row, path: str, number: int) -> Group:
    name = str(row.get("id") or f"{Path(path).name}:{number + 1}")
    return Group(
        group.prompt, group.completions, group.feedback, group.id or name, group.source or Path(path).name,
        group.where, group.tools or tuple(row.get("tools") or ()), group.meta,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------- containers


def rows(path: str, split: str) -> Iterator[tuple[str, Any]]:
    """(`file:row`, object) of every row of a file, a folder, or a hub data set."""
    local = Path(path)
    if local.is_file():
        yield from _file(local)
    elif local.is_dir():
        files = sorted(p for p in local.rglob("*") if p.is_file() and _plain_suffix(p) in SUFFIXES)
        if not files:
            raise DataError(f"{path} is a folder without {', '.join(SUFFIXES)} files")
        for file in files:
            yield from _file(file)
    elif path.startswith((".", "/", "~")) or path.count("/") != 1 or _plain_suffix(local) in SUFFIXES:
        raise DataError(f"there is no file or folder {path}")
    else:
        yield from _hub(path, split)


def _plain_suffix(file: Path) -> str:
    return Path(file.stem).suffix if file.suffix in (".gz", ".zst") else file.suffix


def _hub(name: str, split: str) -> Iterator[tuple[str, Any]]:
    from datasets import load_dataset

    try:
        found = load_dataset(name, split=split)
    except Exception as error:  # the library raises a dozen kinds; all mean the same to the user
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{name} is no local file, and could not be loaded as a hub data set: {reason}") from error
    for number, row in enumerate(found):
        yield f"{name}:{number + 1}", row


def _file(file: Path) -> Iterator[tuple[str, Any]]:
    if _plain_suffix(file) == ".parquet":
        yield from _parquet(file)
        return
    with _open(file) as stream:
        start = stream.read(1)
        while start and start.isspace():
            start = stream.read(1)
        stream.seek(0)
        if start == "<":
            raise DataError(f"{file} is an HTML or XML page, not data; it looks like a failed download")
        if start == "[":
            yield from _array(file, stream.read())
        elif _plain_suffix(file) == ".json":
            yield from _json(file, stream.read())
        else:
            yield from _lines(file, stream)


def _open(file: Path) -> io.TextIOBase:
    """The file's text, unpacked; decoding and unpacking faults become sentences where they are met."""
    raw = file.read_bytes()
    try:
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        elif raw[:4] == b"\x28\xb5\x2f\xfd":
            import zstandard

            raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read()
    except Exception as error:
        raise DataError(f"{file} cannot be unpacked ({error}); it may be cut short") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{file} is UTF-16; save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{file}:{row}: not UTF-8 (byte {raw[error.start]:#04x})") from None
    return io.StringIO(text, newline="\n")


def _lines(file: Path, stream: Any) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield f"{file}:{number}", _parsed(line, f"{file}:{number}")


def _array(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    found = _parsed(text, str(file))
    if not isinstance(found, list):
        raise DataError(f"{file}: not a list of rows")
    for number, row in enumerate(found, 1):
        yield f"{file}:{number}", row


def _json(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    found = _parsed(text, str(file))
    if isinstance(found, Mapping) and isinstance(found.get("data"), list):
        found = found["data"]
    elif isinstance(found, Mapping) and found and all(isinstance(v, list) for v in found.values()):
        raise DataError(f"{file} holds columns, not rows; write one object per row")
    for number, row in enumerate(found if isinstance(found, list) else [found], 1):
        yield f"{file}:{number}", row


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        hint = "; is it a CSV file?" if "," in text[:200] and "{" not in text[:200] else ""
        raise DataError(f"{where}: not JSON: {error}{hint}") from None


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} is not a Parquet file: {str(error).splitlines()[0]}") from None
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{file}:{number}", row


# --------------------------------------------------------------------------------------------------------- shapes


def detect(row: Row, where: str) -> str:
    """The format of a row by its fields. Raises DataError where two readings are possible or none is."""
    names = set(row)
    if {"chosen", "rejected"} <= names and "completions" in names:
        raise DataError(f"{where}: both chosen/rejected and completions: name data.format ('pairs' or 'ranked')")
    if {"chosen", "rejected"} <= names:
        texts = isinstance(row["chosen"], str) and isinstance(row["rejected"], str)
        is_hh = texts and "prompt" not in names and (TURN.match(row["chosen"]) or TURN.match(row["rejected"]))
        return "hh" if is_hh else "pairs"
    if isinstance(row.get("completions"), list):
        first = row["completions"][0] if row["completions"] else None
        return "burnish" if isinstance(first, Mapping) and "messages" in first else "ranked"
    if "completion" in names:
        return "unpaired" if "label" in names else "sft"
    if "messages" in names:
        return "sft"
    raise DataError(
        f"{where}: fields {', '.join(sorted(map(str, names))) or '(none)'} are no known format; "
        "for preferences give prompt, chosen and rejected"
    )


def _field(row: Row, name: str, where: str) -> Any:
    if row.get(name) is None:
        raise DataError(f"{where}: '{name}' is {'null' if name in row else 'missing'}")
    return row[name]


def _answer(value: Any, where: str, name: str) -> str | tuple[Message, ...]:
    found = turns(value, where, name)
    text = found if isinstance(found, str) else "".join(m.content for m in found)
    if not text.strip() and not (not isinstance(found, str) and any(m.extra for m in found)):
        raise _Useless(f"an empty {name} answer")
    return found


def _pairs(row: Row, where: str) -> Group:
    chosen, rejected = _field(row, "chosen", where), _field(row, "rejected", where)
    if "prompt" not in row:
        return _implicit_prompt(row, chosen, rejected, where)
    prompt = turns(_field(row, "prompt", where), where, "prompt")
    sides = [_answer(x, where, name) for x, name in ((chosen, "chosen"), (rejected, "rejected"))]
    if not isinstance(prompt, str):
        sides = [_without_prompt(side, prompt) for side in sides]
    return _pair(row, prompt, sides, where)


def _without_prompt(side: str | tuple[Message, ...], prompt: tuple[Message, ...]) -> str | tuple[Message, ...]:
    """Some files repeat the prompt's messages in front of each answer."""
    repeated = not isinstance(side, str) and len(side) > len(prompt) and side[: len(prompt)] == prompt
    return side[len(prompt) :] if repeated else side


def _pair(row: Row, prompt: str | tuple[Message, ...], sides: list[Any], where: str) -> Group:
    if sides[0] == sides[1]:
        raise _Useless("chosen equals rejected")
    models = [row.get("chosen_model"), row.get("rejected_model")]
    completions = tuple(Completion(s, m if isinstance(m, str) else None) for s, m in zip(sides, models, strict=True))
    return Group(prompt, completions, Preferences(((0, 1, 1.0),)), where=where)


def _implicit_prompt(row: Row, chosen: Any, rejected: Any, where: str) -> Group:
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise DataError(
            f"{where}: chosen and rejected are plain text without a prompt, and where the prompt ends is not guessed; "
            "add a 'prompt' field"
        )
    left, right = turns(chosen, where, "chosen"), turns(rejected, where, "rejected")
    common = 0
    while common < min(len(left), len(right)) - 1 and left[common] == right[common]:
        common += 1
    prompt = left[:common]
    if not prompt:
        raise DataError(f"{where}: chosen and rejected share no leading message, so there is no prompt")
    assert not isinstance(prompt, str)
    return _pair(row, prompt, [left[common:], right[common:]], where)


def _hh(row: Row, where: str) -> Group:
    sides = [_transcript(_field(row, name, where), where, name) for name in ("chosen", "rejected")]
    for side, name in zip(sides, ("chosen", "rejected"), strict=True):
        if side[-1].role != "assistant":
            raise _Useless(f"the {name} transcript does not end with the assistant")
        if not side[-1].content.strip():
            raise _Useless(f"an empty {name} answer")
    if sides[0][:-1] != sides[1][:-1]:
        raise _Useless("the two transcripts have different prompts")
    return _pair(row, sides[0][:-1], [side[-1:] for side in sides], where)


def _transcript(text: Any, where: str, name: str) -> tuple[Message, ...]:
    if not isinstance(text, str) or not TURN.match(text):
        raise DataError(f"{where}: the {name} side is not a transcript that begins with '\\n\\nHuman:'")
    parts = TURN.split(text)[1:]
    found: list[Message] = []
    for speaker, content in zip(parts[::2], parts[1::2], strict=True):
        found.append(Message(SPEAKERS[speaker], content.strip()))
    return tuple(found)


def _ranked(row: Row, where: str) -> Group:
    prompt = turns(_field(row, "prompt", where), where, "prompt")
    answers, scores = [], []
    for c in _field(row, "completions", where):
        if isinstance(c, Mapping):
            text = c.get("text", c.get("content", c.get("messages")))
            answers.append(Completion(_answer(text, where, "completion"), c.get("model")))
            scores.append(c.get("score", -c["rank"] if isinstance(c.get("rank"), (int, float)) else None))
        else:
            answers.append(Completion(_answer(c, where, "completion")))
    scores = scores or list(row.get("scores") or [])
    given = [x for x in scores if x is not None]
    if given and len(given) != len(answers):
        raise DataError(f"{where}: {len(answers)} completions but {len(given)} scores or ranks")
    if any(isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x) for x in given):
        raise DataError(f"{where}: a score is not a finite number")
    feedback: Feedback = Scores(tuple(map(float, given))) if given else Unjudged()
    return Group(prompt, tuple(answers), feedback, where=where)


def _unpaired(row: Row, where: str) -> Group:
    label = row.get("label")
    if label not in (True, False, 0, 1) or isinstance(label, float):
        raise DataError(f"{where}: 'label' must be true or false, not {label!r}")
    prompt = turns(_field(row, "prompt", where), where, "prompt")
    answer = Completion(_answer(_field(row, "completion", where), where, "completion"))
    return Group(prompt, (answer,), Labels((bool(label),)), where=where)


def _sft(row: Row, where: str) -> Group:
    if "messages" in row:
        whole = turns(row["messages"], where, "conversation")
        if isinstance(whole, str) or whole[-1].role != "assistant" or len(whole) < 2:
            raise DataError(f"{where}: 'messages' must end with the assistant's answer to a prompt")
        return Group(whole[:-1], (Completion(whole[-1:]),), where=where)
    prompt = turns(_field(row, "prompt", where), where, "prompt")
    return Group(prompt, (Completion(_answer(_field(row, "completion", where), where, "completion")),), where=where)


SHAPES: dict[str, Callable[[Row, str], Group]] = {
    "burnish": from_json,
    "pairs": _pairs,
    "hh": _hh,
    "ranked": _ranked,
    "unpaired": _unpaired,
    "sft": _sft,
}
