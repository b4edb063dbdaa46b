"""Templates that loop or grow without bound end in a sentence; sound ones render as they always did."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from burnish.data import bounded
from burnish.data.bounded import BeyondLimitsError, Bounded
from burnish.data.render import Renderer
from burnish.data.templates import ChatTemplate
from burnish.errors import ConfigError, DataError
from burnish.group import Completion, Group, Message, Unjudged
from tests import zoo

WRITTEN = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
GROWTH = "{% set ns = namespace(x='x') %}{% for i in range(99999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}"
HOSTILE = {
    "range": ("{% for i in range(10**9) %}{% endfor %}", "cannot render this conversation"),
    "loops": (NESTED, "took more than 0.5 s"),
    "one number": ("{{ 9**(9**9) }}", "took more than 0.5 s|ended its process|more than"),
    "growth": (GROWTH, "MiB of memory|took more than 0.5 s"),
    "a long text": ("{{ 'ab' * 10**7 }}", "more than 16 million characters"),
    "memory": ("{{ 'ab' * 10**10 }}", "MiB of memory"),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.data.templates.Bounded", partial(Bounded, seconds=0.5))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_template_that_does_not_end_is_a_sentence(tmp_path: Path, kind: str, hurried: None) -> None:
    text, reason = HOSTILE[kind]
    file = tmp_path / "t.jinja"
    file.write_text(text + WRITTEN)
    start = time.monotonic()
    with pytest.raises(ConfigError, match=reason):
        ChatTemplate(zoo.tokenizer("chatml"), str(file))
    assert time.monotonic() - start < 10


def test_a_row_that_makes_a_template_loop_is_named(tmp_path: Path, hurried: None) -> None:
    file = tmp_path / "t.jinja"
    file.write_text("{% if 'loop' in messages[0].content %}" + NESTED + "{% endif %}" + WRITTEN)
    renderer = Renderer(zoo.tokenizer("chatml"), str(file))
    words = ["one", "two", "loop", "three"]
    groups = [
        Group(f"row {w}", (Completion("a"),), Unjudged(), where=f"d.jsonl:{i}") for i, w in enumerate(words, 1)
    ]  # fmt: skip
    assert len(renderer.encode_many([groups[0], groups[1], groups[3]])) == 3
    with pytest.raises(DataError, match=r"^d\.jsonl:3: .*took more than 0\.5 s"):
        renderer.encode_many(groups)
    assert renderer.prompt_text(groups[0]), "another child goes on"
    with pytest.raises(DataError, match="took more than"):
        renderer.prompt_text(groups[2])
    start = time.monotonic()
    with pytest.raises(DataError, match="took more than"):
        renderer.prompt_text(groups[0])
    assert time.monotonic() - start < 0.2, "after three ended children nothing is tried any more"


def test_many_at_once_are_those_of_one_at_a_time() -> None:
    tokenizer = zoo.tokenizer("chatml")
    chat = ChatTemplate(tokenizer, "chatml")
    asked = [([Message("user", f"{i} \ud800 ö")], None) for i in range(100)]
    texts = chat.render_all(asked, header=True)
    direct = [
        tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in messages], chat_template=chat.texts["default"],
            add_generation_prompt=True, tokenize=False,
        )
        for messages, _ in asked
    ]  # fmt: skip
    assert texts == direct == [chat.render(messages, header=True) for messages, _ in asked]


def answering(how: str) -> str:
    actions: dict[str, Callable[[], Any]] = {"exit": lambda: os._exit(3), "raise": lambda: 1 // 0, "pid": os.getpid}
    return str(actions[how]())


def test_a_child_serves_call_after_call_and_goes_when_nobody_asks() -> None:
    ask = Bounded(answering)
    child = int(ask([("pid",)])[0])
    assert ask([("pid",), ("pid",)]) == [str(child)] * 2 and child != os.getpid()
    with pytest.raises(ValueError, match="division"):
        ask([("raise",)])
    assert ask([("pid",)]) == [str(child)] and ask([]) == []
    with pytest.raises(BeyondLimitsError, match=r"ended its process \(3\)"):
        ask([("exit",)])
    child = int(ask([("pid",)])[0])
    del ask
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
            return
        time.sleep(0.02)
    pytest.fail("the child is still there")


def test_a_child_that_waits_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "WALL", 0.1)
    ask = Bounded(lambda: str(time.sleep(1000)), seconds=0.01)
    with pytest.raises(BeyondLimitsError, match=r"gave nothing in 0\.1 s"):
        ask([()])
