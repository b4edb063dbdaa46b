"""The house keeps its shape: imports run one way by wing, some wings need no torch, nothing outgrows its name."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import burnish

SOURCE = Path(__file__).resolve().parents[1] / "src" / "burnish"
STOREYS = """
    errors < findings, stats, tensors < pages, config < group < data, runlog < objectives, engine < answers < audit
    < reports, vote < evals < loop < pipeline, lab < cli < __main__
"""
STOREY = {wing.strip(): i for i, wings in enumerate(STOREYS.split("<")) for wing in wings.split(",")}
TORCHLESS = ("config", "data", "runlog", "pages", "audit", "reports", "vote")  # wings
ALSO_TORCHLESS = ("cli.main", "answers.sampler.remote", "answers.judges.panel", "answers.judges.llm", "answers.figures")
ROOT = "loop.build"  # where a run's parts are put together, it may import as many as there are


def module_of(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for file in sorted(SOURCE.rglob("*.py")) if module_of(file)}


def imports(file: Path) -> set[str]:
    """Modules of the package that a file imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if name.removeprefix("burnish.") in FILES}
            names |= modules | ({node.module} if inner - modules else set())
    return {name.removeprefix("burnish.") for name in names if name.startswith("burnish.")} & FILES.keys()


IMPORTS = {module: imports(file) - {module} for module, file in FILES.items()}


def wing(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", FILES)
def test_imports_run_down_the_storeys(module: str) -> None:
    for other in IMPORTS[module]:
        assert wing(other) == wing(module) or STOREY[wing(other)] < STOREY[wing(module)], f"{module} imports {other}"


def test_no_wing_has_an_import_circle() -> None:
    tuple(graphlib.TopologicalSorter(IMPORTS).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("module", FILES)
def test_nothing_outgrows_its_name(module: str) -> None:
    text = FILES[module].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    assert "utils" not in module
    assert len(IMPORTS[module]) <= 15 or module == ROOT, f"{module} imports {len(IMPORTS[module])} modules"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None and node.end_lineno - node.lineno < 60, f"{module}.{node.name}"


def test_no_class_name_stands_twice() -> None:
    homes: dict[str, list[str]] = {}
    for module, file in FILES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_the_top_level_can_be_taken_in_at_a_glance() -> None:
    entries = [entry.name for entry in SOURCE.iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= 22, sorted(entries)


def test_the_picture_of_the_house_is_its_folder_list() -> None:
    page = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = page.split("```")[1].splitlines()[:0:-1]
    drawn = [re.findall(r"(?:│|^ {3})\s*([a-z_]+) {2,}", row) for row in rows]
    storeys = [wings for wings in drawn if wings]
    assert all(STOREY[name] == STOREY[wings[0]] for wings in storeys for name in wings)
    assert [STOREY[wings[0]] for wings in storeys] == sorted(STOREY[wings[0]] for wings in storeys)
    assert sorted(name for wings in storeys for name in wings) == sorted({wing(module) for module in FILES})


def test_loss_functions_see_tensors_and_errors_only() -> None:
    losses = [m for m in FILES if wing(m) == "objectives" and m not in KNOW_GROUPS]
    for module in losses:
        outside = {other for other in IMPORTS[module] if wing(other) != "objectives"}
        assert outside <= {"tensors", "errors"}, f"{module} imports {outside}"


KNOW_GROUPS = ("objectives.feedback", "objectives.mixture", "objectives.explain")  # between the losses and the loop


@pytest.mark.parametrize("name", [*TORCHLESS, *ALSO_TORCHLESS])
def test_these_load_without_torch(name: str) -> None:
    modules = [module for module in FILES if name in (module, wing(module))]
    code = (
        "import sys\n"
        + "".join(f"import burnish.{module}\n" for module in modules)
        + "sys.exit('torch' in sys.modules)"
    )
    assert modules and subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_there_and_load_when_used() -> None:
    assert sorted(burnish.__all__) == sorted({"__version__", *burnish._HOME_OF})
    assert all(getattr(burnish, name) is not None for name in burnish.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = burnish.nothing
