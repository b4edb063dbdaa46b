"""Chat templates: the text that renders a conversation, and how it writes a question and an answer.

A tokenizer has one template or several named ones. Of those transformers takes `tool_use` where tools are on offer,
else `default`; so does this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from burnish.data import clock
from burnish.data.bounded import BeyondLimitsError, Bounded
from burnish.data.tokenizers import BUILT_IN
from burnish.errors import ConfigError, did_you_mean
from burnish.group import Message

SENTINEL = "burnishsentinel"
A_TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "f", "parameters": {"type": "object", "properties": {}}},
}
GENERATION = re.compile(r"\{%[-+]? *(?:end)?generation *[-+]?%\}")  # transformers' own tags
FUNCTIONS = ("raise_exception", "strftime_now")
GIVEN = ("messages", "tools", "documents", "add_generation_prompt")  # variables that every template is given


@dataclass(frozen=True)
class Form:
    """How a template writes a conversation of one question.

    `before_answer` is what it puts between generation header and answer (a space, an empty thinking block): the model
    would have to write it, so it belongs to the completion. `opened` is the reverse: what the header writes on the
    answer's behalf (`<think>`), so that the completion must not write it again.
    """

    end_id: int  # the token that ends an answer
    closing: tuple[int, ...]  # all that is written behind an answer
    before_answer: str = ""
    opened: str = ""
    opening: str = ""  # what is written before the question
    asked: str = ""  # what closes it
    header: str = ""  # what is written behind it up to where generation begins; it begins with `asked`
    bos: str = ""  # the tokenizer's, with which `opening` may begin
    begins: frozenset[str] = frozenset()  # what a rendered conversation begins with, the BOS aside

    @property
    def marked(self) -> bool:
        """Whether turns begin with marks that nobody writes by hand, unlike `Human:` and `Assistant:`."""
        begins = {self.opening.removeprefix(self.bos).strip(), self._lead().strip()} - {""}
        return any(re.fullmatch(r"\w+:", mark) is None for mark in begins)

    def completed(self, text: str, headed: bool = False) -> str | None:
        """A prompt that is rendered in this form already, with the BOS, header and blanks that it may lack.

        None for any other text. `headed`: the answers begin with the header, so that the prompt need not end with it.
        """
        opening, body = self.opening.removeprefix(self.bos).lstrip(), text.strip().removeprefix(self.bos).lstrip()
        for end in (self.header, self.header.removesuffix(self.opened), self.asked):
            if self.begun(text) and (end.strip() or headed) and body.endswith(end.strip()):
                return self.opening[: len(self.opening) - len(opening)] + body + self.header[len(end.rstrip()) :]
        return None

    def begun(self, text: str) -> bool:
        """Whether a text begins as a rendered conversation does."""
        return text.lstrip().removeprefix(self.bos).lstrip().startswith(tuple(self.begins))

    def without_header(self, answer: str) -> str:
        """An answer without the generation header that it begins with, `opened` aside; else as it is."""
        mark = self._lead()
        bare = answer.lstrip()
        if not mark.strip() or not bare.startswith(mark.strip()):
            return answer
        return bare.removeprefix(mark.strip()).removeprefix(mark[len(mark.rstrip()) :])

    def _lead(self) -> str:
        """What is written between a question and where its answer begins, `opened` aside."""
        return self.header.removeprefix(self.asked).removesuffix(self.opened)


class ChatTemplate:
    """The template that `name` says: "auto" (the tokenizer's), a built-in one, one of the tokenizer's several, a file.

    `args` are values of the template's own variables, such as enable_thinking. They become defaults in its text, so
    that a model which is saved with it is asked as it was trained. Raises ConfigError for a template that does not
    exist or does not render, and for an argument that it does not know.
    """

    def __init__(self, tokenizer: Any, name: str = "auto", args: Mapping[str, Any] | None = None) -> None:
        self.tokenizer, self.name = tokenizer, name
        texts = _texts(tokenizer, name)
        _refuse_args(args or {}, texts, name)
        self.texts = {key: _with_defaults(text, args or {}) for key, text in texts.items()}
        self.now = clock.now()
        rendering = _Rendering(tokenizer, self.texts, self.now)
        self._rendering = Bounded(rendering)  # templates loop and grow as their authors please
        self.changed = bool(texts) and (name != "auto" or bool(args))
        self.default = self._form(None)
        self.with_tools = self._form([A_TOOL]) if "tool_use" in self.texts else self.default

    @property
    def dated(self) -> bool:
        """Whether what it writes depends on the time."""
        return any(map(clock.asked, self.texts.values()))

    @property
    def to_save(self) -> Any:
        """What the tokenizer's `chat_template` becomes; None where it stays as it is."""
        if not self.changed:
            return None
        return self.texts["default"] if len(self.texts) == 1 else self.texts

    def form(self, tools: Sequence[Any]) -> Form:
        """How conversations with these tools on offer are written."""
        return self.with_tools if tools else self.default

    def render(self, messages: Sequence[Message], *, header: bool, tools: Sequence[Any] | None = None) -> str:
        """The conversation as text, with the generation header at its end. Raises ConfigError."""
        return self.render_all([(messages, tools)], header=header)[0]

    def render_all(
        self, conversations: Sequence[tuple[Sequence[Message], Sequence[Any] | None]], *, header: bool
    ) -> list[str]:
        """The same for many (messages, tools) at once, which is faster. Raises ConfigError for the first that fails."""
        calls = [
            (
                [{"role": m.role, "content": m.content, **m.extra} for m in messages],
                "tool_use" if tools and "tool_use" in self.texts else "default",
                list(tools) if tools else None,
                header,
            )
            for messages, tools in conversations
        ]
        try:
            return self._rendering(calls)
        except (ValueError, BeyondLimitsError) as error:
            raise ConfigError(f"data.template = '{self.name}' cannot render this conversation: {error}") from error

    def _form(self, tools: Sequence[Any] | None) -> Form:
        """Read off the rendering of a known question and answer."""
        eos = self.tokenizer.eos_token_id
        if not self.texts:
            return Form(eos, (eos,))
        question = [Message("user", "question")]
        head = self.render(question, header=True, tools=tools)
        whole = self.render([*question, Message("assistant", SENTINEL)], header=False, tools=tools)
        before, sentinel, after = whole.partition(SENTINEL)
        if not sentinel:
            raise ConfigError(f"data.template = '{self.name}' does not render the assistant's answer")
        ends = sorted((after.find(t), -len(t), t) for t in control_strings(self.tokenizer) if t in after)
        behind = self.tokenizer([after], add_special_tokens=False, return_attention_mask=False)["input_ids"][0]
        form = Form(self.tokenizer.convert_tokens_to_ids(ends[0][2]) if ends else eos, tuple(behind))
        opened = head[len(before) :] if head.startswith(before) else ""
        lead = before[len(head) :] if before.startswith(head) else ""
        asking = [Message("user", SENTINEL)]
        opening, written, header = self.render(asking, header=True, tools=tools).rpartition(SENTINEL)
        if written:
            bos = self.tokenizer.bos_token or ""
            asked = self.render(asking, header=False, tools=tools).rpartition(SENTINEL)[2]
            asked = asked if header.startswith(asked) else ""
            form = replace(form, opening=opening, asked=asked, header=header, bos=bos,
                           begins=self._begins(opening.removeprefix(bos).strip(), bos, tools))  # fmt: skip
        return replace(form, before_answer=lead, opened=opened if opened.strip() else "")

    def _begins(self, opening: str, bos: str, tools: Sequence[Any] | None) -> frozenset[str]:
        """What rendered conversations begin with: what is before a question, or before a system turn; its first token,
        where that is a control token."""
        begins = {opening}
        try:
            turns = [Message("system", SENTINEL), Message("user", "question")]
            before, sentinel, _ = self.render(turns, header=True, tools=tools).partition(SENTINEL)
            begins |= {before.removeprefix(bos).strip()} if sentinel else set()
        except ConfigError:  # the template knows no system turns
            pass
        marks = {mark for mark in control_strings(self.tokenizer) for begin in begins if begin.startswith(mark)}
        return frozenset(filter(None, begins | marks - {bos}))


@dataclass(frozen=True)
class _Rendering:
    """Rendering by a tokenizer's own function."""

    tokenizer: Any
    texts: Mapping[str, str]
    now: datetime  # what templates that ask for the time are told

    def __call__(self, turns: Sequence[Mapping[str, Any]], name: str, tools: Sequence[Any] | None, header: bool) -> str:
        text = self.texts[name]
        with clock.answering(text, self.now):
            rendered: str = self.tokenizer.apply_chat_template(
                turns, chat_template=text, tools=tools, add_generation_prompt=header, tokenize=False
            )
        return rendered


def control_strings(tokenizer: Any) -> set[str]:
    """The texts of a tokenizer's special tokens."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {text for text in special | set(tokenizer.all_special_tokens) if text.strip()}


def _texts(tokenizer: Any, name: str) -> dict[str, str]:
    """The templates in use by name, `default` among them; none for plain text."""
    held = tokenizer.chat_template or {}
    named = dict(held) if isinstance(held, Mapping) else {"default": held}
    if name == "plain" or (name == "auto" and not named):
        return {}
    if name == "auto":
        if "default" in named:
            return named
        names = ", ".join(sorted(named))
        raise ConfigError(f"the tokenizer has the chat templates {names}, and none is its default; name one: "
                          f"data.template={min(named)}")  # fmt: skip
    if name in BUILT_IN or name in named:
        return {"default": BUILT_IN[name] if name in BUILT_IN else named[name]}
    if not Path(name).is_file():
        known = ", ".join(dict.fromkeys(["auto", "plain", *BUILT_IN, *(named if len(named) > 1 else [])]))
        raise ConfigError(f"data.template = '{name}' is none of {known}, and no such file exists")
    try:
        return {"default": Path(name).read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data.template = '{name}' cannot be read as UTF-8 text: {error}") from error


def _refuse_args(args: Mapping[str, Any], texts: Mapping[str, str], name: str) -> None:
    """Raises ConfigError for an argument that no template reads, or that is given to every template anyway."""
    if args and not texts:
        raise ConfigError("data.template_args: plain text is rendered without a template, so nothing takes them")
    words = set().union(*map(_variables, texts.values())) if args else set()
    for arg in args:
        if arg in GIVEN or arg.endswith("_token"):
            raise ConfigError(f"data.template_args.{arg}: every template is given this already")
        if arg not in words:
            near = did_you_mean(arg, words - {*GIVEN, *FUNCTIONS}, prefix="data.template_args.")
            raise ConfigError(f"data.template_args.{arg}: data.template = '{name}' has no such variable{near}")


def _variables(text: str) -> set[str]:
    """The variables that a template reads and does not set first. Raises ConfigError where it cannot be parsed."""
    from jinja2 import TemplateSyntaxError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        return meta.find_undeclared_variables(environment.parse(GENERATION.sub("", text)))
    except TemplateSyntaxError as error:
        raise ConfigError(f"data.template_args: the chat template cannot be read: {error}") from error


def _with_defaults(text: str, args: Mapping[str, Any]) -> str:
    """The template with values for variables that whoever renders it does not give."""
    blocks = [
        f"{{% if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}\n"
        for name, value in args.items()
    ]
    return "".join([*blocks, text])


def _literal(value: Any) -> str:
    """A value of TOML as a template writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value if isinstance(value, (bool, int, float)) else str(value), ensure_ascii=False)
