"""A reply of an OpenAI-compatible endpoint as a judge reads it: its text, and why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from burnish.answers.judges.thoughts import without_thoughts
from burnish.errors import JudgeError

COMPLETE = frozenset({"", "stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete", "completed"})
TOO_LONG = ("length", "max_tokens")
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # fields beside `content`, by server


@dataclass(frozen=True)
class ChatReply:
    """`content` is all that stands in the reply's place, `text` what of it is no thought; `thoughts` stood beside it.

    `finish` is the endpoint's finish reason in lower case, empty where it gives none.
    """

    content: str
    thoughts: str = ""
    finish: str = ""
    refusal: str = ""
    thought: int = 0  # tokens of thoughts, where the endpoint counts them apart

    @property
    def text(self) -> str:
        return without_thoughts(self.content)

    @property
    def cut(self) -> bool:
        """Whether the reply ended for any reason but that it was complete."""
        return self.finish not in COMPLETE

    def fault(self, limit: tuple[str, int]) -> str:
        """Why a reply without a verdict has none. `limit` is the key that bounds what is written, and its value."""
        reason = f"finish_reason {self.finish!r}" if self.finish else "no finish_reason"
        reason += f", {self.thought} tokens of thoughts" * (self.thought > 0)
        thought = self.thoughts or self.thought or self.content.strip() != self.text.strip()
        if self.refusal:
            return f"refused to judge: {self.refusal[:200]!r}"
        if self.cut:
            what = "a reply that was cut" if self.text.strip() else "thoughts and no reply" if thought else "no reply"
            remedy = f": raise its {limit[0]}, which is {limit[1]}, thoughts included" * (self.finish in TOO_LONG)
            return f"gave {what} ({reason}){remedy}"
        if not self.text.strip():
            return f"gave {'thoughts and no reply' if thought else 'an empty reply'} ({reason})"
        return f"gave no verdict that can be read: ...{self.text[-120:]!r}"


def chat_reply(payload: Any) -> ChatReply:
    """The first choice of an endpoint's JSON. Raises JudgeError where it has none."""
    if not isinstance(payload, Mapping):
        raise JudgeError("the reply is no JSON object")
    choices = payload.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise JudgeError("the reply has no choices[0].message")
    content, thoughts = _texts(message.get("content"))
    finish, refusal = choice.get("finish_reason"), message.get("refusal")
    return ChatReply(
        content,
        thoughts + "".join(value for name in THOUGHTS if isinstance(value := message.get(name), str)),
        "" if finish is None else str(finish).lower(),
        refusal if isinstance(refusal, str) else "",
        _tokens_of_thoughts(payload.get("usage")),
    )


def _texts(content: Any) -> tuple[str, str]:
    """(text, thoughts) of a message's content: text, or a list of parts of which some are thoughts."""
    if isinstance(content, str):
        return content, ""
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    text = "".join(str(part.get("text", "")) for part in parts if part.get("type") in ("text", "output_text"))
    return text, "".join(str(part) for part in parts if part.get("type") in ("thinking", "reasoning"))


def _tokens_of_thoughts(usage: Any) -> int:
    details = usage.get("completion_tokens_details") if isinstance(usage, Mapping) else None
    count = details.get("reasoning_tokens") if isinstance(details, Mapping) else None
    return count if type(count) is int and 0 < count < 1 << 31 else 0
