"""Tokenizers: those of transformers for training, and the same ids without torch for reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from burnish.data.folders import TOKENIZER, home_of, model_chain
from burnish.errors import ModelError
from burnish.group import EncodedGroup

REBUILT = (
    "Llama",
    "CodeLlama",
    "Gemma",
)  # classes whose pre-tokenizer transformers builds itself, whatever the file holds
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


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder or hub name, from transformers; an adapter without one, or without a chat
    template, has its base's.

    Raises ModelError with a sentence.
    """
    from transformers import AutoTokenizer

    model, path = path, home_of(path, *TOKENIZER)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        tokenizer.chat_template = _inherited_template(model, path, tokenizer.chat_template)
    except Exception as error:  # the library raises many kinds here; all mean that there is no usable tokenizer
        reason = (str(error) or repr(error)).splitlines()[0]
        if "trust_remote_code" in str(error):
            reason += " Set model.trust_remote_code=true to run it, if you trust where it comes from"
        raise ModelError(f"model.path: no tokenizer could be loaded from {path}: {reason}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"model.path: the tokenizer of {path} has no end-of-sequence token, so no answer could end")
    return tokenizer


def refuse_foreign_ids(tokenizer: Any, rows: int | None, path: str, groups: Iterable[EncodedGroup]) -> None:
    """Raises ModelError where an id is beyond the `rows` of the model's embedding. A tokenizer may have more tokens
    than the embedding has rows, as long as none of those occurs."""
    if rows is None or len(tokenizer) <= rows:
        return
    for group in groups:
        largest = max(chain(group.prompt_ids, *group.completion_ids), default=0)
        if largest >= rows:
            raise ModelError(
                f"{group.where}: token {tokenizer.convert_ids_to_tokens(largest)!r} has the id {largest}, and the "
                f"embedding of {path} has {rows} rows: leave the token out of the texts, or take the tokenizer that "
                "belongs to this model"
            )


def load_light(path: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a local folder from its tokenizer.json alone: a second instead of several, and no torch.

    Other folders, those with a tokenizer of their own code, and hub names go through transformers. Raises ModelError
    with a sentence.
    """
    model, path = path, home_of(path, *TOKENIZER)
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if path.startswith((".", "/", "~")) or path.count("/") != 1:
            raise ModelError(f"model.path: there is no folder {path}")
        return load_tokenizer(model, trust_remote_code=trust_remote_code)
    if not (folder / "tokenizer.json").is_file():
        return load_tokenizer(model, trust_remote_code=trust_remote_code)
    from tokenizers import Tokenizer

    about = _json(folder / "tokenizer_config.json")
    if str(about.get("tokenizer_class", "")).startswith(REBUILT) or "AutoTokenizer" in (about.get("auto_map") or {}):
        return load_tokenizer(model, trust_remote_code=trust_remote_code)
    try:
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = _json(folder / "tokenizer_config.json")
        named = {**_json(folder / "special_tokens_map.json"), **config}
        template = _inherited_template(model, path, _template(folder, config))
    except Exception as error:  # the library raises plain Exception for a file it cannot read
        raise ModelError(f"model.path: the tokenizer in {path} cannot be read: {str(error).splitlines()[0]}") from error
    keys = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    names = {key: _content(named[key]) for key in keys if named.get(key)}
    tokenizer = LightTokenizer(backend, names, template, bool(config.get("add_bos_token")))
    if tokenizer.eos_token_id is None:
        raise ModelError(f"model.path: the tokenizer of {path} has no end-of-sequence token, so no answer could end")
    return tokenizer


def _inherited_template(model: str, home: str, held: Any) -> Any:
    """The chat template of the first of a model's chain that has one. `held`: of the tokenizer, which is at `home`."""
    for path in model_chain(model):
        folder = Path(path).expanduser()
        template = held if path == home else None
        if template or (template := _template(folder, _json(folder / "tokenizer_config.json"))):
            return template
    return held


def _json(file: Path) -> dict[str, Any]:
    value = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return value if isinstance(value, dict) else {}


def _content(token: Any) -> str:
    return str(token["content"]) if isinstance(token, Mapping) else str(token)


def _template(folder: Path, config: Mapping[str, Any]) -> str | dict[str, str] | None:
    """The chat template, or several by their names, from where transformers reads them: files go before the entry in
    tokenizer_config.json."""
    named = folder / "additional_chat_templates"
    files = {file.stem: file for file in named.glob("*.jinja")} if named.is_dir() else {}
    if (folder / "chat_template.jinja").is_file():
        files = {"default": folder / "chat_template.jinja", **files}
    texts = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    if texts:
        return texts["default"] if list(texts) == ["default"] else texts
    template = config.get("chat_template")
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}
    return template or _json(folder / "chat_template.json").get("chat_template")  # once a processor's own


@dataclass
class LightTokenizer:
    """As much of transformers' tokenizer as `render` asks for, over the same Rust tokenizer."""

    backend: Any
    names: Mapping[str, str]  # bos_token, eos_token, ... -> their text
    chat_template: str | dict[str, str] | None
    adds_bos: bool

    def __post_init__(self) -> None:
        self.backend.no_padding()
        self.backend.no_truncation()

    @property
    def bos_token(self) -> str | None:
        return self.names.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        return self.names.get("eos_token")

    @property
    def unk_token(self) -> str | None:
        return self.names.get("unk_token")

    @property
    def bos_token_id(self) -> int | None:
        return self.convert_tokens_to_ids(self.bos_token)

    @property
    def eos_token_id(self) -> int | None:
        return self.convert_tokens_to_ids(self.eos_token)

    @cached_property
    def added_tokens_decoder(self) -> dict[int, Any]:
        return dict(self.backend.get_added_tokens_decoder())

    @cached_property
    def all_special_tokens(self) -> list[str]:
        added = [token.content for token in self.added_tokens_decoder.values() if token.special]
        return list(dict.fromkeys([*self.names.values(), *added]))

    def convert_tokens_to_ids(self, token: str | None) -> int | None:
        token_id: int | None = None if token is None else self.backend.token_to_id(token)
        return token_id

    def convert_ids_to_tokens(self, ids: int) -> str:
        return str(self.backend.id_to_token(ids))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.backend.decode(list(ids), skip_special_tokens=False))

    def __call__(
        self, texts: Sequence[str], *, add_special_tokens: bool = True, split_special_tokens: bool = False, **_: Any
    ) -> dict[str, list[list[int]]]:
        """Ids of each text; with `split_special_tokens` a control token in the text is encoded as text."""
        self.backend.encode_special_tokens = split_special_tokens
        encoded = [e.ids for e in self.backend.encode_batch(list(texts), add_special_tokens=add_special_tokens)]
        if add_special_tokens and self.adds_bos and self.bos_token_id is not None:
            encoded = [ids if ids[:1] == [self.bos_token_id] else [self.bos_token_id, *ids] for ids in encoded]
        return {"input_ids": encoded}

    def apply_chat_template(
        self, conversation: Sequence[Mapping[str, Any]], chat_template: str, tools: Any = None,
        add_generation_prompt: bool = False, tokenize: bool = False,
    ) -> str:  # fmt: skip
        """The conversation as text, by the given template: rendered by transformers' own function, which needs no
        torch."""
        from transformers.utils.chat_template_utils import render_jinja_template

        if tokenize:
            raise ValueError("this tokenizer renders conversations as text")
        filled = [{k: v for k, v in message.items() if v is not None} for message in conversation]
        variables: dict[str, Any] = {**self.names, "add_generation_prompt": add_generation_prompt}
        rendered = render_jinja_template([filled], tools, chat_template=chat_template, **variables)[0]
        return str(rendered[0])
