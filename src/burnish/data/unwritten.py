"""What a chat template leaves out of a conversation: tools, tool calls, thoughts, whole turns. No torch.

A part is left out where the rendering is the same without it, or with another in its place. Conversations of nothing
but texts are tried once for each sequence of roles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from burnish.data.templates import A_TOOL, SENTINEL, ChatTemplate
from burnish.errors import ConfigError, DataError
from burnish.group import Completion, Group, Message

FIELDS = {
    "tool calls": ("tool_calls", "function_call"),
    "thoughts": ("reasoning_content", "reasoning", "thinking", "thought", "thoughts"),
}
THOUGHT = re.compile(r"<(think(?:ing)?|reasoning)>(.*?)</\1>", re.DOTALL)


@dataclass
class Unwritten:
    """Finds the parts of groups that a template does not write."""

    chat: ChatTemplate
    tried: dict[tuple[object, ...], frozenset[str]] = field(default_factory=dict)  # roles, with tools? -> kinds

    def of(self, group: Group) -> set[str]:
        """The kinds of parts of a group that do not reach the model, such as "tool calls".

        Raises DataError where a turn of an answer would be empty for want of them.
        """
        if not self.chat.texts:
            return {"tools on offer"} if group.tools else set()
        prompt = (Message("user", group.prompt),) if isinstance(group.prompt, str) else group.prompt
        kinds = set(self._of_roles(tuple(turn.role for turn in prompt), group))
        if any(turn.extra for turn in prompt):  # templates leave earlier thoughts out on purpose
            kinds |= self._of_turns(group, prompt, range(len(prompt)), header=True) - {"thoughts"}
        for completion in group.completions:
            if not _plain(completion):
                turns = [*prompt, *completion.messages]
                kinds |= self._of_turns(group, turns, range(len(prompt), len(turns)), header=False)
        return kinds

    def _of_roles(self, roles: tuple[str, ...], group: Group) -> frozenset[str]:
        """Of a prompt of these roles: tools on offer, and turns whose text another would not change."""
        key = (*roles, bool(group.tools))
        if key not in self.tried:
            turns = [Message(role, f"{SENTINEL}{place}.") for place, role in enumerate(roles)]
            whole = self._rendered(turns, group, header=True)
            kinds = set() if whole is None else {_text_of(t) for t in turns if t.content not in whole}
            if group.tools and whole is not None:
                other = self._rendered(turns, replace(group, tools=(A_TOOL,)), header=True)
                without = self._rendered(turns, replace(group, tools=()), header=True)
                kinds |= {"tools on offer"} if whole in (other, without) else set()
            self.tried[key] = frozenset(kinds)
        return self.tried[key]

    def _of_turns(self, group: Group, turns: Sequence[Message], places: Iterable[int], *, header: bool) -> set[str]:
        kinds: set[str] = set()
        whole = self._rendered(turns, group, header=header)
        for place in places if whole is not None else ():
            turn = turns[place]

            def written(other: Message, place: int = place) -> bool:
                rest = [*turns[:place], other, *turns[place + 1 :]]
                return self._rendered(rest, group, header=header) != whole

            parts = {}
            if turn.content.strip():
                parts[_text_of(turn)] = written(replace(turn, content=SENTINEL))
            for kind, names in FIELDS.items():
                if any(turn.extra.get(name) for name in names):
                    parts[kind] = written(replace(turn, extra={k: v for k, v in turn.extra.items() if k not in names}))
            lost = {kind for kind, is_written in parts.items() if not is_written}
            if not header and turn.role == "assistant" and lost and len(lost) == len(parts):
                raise DataError(
                    f"{group.where}: data.template = '{self.chat.name}' does not write "
                    f"{' and '.join(sorted(lost))}, so that a turn of an answer would be empty; name one that does"
                )
            if any(thought.strip() not in (whole or "") for _, thought in THOUGHT.findall(turn.content)):
                lost.add("thoughts")
            kinds |= lost
        return kinds

    def _rendered(self, turns: Sequence[Message], group: Group, *, header: bool) -> str | None:
        """The rendering; None where the template refuses these turns."""
        try:
            return self.chat.render(turns, header=header, tools=group.tools)
        except ConfigError:
            return None


def _text_of(turn: Message) -> str:
    return f"turns of the role {turn.role}"


def _plain(completion: Completion) -> bool:
    """Whether an answer is a text, which is written without a template."""
    turns = completion.messages
    return isinstance(turns, str) or (len(turns) == 1 and not turns[0].extra)
