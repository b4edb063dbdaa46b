"""Training sees exactly the ids that generation would produce: one BOS, one trained end-of-turn, never doubled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.data.readers import read
from burnish.data.render import EncodeReport, Renderer, encode_all, fit
from burnish.errors import ConfigError, DataError
from burnish.group import Completion, Group, Message, Preferences
from tests.zoo import CHATML, FAMILIES, KINDS, SPACED, plain_logps, tiny, tokenizer

PAIR = Preferences(((0, 1, 1.0),))
TURNS = (Message("user", "What is 7+5?"), Message("assistant", "12."), Message("user", "sure?"))
END = {
    "chatml": "<|im_end|>", "llama3": "<|eot_id|>", "llama2": "</s>", "qwen3": "<|im_end|>", "r1": "</s>",
    "zephyr": "</s>", "plain": "<|endoftext|>", "plain_bos": "</s>",
}  # fmt: skip
LEAD = {"llama2": " ", "qwen3": "<think>\n\n</think>\n\n"}  # what these templates write before an answer


def group(prompt: object = TURNS, answers: tuple[str, ...] = ("yes it is 12", "no")) -> Group:
    made = tuple(Completion(a if isinstance(prompt, str) else (Message("assistant", a),)) for a in answers)
    return Group(prompt, made, PAIR, where="f:1")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [k for k in KINDS if KINDS[k][1]])
def test_prompt_ids_are_those_of_generation(kind: str) -> None:
    made = tokenizer(kind)
    encoded = Renderer(made).encode(group())
    turns = [{"role": m.role, "content": m.content} for m in TURNS]
    generation = list(made.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"])
    # zephyr's template leaves the BOS to the tokenizer
    assert list(encoded.prompt_ids) == ([made.bos_token_id, *generation] if kind == "zephyr" else generation)


@pytest.mark.parametrize("kind", [k for k in KINDS if KINDS[k][1] and k != "r1"])
def test_prompt_and_completion_together_are_the_whole_conversation(kind: str) -> None:
    """prompt_ids + completion_ids = ids of the conversation rendered in one piece, up to its end-of-turn: the boundary
    moves no token. (r1 is out: its header opens a block that the rendered conversation does not have.)"""
    made = tokenizer(kind)
    encoded = Renderer(made).encode(group())
    turns = [{"role": m.role, "content": m.content} for m in TURNS] + [{"role": "assistant", "content": "yes it is 12"}]
    text = made.apply_chat_template(turns, tokenize=False)
    text = text[: text.rindex(END[kind]) + len(END[kind])]
    whole = made(text, add_special_tokens=kind == "zephyr")["input_ids"]
    assert [*encoded.prompt_ids, *encoded.completion_ids[0]] == list(whole)


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
        # SentencePiece's decoder takes one space off the front of whatever it decodes
        assert made.decode(ids[:-1]) == (LEAD.get(kind, "") + text).removeprefix(" " if kind in SPACED else "")
    assert encoded.ended == (True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_already_written_is_not_doubled(kind: str) -> None:
    made = tokenizer(kind)
    prompt = "p" if KINDS[kind][1] is None else TURNS
    want = Renderer(made).encode(group(prompt, ("yes", "no")))
    for tail in (END[kind], END[kind] + "\n", END[kind] * 2, made.eos_token, END[kind] + made.eos_token):
        report = EncodeReport()
        written = Renderer(made).encode_many([group(prompt, ("yes" + tail, "no"))], report)[0]
        assert written.completion_ids == want.completion_ids and report.cut_at_end == 0


def test_text_behind_an_end_of_turn_is_cut_and_counted() -> None:
    made = tokenizer("chatml")
    kept, report = encode_all(
        Renderer(made, control="keep"), [group("p", ("yes<|im_end|>\nmore", "no"))], max_length=None, overlong="drop"
    )
    assert made.decode(kept[0].completion_ids[0]) == "yes<|im_end|>" and report.cut_at_end == 1
    assert report.lines() == ["1 completion cut at an end-of-turn token inside their text, where generation would stop"]


def test_an_answer_of_several_turns_keeps_its_inner_ends_and_stops_at_the_last() -> None:
    made = tokenizer("chatml")
    turns = (Message("assistant", "look"), Message("tool", "12"), Message("assistant", "it is 12\n\n"))
    encoded = Renderer(made).encode(Group(TURNS, (Completion(turns), Completion("no")), PAIR, where="f:1"))
    assert made.decode(encoded.completion_ids[0]) == (
        "look<|im_end|>\n<|im_start|>tool\n12<|im_end|>\n<|im_start|>assistant\nit is 12\n\n<|im_end|>"
    )


def test_a_bos_written_in_the_text_is_not_doubled_and_an_empty_prompt_needs_one() -> None:
    made = tokenizer("plain_bos")
    encoded = Renderer(made).encode(group("<s>hello", ("yes", "no")))
    assert encoded.prompt_ids == Renderer(made).encode(group("hello", ("yes", "no"))).prompt_ids
    kept, report = encode_all(Renderer(made), [group("")], max_length=None, overlong="drop")
    assert kept[0].prompt_ids == (made.bos_token_id,) and report.empty_prompts == 0
    kept, report = encode_all(Renderer(tokenizer("plain")), [group("")], max_length=None, overlong="drop")
    assert kept == [] and report.empty_prompts == 1


def test_a_string_prompt_is_a_user_turn_where_there_is_a_template_and_text_where_asked() -> None:
    made = tokenizer("chatml")
    as_turn = Renderer(made).encode(group("hello", ("yes", "no")))
    assert made.decode(as_turn.prompt_ids) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert made.decode(Renderer(made, "plain").encode(group("hello", ("yes", "no"))).prompt_ids) == "hello"


def test_thinking_blocks_are_cut_from_history_and_written_once_in_the_answer() -> None:
    made = tokenizer("qwen3")
    turns = (TURNS[0], Message("assistant", "<think>\nhm\n</think>\n\n12."), TURNS[2])
    encoded = Renderer(made).encode(group(turns, ("<think>\nso\n</think>\n\nyes", "no")))
    assert made.decode(encoded.prompt_ids).count("think") == 0
    assert "<|im_start|>assistant\n12.<|im_end|>" in made.decode(encoded.prompt_ids)
    assert made.decode(encoded.completion_ids[0]) == "<think>\nso\n</think>\n\nyes<|im_end|>"
    assert made.decode(encoded.completion_ids[1]) == "<think>\n\n</think>\n\nno<|im_end|>"
    assert "answers begin with '<think>" in Renderer(made).describe()


def test_a_header_that_opens_the_thoughts_is_not_repeated_and_answers_without_thoughts_are_counted() -> None:
    made = tokenizer("r1")
    answers = [group(TURNS, ("<think>\nso\n</think>\n\nyes", "no"))]
    kept, report = encode_all(Renderer(made), answers, max_length=None, overlong="drop")
    assert made.decode(kept[0].prompt_ids).endswith("<|assistant|><think>\n")
    assert [made.decode(ids) for ids in kept[0].completion_ids] == ["so\n</think>\n\nyes</s>", "no</s>"]
    assert report.unopened == 1 and "opens '<think>\\n'" in Renderer(made).describe()


def test_a_tool_users_template_among_several_is_found_and_template_files_are_read(tmp_path: Path) -> None:
    made = tokenizer("chatml")
    own = made.chat_template
    want = Renderer(made).encode(group())
    made.chat_template = {"default": own, "tool_use": own}
    assert Renderer(made).encode(group()) == want
    (tmp_path / "own.jinja").write_text(own)
    assert Renderer(tokenizer("plain"), str(tmp_path / "own.jinja")).name.endswith("own.jinja")
    made.chat_template = None
    assert Renderer(made, str(tmp_path / "own.jinja")).encode(group()) == want
    assert Renderer(made, "chatml").encode(group()).prompt_ids[:4] == want.prompt_ids[:4]
    for content, match in ((b"{% for", "cannot render"), (b"\xff\xfe{", "UTF-8"), (b"nothing", "does not render")):
        (tmp_path / "broken.jinja").write_bytes(content)
        with pytest.raises(ConfigError, match=match):
            Renderer(made, str(tmp_path / "broken.jinja"))


def test_a_template_that_refuses_a_row_names_the_row() -> None:
    made = tokenizer("chatml")
    made.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    with pytest.raises(DataError, match=r"f:1: .*no system"):
        Renderer(made).encode(group((Message("system", "s"), *TURNS)))


def test_many_groups_at_once_equal_one_at_a_time() -> None:
    for kind in KINDS:
        made = Renderer(tokenizer(kind), "hh" if KINDS[kind][1] is None else "auto")
        many = [group((Message("user", "x" * n),), ("yes " * n, "\nno", "", " 12")) for n in range(1, 6)]
        assert made.encode_many(many) == [made.encode(one) for one in many]
        assert all(made.encode(one).completion_ids[2][-1] == made.end_id for one in many)


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


def test_a_prompt_cut_at_its_left_keeps_its_bos() -> None:
    made = tokenizer("llama3")
    whole = Renderer(made).encode(group())
    size = len(whole.prompt_ids) + max(map(len, whole.completion_ids))
    kept, report = encode_all(Renderer(made), [group()], max_length=size - 4, overlong="cut_prompt_left")
    assert kept[0].prompt_ids == (made.bos_token_id, *whole.prompt_ids[5:]) and report.cut_prompts == 1
    room = max(map(len, whole.completion_ids)) + 1  # only the BOS would be left of the prompt
    kept, report = encode_all(Renderer(made), [group()], max_length=room, overlong="cut_prompt_left")
    assert kept == [] and report.dropped == 1


@pytest.mark.parametrize("template", ["hh", "chatml"])
def test_only_marks_that_nobody_writes_by_hand_are_taken_for_a_rendering(template: str) -> None:
    made, written = tokenizer("plain"), {"hh": "Human: no, I do not.", "chatml": "<|im_start|>user\nno<|im_end|>"}
    row = Group("Do you?", (Completion(written[template]), Completion("No.")), Preferences(((0, 1, 1.0),)), where="d:1")
    report = EncodeReport()
    Renderer(made, template).encode_many([row], report)
    assert report.doubled == (["d:1"] if template == "chatml" else [])
    if template == "hh":
        Renderer(made, template, "keep").encode_many([row])
    else:
        with pytest.raises(DataError, match="renders a conversation"):
            Renderer(made, template, "keep").encode_many([row])


def test_real_transcripts_render_back_to_their_text(shared_data: Path) -> None:
    found = read(str(shared_data / "hh" / "harmless_base_pairs.jsonl"), limit=200).groups
    made = tokenizer("plain")
    encoded, report = encode_all(Renderer(made, "hh"), found, max_length=None, overlong="drop")
    assert len(encoded) == len(found) and report.lines() == []
    for raw, ids in zip(found, encoded, strict=True):
        assert not isinstance(raw.completions[0].messages, str)
        answer = raw.completions[0].messages[-1].content
        assert made.decode(ids.completion_ids[0]) == f" {answer}<|endoftext|>"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_the_zoo_builds_and_its_oracle_is_a_log_probability(family: str) -> None:
    """A one-token completion over the whole vocabulary: sum over v of exp(log p(v | prompt)) = 1; and the chain rule:
    log p(ab | x) = log p(a | x) + log p(b | xa)."""
    model = tiny(family, torch.float32, vocabulary=40)
    prompt = [5, 9, 7]
    one = torch.cat([plain_logps(model, prompt, [token]) for token in range(40)])
    assert one.exp().sum().item() == pytest.approx(1.0, abs=1e-5) and one.std() > 0.1
    pair = plain_logps(model, prompt, [11, 12])
    torch.testing.assert_close(pair[0], one[11], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pair[1:], plain_logps(model, [*prompt, 11], [12]), rtol=1e-4, atol=1e-5)
