"""Faults of answers beside their prompts and each other: a prompt repeated, judgements that contradict themselves, one
sentence for everything.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from burnish.data import identity
from burnish.findings import Finding, FindingCounts, counted
from burnish.group import Feedback, Group, Labels, Preferences, Scores, contents, whole_text

LEAD = 24  # visible characters that may stand before a repeated prompt, such as `Question:`
LEAST = 4, 12  # visible characters of a prompt that is looked for at the beginning, and behind a lead
FEW = 4  # prompts, below which one text for all of them says nothing
OFTEN = 0.05  # a share of rows beyond which repeated prompts are no accident
STOCK = 0.6, 0.2  # shares of prompts beyond which a short text, and a sentence, is a stock answer
SENTENCE = 5  # words


@dataclass
class AnswerScan:
    """Counts the faults; some 200 bytes for each different answer."""

    counts: FindingCounts = field(default_factory=FindingCounts)
    groups: int = 0  # with answers
    prompts: int = 0  # different ones, with answers
    sides: dict[str, dict[int, int]] = field(default_factory=lambda: {"chosen": {}, "rejected": {}})
    columns: dict[str, None] = field(default_factory=dict)  # of prompts without answers, in their order
    texts: dict[int, str] = field(default_factory=dict)  # beginnings of those met twice

    def add(self, group: Group, *, new_prompt: bool) -> None:
        """Count the faults of a group; its answers as stock answers where its prompt has not been met before."""
        texts = [whole_text(completion.messages) for completion in group.completions]
        if not texts:
            self.counts.add("no-answers", group.where)
            self.columns |= dict.fromkeys(group.meta)
            return
        self.groups += 1
        self._repeats(group, texts)
        if code := _judged_apart(group.feedback, texts):
            self.counts.add(code, group.where)
        gap = identity.score_gap(group)
        margins = group.feedback.margins if isinstance(group.feedback, Preferences) else ()
        if any(margin < 0 for margin in (margins if gap is None else (gap,))):
            self.counts.add("score-below", group.where)
        if new_prompt:
            self.prompts += 1
            self._stock(group, texts)

    def _repeats(self, group: Group, texts: Sequence[str]) -> None:
        asked = [_visible(text) for text in contents(group.prompt)]
        asked = [text for text in {asked[-1], "".join(asked)} if text]
        answers = [_visible(text) for text in texts]
        if any(answer in asked for answer in answers):
            self.counts.add("prompt-as-answer", group.where)
        elif any(_begins(answer, text) for answer in answers for text in asked):
            self.counts.add("prompt-repeated", group.where)

    def _stock(self, group: Group, texts: Sequence[str]) -> None:
        for side, places in zip(self.sides, _sides(group.feedback, len(texts)), strict=True):
            for plain, text in {identity.plain(texts[k]): texts[k] for k in places}.items():
                key = int.from_bytes(identity.digest(plain)[:8], "big")
                self.sides[side][key] = self.sides[side].get(key, 0) + 1
                if self.sides[side][key] > 1:
                    self.texts.setdefault(key, text[:80])

    def findings(self) -> list[Finding]:
        """A finding for each kind of fault that was counted."""
        share = self.counts.counts.get("prompt-repeated", 0) / max(1, self.groups)
        message = (
            f"{{rows}} of {self.groups:,} ({share:.0%}) with an answer that begins with its prompt, which is trained "
            "as part of the answer"
        )
        findings = self.counts.finding("prompt-repeated", "warn" if share >= OFTEN else "note", message)
        columns = f"; their columns {', '.join(self.columns)} are for a verifier" if self.columns else ""
        message = f"{{rows}} without answers: prompts for on-policy training{columns}"
        findings += self.counts.finding("no-answers", "note", message)
        for code, message in SENTENCES:
            findings += self.counts.finding(code, "note" if code == "normal-form-only" else "warn", message)
        return findings + [finding for side in self.sides for finding in self._stock_findings(side)]

    def _stock_findings(self, side: str) -> list[Finding]:
        findings = []
        for key, count in self.sides[side].items():
            text = self.texts.get(key, "")
            share = STOCK[len(text.split()) >= SENTENCE]
            if count >= FEW and count > share * self.prompts:
                message = (
                    f"one text is the {side} answer to {counted(count, 'prompt')} of {self.prompts:,}: the policy will "
                    "learn that text, not what is better"
                )
                findings.append(Finding(f"stock-{side}", "warn", message, count, (), (text,)))
        return findings


SENTENCES = (
    ("prompt-as-answer", "{rows} with an answer that is nothing but its prompt again"),
    ("same-text", "{rows} in which the same text is judged two ways"),
    ("whitespace-only", "{rows} whose chosen and rejected differ only in white space"),
    ("composition-only", "{rows} whose answers differ only in Unicode composition: they look the same"),
    ("normal-form-only", "{rows} whose answers differ only in letter case or Unicode normal form"),
    ("score-below", "{rows} whose chosen answer has the lower score of the two"),
)


def _visible(text: str) -> str:
    return identity.plain(text).replace(" ", "")


def _begins(answer: str, prompt: str) -> bool:
    """Whether an answer begins with the prompt, but for white space, case, and a few characters before a long one."""
    if len(prompt) < LEAST[0]:
        return False
    lead = LEAD if len(prompt) >= LEAST[1] else 0
    return answer.find(prompt, 0, len(prompt) + lead) >= 0


def _judged_apart(feedback: Feedback, texts: Sequence[str]) -> str:
    """The code of the least difference between two answers that are judged differently; "" for real differences."""
    forms = {"same-text": texts, "whitespace-only": ["".join(text.split()) for text in texts]}
    if not all(text.isascii() for text in texts):
        forms["composition-only"] = [unicodedata.normalize("NFC", text) for text in texts]
        forms["normal-form-only"] = [identity.plain(text) for text in texts]
    return next((code for code, keys in forms.items() if _differ(feedback, keys)), "")


def _differ(feedback: Feedback, keys: Sequence[str]) -> bool:
    """Whether one key is judged two ways."""
    if isinstance(feedback, Preferences):
        return any(keys[winner] == keys[loser] for winner, loser, _ in feedback.triples)
    if not isinstance(feedback, (Scores, Labels)) or len(set(keys)) == len(keys):
        return False
    verdicts: dict[str, float] = {}
    return any(verdicts.setdefault(key, value) != value for key, value in zip(keys, feedback.values, strict=True))


def _sides(feedback: Feedback, count: int) -> tuple[set[int], set[int]]:
    """(answers to imitate, answers to avoid): winners and losers, or the best and the worst of scored ones."""
    if isinstance(feedback, Preferences):
        winners = {winner for winner, _, _ in feedback.triples}
        return winners, {loser for _, loser, _ in feedback.triples} - winners
    if not isinstance(feedback, (Scores, Labels)):
        return set(range(count)), set()
    values = feedback.values
    best, worst = (True, False) if isinstance(feedback, Labels) else (max(values), min(values))
    if best == worst:
        return set(), set()
    return {k for k in range(count) if values[k] == best}, {k for k in range(count) if values[k] == worst}
