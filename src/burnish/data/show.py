"""A group token by token: what is prompt, what is trained, where a turn ends. No torch."""

from __future__ import annotations

from itertools import islice

from rich.text import Text

from burnish.data.readers import Skipped, Stream
from burnish.data.readers.values import Fault
from burnish.data.render import Renderer
from burnish.data.truncate import EncodeReport
from burnish.errors import DataError
from burnish.findings import counted, printable
from burnish.group import EncodedGroup, Group, Labels, Preferences, Scores

STYLES = {"prompt": "dim", "chosen": "green", "rejected": "red", "answer": "cyan", "end": "bold reverse"}
MARKS = {"\n": "\u21b5\n", "\t": "\u21e5"}


def find(path: str, row: int, format: str = "auto", split: str = "train") -> Group:
    """The group of row `row`, counted from 1 as the reader's messages do.

    Raises DataError where the row cannot be read, teaches nothing, or does not exist.
    """
    if row < 1:
        raise DataError(f"rows are counted from 1, not {row}")
    stream = Stream(path, format=format, split=split)
    last = ""
    for item in islice(stream, None):
        where = item.where
        last = where
        if where.rpartition(":")[2] != str(row):
            continue
        if isinstance(item, Fault):
            raise DataError(item.message)
        if isinstance(item, Skipped):
            raise DataError(f"{where}: this row is left out: {item.reason}")
        return item
    raise DataError(f"{path} has no row {row}; the last one is {last or 'missing too'}")


def token_lines(group: Group, renderer: Renderer, ids: bool = False) -> list[Text]:
    """Lines for a terminal: each token in turn, the boundary between them marked by an underline."""
    report = EncodeReport()
    (encoded,) = renderer.encode_many([group], report)
    lines = [Text(f"{group.where or group.id}: {counted(len(group.completions), 'answer')}; {renderer.describe()}")]
    lines += [Text(f"prompt: {counted(len(encoded.prompt_ids), 'token')}, given, not trained", style="bold")]
    lines.append(_tokens(encoded.prompt_ids, "prompt", renderer, ids))
    for k, tokens in enumerate(encoded.completion_ids):
        kind, verdict = _role(encoded, k)
        model = f" by {group.completions[k].model}" if group.completions[k].model else ""
        lines.append(Text(f"answer {k}{model}: {verdict}; {counted(len(tokens), 'token')}, all trained", style="bold"))
        lines.append(_tokens(tokens, kind, renderer, ids))
    if group.completions and renderer.moves_boundary(group):
        lines.append(Text("tokenised in one piece, prompt and first answer would have other tokens at the boundary"))
    return [*lines, *(Text(line) for line in report.lines())]


def _role(group: EncodedGroup, k: int) -> tuple[str, str]:
    feedback = group.feedback
    if isinstance(feedback, Preferences):
        won, lost = sum(w == k for w, _, _ in feedback.triples), sum(l == k for _, l, _ in feedback.triples)
        kind = "chosen" if won > lost else "rejected" if lost > won else "answer"
        return kind, f"{kind} (preferred {won}, passed over {lost})" if won + lost > 1 else kind
    if isinstance(feedback, Scores):
        best = feedback.values[k] == max(feedback.values)
        return "chosen" if best else "answer", f"score {feedback.values[k]:g}"
    if isinstance(feedback, Labels):
        return ("chosen", "desirable") if feedback.values[k] else ("rejected", "undesirable")
    return "answer", "not judged"


def _tokens(ids: tuple[int, ...], kind: str, renderer: Renderer, with_ids: bool) -> Text:
    """The tokens, alternately underlined so that their bounds are seen; ends of turns stand out.

    Tokens that hold part of a character are joined until they make a character: a byte alone cannot be drawn.
    """
    text = Text()
    pending: list[int] = []
    for number, token in enumerate(ids):
        pending.append(token)
        piece = renderer.tokenizer.decode(pending)
        if "\ufffd" in piece and len(pending) < 8 and number + 1 < len(ids):
            continue
        if not with_ids:
            piece = printable("".join(MARKS.get(c, c) for c in piece))
        else:
            piece = f"{printable(piece.replace(chr(10), MARKS[chr(10)][0]))}[{','.join(map(str, pending))}] "
        style = STYLES["end"] if token in renderer.terminal else STYLES[kind]
        text.append(piece, style=f"{style} underline" if len(text.spans) % 2 else style)
        pending = []
    return text
