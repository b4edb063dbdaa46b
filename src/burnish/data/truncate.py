"""The length policy: groups that are too long are dropped or cut, and whatever was left out or cut is counted."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal

from burnish.findings import counted
from burnish.group import EncodedGroup

Overlong = Literal["drop", "cut_prompt_left", "cut_completion"]


@dataclass
class EncodeReport:
    """What was left out or cut for length; nothing is ever cut silently."""

    max_length: int | None = None
    dropped: int = 0
    cut_prompts: int = 0
    cut_completions: int = 0
    empty_prompts: int = 0
    cut_at_end: int = 0
    unopened: int = 0
    control: list[str] = field(default_factory=list)  # places of groups with control tokens in their text
    doubled: list[str] = field(default_factory=list)  # of groups with texts that are rendered already, rendered again
    unwritten: list[tuple[str, str]] = field(default_factory=list)  # (what the template leaves out, place of the group)

    def add(self, other: EncodeReport) -> None:
        """Add the counts of other groups."""
        for item in fields(self):
            if item.name != "max_length":
                setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    def unwritten_places(self) -> dict[str, list[str]]:
        """What the template leaves out -> the places of the groups that have it."""
        places: dict[str, list[str]] = {}
        for kind, where in self.unwritten:
            places.setdefault(kind, []).append(where)
        return places

    def lines(self) -> list[str]:
        counts = [
            (self.dropped, "group", f"dropped: longer than max_length = {self.max_length} tokens"),
            (self.cut_prompts, "group", "with the prompt cut at its left"),
            (self.cut_completions, "completion", "cut; their end-of-turn is not trained"),
            (
                self.cut_at_end,
                "completion",
                "cut at an end-of-turn token inside their text, where generation would stop",
            ),
            (
                self.unopened,
                "answer",
                "without the thinking block that the template's generation header opens: they are trained as "
                "if they were thoughts. Add the block to the data, or set data.template",
            ),
            (self.empty_prompts, "group", "dropped: an empty prompt, and the tokenizer has no BOS to begin with"),
            (
                len(self.control),
                "group",
                f"with control tokens in their text ({', '.join(self.control[:3])}): encoded as text. Where "
                "they were meant to act, set data.control_tokens=keep",
            ),
            (
                len(self.doubled),
                "group",
                f"rendered by a template already ({', '.join(self.doubled[:3])}) and rendered again around that. To "
                "take such texts as they are, set data.control_tokens=keep",
            ),
        ]
        counts += [
            (len(places), "group", f"with {kind} that data.template does not write ({', '.join(places[:3])})")
            for kind, places in self.unwritten_places().items()
        ]
        return [f"{counted(count, noun)} {what}" for count, noun, what in counts if count]


def fit(
    group: EncodedGroup, max_length: int | None, overlong: Overlong, report: EncodeReport, prefix: tuple[int, ...] = ()
) -> EncodedGroup | None:
    """The group within `max_length` tokens by the policy, or None where it is dropped.

    A prompt cut at its left keeps the `prefix` (the BOS) that it begins with: models rely on that first token.
    """
    longest = max((len(c) for c in group.completion_ids), default=0)
    excess = 0 if max_length is None else len(group.prompt_ids) + longest - max_length
    if max_length is None or excess <= 0:
        return group
    kept = len(prefix) if group.prompt_ids[: len(prefix)] == prefix else 0
    if overlong == "cut_prompt_left" and kept + excess < len(group.prompt_ids):
        report.cut_prompts += 1
        return replace(group, prompt_ids=group.prompt_ids[:kept] + group.prompt_ids[kept + excess :])
    room = max_length - len(group.prompt_ids)
    if overlong == "cut_completion" and room > 0:
        cut = [len(c) > room for c in group.completion_ids]
        report.cut_completions += sum(cut)
        ended = tuple(e and not c for e, c in zip(group.ended, cut, strict=True))
        return replace(group, completion_ids=tuple(c[:room] for c in group.completion_ids), ended=ended)
    report.dropped += 1
    return None
