"""Answers that say who made the model: "As Qwen, ..." ends a blind comparison."""

from __future__ import annotations

import re

_NAMES = "|".join(
    (
        r"chat-?gpt", r"gpt-?[345][\w.]*", "open-?ai", "copilot", "claude", "anthropic", "gemini", "gemma", "bard",
        "google(?: deepmind)?", "deepmind", r"llama[\w.-]*", "meta ai", "mistral(?: ai)?", "mixtral", r"qwen[\w.-]*",
        "tongyi", "alibaba(?: cloud)?", r"deepseek[\w.-]*", r"smollm[\w.-]*", "hugging ?face", "phi-?[234]",
        "microsoft", "grok", r"x\.?ai", "cohere", "command-?r", "baichuan", "kimi", "moonshot", r"glm-?\d*", "zhipu",
        r"olmo[\w.-]*", "ai2", r"tulu[\w.-]*", "nemotron", "nvidia",
    )
)  # fmt: skip
_MADE = r"(?:made|created|trained|developed|built|designed) (?:and \w+ )?by (?:the )?(?:team (?:at|of) )?"
_SELF = re.compile(
    rf"\b(?:i am|i['’]m|my name is|call me|as)\s+(?:an? )?(?:[\w-]+ ){{0,3}}?(?:{_NAMES})\b"
    rf"|\b(?:i was|i am|i['’]m|assistant|model|ai)[\w\s,]{{0,40}}?\b{_MADE}(?:{_NAMES})\b",
    re.IGNORECASE,
)


def names_maker(text: str) -> bool:
    """Whether an answer names, as its writer, a model or the company that made it."""
    return _SELF.search(text[:20_000]) is not None
