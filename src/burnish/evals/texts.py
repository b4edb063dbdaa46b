"""The texts of the panel: read, and put into a model's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from burnish.config.evaluation import EvaluationConfig, PanelSuite
from burnish.data.readers import read
from burnish.data.readers.files import rows
from burnish.data.readers.values import Fault
from burnish.data.render import Renderer
from burnish.data.views import winner_view
from burnish.errors import DataError
from burnish.findings import counted
from burnish.group import Completion, EncodedGroup, Group


def texts_of(suite: PanelSuite, evaluation: EvaluationConfig) -> list[Group]:
    """The texts of a panel: of rows with `text` alone the text, of others the prompt with the answer that the data
    prefers. Raises DataError."""
    plain = _plain_texts(suite.texts)
    if plain is not None:
        return plain[: suite.limit]
    options: dict[str, Any] = {"format": suite.format, "split": evaluation.data.split, "limit": suite.limit}
    groups = read(suite.texts, keep_faults=evaluation.data.bad_rows == "skip", **options).groups
    texts = []
    for place, group in enumerate(groups):
        best = winner_view(EncodedGroup("", (), ((),) * len(group.completions), (), group.feedback))
        if best:
            texts.append(replace(group, id=str(place), completions=(group.completions[best[0]],)))
    if not texts:
        raise DataError(f"{suite.texts}: none of its {counted(len(groups), 'row')} has an answer to read")
    return texts


def _plain_texts(file: str) -> list[Group] | None:
    """The texts of a file whose rows have a `text` and no prompt; None of another file."""
    texts: list[Group] = []
    for where, row in rows(file, "train"):
        if isinstance(row, Fault):
            raise DataError(row.message)
        if not isinstance(row.get("text"), str) or {"prompt", "messages", "chosen"} & set(row):
            return None
        if row["text"].strip():
            texts.append(Group("", (Completion(row["text"]),), id=str(len(texts)), where=where))
    return texts or None


def encoded_texts(renderer: Renderer, texts: Sequence[Group], longest: int) -> list[EncodedGroup]:
    """The texts in the renderer's tokens, cut to `longest`; the first token stands for a prompt that is missing."""
    encoded: list[EncodedGroup] = []
    for text in renderer.encode_many(texts):
        prompt, (ids,) = text.prompt_ids, text.completion_ids
        if not prompt:
            prompt, ids = ids[:1], ids[1:]
        ids = ids[: max(0, longest - len(prompt))]
        if ids:
            encoded.append(replace(text, prompt_ids=prompt, completion_ids=(ids,), ended=text.ended[:1]))
    return encoded
