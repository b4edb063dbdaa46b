"""What a chat template leaves out of a conversation: tools, tool calls, thoughts, whole turns. No torch.

A part is left out where the rendering is the same without it, or with another in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from burnish.data.templates import A_TOOL, SENTINEL, ChatTemplate
from burnish.errors import ConfigError, DataError
from burnish.group import Completion, Group, Message

FIELDS = {
    "tool calls": ("tool_calls", "function_call"),
    "thoughts": ("reasoning_content", "reasoning", "thinking"),
}


def unwritten(chat: ChatTemplate, group: Group) -> set[str]:
    """The kinds of parts of a group that do not reach the model, such as "tool calls".

    Raises DataError where an answer's turn would be empty for want of them.
    """
    kinds: set[str] = set()
    if group.tools and not (chat.texts and _tools_written(chat, group)):
        kinds.add("tools on offer")
    if isinstance(group.prompt, str):
        prompt: tuple[Message, ...] = (Message("user", group.prompt),)
    else:
        prompt = group.prompt
        # templates leave earlier thoughts out on purpose
        kinds |= {kind for _, kind in _left_out(chat, group, prompt, 0, header=True) if kind != "thoughts"}
    for completion in group.completions:
        if _plain(completion):
            continue
        turns = [*prompt, *completion.messages]
        for message, kind in _left_out(chat, group, turns, len(prompt), header=False):
            kinds.add(kind)
            if kind in FIELDS and not message.content.strip():
                raise DataError(
                    f"{group.where}: an answer of nothing but {kind} would be empty, because data.template = "
                    f"'{chat.name}' does not write them; name a template that does"
                )
    return kinds


def _plain(completion: Completion) -> bool:
    """Whether an answer is a text: every template writes that."""
    turns = completion.messages
    return isinstance(turns, str) or (len(turns) == 1 and not turns[0].extra)


def _tools_written(chat: ChatTemplate, group: Group) -> bool:
    prompt = (Message("user", group.prompt),) if isinstance(group.prompt, str) else group.prompt
    other = _rendered(chat, prompt, [A_TOOL], header=True)
    return other is None or other != _rendered(chat, prompt, group.tools, header=True)


def _left_out(
    chat: ChatTemplate, group: Group, turns: Sequence[Message], first: int, *, header: bool
) -> Iterator[tuple[Message, str]]:
    """(turn, kind of what is left out of it) for the turns from `first` on."""
    whole = _rendered(chat, turns, group.tools, header=header) if chat.texts else None
    if whole is None:
        return
    for place, message in enumerate(turns[first:], first):
        for kind, names in FIELDS.items():
            if any(message.extra.get(name) for name in names):
                rest = {name: value for name, value in message.extra.items() if name not in names}
                less = [*turns[:place], replace(message, extra=rest), *turns[place + 1 :]]
                if _rendered(chat, less, group.tools, header=header) == whole:
                    yield message, kind
        if message.content.strip() not in whole:  # cut by the template, written otherwise, or left out
            other = [*turns[:place], replace(message, content=SENTINEL), *turns[place + 1 :]]
            if SENTINEL not in (_rendered(chat, other, group.tools, header=header) or SENTINEL):
                yield message, f"text of the role {message.role}"


def _rendered(chat: ChatTemplate, turns: Sequence[Message], tools: object, *, header: bool) -> str | None:
    """The rendering; None where the template refuses these turns."""
    try:
        return chat.render(turns, header=header, tools=tools)  # type: ignore[arg-type]
    except ConfigError:
        return None
