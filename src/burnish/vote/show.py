"""Prompts and answers as HTML that can do nothing but be read: Markdown as users see it, and nothing of theirs runs."""

from __future__ import annotations

import difflib
import html
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from burnish.answers.judges.thoughts import BEGIN, END
from burnish.group import Turns

RENDERED = 60_000  # characters, beyond which Markdown is not rendered
LINES = 3000  # the same
SENT = 200_000  # characters that a page gets at first
WORDS = 1500  # of an answer, beyond which no differences are marked
TAGS = {
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong",
    "s", "table", "thead", "tbody", "tr", "th", "td", "a", "details", "summary", "div", "span",
}  # fmt: skip
ATTRIBUTES = {"a": {"href", "title", "target"}, "th": {"align"}, "td": {"align"}, "ol": {"start"}, "details": {"class"},
              "div": {"class", "dir"}, "p": {"dir"}, "pre": {"dir"}, "span": {"class"}}  # fmt: skip
_MATH = re.compile(
    r"\$\$.{1,2000}?\$\$|\$(?![\s\d])[^$\n]{1,400}?(?<!\s)\$|\\\(.{1,400}?\\\)|\\\[.{1,2000}?\\\]", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A text as the page gets it. `more`: characters that were kept back, of a text too long for a page."""

    html: str
    raw: str
    more: int = 0


@lru_cache(maxsize=256)
def shown(text: str) -> Shown:
    """An answer rendered and as it was written."""
    raw = text[:SENT]
    if len(text) > RENDERED or text.count("\n") > LINES:
        return Shown(_plain(raw), raw, len(text) - len(raw))
    return Shown(_with_thoughts(text), raw)


def shown_turns(turns: Turns) -> str:
    """A prompt: plain text alone, or each turn under its role."""
    if isinstance(turns, str):
        return shown(turns).html
    if len(turns) == 1 and turns[0].role == "user":
        return shown(turns[0].content).html
    return "".join(
        f'<div class="turn"><strong>{html.escape(turn.role)}</strong>{shown(turn.content).html}</div>' for turn in turns
    )


@lru_cache(maxsize=64)
def differences(left: str, right: str) -> tuple[str, str] | None:
    """Both texts with the words marked that the other lacks; None where they are too long to compare."""
    a, b = (re.findall(r"\s+|[^\s]+", text) for text in (left, right))
    if max(len(a), len(b)) > 2 * WORDS:
        return None
    sides: tuple[list[str], list[str]] = ([], [])
    for kind, i, j, k, n in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        for side, words in zip(sides, (a[i:j], b[k:n]), strict=True):
            text = html.escape("".join(words))
            side.append(text if kind == "equal" or not text else f"<mark>{text}</mark>")
    return tuple("".join(side) for side in sides)  # type: ignore[return-value]


def _with_thoughts(text: str) -> str:
    """Markdown with thoughts folded away: everything up to their last end, or from a beginning that never ends."""
    end = max((match.end() for match in END.finditer(text)), default=0)
    begin = BEGIN.search(text, end)
    thoughts = text[:end] if end else text[begin.start() :] if begin else ""
    answer = text[end : begin.start() if begin and not end else None]
    folded = ""
    if thoughts:
        bare = END.sub("", BEGIN.sub("", thoughts)).strip()
        folded = f'<details class="thoughts"><summary>Thoughts</summary>{_markdown(bare)}</details>'
    return folded + _markdown(answer)


def _markdown(text: str) -> str:
    """CommonMark with tables, HTML in it shown as text, formulas left as they are; sanitised once more afterwards."""
    import nh3

    rendered: str = _parser().render(text)
    return nh3.clean(
        rendered, tags=TAGS, attributes=ATTRIBUTES, url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={
            "a": {"target": "_blank"}, "p": {"dir": "auto"}, "pre": {"dir": "auto"}, "div": {"dir": "auto"},
        },
    )  # fmt: skip


@lru_cache(maxsize=1)
def _parser() -> Any:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    parser.disable("image")
    parser.inline.ruler.before("escape", "formula", _formula)
    return parser


def _formula(state: Any, silent: bool) -> bool:
    """An inline rule: a formula between dollars or backslashed brackets is text, whose signs mean nothing else."""
    if state.src[state.pos] not in "$\\":
        return False
    match = _MATH.match(state.src, state.pos, state.posMax)
    if match is None:
        return False
    if not silent:
        state.push("text", "", 0).content = match.group()
    state.pos = match.end()
    return True


def _plain(text: str) -> str:
    return f'<pre dir="auto">{html.escape(text)}</pre>'
