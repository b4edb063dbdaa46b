"""What goes over the line: requests in OpenAI's format, checked; answers and errors in the same. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from burnish.answers.sampler import Decoding
from burnish.answers.serving.writing import Writer
from burnish.group import Message

MOST_ANSWERS = 128  # to one prompt of a request
CHAT_TOKENS = 256  # where a request for a chat does not say

# parameters that may be given, as long as they ask for nothing
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "echo": (False,), "best_of": (1,), "suffix": ("",), "frequency_penalty": (0,), "presence_penalty": (0,),
    "repetition_penalty": (1,), "min_p": (0,), "logit_bias": ({},), "use_beam_search": (False,), "tools": ([],),
    "tool_choice": ("none", "auto"), "functions": ([],), "response_format": ({"type": "text"},), "top_logprobs": (0,),
    "ignore_eos": (False,), "min_tokens": (0,), "bad_words": ([],), "parallel_tool_calls": (True, False),
    "modalities": (["text"],), "prompt_logprobs": (0,), "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,), "spaces_between_special_tokens": (True,), "add_generation_prompt": (True,),
}  # fmt: skip
IGNORED = frozenset({"user", "store", "metadata", "service_tier", "priority", "request_id", "safety_identifier"})


class Refusal(Exception):
    """An answer with an error in OpenAI's format. `param` is the parameter that it is about, where there is one."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "1"} if self.status == 503 else {}

    def body(self) -> dict[str, Any]:
        """{"error": {"message", "type", "param", "code"}}."""
        kinds = {401: "authentication_error", 404: "not_found_error", 503: "overloaded_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False


class Asked(BaseModel):
    """What requests for completions and for chats have in common."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str = ""
    n: int = Field(1, ge=1, le=MOST_ANSWERS)
    temperature: float = Field(1.0, ge=0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    seed: int | None = None
    stop: str | list[str] = []
    stop_token_ids: list[int] = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False

    @field_validator("stop")
    @classmethod
    def _some_text(cls, value: str | list[str]) -> list[str]:
        found = [value] if isinstance(value, str) else value
        if not all(found) or len(found) > 16:
            raise ValueError("needs 1 to 16 texts that are not empty")
        return found

    @property
    def wants_logprobs(self) -> bool:
        raise NotImplementedError

    def decoding(self, limit: int) -> Decoding:
        """How to draw, at most `limit` tokens."""
        return Decoding(limit, float(self.temperature), float(self.top_p), max(0, self.top_k))


class Completion(Asked):
    """`POST /v1/completions`. `prompt` is looked at by `prompts_of`."""

    prompt: Any
    max_tokens: int = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=1)

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs is not None


class Chat(Asked):
    """`POST /v1/chat/completions`. `messages` is looked at by `messages_of`."""

    messages: Any
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs

    @property
    def limit(self) -> int:
        return self.max_completion_tokens or self.max_tokens or CHAT_TOKENS


Kind = TypeVar("Kind", bound=Asked)


def parse(kind: type[Kind], body: bytes) -> Kind:
    """The request. Raises Refusal (400) that names the parameter: what cannot be done is refused, not left out."""
    try:
        given = json.loads(body)
        json.dumps(given, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise Refusal(400, "the body is not a JSON object")
    kept = {}
    for name, value in given.items():
        if value is None or name in IGNORED:
            continue
        if name in NEUTRAL and name not in kind.model_fields:
            if value not in NEUTRAL[name]:
                raise Refusal(400, f"{name} = {json.dumps(value)[:80]} is not supported here", name)
            continue
        kept[name] = value
    try:
        return kind.model_validate(kept)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else None
        told = "is not known" if first["type"] == "extra_forbidden" else first["msg"]
        raise Refusal(400, f"{name}: {told}", name) from None


def prompts_of(value: Any, most: int) -> list[str | tuple[int, ...]]:
    """A string, strings, token ids, or lists of token ids; at most so many. Raises Refusal."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and len(value) <= max(most, 1):
        if all(isinstance(one, str) for one in value):
            return list(value)
        if all(isinstance(one, list) and _are_ids(one) for one in value):
            return [tuple(one) for one in value]
    if isinstance(value, list) and value and _are_ids(value):
        return [tuple(value)]
    wanted = f"a text, token ids, or a list of at most {most} of either"
    raise Refusal(400, f"prompt: needs {wanted}, and something in it", "prompt")


def _are_ids(value: Sequence[Any]) -> bool:
    return all(type(one) is int for one in value)


def messages_of(value: Any) -> tuple[Message, ...]:
    """The conversation; texts in parts are joined, other keys go to the template. Raises Refusal."""
    if not isinstance(value, list) or not value:
        raise Refusal(400, "messages: needs a list with at least one message", "messages")
    found = []
    for number, one in enumerate(value):
        where = f"messages[{number}]"
        if not isinstance(one, Mapping) or not isinstance(one.get("role"), str):
            raise Refusal(400, f"{where}: needs a role and content", "messages")
        content = one.get("content")
        if isinstance(content, list):
            parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
            content = None if None in parts else "".join(map(str, parts))
        if not isinstance(content, str):
            raise Refusal(400, f"{where}.content: needs a text, or parts of type text", "messages")
        extra = {key: item for key, item in one.items() if key not in ("role", "content") and item is not None}
        found.append(Message(one["role"], content, extra))
    return tuple(found)


def usage(prompts: Sequence[int], writers: Sequence[Writer]) -> dict[str, int]:
    """Tokens read (each prompt once) and written."""
    read, written = sum(prompts), sum(len(one.ids) for one in writers)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def token_texts(asked: Asked, writer: Writer, start: int) -> list[str]:
    """A name for each token from `start` on: its text, or `token_id:5`."""
    if asked.return_tokens_as_token_ids:
        return [f"token_id:{token}" for token in writer.ids[start:]]
    return [writer.manner.text([token]) for token in writer.ids[start:]]


def completion_logprobs(asked: Asked, writer: Writer, start: int) -> dict[str, Any] | None:
    """Log-probs of the tokens from `start` on: of the drawn ones, since no others are kept."""
    if not asked.wants_logprobs:
        return None
    return {
        "tokens": token_texts(asked, writer, start), "token_logprobs": writer.logps[start:], "top_logprobs": None,
        "text_offset": writer.starts[start:],
    }  # fmt: skip


def chat_logprobs(asked: Asked, writer: Writer, start: int) -> dict[str, Any] | None:
    """The same in the format of chats."""
    if not asked.wants_logprobs:
        return None
    pairs = zip(token_texts(asked, writer, start), writer.logps[start:], strict=True)
    content = [
        {"token": text, "logprob": logp, "bytes": list(text.encode()), "top_logprobs": []} for text, logp in pairs
    ]
    return {"content": content, "refusal": None}


def choice(
    asked: Asked, index: int, writer: Writer, text: str, start: int, *, stream: bool, prompt: Sequence[int]
) -> dict[str, Any]:
    """One answer, or with `stream` a piece of it: `text`, and the tokens from `start` on."""
    made: dict[str, Any] = {"index": index, "finish_reason": writer.finish}
    if isinstance(asked, Chat):
        made["logprobs"] = chat_logprobs(asked, writer, start)
        said: dict[str, Any] = {"content": text} if stream else {"role": "assistant", "content": text}
        if stream and start == 0:
            said = {"role": "assistant", **said}
        made["delta" if stream else "message"] = said
    else:
        made["logprobs"] = completion_logprobs(asked, writer, start)
        made["text"] = text
    if asked.return_token_ids:
        made["token_ids"] = writer.ids[start:]
        if start == 0:
            made["prompt_token_ids"] = list(prompt)
    return made
