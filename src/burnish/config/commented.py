"""The whole configuration as TOML with a comment on every key, which `load` reads back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from burnish.config.base import Table
from burnish.config.keys import JUDGE_TABLES, JUDGES, key_row, toml_value
from burnish.config.online import JudgeTable
from burnish.config.tables import ObjectiveConfig, Run


def to_commented_toml(run: Run, settings: Iterable[str], width: int) -> str:
    """Every key of a run under its meaning, in lines of `width` columns; what is unset is a comment.

    `settings` describes the objectives' own settings, in the lines of a comment. A value of the run may be wider.
    """
    lines = [*_comment("A run's configuration. A key that is a comment is unset.", width), ""]
    lines += _key("seed", run, width)
    for table in Run.model_fields:
        if table == "objective":
            lines += _objectives(run.objective, settings, width)
        elif table in JUDGE_TABLES:
            lines += _judges(table, getattr(run, table), width)
        elif table != "seed":
            lines += ["", f"[{table}]", *_keys(getattr(run, table), width)]
    return "\n".join(lines) + "\n"


def _keys(table: Table, width: int) -> Iterator[str]:
    for name in type(table).model_fields:
        yield from _key(name, table, width)


def _key(name: str, table: Table, width: int) -> Iterator[str]:
    """The comment of a key, and its line."""
    row = key_row(name, type(table).model_fields[name])
    values = " | ".join(JUDGES) if isinstance(table, JudgeTable) and name == "kind" else row.unit
    yield from _comment(f"{row.meaning} [{values}]" if values else row.meaning, width)
    value = getattr(table, name)
    yield f"# {name} =" if value is None else f"{name} = {toml_value(value)}"


def _objectives(objectives: Iterable[ObjectiveConfig], settings: Iterable[str], width: int) -> Iterator[str]:
    parts = list(objectives)
    for part in parts:
        yield from ("", "[objective]" if len(parts) == 1 else "[[objective]]")
        yield from _key("name", part, width)
        yield from _key("weight", part, width)
        yield from (f"{name} = {toml_value(value)}" for name, value in part.params.items())
    yield from _comment("The objectives' own settings, each with its default:", width)
    for line in settings:
        yield from _comment(line, width)


def _judges(table: str, judges: Iterable[Table], width: int) -> Iterator[str]:
    """The run's own, or the keys of every kind as comments."""
    parts = list(judges)
    for part in parts:
        yield from ("", f"[{table}]" if len(parts) == 1 else f"[[{table}]]", *_keys(part, width))
    if parts:
        return
    if table == "gold":
        yield ""
        yield from _comment(
            "[gold] measures fresh answers, without effect on training; its keys are those of [judge]", width
        )
        return
    for kind, model in JUDGES.items():
        yield from ("", "# [judge]")
        for line in _keys(model.model_validate({"kind": kind}), width - 2):
            yield line if line.startswith("# ") and not line.endswith(" =") else f"# {line.removeprefix('# ')}"


def _comment(text: str, width: int) -> list[str]:
    indent = len(text) - len(text.lstrip())
    return wrap(text.strip(), width, initial_indent="# " + " " * indent, subsequent_indent="# " + " " * indent)
