"""One conversation, however a file holds it, is the same group: nulls of columns, JSON in texts, contents in parts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from burnish.data.readers import read
from burnish.errors import DataError
from burnish.group import Group, Message


def tool(name: str, *parameters: str) -> dict[str, Any]:
    properties = {parameter: {"type": "string"} for parameter in parameters}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def row(question: str, name: str, arguments: dict[str, str]) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": "", "tool_calls": [call(name, arguments)]}],
        "rejected": [{"role": "assistant", "content": "It is sunny."}],
        "tools": [tool(name, *arguments)],
    }


ROWS = [row("Weather in Oslo?", "weather", {"city": "Oslo"}), row("2+3?", "add", {"a": "2", "b": "3"})]


def groups_of(path: Path) -> list[Group]:
    return [Group(g.prompt, g.completions, g.feedback, tools=g.tools, meta=g.meta) for g in read(str(path)).groups]


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ["parquet", "feather", "datasets", "hub"])
def test_columnar_files_add_no_nulls(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    written = groups_of(lines(tmp_path / "rows.jsonl", *ROWS))
    table = pyarrow.Table.from_pylist(ROWS)
    assert table.to_pylist()[0]["tools"][0]["function"]["parameters"]["properties"]["a"] is None
    path = tmp_path / f"rows.{form}"
    if form == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif form == "feather":
        pyarrow.feather.write_feather(table, path)
    elif form == "datasets":
        datasets.Dataset(table).save_to_disk(str(path))
    else:
        monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.Dataset(table))
        path = Path("someone/pairs")
    assert groups_of(path) == written


def test_a_map_of_arguments_is_an_object(tmp_path: Path) -> None:
    arguments = pyarrow.map_(pyarrow.string(), pyarrow.string())
    function = pyarrow.struct([("name", pyarrow.string()), ("arguments", arguments)])
    calls = pyarrow.list_(pyarrow.struct([("function", function)]))
    turns = pyarrow.list_(
        pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string()), ("tool_calls", calls)])
    )
    schema = pyarrow.schema([("prompt", turns), ("chosen", turns), ("rejected", turns)])
    rows = [{name: value for name, value in row.items() if name != "tools"} for row in ROWS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), tmp_path / "rows.parquet")
    (message,) = groups_of(tmp_path / "rows.parquet")[0].completions[0].messages
    assert isinstance(message, Message)
    assert message.extra == {"tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]}


def test_nulls_that_json_lines_hold_are_arguments(tmp_path: Path) -> None:
    with_null = row("Weather?", "weather", {"city": "Oslo"})
    with_null["chosen"][0]["tool_calls"][0]["function"]["arguments"]["unit"] = None
    with_null["chosen"][0]["name"] = None
    (message,) = groups_of(lines(tmp_path / "rows.jsonl", with_null))[0].completions[0].messages
    assert isinstance(message, Message)
    assert message.extra == {"tool_calls": [call("weather", {"city": "Oslo", "unit": None})]}


def as_text(row: dict[str, Any], what: str) -> dict[str, Any]:
    """The row with a part of it as JSON text."""
    row = json.loads(json.dumps(row))
    message, function = row["chosen"][0], row["tools"][0]["function"]
    inner = message["tool_calls"][0]["function"]
    if what == "arguments":
        inner["arguments"] = json.dumps(inner["arguments"])
    elif what == "call":
        message["tool_calls"] = [json.dumps(message["tool_calls"][0])]
    elif what == "calls":
        message["tool_calls"] = json.dumps(message["tool_calls"])
    elif what == "parameters":
        function["parameters"] = json.dumps(function["parameters"])
    elif what == "tool":
        row["tools"] = [json.dumps(row["tools"][0])]
    elif what == "tools":
        row["tools"] = json.dumps(row["tools"])
    elif what == "content":
        message["content"] = None
    elif what == "empty calls":
        row["rejected"][0]["tool_calls"] = []
    elif what == "conversation":
        row = {name: json.dumps(value) for name, value in row.items()}
    elif what == "python":
        row = {name: value if name == "tools" else repr(value) for name, value in row.items()}
    elif what == "twice":
        row = {name: value if name == "tools" else json.dumps(json.dumps(value)) for name, value in row.items()}
    elif what == "tuple":
        row = {name: value if name == "tools" else repr(tuple(value)) for name, value in row.items()}
    elif what == "one message":
        row = {name: value if name == "tools" else json.dumps(value[0]) for name, value in row.items()}
    elif what == "other keys first":
        row = {n: v if n == "tools" else repr([{"name": None, **turn} for turn in v]) for n, v in row.items()}
    elif what == "parts":
        for turns in (row["prompt"], row["chosen"], row["rejected"]):
            for turn in turns:
                half = len(turn["content"]) // 2
                pieces = turn["content"][:half], turn["content"][half:]
                turn["content"] = [{"type": "text", "text": piece} for piece in pieces]
    return row


WAYS = ("arguments", "call", "calls", "parameters", "tool", "tools", "content", "empty calls", "conversation",
        "python", "twice", "tuple", "one message", "other keys first", "parts")  # fmt: skip


@pytest.mark.parametrize("what", WAYS)
def test_json_in_texts_and_contents_in_parts_are_read_as_what_they_hold(tmp_path: Path, what: str) -> None:
    written = groups_of(lines(tmp_path / "rows.jsonl", *ROWS))
    assert groups_of(lines(tmp_path / "other.jsonl", *(as_text(row, what) for row in ROWS))) == written


def test_a_csv_file_holds_conversations_as_text(tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(as_text(row, "conversation") for row in ROWS)
    assert groups_of(tmp_path / "rows.csv") == groups_of(lines(tmp_path / "rows.jsonl", *ROWS))


@pytest.mark.parametrize(
    "text",
    [
        "[{'role': 'assistant', 'content': 'cut o",
        '[{"role": "assistant", "content": "cut o',
        "[{'role': 'assistant', 'content': 'It is'}\n {'role': 'user', 'content': 'No'}]",  # as numpy prints it
        "[Message(role='assistant', content='It is')]",
        "[ChatCompletionMessage(content='It is', role='assistant')]",
        "[OrderedDict([('role', 'assistant'), ('content', 'It is')])]",
        "array([{'role': 'assistant', 'content': 'It is'}], dtype=object)",
    ],
)
def test_messages_in_texts_that_cannot_be_read_are_refused_with_their_place(tmp_path: Path, text: str) -> None:
    for row in ({"prompt": "q", "chosen": text, "rejected": text + " "}, {"prompt": "q", "completions": [text, "a"]}):
        with pytest.raises(DataError, match=r"rows\.jsonl:1: '(chosen|completions)' holds messages as text"):
            read(str(lines(tmp_path / "rows.jsonl", row)))


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "user", "content": "hi"}] is what you send to "the server"',
        '{"name": "Ada", "role": "engineer"}',
        '[{"name": "Ada"}, {"name": "Bo"}]',
        "[1, 2, 3]",
        "array([1, 2])",
    ],
)
def test_texts_that_hold_no_conversation_are_answers(tmp_path: Path, text: str) -> None:
    (group,) = read(str(lines(tmp_path / "rows.jsonl", {"prompt": "q", "chosen": text, "rejected": "no"}))).groups
    assert group.completions[0].messages == text


def test_answers_in_a_list_may_be_conversations_as_text(tmp_path: Path) -> None:
    answers = [[{"role": "assistant", "content": text}] for text in "ab"]
    rows: list[dict[str, Any]] = [{"prompt": "q", "completions": answers, "scores": [1, 0]}]
    rows += [{**rows[0], "completions": [json.dumps(a) for a in answers]}]
    rows += [{"prompt": "q", "completions": [{"text": repr(a), "score": 1 - k} for k, a in enumerate(answers)]}]
    first, *others = groups_of(lines(tmp_path / "rows.jsonl", *rows))
    assert others == [first, first]


def test_a_blank_text_of_arguments_is_a_call_without_arguments(tmp_path: Path) -> None:
    other = row("Time?", "now", {})
    other["chosen"][0]["tool_calls"][0]["function"]["arguments"] = ""
    assert groups_of(lines(tmp_path / "a.jsonl", other)) == groups_of(
        lines(tmp_path / "b.jsonl", row("Time?", "now", {}))
    )


def test_what_is_no_object_and_no_text_is_refused(tmp_path: Path) -> None:
    broken = row("Time?", "now", {})
    broken["chosen"][0]["tool_calls"][0]["function"]["arguments"] = '{"city": '
    with pytest.raises(DataError, match="the arguments of 'now' are text that is no JSON object"):
        read(str(lines(tmp_path / "a.jsonl", broken)))
    seen = {**ROWS[0], "prompt": [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}]}
    with pytest.raises(DataError, match="a part of the type 'image', and only text is trained on"):
        read(str(lines(tmp_path / "b.jsonl", seen)))
    printed = {**ROWS[0], "chosen": "[{'role': 'assistant', 'content': 'a'}\n {'role': 'user', 'content': 'b'}]"}
    with pytest.raises(DataError, match="'chosen' holds messages as text that cannot be read"):
        read(str(lines(tmp_path / "c.jsonl", printed)))


def test_prose_that_begins_like_messages_stays_text(tmp_path: Path) -> None:
    prose = '[{"role": "user"}] is how a list of messages begins.'
    (group,) = groups_of(lines(tmp_path / "a.jsonl", {"prompt": "How?", "chosen": prose, "rejected": "No."}))
    assert group.completions[0].messages == prose
