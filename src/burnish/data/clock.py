"""The time that chat templates write: one for all of a run, which so has the same tokens when it goes on
another day.

Outside a run it is the machine's, when a template is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

CLOCK = "strftime_now"  # the function by which templates ask for the time; transformers gives them no other
_stopped: list[datetime] = []


def now() -> datetime:
    """The time at which the clock was stopped, else the machine's."""
    return _stopped[-1] if _stopped else datetime.now()


@contextmanager
def stopped(at: datetime) -> Iterator[None]:
    """Inside, in every thread, `now` is `at`."""
    _stopped.append(at)
    try:
        yield
    finally:
        _stopped.pop()


def asked(template: str) -> bool:
    """Whether a template asks for the time."""
    return CLOCK in template


@contextmanager
def answering(template: str, at: datetime) -> Iterator[None]:
    """Inside, transformers renders the template with `at` as the time."""
    if not asked(template):
        yield
        return
    from transformers.utils.chat_template_utils import _compile_jinja_template

    variables = _compile_jinja_template(template).globals  # of the compiled template that transformers keeps
    machine = variables[CLOCK]
    variables[CLOCK] = lambda form: at.strftime(form)
    try:
        yield
    finally:
        variables[CLOCK] = machine
