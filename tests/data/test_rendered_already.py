"""Texts that a chat template has rendered already: counted where they are text, taken as they are where they act."""

from __future__ import annotations

import pytest

from burnish.audit import Auditor, audit
from burnish.data.render import EncodeReport, Renderer
from burnish.errors import DataError
from burnish.group import Completion, Group, Message, Preferences
from tests.zoo import KINDS, LLAMA2, QWEN3, R1, tokenizer

TEMPLATED = [kind for kind in KINDS if KINDS[kind][1]]
HH = (
    "{% for m in messages %}{{ '\n\nHuman: ' if m.role == 'user' else '\n\nAssistant: ' }}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
DEFAULT_SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"


def pair(prompt: str | tuple[Message, ...], *answers: str) -> Group:
    return Group(prompt, tuple(map(Completion, answers)), Preferences(((0, 1, 1.0),)), where="d.jsonl:7")


PLAIN = pair("What is 7+5?", "It is 12.", "no")
TALK = (Message("system", "Be exact."), Message("user", "hi"), Message("assistant", "ok"), Message("user", "7+5?"))


def renderers(kind: str, template: str | None = None) -> tuple[Renderer, Renderer]:
    made = tokenizer(kind)
    made.chat_template = template or made.chat_template
    return Renderer(made), Renderer(made, control="keep")


def forms(guarded: Renderer, prompt: tuple[Message, ...]) -> dict[str, tuple[str, str]]:
    """Way of rendering beforehand -> (prompt, what each answer begins with)."""
    chat, bos = guarded.chat, guarded.tokenizer.bos_token or ""
    whole, asked = chat.render(prompt, header=True), chat.render(prompt, header=False)
    header = whole.removeprefix(asked).removesuffix(chat.default.opened)
    return {
        "whole": (whole, ""),
        "stripped": (whole.strip(), ""),
        "without BOS": (whole.removeprefix(bos), ""),
        "without what the header opens": (whole.removesuffix(chat.default.opened), ""),
        "header in the answers": (asked, header),
        "header in both": (whole, header),
    }


@pytest.mark.parametrize("kind", TEMPLATED)
def test_a_rendered_prompt_is_taken_as_it_is_where_control_tokens_act(kind: str) -> None:
    """The ids are those of the same rows before they were rendered, in every manner of rendering them."""
    guarded, kept = renderers(kind)
    for prompt in ((Message("user", "What is 7+5?"),), TALK):
        if kind == "llama2" and len(prompt) > 1:
            continue  # knows no system turns
        unrendered = Group(prompt, PLAIN.completions, PLAIN.feedback, where="d.jsonl:7")
        for way, (text, header) in forms(guarded, prompt).items():
            row = pair(text, *(header + c.messages for c in PLAIN.completions))  # type: ignore[operator]
            assert kept.encode(row) == guarded.encode(unrendered), way
            alone = Group((Message("user", text),), row.completions, row.feedback, where="d.jsonl:7")
            assert kept.encode(alone) == guarded.encode(unrendered), way


@pytest.mark.parametrize("template", [HH, DEFAULT_SYSTEM + KINDS["chatml"][1], QWEN3])
def test_transcripts_and_templates_with_a_system_turn_of_their_own(template: str) -> None:
    guarded, kept = renderers("chatml", template)
    text = guarded.prompt_text(PLAIN)
    assert kept.encode(pair(text, "It is 12.", "no")) == guarded.encode(PLAIN)
    assert kept.encode(pair(text.strip(), "It is 12.", "no")) == guarded.encode(PLAIN)


@pytest.mark.parametrize("kind", TEMPLATED)
def test_answers_that_hold_the_rendered_prompt_lose_it(kind: str) -> None:
    guarded, kept = renderers(kind)
    text = guarded.prompt_text(PLAIN)
    for prompt in ("What is 7+5?", text):
        assert kept.encode(pair(prompt, f"{text}It is 12.", f"{text}no")) == guarded.encode(PLAIN)


def test_part_of_a_rendering_is_refused() -> None:
    _, kept = renderers("chatml")
    with pytest.raises(DataError, match=r"d.jsonl:7: the prompt begins as .* renders one, but does not end with"):
        kept.encode(pair("<|im_start|>user\nWhat is 7+5?", "12", "no"))
    other = "<|im_start|>user\nother<|im_end|>\n<|im_start|>assistant\n12"
    with pytest.raises(DataError, match=r"d.jsonl:7: an answer begins as .* renders a conversation, and not with its"):
        kept.encode(pair("What is 7+5?", other, "no"))


@pytest.mark.parametrize("kind", TEMPLATED)
def test_rendering_them_once_more_is_said(kind: str) -> None:
    """In the run's lines and the audit, with the setting that helps; rows that were not rendered are not counted."""
    guarded, kept = renderers(kind)
    text = guarded.prompt_text(PLAIN)
    rows = [PLAIN, pair(text, "12", "no"), pair("What?", f"{text}12", "no")]
    report = EncodeReport()
    guarded.encode_many(rows, report)
    assert report.doubled == ["d.jsonl:7"] * 2
    assert any("2 groups rendered by a template already" in line for line in report.lines())
    auditor = Auditor(guarded)
    auditor.take(rows)
    audited = audit(auditor)
    (finding,) = [f for f in audited.findings if f.code == "rendered-already"]
    assert finding.count == 2
    assert [a["setting"] for a in audited.figures["actions"]].count('data.control_tokens = "keep"') == 1
    report = EncodeReport()
    kept.encode_many(rows[:2], report)
    assert report.doubled == []


@pytest.mark.parametrize("template", [LLAMA2, R1])
def test_other_texts_with_control_tokens_are_rendered(template: str) -> None:
    _, kept = renderers("llama2", template)
    rendered = kept.prompt_text(pair("say </s> twice", "a", "b"))
    assert rendered == kept.chat.render([Message("user", "say </s> twice")], header=True)
