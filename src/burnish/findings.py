"""Findings about data: their severity, a sentence, the rows that they are about, and the setting that would help."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Severity = Literal["refuse", "warn", "note"]
ORDER: tuple[Severity, ...] = ("refuse", "warn", "note")
KEPT_ROWS = 8  # places kept for each finding; the count goes on


@dataclass(frozen=True)
class Finding:
    """One fault, trap or bias: a sentence, how many rows, the first of them, and the setting that would help."""

    code: str
    severity: Severity
    message: str
    count: int = 0
    rows: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    action: str = ""

    def line(self) -> str:
        """The sentence with its places, for a terminal; no control character gets through."""
        where = f" ({places(self.rows, self.count)})" if self.rows else ""
        examples = "".join(f"\n    {printable(example)}" for example in self.examples)
        return f"{printable(self.message)}{printable(where)}{examples}"

    def to_json(self) -> dict[str, Any]:
        names = ("code", "severity", "message", "count", "action")
        return {name: getattr(self, name) for name in names} | {
            "rows": list(self.rows), "examples": [printable(e) for e in self.examples]
        }  # fmt: skip


@dataclass
class FindingCounts:
    """Counts of rows under codes, with the first places of each."""

    counts: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[str]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, code: str, where: str, example: str = "") -> None:
        self.counts[code] = self.counts.get(code, 0) + 1
        kept = self.rows.setdefault(code, [])
        if len(kept) < KEPT_ROWS:
            kept.append(where)
        examples = self.examples.setdefault(code, [])
        if example and len(examples) < 3:
            examples.append(example[:400])

    def finding(self, code: str, severity: Severity, message: str, action: str = "") -> list[Finding]:
        """The finding of a code, or nothing; `{rows}` in the sentence becomes `1 row` or `5 rows`."""
        count = self.counts.get(code, 0)
        if not count:
            return []
        sentence = message.replace("{rows}", counted(count, "row"))
        rows, examples = tuple(self.rows[code]), tuple(self.examples.get(code, ()))
        return [Finding(code, severity, sentence, count, rows, examples, action)]


def counted(count: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def places(rows: Iterable[str], count: int) -> str:
    """`lines 3, 5 of train.jsonl`, by file, `...` where there are more."""
    by_file: dict[str, list[str]] = {}
    rows = list(rows)
    for row in rows:
        file, _, line = row.rpartition(":")
        by_file.setdefault(Path(file).name or row, []).append(line)
    parts = []
    for file, lines in by_file.items():
        noun = "row" if file.endswith((".parquet", ".arrow", ".feather")) else "line"
        parts.append(f"{noun}{'s' if len(lines) > 1 else ''} {', '.join(lines)} of {file}")
    return "; ".join(parts) + (", ..." if 0 < len(rows) < count else "")


def printable(text: str) -> str:
    """The text with every character that would move a cursor, or cannot be written, shown as its escape."""
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    return f"\\x{ord(c):02x}" if ord(c) < 0x100 else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Refusals, then warnings, then notes; among equals the order in which the audit asks its questions."""
    return sorted(findings, key=lambda f: ORDER.index(f.severity))
