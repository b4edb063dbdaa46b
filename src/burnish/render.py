"""Text -> token ids: the chat template, and the boundary between what is given and what is learnt.

The boundary is made, not searched for: the prompt is rendered as generation would see it and tokenised; the completion
is tokenised alone, as generation would have produced it, and ends with the end-of-turn token exactly once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from burnish.errors import ConfigError, DataError, ModelError
from burnish.group import Completion, EncodedGroup, Group, Message

Overlong = Literal["drop", "cut_prompt_left", "cut_completion"]
SENTINEL = "burnishsentinel"

BUILT_IN = {
    "hh": (
        "{% for m in messages %}{{ '\n\n' + {'user': 'Human', 'assistant': 'Assistant'}.get(m.role, m.role) + ': '"
        " + m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
    ),
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% else %}{{ '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a model folder or hub name. Raises ModelError with a sentence."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except Exception as error:  # the library raises many kinds here; all mean that there is no usable tokenizer
        raise ModelError(
            f"model.path: no tokenizer could be loaded from {path}: {str(error).splitlines()[0]}"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"model.path: the tokenizer of {path} has no end-of-sequence token, so no answer could end")
    return tokenizer


@dataclass
class EncodeReport:
    """What was left out or cut for length; nothing is ever cut silently."""

    max_length: int | None = None
    dropped: int = 0
    cut_prompts: int = 0
    cut_completions: int = 0
    empty_prompts: int = 0

    def lines(self) -> list[str]:
        counts = [
            (self.dropped, f"groups dropped: longer than max_length = {self.max_length} tokens"),
            (self.cut_prompts, "groups with the prompt cut at its left"),
            (self.cut_completions, "completions cut; their end-of-turn is not trained"),
            (self.empty_prompts, "groups dropped: an empty prompt, and the tokenizer has no BOS to begin with"),
        ]
        return [f"{count} {what}" for count, what in counts if count]


class Renderer:
    """Renders groups with one tokenizer and one template.

    `template`: "auto" (the tokenizer's own, else plain text), "plain", a built-in name, or a .jinja file.
    Raises ConfigError for a template that does not exist or does not render.
    """

    def __init__(self, tokenizer: Any, template: str = "auto") -> None:
        self.tokenizer = tokenizer
        self.name = template
        self.template: str | None = self._find(template)
        self.end_id, self.before_answer = self._probe()

    def _find(self, template: str) -> str | None:
        if template == "plain":
            return None
        if template == "auto":
            own: str | None = self.tokenizer.chat_template
            return own
        if template in BUILT_IN:
            return BUILT_IN[template]
        if not Path(template).is_file():
            known = ", ".join(["auto", "plain", *BUILT_IN])
            raise ConfigError(f"data.template = '{template}' is none of {known}, and no such file exists")
        return Path(template).read_text(encoding="utf-8")

    def _probe(self) -> tuple[int, str]:
        """The end-of-turn token, and what the template puts between generation header and answer (a space, an empty
        thinking block): the model would have to write it, so it belongs to the completion."""
        if self.template is None:
            return self.tokenizer.eos_token_id, ""
        question = [Message("user", "question")]
        head = self._render(question, header=True)
        whole = self._render([*question, Message("assistant", SENTINEL)], header=False)
        before, found, after = whole.partition(SENTINEL)
        if not found:
            raise ConfigError(f"data.template = '{self.name}' does not render the assistant's answer")
        special = {t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special}
        special |= set(self.tokenizer.all_special_tokens)
        ends = sorted((after.find(t), -len(t), t) for t in special if t and t in after)
        end = self.tokenizer.convert_tokens_to_ids(ends[0][2]) if ends else self.tokenizer.eos_token_id
        return end, before[len(head) :] if before.startswith(head) else ""

    def _render(self, messages: Sequence[Message], *, header: bool, tools: Any = None) -> str:
        turns = [{"role": m.role, "content": m.content, **m.extra} for m in messages]
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns, chat_template=self.template, tools=tools or None, add_generation_prompt=header, tokenize=False
            )
        except Exception as error:  # jinja raises its own kinds, and templates raise theirs on roles they refuse
            raise ConfigError(f"data.template = '{self.name}' cannot render this conversation: {error}") from error
        return text

    def describe(self) -> str:
        """One line: which template, which end-of-turn token, how it begins."""
        kind = "plain text" if self.template is None else "the tokenizer's chat template"
        kind = kind if self.name in ("auto", "plain") else f"template {self.name}"
        bos = self.tokenizer.bos_token_id
        text = "x" if self.template is None else self._render([Message("user", "x")], header=True)
        has_bos = bos is not None and self._prompt_ids([text])[0][:1] == (bos,)
        begins = f"prompts begin with {self.tokenizer.bos_token!r}" if has_bos else "no BOS"
        return f"rendering: {kind}; answers end with {self.tokenizer.convert_ids_to_tokens(self.end_id)!r}; {begins}"

    def prompt_text(self, group: Group) -> str:
        """What generation would be given. Raises DataError naming the row where it cannot be rendered."""
        if self.template is None:
            if not isinstance(group.prompt, str):
                raise DataError(
                    f"{group.where}: this is a conversation, and the tokenizer has no chat template. Name one: "
                    "data.template='hh' (Human/Assistant transcript), 'chatml', or a .jinja file"
                )
            return group.prompt
        messages = (Message("user", group.prompt),) if isinstance(group.prompt, str) else group.prompt
        try:
            return self._render(messages, header=True, tools=group.tools)
        except ConfigError as error:
            raise DataError(f"{group.where}: {error}") from error

    def completion_text(self, group: Group, completion: Completion) -> str:
        """What generation would have produced, without the end-of-turn token."""
        if isinstance(completion.messages, str):
            return self.before_answer + completion.messages
        if len(completion.messages) == 1 and not completion.messages[0].extra:
            return self.before_answer + completion.messages[0].content
        if self.template is None:
            raise DataError(f"{group.where}: an answer of several turns needs a chat template; set data.template")
        prompt = (Message("user", group.prompt),) if isinstance(group.prompt, str) else group.prompt
        head = self._render(prompt, header=True, tools=group.tools)
        whole = self._render([*prompt, *completion.messages], header=False, tools=group.tools)
        if not whole.startswith(head):
            raise DataError(f"{group.where}: the template rewrites the prompt when the answer follows it")
        return whole[len(head) :]

    def encode(self, group: Group) -> EncodedGroup:
        """One group in token space; see `encode_all` for many."""
        return self.encode_many([group])[0]

    def encode_many(self, groups: Sequence[Group]) -> list[EncodedGroup]:
        """Prompts and completions of many groups, tokenised in two calls."""
        prompts = [self.prompt_text(group) for group in groups]
        texts = [self.completion_text(g, c) for g in groups for c in g.completions]
        prompt_ids = self._prompt_ids(prompts)
        answers = iter(self._ids(texts))
        encoded = []
        for group, prompt in zip(groups, prompt_ids, strict=True):
            completions = tuple(self._ended(next(answers)) for _ in group.completions)
            encoded.append(
                EncodedGroup(
                    group.id, prompt, completions, (True,) * len(completions), group.feedback, group.source, group.where
                )
            )
        return encoded

    def _prompt_ids(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """Tokenised with the tokenizer's own BOS, unless the template already wrote one: exactly one, never two."""
        bos = self.tokenizer.bos_token
        written = [bool(self.template is not None and bos and p.startswith(bos)) for p in prompts]
        with_bos = self._ids(prompts, special=True)
        without = self._ids(prompts) if any(written) else with_bos
        chosen = [b if has else a for a, b, has in zip(with_bos, without, written, strict=True)]
        eos = self.tokenizer.eos_token_id
        ends_open = [not (p.endswith(self.tokenizer.eos_token) if self.tokenizer.eos_token else False) for p in prompts]
        # Some tokenizers close every text with EOS; generation begins before it.
        return [
            ids[:-1] if is_open and ids and ids[-1] == eos else ids
            for ids, is_open in zip(chosen, ends_open, strict=True)
        ]

    def _ids(self, texts: Sequence[str], *, special: bool = False) -> list[tuple[int, ...]]:
        if not texts:
            return []
        found = self.tokenizer(list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False)
        return [tuple(ids) for ids in found["input_ids"]]

    def _ended(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Up to and with the first end-of-turn; appended where the text has none."""
        if self.end_id not in ids:
            return (*ids, self.end_id)
        last = len(ids) - 1 - ids[::-1].index(self.end_id)
        trailing = self.tokenizer.decode(ids[last + 1 :]) if last + 1 < len(ids) else ""
        return ids[: last + 1] if not re.search(r"\S", trailing) else (*ids, self.end_id)


def encode_all(
    renderer: Renderer, groups: Sequence[Group], *, max_length: int | None, overlong: Overlong
) -> tuple[list[EncodedGroup], EncodeReport]:
    """Encode and apply the length policy, counting whatever it drops or cuts."""
    report = EncodeReport(max_length)
    kept = []
    for group in renderer.encode_many(groups):
        if not group.prompt_ids:
            report.empty_prompts += 1
            continue
        fitted = fit(group, max_length, overlong, report)
        if fitted is not None:
            kept.append(fitted)
    return kept, report


def fit(group: EncodedGroup, max_length: int | None, overlong: Overlong, report: EncodeReport) -> EncodedGroup | None:
    """The group within `max_length` tokens by the policy, or None where it is dropped."""
    longest = max(len(c) for c in group.completion_ids)
    excess = 0 if max_length is None else len(group.prompt_ids) + longest - max_length
    if max_length is None or excess <= 0:
        return group
    if overlong == "cut_prompt_left" and excess < len(group.prompt_ids):
        report.cut_prompts += 1
        return replace(group, prompt_ids=group.prompt_ids[excess:])
    room = max_length - len(group.prompt_ids)
    if overlong == "cut_completion" and room > 0:
        cut = [len(c) > room for c in group.completion_ids]
        report.cut_completions += sum(cut)
        ended = tuple(e and not c for e, c in zip(group.ended, cut, strict=True))
        return replace(group, completion_ids=tuple(c[:room] for c in group.completion_ids), ended=ended)
    report.dropped += 1
    return None
