"""A language model behind an OpenAI-compatible endpoint as a judge.

Two answers are always compared in both orders and the two verdicts averaged: a judge that prefers whatever stands first
(2306.05685, section 3.3) then gives every answer the same score, and says nothing instead of something wrong. Dropping
the comparisons where the orders disagree would keep those that are easy, and throw away what ties there are. How often
the first one shown wins, and how often the orders disagree, is counted and reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from burnish.answers.http import Client, address, is_loopback, key_of, run
from burnish.answers.judges.chat_reply import ChatReply, chat_reply
from burnish.answers.judges.ledger import ReplyCache, Spend
from burnish.answers.judges.template import Template, grade, verdict
from burnish.config import LLMConfig
from burnish.errors import ConfigError, JudgeError
from burnish.group import Feedback, Group, Scores, Unjudged, last_text, transcript

CHAT = "/chat/completions"
COUNTS = ("first_won", "shown", "disagreed", "compared")


@dataclass
class LLMJudge:
    """Asks for every comparison, or every grade, of a list of groups at once. A group of which one reply could not be
    had, or not be read on the second try, is Unjudged."""

    config: LLMConfig
    url: str
    key: str = field(repr=False)
    template: Template
    cache: ReplyCache
    spend: Spend
    name: str = "llm"
    first_won: float = 0.0  # by the answer shown first, ties one half
    shown: int = 0
    disagreed: int = 0  # comparisons whose two orders gave different winners
    compared: int = 0

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        """Pairwise: each answer's share of its comparisons won. Pointwise: its grade."""
        return [self._feedback(group, replies) for group, replies in zip(groups, self.verdicts(groups), strict=True)]

    def verdicts(self, groups: Sequence[Group]) -> list[list[float] | JudgeError]:
        """The numbers of each group's replies, or what went wrong with one of them.

        Pairwise: for every pair i < j of answers two verdicts, 1 where the answer shown first won, 0 where it lost, one
        half for a tie; i is shown first in the one, j in the other. Pointwise: a grade for each answer.
        """
        pairwise = self.config.mode == "pairwise"
        asked_of = [self._comparisons(group) if pairwise else self._grades(group) for group in groups]
        flat = [values for questions in asked_of for values in questions]
        replies = iter(run(self._all(flat, verdict if pairwise else grade)))
        return [_sound([next(replies) for _ in questions]) for questions in asked_of]

    def _feedback(self, group: Group, numbers: list[float] | JudgeError) -> Feedback:
        if isinstance(numbers, JudgeError):
            return Unjudged(str(numbers))
        pairwise = self.config.mode == "pairwise"
        return Scores(self._shares(numbers, len(group.completions)) if pairwise else tuple(numbers))

    def report(self) -> dict[str, float]:
        """Figures for the log: position bias (share won by the answer shown first; 0.5 is none), disagreement of the
        two orders, and what it cost."""
        found = {"judge/requests": float(self.spend.requests), "judge/cached": float(self.spend.cached)}
        if self.spend.prices != (0.0, 0.0):
            found["judge/dollars"] = self.spend.dollars
        if self.shown:
            found["judge/first_wins"] = self.first_won / self.shown
            found["judge/orders_disagree"] = self.disagreed / max(1, self.compared)
        return found

    def state(self) -> dict[str, Any]:
        return {"spend": self.spend.state(), **{name: getattr(self, name) for name in COUNTS}}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.spend.restore(state["spend"])
        for name in COUNTS:
            setattr(self, name, state[name])

    def _comparisons(self, group: Group) -> list[dict[str, str]]:
        """Every pair of answers, in both orders."""
        texts = [last_text(one.messages) for one in group.completions]
        about = {"prompt": transcript(group.prompt), "reference": str(group.meta.get("reference", ""))}
        pairs = [pair for i, j in combinations(range(len(texts)), 2) for pair in ((i, j), (j, i))]
        return [{**about, "answer_a": texts[a], "answer_b": texts[b]} for a, b in pairs]

    def _grades(self, group: Group) -> list[dict[str, str]]:
        about = {"prompt": transcript(group.prompt), "reference": str(group.meta.get("reference", ""))}
        return [{**about, "answer": last_text(one.messages)} for one in group.completions]

    def _shares(self, verdicts: Sequence[float], count: int) -> tuple[float, ...]:
        won = [0.0] * count
        for place, (i, j) in enumerate(combinations(range(count), 2)):
            ahead, behind = verdicts[2 * place], 1 - verdicts[2 * place + 1]  # of answer i: shown first, shown second
            won[i] += (ahead + behind) / 2
            won[j] += 1 - (ahead + behind) / 2
            self.first_won += ahead + (1 - behind)
            self.shown += 2
            self.compared += 1
            self.disagreed += (ahead - 0.5) * (behind - 0.5) < 0
        return tuple(value / max(1, count - 1) for value in won)

    async def _all(
        self, questions: Sequence[dict[str, str]], read: Callable[[str], float | None]
    ) -> list[float | JudgeError]:
        """Every question's verdict, in order; no more of them begun at a time than requests may be in flight."""
        config = self.config
        room = asyncio.Semaphore(config.concurrency)
        async with Client(self.url, self.key, config.seconds, config.retries, config.concurrency) as client:

            async def one(values: dict[str, str]) -> float | JudgeError:
                async with room:
                    return await self._tried(client, values, read)

            return list(await asyncio.gather(*map(one, questions)))

    async def _tried(
        self, client: Client, values: dict[str, str], read: Callable[[str], float | None]
    ) -> float | JudgeError:
        """The verdict or grade of one question; what went wrong where there is none."""
        text = self.template.fill(values)
        key = ReplyCache.key(model=self.config.model, text=text, mode=self.config.mode, **self._options())
        known = self.cache.get(key)
        value = None if known is None else read(known)
        if value is not None:
            self.spend.cached += 1
            return value
        fault = ""
        try:
            for _ in range(2):
                reply = await self._ask(client, text)
                value = None if reply.cut else read(reply.content)
                if value is not None:
                    self.cache.put(key, reply.content)
                    return value
                fault = reply.fault(self.config.limit)
        except JudgeError as error:
            return error
        return JudgeError(f"{self.config.model} {fault}")

    def _options(self) -> dict[str, Any]:
        """What a request says besides model and text; it decides the reply as well."""
        name, limit = self.config.limit
        options: dict[str, Any] = {name: limit}
        if self.config.temperature != "server":
            options["temperature"] = self.config.temperature or 0  # never 0.0, which would miss replies kept as of 0
        return {**options, **({"request": self.config.request} if self.config.request else {})}

    async def _ask(self, client: Client, text: str) -> ChatReply:
        """One reply. Raises JudgeError; what it cost is entered first, whatever it says."""
        limit = self.config.limit[1]
        reserved = self.spend.reserve(text, limit)
        if reserved is None:
            raise JudgeError(f"the budget of ${self.spend.budget:g} is spent (${self.spend.dollars:.4g} so far)")
        options = self._options()
        body = {"model": self.config.model, "messages": [{"role": "user", "content": text}], **options}
        body |= body.pop("request", {})
        try:
            payload = await client.ask("POST", CHAT, body, tokens=limit)
        except BaseException:
            self.spend.release(reserved)
            raise
        if payload is None:
            self.spend.release(reserved)
            raise JudgeError(f"{self.url} has no {CHAT} (404 or 405): is judge.url right?")
        usage = payload.get("usage") if isinstance(payload, Mapping) else None
        try:
            reply = chat_reply(payload)
        except JudgeError as error:
            self.spend.settle(reserved, usage, text, limit, "")
            raise JudgeError(f"{self.url}: {error}") from None
        self.spend.settle(reserved, usage, text, limit, reply.content + reply.thoughts)
        return reply


def _sound(replies: Sequence[float | JudgeError]) -> list[float] | JudgeError:
    """The numbers of a group's replies; the first error where there is one."""
    wrong = next((reply for reply in replies if isinstance(reply, JudgeError)), None)
    return [reply for reply in replies if not isinstance(reply, JudgeError)] if wrong is None else wrong


def make(config: LLMConfig, cache: Path) -> LLMJudge:
    """The judge a table names. Raises ConfigError before any request."""
    if not config.model:
        raise ConfigError("judge.model is missing: the judge's name at the endpoint")
    url = address(config.url, "judge.url")
    key = key_of(config.key_env)
    if not key and not is_loopback(url):
        raise ConfigError(f"judge.key_env: the environment has no {config.key_env}, and {config.url} will want a key")
    if config.budget is not None and not (config.price_in or config.price_out):
        raise ConfigError("judge.budget needs judge.price_in and judge.price_out, or nobody knows what was spent")
    template = Template.read(config.template, config.mode)
    spend = Spend((config.price_in, config.price_out), config.budget)
    return LLMJudge(config, url, key, template, ReplyCache(cache), spend)
