"""Control tokens in people's text are text: a user who types `<|im_end|>` must not end a turn.

The texts of a group are masked before the template sees them: each control string becomes a run, as long as itself, of
a private character. Control strings in the rendered text are then the template's, and runs are people's: they are
turned back and encoded as plain text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from burnish.data.templates import control_strings
from burnish.errors import DataError
from burnish.group import Group, Message, Turns, last_text

FIRST_MARK = 0xF0000  # supplementary private use; no tokenizer has a token of it


class Guard:
    """The control strings of a tokenizer, and the encoding that keeps them apart from text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        # the longest first: <|im_end|> before a token that it begins with
        self.strings = sorted(control_strings(tokenizer), key=lambda s: (-len(s), s))
        self.ids = {s: tokenizer.convert_tokens_to_ids(s) for s in self.strings}
        unknown = getattr(tokenizer, "unk_token", None)
        self.acting = frozenset(i for s, i in self.ids.items() if s != unknown)
        starts = "".join({re.escape(s[0]) for s in self.strings})  # tried first: hundreds of alternatives are slow
        any_of = "|".join(map(re.escape, self.strings))
        self.pattern = re.compile(f"(?=[{starts}])(?:{any_of})" if any_of else r"(?!)")
        self.marks = {s: chr(FIRST_MARK + i) for i, s in enumerate(self.strings)}
        self.runs = re.compile("|".join(f"{mark}{{{len(s)}}}" for s, mark in self.marks.items()) or r"(?!)")
        self.of_mark = {mark: s for s, mark in self.marks.items()}
        self.folds = self._folds()
        self.head, self.tail = "", re.compile(r"(?!)")

    def let_act(self, begin: str, strings: list[str]) -> None:
        """Name what may act at the edges: a BOS that a plain prompt begins with, end tokens that an answer closes with.

        They would be put there anyway, and many files have them.
        """
        self.head = begin
        self.tail = re.compile(r"(?:\s*(?:" + "|".join(map(re.escape, strings)) + r"))+\s*\Z")

    def _folds(self) -> bool:
        """Whether the tokenizer's normaliser turns look-alikes (full-width letters) into control tokens."""
        wide = {s: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in s) for s in self.strings[:8]}
        encoded = self.tokenizer(list(wide.values()), add_special_tokens=False)["input_ids"] if wide else []
        return any(self.ids[s] in ids for s, ids in zip(wide, encoded, strict=True))

    def strings_in(self, text: str) -> list[str]:
        """The control strings in a text, in order."""
        return self.pattern.findall(text)

    def mask(self, group: Group) -> Group:
        """The group with every control string of its texts masked; the same object where there is none.

        Raises DataError where a look-alike would become a control token.
        """
        masked = replace(
            group,
            prompt=self._prompt(group.prompt, group.where),
            completions=tuple(replace(c, messages=self._answer(c.messages, group.where)) for c in group.completions),
            tools=tuple(self._value(tool, group.where) for tool in group.tools),
        )
        return group if masked == group else masked

    def _turns(self, messages: Turns, where: str) -> Any:
        if isinstance(messages, str):
            return self._text(messages, where)
        return tuple(Message(m.role, self._text(m.content, where), self._value(m.extra, where)) for m in messages)

    def _prompt(self, messages: Turns, where: str) -> Any:
        if isinstance(messages, str) and self.head and messages.startswith(self.head):
            return self.head + self._text(messages[len(self.head) :], where)
        return self._turns(messages, where)

    def _answer(self, messages: Turns, where: str) -> Any:
        """An answer with its texts masked, but for the end tokens at the end of its last text."""
        last = last_text(messages)
        tail = self.tail.search(last)
        if not tail:
            return self._turns(messages, where)
        kept = self._text(last[: tail.start()], where) + tail.group()
        if isinstance(messages, str):
            return kept
        end = messages[-1]
        return (*self._turns(messages[:-1], where), Message(end.role, kept, self._value(end.extra, where)))

    def _value(self, value: Any, where: str) -> Any:
        if isinstance(value, str):
            return self._text(value, where)
        if isinstance(value, Mapping):
            return {self._value(key, where): self._value(inner, where) for key, inner in value.items()}
        return [self._value(inner, where) for inner in value] if isinstance(value, (list, tuple)) else value

    def _text(self, text: str, where: str) -> str:
        if self.is_masked(text):
            raise DataError(
                f"{where}: the text holds private-use characters from U+F0000, which stand for control tokens here"
            )
        if self.folds and not text.isascii() and not self.pattern.search(text):
            folded = self.pattern.search(unicodedata.normalize("NFKC", text))
            if folded:
                raise DataError(f"{where}: the text looks like {folded.group()}, and this tokenizer takes it for one")
        return self.pattern.sub(lambda match: self.marks[match.group()] * len(match.group()), text)

    def is_masked(self, text: str) -> bool:
        return not text.isascii() and self.runs.search(text) is not None

    def refuse_new(self, text: str, ids: tuple[int, ...]) -> None:
        """Raises DataError where ids hold more control tokens than the text does: a normaliser made them."""
        if sum(map(self.acting.__contains__, ids)) > len(self.pattern.findall(text)):
            raise DataError(
                "part of the text becomes a control token in this tokenizer's normaliser; mend or drop the row"
            )

    def encode(self, masked: str) -> tuple[int, ...]:
        """Ids of a rendered text with masked runs: the template's control strings as their ids, people's as text.

        Raises DataError where this tokenizer encodes the text in pieces to other ids than the whole text.
        """
        whole = tuple(self.tokenizer([masked], add_special_tokens=False)["input_ids"][0])
        if self._pieces(masked, masked) != whole:
            raise DataError(
                "a control token is in the text, and this tokenizer cannot encode it as text; drop the row, or set "
                "data.control_tokens=keep to let it act"
            )
        return self._pieces(masked, self.runs.sub(lambda run: self.of_mark[run.group()[0]], masked))

    def _pieces(self, masked: str, text: str) -> tuple[int, ...]:
        """Ids of `text`, cut where `masked` (of the same length) holds control strings."""
        ids: list[int] = []
        at = 0
        for control in [*self.pattern.finditer(masked), None]:
            piece = text[at : control.start() if control else len(text)]
            if piece:
                ids += self.tokenizer([piece], add_special_tokens=False, split_special_tokens=True)["input_ids"][0]
            if control:
                ids.append(self.ids[control.group()])
                at = control.end()
        return tuple(ids)
