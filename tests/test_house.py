"""The house keeps its shape: imports run one way, the data wing needs no torch, nothing outgrows its name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import burnish

SOURCE = Path(__file__).resolve().parents[1] / "src" / "burnish"
FLOORS = [
    ["errors", "length_effects"],
    ["devices"],
    ["group"],
    ["config.base"],
    ["config.fresh"],
    ["config.tables"],
    ["config"],
    ["readers.values"],
    ["runlog", "readers.files", "stats", "tokens", "control", "alike", "lengths"],
    ["judges"],
    ["judges.answers", "judges.ifeval", "judges.guard", "judges.sandbox", "judges.template", "judges.ledger"],
    ["judges.checks"],
    ["judges.patience", "calls"],
    ["judges.verifier", "judges.llm"],
    ["sampler"],
    ["serving.batching", "serving.writing", "serving"],
    ["sampler.remote", "serving.wire"],
    ["fresh_summary"],
    ["progress", "summary", "trackers", "readers.shapes"],
    ["readers.columns", "readers.prompts"],
    ["readers.factory", "readers.votes"],
    ["readers.formats"],
    ["readers"],
    ["judges.human"],
    ["views", "render", "tensors", "convert"],
    ["serving.routes"],
    ["diagnostics"],
    ["alarms"],
    ["audit.findings", "audit.near"],
    ["audit.bias", "audit.scan", "audit.contrast", "audit.probe", "audit.rendered", "audit.charts"],
    ["audit.advice", "pairing", "show"],
    ["select"],
    ["audit"],
    ["audit.tell", "audit.page", "gather"],
    ["report.records", "report.charts"],
    ["report.columns"],
    ["report.accuracy", "report.calibration", "report.spread", "report.beyond", "report.ensemble", "report.advice"],
    ["report.bestofn", "report.probes"],
    ["report"],
    ["report.page", "report.tell", "report.picture"],
    ["pack", "schedule"],
    ["objectives.measures"],
    ["objectives.shapes"],
    [
        "objectives.pairs",
        "objectives.positions",
        "objectives.reward",
        "objectives.moving",
        "objectives.policy",
        "objectives.advantages",
        "objectives.sides",
        "objectives.likelihood",
        "objectives.lists",
        "objectives.unpaired",
        "objectives.batch",
    ],
    ["objectives.running", "objectives.credit", "objectives.named"],
    ["objectives.row"],
    ["objectives.rows"],
    ["objectives"],
    ["feedback", "explain"],
    ["distributed"],
    ["attention", "logprob", "loss", "checkpoint", "norms", "sharding", "tally"],
    ["divergence", "adapters", "merging"],
    ["model", "masters", "store"],
    ["rewardmodel"],
    ["prune"],
    ["engine"],
    ["values", "sampler.cache", "sampler.draw"],
    ["sampler.stock"],
    ["sampler.process"],
    ["canary", "reference", "footprint"],
    ["scoring", "loading"],
    ["asking"],
    ["prepare"],
    ["planning", "reference_models", "scorers"],
    ["judges.reward"],
    ["judges.panel"],
    ["answering"],
    ["sources"],
    ["dial"],
    ["stopping"],
    ["selfcheck", "check", "build"],
    ["onpolicy", "fit"],
    ["state"],
    ["train"],
    ["ensemble"],
    ["lab"],
    ["cli_frame"],
    ["cli_data", "cli_report", "cli_objectives", "cli_plan", "cli_serve"],
    ["cli"],
    ["__main__"],
]
TORCHLESS = [
    "errors",
    "judges.answers",
    "judges.ifeval",
    "judges.sandbox",
    "judges.panel",
    "judges.llm",
    "sampler",
    "sampler.remote",
    "diagnostics",
    "alarms",
    "asking",
    "calls",
    "serving.routes",
    "group",
    "config",
    "runlog",
    "progress",
    "summary",
    "trackers",
    "readers",
    "views",
    "render",
    "audit.tell",
    "show",
    "pairing",
    "select",
    "gather",
    "report.page",
    "report.tell",
    "report.picture",
    "cli",
]


def module_of(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for file in sorted(SOURCE.rglob("*.py"))}


def floor(module: str) -> int | None:
    """Index of the most specific entry that covers the module."""
    found = [(len(name), i) for i, names in enumerate(FLOORS) for name in names if f"{module}.".startswith(f"{name}.")]
    return max(found)[1] if found else None


def imported(file: Path) -> set[str]:
    """burnish modules a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            whole = {name for name in inner if name.removeprefix("burnish.") in FILES}  # modules, not their contents
            names |= whole | ({node.module} if inner - whole else set())
    modules = {name.removeprefix("burnish.") for name in names if name.startswith("burnish.")}
    return {name for name in modules if name in FILES}


@pytest.mark.parametrize("module", [m for m in FILES if m])
def test_imports_run_one_way(module: str) -> None:
    own = floor(module)
    assert own is not None, f"{module} has no floor: say in FLOORS where it belongs"
    for other in imported(FILES[module]):
        if other.split(".")[0] == module.split(".")[0] == "lab":
            continue
        theirs = floor(other)
        assert theirs is not None and (theirs < own or other == module), f"{module} must not import {other}"


@pytest.mark.parametrize("module", [m for m in FILES if m.split(".")[0] == "objectives"])
def test_objectives_see_tensors_and_errors_and_nothing_else(module: str) -> None:
    others = {name for name in imported(FILES[module]) if name.split(".")[0] != "objectives"}
    assert others <= {"tensors", "errors", "length_effects"}


def test_public_names_are_there_and_load_when_used() -> None:
    assert sorted(burnish.__all__) == sorted({"__version__", *burnish._HOME_OF})
    assert all(getattr(burnish, name) is not None for name in burnish.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = burnish.nothing


@pytest.mark.parametrize("module", TORCHLESS)
def test_data_and_reading_wings_load_without_torch(module: str) -> None:
    code = f"import sys, burnish.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", FILES)
def test_nothing_outgrows_its_name(module: str) -> None:
    text = FILES[module].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    assert not any("utils" in part for part in FILES[module].relative_to(SOURCE).parts)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None and node.end_lineno - node.lineno < 60, f"{module}.{node.name}"
