"""Messages and tools as files hold them -> as chat templates take them.

transformers documents a conversation as a list, a call's arguments and a tool's parameters as objects, and a content as
text. CSV and columnar files hold conversations and arguments as JSON text, OpenAI's files hold arguments so, and files
for models that see hold a content in parts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from burnish.data.readers.values import Fault, parsed
from burnish.errors import DataError

# How a conversation written as text begins: in JSON (also twice over), as Python prints it, as Python prints objects.
WRITTEN_OUT = re.compile(
    r"""\s*(\\?["'])*[\[(]\s*(\{\s*\\*["']\w+\\*["']\s*:|OrderedDict\(|\w*Message\()|\s*array\(\[\s*\{"""
)
SPOKEN = re.compile(r"""["'(]\s*(role|from)\\*["']\s*[:,]|\brole=""")  # what a message says of its speaker
WHOLE = re.compile(r"[})]\s*,?\s*\]")  # where a list of messages ends
ALONE = ({"role", "content"}, {"from", "value"})  # what an object must have to be a message
TEXT_PARTS = ("text", "input_text", "output_text", None)  # types of a part of a content that is text


def decoded(value: Any) -> Any:
    """The list or object that a text holds as JSON; any other value, and any other text, as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    inner = parsed(value.encode("utf-8", "surrogatepass"), "")
    return value if isinstance(inner, Fault) else inner


def columns_decoded(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The row with lists in place of the conversations that its columns, or the items of a list there, hold as text.

    Raises DataError for such a text that is neither JSON nor a list as Python prints it.
    """
    changed = {name: value for name, old in row.items() if (value := _decoded_in(old, where, str(name))) is not old}
    return {**row, **changed} if changed else row


def _decoded_in(value: Any, where: str, name: str) -> Any:
    """The value, or the conversation that it holds as text; in a list, of each item and of each answer's text."""
    if isinstance(value, str):
        return _conversation_in(value, where, name)
    if not isinstance(value, list) or not value:
        return value
    items = []
    for item in value:
        if isinstance(item, Mapping) and not any(keys <= set(item) for keys in ALONE):  # an answer, no message
            texts = {k: v for k, v in item.items() if k in ("text", "content", "messages", "response")}
            new = {k: v for k, old in texts.items() if (v := _decoded_in(old, where, name)) is not old}
            items.append({**item, **new} if new else item)
        else:
            items.append(_conversation_in(item, where, name) if isinstance(item, str) else item)
    return items if any(new is not old for new, old in zip(items, value, strict=True)) else value


def _conversation_in(text: str, where: str, name: str) -> Any:
    """The messages that a text holds; any other text, and prose that quotes messages, as it is."""
    if text.lstrip()[:1] == "{" and isinstance(message := decoded(text), Mapping):
        return [message] if any(keys <= set(message) for keys in ALONE) else text
    if not WRITTEN_OUT.match(text) or not SPOKEN.search(text):
        return text
    value: Any = text.strip()
    for _ in range(3):  # JSON in JSON
        if not isinstance(value, str):
            break
        value = _parsed(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    if text.rstrip()[-1:] not in ("]", "}", ")") and WHOLE.search(text):
        return text
    raise DataError(f"{where}: '{name[:40]}' holds messages as text that cannot be read; write them as JSON")


def _parsed(text: str) -> Any:
    """The value of a text in JSON, or as Python prints it; None for any other."""
    value = parsed(text.encode("utf-8", "surrogatepass"), "")
    if not isinstance(value, Fault):
        return value
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def templated(value: Any, where: str, what: str) -> Any:
    """A conversation whose contents are text and whose calls are objects; a text as it is.

    Fields of a message that are null or empty are left out. Raises DataError for a part that is no text, and for
    arguments that are no object.
    """
    if not isinstance(value, list):
        return value
    return [_message(turn, where, what) if isinstance(turn, Mapping) else turn for turn in value]


def _message(message: Mapping[str, Any], where: str, what: str) -> dict[str, Any]:
    filled = {k: v for k, v in message.items() if k in ("role", "content") or (v is not None and v != [] and v != {})}
    content = filled.get("content")
    if isinstance(content, list):
        filled["content"] = "".join(_text_of(part, where, what) for part in content)
    calls = decoded(filled.get("tool_calls"))
    if isinstance(calls, list):
        filled["tool_calls"] = [_call(call, where) for call in calls]
    if isinstance(filled.get("function_call"), Mapping):
        filled["function_call"] = _with_object(filled["function_call"], "arguments", where)
    return filled


def _text_of(part: Any, where: str, what: str) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") in TEXT_PARTS else part
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        raise DataError(
            f"{where}: the content of a message of the {what} has a part of the type {str(kind)[:40]!r}, and only text "
            "is trained on; leave such rows out"
        )
    return text


def _call(call: Any, where: str) -> Any:
    """A tool call with its arguments as an object, whether or not they stand under `function`."""
    if not isinstance(call := decoded(call), Mapping):
        return call
    if isinstance(function := decoded(call.get("function")), Mapping):
        return {**call, "function": _with_object(function, "arguments", where)}
    return _with_object(call, "arguments", where)


def _with_object(function: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """The description with the object that `name` holds as JSON text; a blank text is an empty object.

    Raises DataError for another text.
    """
    value = function.get(name)
    if not isinstance(value, str):
        return function
    inner = decoded(value) if value.strip() else {}
    if not isinstance(inner, Mapping):
        raise DataError(f"{where}: the {name} of '{str(function.get('name'))[:40]}' are text that is no JSON object")
    return {**function, name: inner}


def tools_of(value: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    """The tools on offer: a list of objects, each with its parameters as an object; or the JSON text of any of these.

    Raises DataError for anything else.
    """
    if not value or (isinstance(value, str) and not value.strip()):
        return ()
    given = decoded(value)
    tools = [decoded(tool) for tool in given] if isinstance(given, list) else [given]
    if not isinstance(given, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError(f"{where}: 'tools' must be a list of objects, or the JSON text of one")
    return tuple(_tool(tool, where) for tool in tools)


def _tool(tool: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if isinstance(function := decoded(tool.get("function")), Mapping):
        return {**tool, "function": _with_object(function, "parameters", where)}
    return _with_object(tool, "parameters", where)
