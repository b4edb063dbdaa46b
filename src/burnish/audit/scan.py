"""Faults of groups: traps in the text, duplicates, contradictions, prompts in both train and eval.

A group takes some sixteen bytes a prompt and a pair, whatever the length of the texts. Rows that cannot be read are
counted before, by the auditor.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from burnish.data import identity
from burnish.data.readers.shapes import VISIBLE
from burnish.findings import Finding, FindingCounts, counted
from burnish.group import Group, Labels, Preferences, Scores, contents

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
ZERO_WIDTH = re.compile("[\u200b\u2060\ufeff\u00ad]")  # joiners and variation selectors belong to emoji and scripts
MARKERS = re.compile(
    r"<\|[A-Za-z0-9_]{2,40}\|>|</s>|<(?:pad|unk|bos|eos|mask)>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
)
LONG = 200_000  # characters; no answer that people compare is as long


def digest(*parts: str) -> int:
    """64 bits of the parts' hash, signed, as `array('q')` holds it."""
    return int.from_bytes(identity.digest(*parts)[:8], "big", signed=True)


@dataclass
class Scan:
    """Counts the faults of groups, each by itself and against those before it.

    `control_strings` lists a tokenizer's control tokens in a text; by default the usual markers.
    """

    control_strings: Callable[[str], Sequence[str]] = MARKERS.findall
    control_acts: bool = False  # data.control_tokens = "keep"
    counts: FindingCounts = field(default_factory=FindingCounts)
    groups: int = 0
    prompts: dict[int, int] = field(default_factory=dict)  # digest of the prompt -> groups with it
    seen: dict[int, int] = field(default_factory=dict)  # digest of prompt and answers -> index in `places`
    swapped: dict[int, int] = field(default_factory=dict)  # digest of a preference, or an answer and its label -> index
    wheres: array[int] = field(default_factory=lambda: array("q"))
    files: list[str] = field(default_factory=list)
    labels: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def add(self, group: Group) -> tuple[int, bool]:
        """Count a group's faults; returns (the digest of its prompt, whether it repeats an earlier group)."""
        self.groups += 1
        self._texts(group)
        self._roles(group)
        self._answers(group)
        key = digest(identity.prompt_key(group))
        self.prompts[key] = self.prompts.get(key, 0) + 1
        return key, self._twice(group)

    def _texts(self, group: Group) -> None:
        every = [group.prompt, *(completion.messages for completion in group.completions)]
        texts = [text for turns in every for text in contents(turns)]
        whole = "\n".join(texts)
        if control := CONTROL.findall(whole):
            self.counts.add("control-characters", group.where, " ".join(f"U+{ord(c):04X}" for c in control[:6]))
        if not whole.isascii():
            for code, pattern in (("bidi", BIDI), ("zero-width", ZERO_WIDTH)):
                if pattern.search(whole):
                    self.counts.add(code, group.where)
            if "\ufffd" in whole:
                self.counts.add("replacement", group.where)
        markers = self.control_strings(whole)
        if markers:
            code = "control-tokens-act" if self.control_acts else "control-tokens"
            self.counts.add(code, group.where, " ".join(dict.fromkeys(markers)))
        if max(map(len, texts)) > LONG:
            self.counts.add("very-long", group.where, f"{max(map(len, texts)):,} characters")
        if not VISIBLE.search("".join(contents(group.prompt))):
            self.counts.add("empty-prompt", group.where)

    def _roles(self, group: Group) -> None:
        if isinstance(group.prompt, str):
            return
        turns = [m.role for m in group.prompt if m.role not in ("system", "developer")]
        late = any(m.role == "system" for m in group.prompt[1:]) and group.prompt[0].role != "developer"
        twice = any(a == b and a in ("user", "assistant") for a, b in pairwise(turns))
        if not turns or turns[0] == "assistant" or turns[-1] == "assistant" or twice or late:
            self.counts.add("roles", group.where, " ".join(m.role for m in group.prompt))

    def _answers(self, group: Group) -> None:
        if isinstance(group.feedback, Labels):
            for value in group.feedback.values:
                self.labels[value] += 1
        if isinstance(group.feedback, Scores) and len(set(group.feedback.values)) < 2:
            self.counts.add("no-signal", group.where, f"{len(group.completions)} answers, all scored alike")

    def _twice(self, group: Group) -> bool:
        pair = identity.pair_of(group)
        if pair is not None and isinstance(group.feedback, Preferences):
            answers = identity.answers_of(group)
            one_way = identity.question_key(group), answers[pair[0]], answers[pair[1]]
            other_way = one_way[0], one_way[2], one_way[1]
            if (mirror := digest(*other_way)) in self.swapped:
                self.counts.add("contradiction", group.where, f"opposite of {self._place(self.swapped[mirror])}")
            self.swapped.setdefault(digest(*one_way), self.groups - 1)
        if isinstance(group.feedback, Labels) and len(group.completions) == 1:
            judged = identity.question_key(group), *identity.answers_of(group)
            (label,) = group.feedback.values
            if (mirror := digest(*judged, str(not label))) in self.swapped:
                self.counts.add("contradiction", group.where, f"opposite of {self._place(self.swapped[mirror])}")
            self.swapped.setdefault(digest(*judged, str(label)), self.groups - 1)
        key = int.from_bytes(identity.identity(group)[:8], "big")
        repeated = key in self.seen
        if repeated:
            code = "duplicate" if group.completions else "duplicate-prompt"
            self.counts.add(code, group.where, f"same as {self._place(self.seen[key])}")
        else:
            self.seen[key] = self.groups - 1
        self._keep_place(group.where)
        return repeated

    def _keep_place(self, where: str) -> None:
        file, _, line = where.rpartition(":")
        if not self.files or self.files[-1] != file:
            self.files.append(file)
        self.wheres.append((len(self.files) - 1) << 40 | (int(line) if line.isdigit() else 0))

    def _place(self, index: int) -> str:
        packed = self.wheres[index]
        return f"{self.files[packed >> 40].rpartition('/')[2]} line {packed & (1 << 40) - 1}"

    def findings(self) -> list[Finding]:
        """A finding for each kind of fault that was counted."""
        findings = [
            finding
            for code, severity, message, action in SENTENCES
            for finding in self.counts.finding(code, severity, message, action)  # type: ignore[arg-type]
        ]
        judged = sum(self.labels.values())
        if judged > 1 and not all(self.labels.values()):
            only = "desirable: no negative example" if self.labels[True] else "undesirable: no positive example"
            message = f"all {judged:,} labels are of a single class, only {only} to learn from"
            findings.append(Finding("one-class", "warn", message, judged))
        return findings


