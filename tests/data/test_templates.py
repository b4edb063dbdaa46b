"""One rendering for looking and for training: the light tokenizer's is transformers', with every kind of template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.config import load, load_partly, to_toml
from burnish.data.render import Renderer
from burnish.data.templates import ChatTemplate
from burnish.data.tokenizers import load_light, load_tokenizer
from burnish.errors import ConfigError
from burnish.group import Completion, Group, Message, Preferences
from tests.zoo import CHATML, tokenizer

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 7, "b": 5}}}
TOOL = {"type": "function", "function": {"name": "add", "description": "é", "parameters": {"type": "object"}}}
TOOL_USE = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<call>"
    "{{ c.function | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (
    "{%- macro think() %}{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endmacro %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ think() }}{% endif %}"
)
KINDS: dict[str, Any] = {  # kind of template -> what tokenizer_config.json holds
    "one": TOOL_USE,
    "named": [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": TOOL_USE}],
    "marked": TOOL_USE.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}"),
    "sep": "{{ sep_token }}" + TOOL_USE,
    "thoughts": TOOL_USE.replace("{{ m.content }}", "{{ m.reasoning_content }}|{{ m.thinking }}|{{ m.content }}"),
    "python": TOOL_USE.replace(
        "{{ m.content }}", "{% set n = namespace(x=dict(a=1)) %}{{ n.x | tojson(indent=1) }}{{ m.content }}"
    ),
}


def conversation(*, tools: bool = True) -> Group:
    asked = (Message("system", "be exact"), Message("user", "7+5?"))
    called = (Message("assistant", "", {"tool_calls": [CALL], "reasoning": "I add"}),)
    answers = Completion(called if tools else (Message("assistant", "12"),)), Completion((Message("assistant", "no"),))
    return Group(asked, answers, Preferences(((0, 1, 1.0),)), tools=(TOOL,) if tools else (), where="f:1")


def folder_of(path: Path, template: Any, *, files: bool) -> str:
    made = tokenizer("chatml")
    made.chat_template = None
    made.save_pretrained(path)
    config = json.loads((path / "tokenizer_config.json").read_text()) | {"sep_token": "<|im_end|>"}
    if files and isinstance(template, list):
        (path / "additional_chat_templates").mkdir()
        for entry in template:
            file = "chat_template.jinja" if entry["name"] == "default" else f"additional_chat_templates/{entry['name']}"
            (path / file).with_suffix(".jinja").write_text(entry["template"])
    elif files:
        (path / "chat_template.jinja").write_text(template)
        config["chat_template"] = CHATML  # the file goes before it
    else:
        config["chat_template"] = template
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return str(path)


@pytest.mark.parametrize("files", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_light_tokenizer_renders_what_transformers_renders(kind: str, files: bool, tmp_path: Path) -> None:
    path = folder_of(tmp_path, KINDS[kind], files=files)
    light, whole = Renderer(load_light(path)), Renderer(load_tokenizer(path))
    assert light.describe() == whole.describe()
    for tools in (True, False):
        group = conversation(tools=tools)
        assert light.encode(group) == whole.encode(group)
        turns = [{"role": m.role, "content": m.content, **m.extra} for m in group.prompt]  # type: ignore[union-attr]
        given = {"tools": [TOOL]} if tools else {}
        generated = load_tokenizer(path).apply_chat_template(
            turns, add_generation_prompt=True, return_dict=True, **given
        )
        assert list(light.encode(group).prompt_ids) == list(generated["input_ids"])


def test_a_tool_is_written_where_it_is_on_offer(tmp_path: Path) -> None:
    light = load_light(folder_of(tmp_path, KINDS["named"], files=True))
    made = Renderer(light)
    assert "7" in made.completion_text(conversation(), conversation().completions[0])
    assert json.dumps(TOOL, ensure_ascii=False) in made.prompt_text(conversation())
    assert made.prompt_text(conversation()) == Renderer(light, "tool_use").prompt_text(conversation())


def test_templates_without_a_default_are_named_in_the_refusal(tmp_path: Path) -> None:
    entries = [{"name": "rag", "template": CHATML}, {"name": "tool_use", "template": TOOL_USE}]
    light = load_light(folder_of(tmp_path, entries, files=False))
    with pytest.raises(ConfigError, match=r"rag, tool_use.*data\.template=rag"):
        Renderer(light)
    assert Renderer(light, "rag").chat.to_save == CHATML


def test_a_named_template_ends_answers_its_own_way(tmp_path: Path) -> None:
    other = TOOL_USE.replace("{% endfor %}<|im_end|>", "{% endfor %}<|endoftext|>")
    entries = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": other}]
    made = Renderer(load_light(folder_of(tmp_path, entries, files=False)))
    ends = [made.tokenizer.convert_tokens_to_ids(text) for text in ("<|endoftext|>", "<|im_end|>")]
    plain_answer = [made.encode(conversation(tools=tools)).completion_ids[1][-1] for tools in (True, False)]
    assert plain_answer == ends and made.terminal == set(ends)


@pytest.mark.parametrize("value", [False, True])
def test_template_args_render_as_transformers_renders_them(value: bool, tmp_path: Path) -> None:
    path = folder_of(tmp_path, THINKING, files=True)
    run = load_partly(None, [f"data.template_args.enable_thinking={str(value).lower()}"])
    turns = [{"role": m.role, "content": m.content} for m in conversation().prompt]  # type: ignore[union-attr]
    wanted = load_tokenizer(path).apply_chat_template(
        turns, add_generation_prompt=True, return_dict=True, enable_thinking=value
    )
    for made in (load_light(path), load_tokenizer(path)):
        assert list(Renderer.of(run.data, made).encode(conversation(tools=False)).prompt_ids) == wanted["input_ids"]


def test_template_args_go_with_the_saved_model_as_defaults(tmp_path: Path) -> None:
    made = load_tokenizer(folder_of(tmp_path, THINKING, files=True))
    asked = Renderer(made, args={"enable_thinking": False}).prompt_text(conversation(tools=False))
    assert asked.endswith("assistant\n<think>\n\n</think>\n\n")
    made.chat_template = ChatTemplate(made, args={"enable_thinking": False}).to_save
    turns = [{"role": "user", "content": "x"}]
    by_default = made.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert by_default.endswith("<think>\n\n</think>\n\n")
    otherwise = made.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, enable_thinking=True)
    assert otherwise == by_default.removesuffix("<think>\n\n</think>\n\n")


@pytest.mark.parametrize("value", [3, 0.5, 'a "b"\n%}é🙂', ["x", True], {"deep": [1, "y"]}])
def test_values_of_every_kind_arrive_as_they_are(value: Any) -> None:
    made = tokenizer("chatml")
    made.chat_template = "{{ about | tojson }}" + CHATML
    first = Renderer(made, args={"about": value}).prompt_text(conversation(tools=False)).partition("<|im_start|>")[0]
    assert json.loads(first) == value


@pytest.mark.parametrize(
    ("template", "args", "sentence"),
    [
        ("auto", {"enable_thinkin": False}, "did you mean 'data.template_args.enable_thinking'"),
        ("auto", {"messages": []}, "given this already"),
        ("auto", {"bos_token": "x"}, "given this already"),
        ("plain", {"enable_thinking": False}, "without a template"),
        ("hh", {"enable_thinking": False}, "no such variable"),
        ("auto", {"role": "user"}, "no such variable"),  # of a message
        ("auto", {"m": 1}, "no such variable"),  # set by a loop
        ("auto", {"think": True}, "no such variable"),  # a word of its text
    ],
)
def test_arguments_that_would_do_nothing_are_refused(template: str, args: dict[str, Any], sentence: str) -> None:
    made = tokenizer("chatml")
    made.chat_template = THINKING
    with pytest.raises(ConfigError, match=sentence):
        Renderer(made, template, args=args)


def test_template_args_are_kept_with_the_run(tmp_path: Path) -> None:
    words = ["model.path=m", "data.train=d", 'data.template_args={enable_thinking = false, date = "1 May"}']
    run = load(None, words)
    assert run.data.template_args == {"enable_thinking": False, "date": "1 May"}
    (tmp_path / "config.toml").write_text(to_toml(run))
    assert load(str(tmp_path / "config.toml")) == run
