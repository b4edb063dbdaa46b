"""A group token by token: what is trained, where turns end, and sentences for rows that cannot be shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.cli.main import main
from burnish.data.render import Renderer
from burnish.data.show import find, token_lines
from burnish.errors import DataError
from burnish.group import Completion, Group, Labels, Scores, Unjudged
from tests.zoo import tokenizer

PAIR = {"prompt": "Why é 🙂?", "chosen": "Because <|im_end|> it is.", "rejected": "No\x1b[31m."}


def write(folder: Path, *rows: object) -> str:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_every_token_is_shown_once_and_ends_stand_out(tmp_path: Path) -> None:
    renderer = Renderer(tokenizer("chatml"))
    group = find(write(tmp_path, PAIR), 1)
    lines = token_lines(group, renderer)
    encoded = renderer.encode(group)
    assert lines[2].plain.replace("\u21b5", "") == renderer.tokenizer.decode(encoded.prompt_ids)
    assert "chosen" in lines[3].plain and f"{len(encoded.completion_ids[0])} tokens" in lines[3].plain
    assert lines[4].plain == "Because <|im_end|> it is.<|im_end|>"
    ends = [lines[4].plain[span.start : span.end] for span in lines[4].spans if "reverse" in str(span.style)]
    assert ends == ["<|im_end|>"]  # the one that ends the turn, not the text that looks like it
    assert "\\x1b" in lines[6].plain and "\x1b" not in lines[6].plain


def test_ids_are_those_of_training(tmp_path: Path) -> None:
    renderer = Renderer(tokenizer("chatml"))
    group = find(write(tmp_path, PAIR), 1)
    text = token_lines(group, renderer, ids=True)[4].plain
    ids = [int(i) for part in text.split("[")[1:] for i in part.split("]")[0].split(",") if i.isdigit()]
    assert ids == list(renderer.encode(group).completion_ids[0])


@pytest.mark.parametrize(
    ("feedback", "words"),
    [
        (Scores((2.0, 1.0)), ("score 2", "score 1")),
        (Labels((True, False)), ("desirable", "undesirable")),
        (Unjudged(), ("not judged", "not judged")),
    ],
)
def test_feedback_is_told(feedback: Scores, words: tuple[str, str]) -> None:
    group = Group("p", (Completion("a", "model-x"), Completion("b")), feedback)
    lines = [line.plain for line in token_lines(group, Renderer(tokenizer("chatml"), "plain"))]
    assert words[0] in lines[3] and words[1] in lines[5] and "model-x" in lines[3]


@pytest.mark.parametrize(
    ("row", "message"), [(0, "counted from 1"), (2, "left out: an empty chosen"), (3, "missing"), (9, "no row 9")]
)
def test_rows_that_cannot_be_shown(tmp_path: Path, row: int, message: str) -> None:
    data = write(tmp_path, PAIR, {**PAIR, "chosen": ""}, {"prompt": "x", "chosen": "y"})
    with pytest.raises(DataError, match=message):
        find(data, row)


def test_the_verb_needs_a_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["show", write(tmp_path, PAIR), "1"])
    assert stopped.value.code == 2 and "model.path" in capsys.readouterr().err
