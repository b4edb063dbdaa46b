"""The thoughts that reasoning models write before their answer, between marks that differ by family of models."""

from __future__ import annotations

import re

_WORD = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reasoning)"
BEGIN = re.compile(
    rf"<{_WORD}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<\|channel>thought"
    r"|<\|channel\|>analysis<\|message\|>",
    re.IGNORECASE,
)
END = re.compile(
    rf"</{_WORD}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|<channel\|>"
    r"|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)


def without_thoughts(text: str) -> str:
    """The text behind the last end of thoughts, up to thoughts that never end. A text may begin inside its thoughts,
    as where the chat template opens them."""
    start = max((end.end() for end in END.finditer(text)), default=0)
    begin = BEGIN.search(text, start)
    return text[start : begin.start() if begin else None]
