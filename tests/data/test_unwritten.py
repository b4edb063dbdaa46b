"""What a chat template does not write is counted by kind and place; an answer that it leaves empty is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from burnish.audit import Auditor, audit
from burnish.data.render import EncodeReport, Renderer
from burnish.data.show import token_lines
from burnish.errors import DataError
from burnish.group import Completion, Group, Message, Preferences
from tests.data.test_templates import CALL, TOOL, TOOL_USE
from tests.zoo import CHATML, QWEN3, tokenizer

WRITES_ALL = TOOL_USE.replace("{{ m.content }}", "{{ m.reasoning_content }}{{ m.thinking }}{{ m.content }}")
NO_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
NO_TOOL_TURNS = WRITES_ALL.replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}")
CALL_OR_TEXT = TOOL_USE.replace("{{ m.content }}", "{{ m.content if not m.tool_calls }}")  # Llama 3.1's manner
LAST_ONLY = CHATML.replace("{% for m in messages %}", "{% for m in messages[-1:] %}")
CALLING = Message("assistant", "I add.", {"tool_calls": [CALL]})
TURNS = (CALLING, Message("tool", "result: 12"), Message("assistant", "It is 12."))
ASKED = (Message("system", "Be exact."), Message("user", "7+5?"))


def rendering(template: str) -> Renderer:
    made = tokenizer("chatml")
    made.chat_template = template
    return Renderer(made)


def group(answer: tuple[Message, ...] | str, *, prompt: Any = ASKED, tools: tuple[Any, ...] = ()) -> Group:
    sides = Completion(answer), Completion("no" if isinstance(answer, str) else (Message("assistant", "no"),))
    return Group(prompt, sides, Preferences(((0, 1, 1.0),)), tools=tools, where="d.jsonl:3")


def kinds_of(template: str, row: Group) -> list[str]:
    report = EncodeReport()
    rendering(template).encode_many([row], report)
    assert all(where == "d.jsonl:3" for _, where in report.unwritten)
    return [kind for kind, _ in report.unwritten]


THINKS = (Message("assistant", "12", {"reasoning_content": "7+5 is 12"}),)
HISTORY = (*ASKED, *TURNS, Message("user", "and 8+5?"))
CASES: list[tuple[str, Group, list[str]]] = [
    (CHATML, group("12", tools=(TOOL,)), ["tools on offer"]),
    (CHATML, group(TURNS), ["tool calls"]),
    (CHATML, group(THINKS), ["thoughts"]),
    (CHATML, group((Message("assistant", "12", {"thinking": "7+5"}),)), ["thoughts"]),
    (CHATML, group("12", prompt=HISTORY), ["tool calls"]),
    (NO_SYSTEM, group("12"), ["turns of the role system"]),
    (LAST_ONLY, group("12"), ["turns of the role system"]),
    (NO_TOOL_TURNS, group(TURNS, tools=(TOOL,)), ["turns of the role tool"]),
    (NO_TOOL_TURNS, group("12", prompt=HISTORY), ["turns of the role tool"]),
    (CALL_OR_TEXT, group(TURNS), ["turns of the role assistant"]),
    (WRITES_ALL, group(TURNS, tools=(TOOL,)), []),
    (WRITES_ALL, group(THINKS, tools=(TOOL,)), []),
    (WRITES_ALL, group("<think>7+5</think>12", prompt=HISTORY), []),
    (QWEN3, group("12", prompt=(*ASKED, Message("assistant", "<think>hm</think>ok"), Message("user", "so?"))), []),
    (QWEN3, group((Message("assistant", "<think>hm</think>ok"), *TURNS[2:])), ["thoughts"]),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_what_is_left_out_is_named(case: int) -> None:
    template, row, kinds = CASES[case]
    assert kinds_of(template, row) == kinds


def test_plain_text_writes_no_tools() -> None:
    assert kinds_of("", group("12", prompt="7+5?", tools=(TOOL,))) == ["tools on offer"]


@pytest.mark.parametrize(
    ("template", "turns", "lost"),
    [
        (CHATML, (Message("assistant", "", {"tool_calls": [CALL]}),), "tool calls"),
        (CHATML, (Message("assistant", " ", {"reasoning": "7+5"}),), "thoughts"),
        (CHATML, (Message("assistant", "", {"tool_calls": [CALL], "thinking": "7+5"}),), "thoughts and tool calls"),
        (CHATML, (Message("assistant", "", {"tool_calls": [CALL]}), *TURNS[1:]), "tool calls"),
        (CHATML + "{# #}", (Message("assistant", "", {"function_call": {"name": "add"}}),), "tool calls"),
    ],
)
def test_an_answer_that_would_be_empty_is_refused(template: str, turns: tuple[Message, ...], lost: str) -> None:
    with pytest.raises(DataError, match=rf"d.jsonl:3: .*does not write {lost}, .* would be empty"):
        rendering(template).encode(group(turns))


def test_a_turn_with_one_part_left_is_not_empty() -> None:
    turns = (Message("assistant", "", {"tool_calls": [CALL], "thinking": "7+5"}),)
    assert kinds_of(TOOL_USE, group(turns)) == ["thoughts"]


def test_audit_and_show_and_the_lines_of_a_run_say_it() -> None:
    renderer = rendering(CHATML)
    rows = [group("12"), group("12", tools=(TOOL,)), group(TURNS)]
    auditor = Auditor(renderer)
    auditor.take(rows)
    found = {f.message: f.count for f in audit(auditor).findings if f.code == "unwritten"}
    sentence = "1 row with {} that the template does not write: they are not trained"
    assert found == {sentence.format("tools on offer"): 1, sentence.format("tool calls"): 1}
    line = "1 group with tools on offer that data.template does not write (d.jsonl:3)"
    assert token_lines(rows[1], renderer)[-1].plain == line
    report = EncodeReport()
    renderer.encode_many(rows, report)
    assert line in report.lines()


def test_conversations_of_texts_cost_one_rendering_more_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = rendering(CHATML)
    rendered: list[int] = []
    render = renderer.chat.render_all

    def counting(conversations: Sequence[Any], **options: Any) -> list[str]:
        rendered.append(len(conversations))
        return render(conversations, **options)

    monkeypatch.setattr(renderer.chat, "render_all", counting)
    renderer.encode_many([group("12") for _ in range(20)])
    assert sorted(rendered) == [1, 20]


def test_a_run_says_it_before_it_trains(tmp_path: Path) -> None:
    from burnish.config import load
    from burnish.loop.prepare import prepare
    from tests.zoo import save_model_dir

    model = save_model_dir(tmp_path / "m")
    asked = {"prompt": [{"role": "user", "content": "7+5?"}], "tools": [TOOL]}
    rows = [{**asked, "chosen": [{"role": "assistant", "content": str(i)}],
             "rejected": [{"role": "assistant", "content": "no"}]} for i in range(4)]  # fmt: skip
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"model.path={model}", f"data.train={tmp_path / 'd.jsonl'}", "objective.name=dpo", f"run.dir={tmp_path}/r"]
    assert any(
        "4 groups with tools on offer that data.template does not write" in x for x in prepare(load(None, words)).lines
    )
