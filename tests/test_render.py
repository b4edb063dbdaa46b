"""Training sees exactly the ids that generation would produce: one BOS, one trained end-of-turn, never doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.errors import ConfigError, DataError
from burnish.group import Completion, Group, Message, Preferences
from burnish.readers import read
from burnish.render import EncodeReport, Renderer, encode_all, fit
from tests.zoo import KINDS, tokenizer

PAIR = Preferences(((0, 1, 1.0),))
TURNS = (Message("user", "What is 7+5?"), Message("assistant", "12."), Message("user", "sure?"))
END = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "llama2": "</s>", "plain": "<|endoftext|>", "plain_bos": "</s>"}


def group(prompt: object = TURNS, answers: tuple[str, ...] = ("yes it is 12", "no")) -> Group:
    made = tuple(Completion(a if isinstance(prompt, str) else (Message("assistant", a),)) for a in answers)
    return Group(prompt, made, PAIR, where="f:1")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [k for k in KINDS if KINDS[k][1]])
def test_prompt_ids_are_those_of_generation(kind: str) -> None:
    made = tokenizer(kind)
    encoded = Renderer(made).encode(group())
    turns = [{"role": m.role, "content": m.content} for m in TURNS]
    generation = made.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert list(encoded.prompt_ids) == list(generation)


@pytest.mark.parametrize("kind", KINDS)
def test_bos_and_end_of_turn_invariants(kind: str) -> None:
    made = tokenizer(kind)
    encoded = Renderer(made).encode(group("What is 7+5?" if KINDS[kind][1] is None else TURNS))
    whole = [*encoded.prompt_ids, *encoded.completion_ids[0]]
    if KINDS[kind][2]:
        assert whole[0] == made.bos_token_id and whole.count(made.bos_token_id) == 1
    end = made.convert_tokens_to_ids(END[kind])
    for ids, text in zip(encoded.completion_ids, ("yes it is 12", "no"), strict=True):
        assert ids[-1] == end and ids.count(end) == 1
        lead = " " if kind == "llama2" else ""  # this template writes a space before the answer
        assert made.decode(ids[:-1]) == lead + text
    assert encoded.ended == (True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_of_turn_in_the_text_is_not_doubled(kind: str) -> None:
    made = tokenizer(kind)
    prompt = "p" if KINDS[kind][1] is None else TURNS
    plain = Renderer(made).encode(group(prompt, ("yes", "no")))
    written = Renderer(made).encode(group(prompt, ("yes" + END[kind], "no")))
    assert plain.completion_ids == written.completion_ids


def test_a_string_prompt_is_a_user_turn_where_there_is_a_template_and_text_where_asked() -> None:
    made = tokenizer("chatml")
    as_turn = Renderer(made).encode(group("hello", ("yes", "no")))
    assert made.decode(as_turn.prompt_ids) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert made.decode(Renderer(made, "plain").encode(group("hello", ("yes", "no"))).prompt_ids) == "hello"


def test_thinking_blocks_cut_from_history_leave_the_boundary_in_place() -> None:
    made = tokenizer("chatml")
    made.chat_template = (
        "{% for m in messages %}{% set c = m.content.split('</think>')[-1] if not loop.last else m.content %}"
        "{{ '<|im_start|>' + m.role + '\n' + c + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    turns = (TURNS[0], Message("assistant", "<think> hm </think>12."), TURNS[2])
    encoded = Renderer(made).encode(group(turns, ("<think> so </think>yes", "no")))
    assert "hm" not in made.decode(encoded.prompt_ids)
    assert made.decode(encoded.completion_ids[0]) == "<think> so </think>yes<|im_end|>"


def test_conversations_without_a_template_are_refused_and_named_templates_serve() -> None:
    made = tokenizer("plain")
    with pytest.raises(DataError, match=r"f:1: .*data\.template='hh'"):
        Renderer(made).encode(group())
    encoded = Renderer(made, "hh").encode(group())
    text = made.decode(encoded.prompt_ids)
    assert text == "\n\nHuman: What is 7+5?\n\nAssistant: 12.<|endoftext|>\n\nHuman: sure?\n\nAssistant:"
    assert made.decode(encoded.completion_ids[1]) == " no<|endoftext|>"
    with pytest.raises(ConfigError, match="no such file exists"):
        Renderer(made, "nosuch")


def test_overlong_policies_are_counted_and_invent_no_end() -> None:
    made = tokenizer("plain")
    long = group("What is 7+5? What is 7+5?", ("yes it is 12", "no"))
    whole = Renderer(made).encode(long)
    size = len(whole.prompt_ids) + len(whole.completion_ids[0])
    kept, report = encode_all(Renderer(made), [long], max_length=size, overlong="drop")
    assert kept == [whole] and report.lines() == []
    kept, report = encode_all(Renderer(made), [long], max_length=size - 1, overlong="drop")
    assert kept == [] and report.dropped == 1
    report = EncodeReport()
    cut = fit(whole, size - 3, "cut_prompt_left", report)
    assert cut and cut.prompt_ids == whole.prompt_ids[3:] and cut.completion_ids == whole.completion_ids
    cut = fit(whole, size - 3, "cut_completion", report)
    assert cut and cut.completion_ids[0] == whole.completion_ids[0][:-3] and cut.ended == (False, True)
    assert (report.cut_prompts, report.cut_completions) == (1, 1)


def test_real_transcripts_render_back_to_their_text(shared_data: Path) -> None:
    found = read(str(shared_data / "hh" / "harmless_base_pairs.jsonl"), limit=200).groups
    made = tokenizer("plain")
    encoded, report = encode_all(Renderer(made, "hh"), found, max_length=None, overlong="drop")
    assert len(encoded) == len(found) and report.lines() == []
    for raw, ids in zip(found, encoded, strict=True):
        assert not isinstance(raw.completions[0].messages, str)
        answer = raw.completions[0].messages[-1].content
        assert made.decode(ids.completion_ids[0]) == f" {answer}<|endoftext|>"
