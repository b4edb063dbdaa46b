"""A page from a template: an HTML file that fetches nothing, readable on a telephone, in the dark and on paper."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from burnish.findings import printable
from burnish.pages.numbers import digits, number, points, share, signed

FORMS = {"number": number, "share": share, "signed": signed, "points": points, "digits": digits}


def style() -> str:
    """The style sheet of every page and picture."""
    return (files("burnish.pages") / "style.css").read_text(encoding="utf-8")


def render(template: str, **values: Any) -> str:
    """The HTML of a template of the package, named by its path in it (`audit/page.html.jinja`).

    Every text is escaped, and characters that would reorder or hide text appear as their escapes. None and missing
    values are empty. Pictures, and markupsafe's Markup, are put in as they are.
    """
    from jinja2 import Environment, FunctionLoader
    from markupsafe import Markup

    package = files("burnish")
    environment = Environment(
        loader=FunctionLoader(lambda name: (package / name).read_text(encoding="utf-8")),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_visible,
    )  # fmt: skip
    environment.filters.update(FORMS, sentence=_sentence)
    environment.globals.update(FORMS, style=Markup(style()))
    return environment.get_template(template).render(values)


def _visible(value: Any) -> Any:
    """A value as the page has it: texts without characters that hide or reorder text, None as the empty text."""
    if type(value) is str:  # markup, a subclass, is the package's
        return printable(value)
    return "" if value is None else value


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
