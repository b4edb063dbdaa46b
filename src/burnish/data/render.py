"""Text -> token ids: the chat template, and the boundary between prompt and completion.

The boundary is made, not searched for. The prompt is rendered as generation would see it and tokenised. The completion
is tokenised alone, as generation would have produced it, and ends with the end-of-turn token exactly once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.config import DataConfig
from burnish.data.control_tokens import Guard
from burnish.data.templates import ChatTemplate, Form
from burnish.data.truncate import EncodeReport, Overlong, fit
from burnish.data.unwritten import Unwritten
from burnish.errors import ConfigError, DataError
from burnish.group import Completion, EncodedGroup, Group, Message, Turns, whole_text


class Renderer:
    """Renders groups with a tokenizer and a template.

    `template`: "auto" (the tokenizer's template, else plain text), "plain", a built-in name, one of the tokenizer's
    named templates, or a .jinja file. `args`: values of the template's own variables.
    `control`: "text" encodes control tokens in the texts of the data as text, "keep" lets them act, and takes a prompt
    that is rendered in this template's form already as it is. With `full` a completion goes on to the end of the
    template's rendering (the line feed behind ChatML's `<|im_end|>`), where reward models are read; generation would
    stop before. Raises ConfigError for a template that does not exist or does not render.
    """

    def __init__(
        self, tokenizer: Any, template: str = "auto", control: str = "text", *, args: Mapping[str, Any] | None = None,
        full: bool = False,
    ) -> None:  # fmt: skip
        self.tokenizer = tokenizer
        self.guard = Guard(tokenizer) if control == "text" else None
        self.name = template
        self.chat = ChatTemplate(tokenizer, template, args)
        self.templated = bool(self.chat.texts)
        self.unwritten = Unwritten(self.chat)
        self.full = full
        self.end_id = self.chat.default.end_id
        self.terminal = {self.end_id, self.chat.with_tools.end_id, tokenizer.eos_token_id} - {None}
        if self.guard is not None:
            ends = [str(tokenizer.convert_ids_to_tokens(token)) for token in sorted(self.terminal)]
            self.guard.let_act("" if self.templated else tokenizer.bos_token or "", ends)
        self.prefix = self._added_in_front()
        self.anchor = self._anchor()

    @classmethod
    def of(cls, data: DataConfig, tokenizer: Any, *, full: bool = False) -> Renderer:
        """The renderer that the table [data] describes: one for looking at the data and for training on it."""
        return cls(tokenizer, data.template, data.control_tokens, args=data.template_args, full=full)

    def _added_in_front(self) -> tuple[int, ...]:
        """What the tokenizer's post-processor puts before a text: a BOS, or nothing (what it appends is not used)."""
        with_added, bare = self._ids(["x"], special=True)[0], self._ids(["x"])[0]
        starts = [i for i in range(len(with_added)) if bare and with_added[i : i + len(bare)] == bare]
        return with_added[: starts[0]] if starts else ()

    def _anchor(self) -> str:
        """A newline for tokenizers that put a space before every text (SentencePiece's dummy prefix), else nothing.

        An answer goes on from its prompt, so it must not get that space: it is tokenised behind the anchor, whose ids
        are then taken off.
        """
        lead, joined, bare = self._ids(["\n", "\nx", "x"])
        spaced = bool(bare) and self.tokenizer.convert_ids_to_tokens(bare[0]).startswith(("▁", "Ġ"))
        return "\n" if spaced and lead and joined[: len(lead)] == lead and joined[len(lead) :] != bare else ""

    def describe(self) -> str:
        """A line: which template, which end-of-turn token, how prompts begin."""
        kind = "the tokenizer's chat template" if self.templated else "plain text"
        kind = kind if self.name in ("auto", "plain") else f"template {self.name}"
        bos = self.tokenizer.bos_token_id
        text = self.chat.render([Message("user", "x")], header=True) if self.templated else "x"
        has_bos = bos is not None and self._prompt_ids([text])[0][:1] == (bos,)
        begins = f"prompts begin with {self.tokenizer.bos_token!r}" if has_bos else "no BOS"
        end = self.tokenizer.convert_ids_to_tokens(self.end_id)
        form = self.chat.default
        lead = f"; answers begin with {form.before_answer!r}" if form.before_answer.strip() else ""
        lead = f"; the prompt opens {form.opened!r} for the answer" if form.opened else lead
        last = self._closing(form)[-1:]
        read = f"; rewards are read at {self.tokenizer.decode(last)!r}" if last != (self.end_id,) else ""
        time = f"; it writes the time, here always {self.chat.now:%Y-%m-%d %H:%M:%S}" if self.chat.dated else ""
        return f"rendering: {kind}; answers end with {end!r}{read}; {begins}{lead}{time}"

    def prompt_text(self, group: Group) -> str:
        """The text that generation would begin with. Raises DataError naming the row where it cannot be rendered."""
        return self.prompt_texts([group])[0]

    def prompt_texts(self, groups: Sequence[Group]) -> list[str]:
        """The same for many groups at once, which is faster. Raises DataError, which names the row of a single one."""
        where = f"{groups[0].where}: " if len(groups) == 1 else ""
        if not self.templated:
            if not all(isinstance(group.prompt, str) for group in groups):
                raise DataError(
                    f"{where}this is a conversation, and the tokenizer has no chat template. Name one: "
                    "data.template='hh' (Human/Assistant transcript), 'chatml', or a .jinja file"
                )
            return [str(group.prompt) for group in groups]
        written = [self._rendered_prompt(group) if self.guard is None else None for group in groups]
        asked = [g for g, text in zip(groups, written, strict=True) if text is None]
        messages = [(Message("user", g.prompt),) if isinstance(g.prompt, str) else g.prompt for g in asked]
        try:
            texts = iter(
                self.chat.render_all([(m, g.tools) for m, g in zip(messages, asked, strict=True)], header=True)
            )
        except ConfigError as error:
            raise DataError(f"{where}{error}") from error
        return [next(texts) if text is None else text for text in written]

    def _rendered_prompt(self, group: Group) -> str | None:
        """A prompt that is rendered already, completed; None for others. Raises DataError for part of a rendering."""
        text, form = _question(group.prompt), self.chat.form(group.tools)
        if text is None or not form.begun(text):
            return None
        answers = [answer for c in group.completions if (answer := _single_answer(c)) is not None]
        headed = bool(answers) and all(form.without_header(answer) is not answer for answer in answers)
        if (written := form.completed(text, headed)) is None:
            raise DataError(
                f"{group.where}: the prompt begins as data.template = '{self.name}' renders one, but does not end with "
                f"{form.header.strip()!r} as it does, so that it is neither taken as rendered nor rendered again"
            )
        return written

    def completion_text(self, group: Group, completion: Completion) -> str:
        """The text that generation would have produced, without the end-of-turn token."""
        answer = _single_answer(completion)
        if answer is not None:
            if self.guard is None and self.templated:
                answer = self._unrendered_answer(answer, group)
            return _answer(answer, self.chat.form(group.tools))
        if not self.templated:
            raise DataError(f"{group.where}: an answer of several turns needs a chat template; set data.template")
        prompt = (Message("user", group.prompt),) if isinstance(group.prompt, str) else group.prompt
        head = self.prompt_text(group)
        try:
            whole = self.chat.render([*prompt, *completion.messages], header=False, tools=group.tools)
        except ConfigError as error:
            raise DataError(f"{group.where}: {error}") from error
        if not whole.startswith(head):
            raise DataError(f"{group.where}: the template rewrites the prompt when the answer follows it")
        return whole[len(head) :]

    def _unrendered_answer(self, text: str, group: Group) -> str:
        """An answer without the generation header, or the whole rendered prompt, that its text begins with.

        Raises DataError where it begins with another rendered conversation.
        """
        form = self.chat.form(group.tools)
        answer = form.without_header(text)
        if answer is text and form.marked and form.begun(text):
            prompt = self.prompt_text(group).removeprefix(form.bos)
            bare = text.lstrip().removeprefix(form.bos).lstrip()
            if not bare.startswith(prompt.strip()):
                raise DataError(
                    f"{group.where}: an answer begins as data.template = '{self.name}' renders a conversation, and not "
                    "with its prompt; leave the rendering out of the answers"
                )
            answer = bare.removeprefix(prompt.strip()).removeprefix(prompt[len(prompt.rstrip()) :])
        return answer

    def _is_rendered(self, group: Group) -> bool:
        """Whether prompt or answers are written in the template's form already."""
        form, prompt = self.chat.form(group.tools), _question(group.prompt)
        answers = [text for c in group.completions if (text := _single_answer(c)) is not None]
        if prompt is not None and form.completed(prompt) is not None:
            return True
        return form.marked and any(form.begun(text) or form.without_header(text) is not text for text in answers)

    def _closing(self, form: Form) -> tuple[int, ...]:
        return form.closing if self.full else (form.end_id,)

    def moves_boundary(self, group: Group) -> bool:
        """Whether prompt and first answer, tokenised in one piece, would get other ids than apart."""
        (masked,) = [self.guard.mask(group)] if self.guard is not None else [group]
        texts = self.prompt_text(masked), self.completion_text(masked, masked.completions[0])
        apart = self._prompt_ids(texts[:1])[0] + self._answer_ids(texts[1:])[0]
        return self._prompt_ids(["".join(texts)])[0] != apart

    def answer_length(self, turns: Turns) -> int:
        """Number of tokens in the text of an answer, for filters; what a template writes around it is not counted."""
        return len(self._ids([whole_text(turns)])[0])

    def encode(self, group: Group) -> EncodedGroup:
        """A group in token space; see `encode_all` for many."""
        return self.encode_many([group])[0]

    def encode_many(self, groups: Sequence[Group], report: EncodeReport | None = None) -> list[EncodedGroup]:
        """Prompts and completions of many groups, tokenised in two calls; `report` counts answers that were cut.

        Raises DataError that names the row where a group cannot be rendered or encoded.
        """
        report = report if report is not None else EncodeReport()
        counts = EncodeReport()  # apart from `report`: a batch that fails may be tried again without a row
        try:
            encoded = self._encode_many(groups, counts)
        except DataError as error:
            if len(groups) > 1:  # which row was it?
                for group in groups:
                    self.encode_many([group])
            where = groups[0].where
            raise error if str(error).startswith(where) else DataError(f"{where}: {error}") from None
        report.add(counts)
        return encoded

    def _encode_many(self, groups: Sequence[Group], report: EncodeReport) -> list[EncodedGroup]:
        if self.guard is not None:
            report.doubled += [g.where or g.id for g in groups if self.templated and self._is_rendered(g)]
            masked = [self.guard.mask(group) for group in groups]
            report.control += [m.where or m.id for m, group in zip(masked, groups, strict=True) if m is not group]
            groups = masked
        report.unwritten += [(kind, g.where or g.id) for g in groups for kind in sorted(self.unwritten.of(g))]
        prompts = self.prompt_texts(groups)
        texts = [self.completion_text(g, c) for g in groups for c in g.completions]
        forms = [self.chat.form(group.tools) for group in groups]
        asked = [form for group, form in zip(groups, forms, strict=True) for _ in group.completions]
        report.unopened += sum(map(_lacks_thought, texts, asked))
        prompt_ids = self._prompt_ids(prompts)
        answers = iter(self._answer_ids(texts))
        encoded = []
        for group, prompt, form in zip(groups, prompt_ids, forms, strict=True):
            closing = self._closing(form)
            completions = tuple(
                self._ended(next(answers), closing, _single_answer(c) is not None, report) for c in group.completions
            )
            encoded.append(
                EncodedGroup(
                    group.id, prompt, completions, (True,) * len(completions), group.feedback, group.source, group.where
                )
            )
        return encoded

    def _prompt_ids(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """With the tokenizer's BOS in front, exactly once, whether or not the text has it already.

        What some tokenizers append to every text (an EOS) is left out: generation begins before it.
        """
        size = len(self.prefix)
        return [ids if ids[:size] == self.prefix else self.prefix + ids for ids in self._ids(prompts)]

    def _answer_ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        if not self.anchor:
            return self._ids(texts)
        lead = self._ids([self.anchor])[0]
        anchored = self._ids([self.anchor + text for text in texts])
        # Where the anchor merged with the text it cannot be taken off: the text is then tokenised without it.
        return [
            ids[len(lead) :] if ids[: len(lead)] == lead else self._ids([text])[0]
            for ids, text in zip(anchored, texts, strict=True)
        ]

    def _ids(self, texts: Sequence[str], *, special: bool = False) -> list[tuple[int, ...]]:
        if not texts:
            return []
        output = self.tokenizer(list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False)
        encoded = [tuple(ids) for ids in output["input_ids"]]
        if self.guard is not None and not special:
            for i, text in enumerate(texts):
                if self.guard.is_masked(text):
                    encoded[i] = self.guard.encode(text)
                else:
                    self.guard.refuse_new(text, encoded[i])
        return encoded

    def _ended(
        self, ids: tuple[int, ...], closing: tuple[int, ...], single: bool, report: EncodeReport
    ) -> tuple[int, ...]:
        """The answer's ids with the end-of-turn token, or all that closes a full rendering, once at its end.

        An answer of one turn stops at the first end-of-turn or EOS in its text, as generation would; visible text
        behind it is counted as cut. Several turns keep the ends between them and lose only what trails the last.
        """
        if self.terminal.isdisjoint(ids):
            return (*ids, *closing)
        start = len(ids)
        if single:
            start = next(i for i, token in enumerate(ids) if token in self.terminal)
            report.cut_at_end += any(not self._trails(token) for token in ids[start:])
        else:
            reach = start
            while reach and self._trails(ids[reach - 1]):
                reach -= 1
                start = reach if ids[reach] in self.terminal else start
        return (*ids[:start], *closing)

    def _trails(self, token: int) -> bool:
        """Whether a token may follow an answer without being part of it: an end, or white space."""
        return token in self.terminal or not self.tokenizer.decode([token]).strip()


def _answer(text: str, form: Form) -> str:
    """The text of an answer behind the generation header: nothing missing, nothing written twice."""
    bare = text.lstrip()
    if form.opened and bare.startswith(form.opened.strip()):
        rest = bare[len(form.opened.strip()) :]
        tail = form.opened[len(form.opened.rstrip()) :]
        return rest.removeprefix(tail)
    lead = form.before_answer
    mark = re.search(r"<[^>]*>|\S+", lead)  # a visible lead (a thinking block) is recognised by its first tag
    written = bare.startswith(mark.group()) if mark else text.startswith(lead)
    return text if written else lead + text


def _lacks_thought(text: str, form: Form) -> bool:
    """Whether the header opens a block (`<think>`) that this answer never closes."""
    return form.opened.lstrip().startswith("<") and "</" + form.opened.strip()[1:] not in text


def _question(prompt: Turns) -> str | None:
    """The text of a prompt of one plain turn of the user, else None."""
    if isinstance(prompt, str):
        return prompt
    alone = len(prompt) == 1 and prompt[0].role == "user" and not prompt[0].extra
    return prompt[0].content if alone else None


def _single_answer(completion: Completion) -> str | None:
    """The text of an answer of one plain turn, else None."""
    if isinstance(completion.messages, str):
        return completion.messages
    alone = len(completion.messages) == 1 and not completion.messages[0].extra
    return completion.messages[0].content if alone else None


def encode_all(
    renderer: Renderer, groups: Sequence[Group], *, max_length: int | None, overlong: Overlong,
    look: Callable[[Sequence[Group], Sequence[EncodedGroup]], None] | None = None,
) -> tuple[list[EncodedGroup], EncodeReport]:  # fmt: skip
    """Encode, then apply the length policy and count what it drops or cuts; `look` is given all groups before that."""
    report = EncodeReport(max_length)
    kept = []
    encoded = renderer.encode_many(groups, report)
    if look is not None:
        look(groups, encoded)
    for group in encoded:
        if not group.prompt_ids:
            report.empty_prompts += 1
            continue
        fitted = fit(group, max_length, overlong, report, renderer.prefix)
        if fitted is not None:
            kept.append(fitted)
    return kept, report