SENTENCES = (
    ("control-characters", "warn", "{rows} with control characters (non-printable) in the text", ""),
    ("bidi", "warn", "{rows} with characters that turn the reading direction: what is seen is not what is trained", ""),
    ("zero-width", "note", "{rows} with zero-width or soft-hyphen characters; they are kept as they are", ""),
    ("replacement", "note", "{rows} with U+FFFD, the mark of text that was decoded wrongly; kept as it is", ""),
    (
        "control-tokens", "warn",
        "{rows} with control tokens or template markers in the text; special tokens are encoded as text",
        "",
    ),
    ("control-tokens-act", "warn", "{rows} with control tokens in the text; they act, as data.control_tokens says", ""),
    ("very-long", "warn", "{rows} very long; without data.max_length they exceed what a model can read",
     "data.max_length = 2048"),
    ("empty-prompt", "warn", "{rows} with an empty or blank prompt", ""),
    ("roles", "warn", "{rows} with roles out of order: user and assistant take turns, the user's last", ""),
    ("no-signal", "warn", "{rows} whose scores are all alike: no answer is better, nothing is learnt from them", ""),
    ("contradiction", "warn", "{rows} in conflict with an earlier one: the same answers, judged the opposite way",
     'data.contradictions = "drop"'),
    ("duplicate", "warn", "{rows} duplicate of an earlier one, prompt and answers repeated", "data.dedupe = true"),
    ("duplicate-prompt", "note", "{rows} with the prompt of an earlier row", "data.dedupe = true"),
)  # fmt: skip


def leaks(train: Scan, evaluation: Scan, shared: Sequence[str], near: Sequence[str]) -> list[Finding]:
    """Prompts of the held-out data that are also in the training data, exactly or nearly (places in the eval data)."""
    findings = []
    count = sum(key in train.prompts for key in evaluation.prompts)
    if count:
        message = (
            f"{counted(count, 'prompt')} of the held-out data also in the training data (leakage): evaluation will "
            "flatter the model"
        )
        findings.append(Finding("leak", "warn", message, count, tuple(shared[:8])))
    if near:
        message = (
            f"{counted(len(near), 'prompt')} of the held-out data nearly copied in the training data (near leakage)"
        )
        findings.append(Finding("near-leak", "warn", message, len(near), tuple(near[:8])))
    return findings
