"""`burnish eval`: the models answer, the suites judge and measure, and everything is written down as records.

Whatever can be refused is refused first. Then each model is loaded once and answers for all suites; what was answered
or judged before, in this folder, is taken from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.config.evaluation import (
    AnswerSuite,
    EvaluationConfig,
    HarnessSuite,
    PanelSuite,
    Suite,
    VerifierSuite,
    WinRateSuite,
    evaluation_toml,
)
from burnish.errors import StoreError
from burnish.evals import panel, suites
from burnish.evals.answering import AnswerBook, AnswerRequest, fitting, request_of
from burnish.evals.models import Model, models_of
from burnish.findings import counted
from burnish.reports.evals import results as figures
from burnish.reports.evals.records import SuiteOutcome, write_outcomes, write_whole
from burnish.runlog.lock import Lock
from burnish.runlog.progress import Progress


@dataclass(frozen=True)
class Workbench:
    """What suites are made with."""

    evaluation: EvaluationConfig
    folder: Path
    models: Mapping[str, Model]
    progress: Progress

    def request(self, name: str, suite: AnswerSuite, source: str) -> AnswerRequest:
        """What a suite asks its models; tells which prompts are left out."""
        request, line = fitting(request_of(self.evaluation, suite, source), list(self.models.values()))
        self.progress.note(f"{name}: {counted(len(request.prompts), 'prompt')}, {_decoded(request)}")
        if line:
            self.progress.note(f"  {line}")
        return request


def _decoded(request: AnswerRequest) -> str:
    heat = request.decoding.temperature
    how = "the likeliest answer" if heat == 0 else f"{counted(request.k, 'draw')} at temperature {heat:g}"
    return f"{how}, at most {request.decoding.max_new_tokens} tokens"


def _win_rate(name: str, suite: Any, bench: Workbench) -> suites.SuiteRun:
    request = bench.request(name, suite, suite.prompts)
    return suites.win_rate(name, suite, bench.evaluation, request, bench.folder, bench.progress)


def _verifier(name: str, suite: Any, bench: Workbench) -> suites.SuiteRun:
    request = bench.request(name, suite, suite.prompts)
    return suites.verifier(name, suite, bench.evaluation, request, bench.folder, bench.progress)


def _panel(name: str, suite: Any, bench: Workbench) -> suites.SuiteRun:
    made = panel.panel(name, suite, bench.evaluation, dict(bench.models), None, bench.folder, bench.progress)
    plain = all(text.prompt == "" for text in made.texts)
    source = suite.prompts or ("" if plain else suite.texts)
    made.request = bench.request(name, suite, source) if source else None
    return made


def _harness(name: str, suite: Any, bench: Workbench) -> suites.SuiteRun:
    from burnish.evals import harness_suite

    return harness_suite.harness(name, suite, bench.evaluation, bench.models, bench.folder, bench.progress)


MAKERS: dict[type, Callable[[str, Any, Workbench], suites.SuiteRun]] = {
    WinRateSuite: _win_rate, VerifierSuite: _verifier, PanelSuite: _panel, HarnessSuite: _harness,
}  # fmt: skip


def evaluate(evaluation: EvaluationConfig, progress: Progress) -> dict[str, Any]:
    """Run an evaluation into its folder and give its figures. Raises BurnishError's children as they say."""
    folder = Path(evaluation.dir)
    with Lock(folder) as lock:
        _claim(folder, evaluation, lock)
        began = time.perf_counter()
        bench = Workbench(evaluation, folder, models_of(evaluation), progress)
        ready = [(name, suite, MAKERS[type(suite)](name, suite, bench)) for name, suite in evaluation.named()]
        answers = AnswerBook(folder, bench.models, progress)
        for name, model in bench.models.items():
            for _, _, run in ready:
                for request in run.requests.get(name, ()):
                    answers.of(name, request)
            model.release()
        outcomes: list[SuiteOutcome] = []
        about = []
        for name, suite, run in ready:
            outcomes += run.outcomes(answers)
            about.append(figures.SuiteAbout(name, suite.kind, evaluation.baseline(suite), _facts(suite, run)))
            write_outcomes(folder, outcomes)  # what is known so far
        given = {name: _given(evaluation, name) for name in evaluation.models}
        found = figures.results(given, about, outcomes)
        found["folders"] = {name: str(Path(path).resolve()) for name, path in given.items() if Path(path).exists()}
        found["seconds"] = round(time.perf_counter() - began, 1)
        found["made"] = time.strftime("%Y-%m-%d")
        write_whole(folder / "results.json", json.dumps(_as_json(found), indent=1) + "\n")
    return found


def _given(evaluation: EvaluationConfig, name: str) -> str:
    entry = evaluation.models[name]
    return str(getattr(entry, entry.places[0]))


def _facts(suite: Suite, run: suites.SuiteRun) -> dict[str, Any]:
    """How the answers were had, for the reader of a report."""
    asked = next((requests[0] for requests in run.requests.values() if requests), None)
    drawn = {} if asked is None else {"prompts": len(asked.prompts), "k": asked.k, "decoded": _decoded(asked)}
    return {**drawn, **run.facts}


def _claim(folder: Path, evaluation: EvaluationConfig, lock: Lock) -> None:
    """Make the folder, or take up the evaluation in it. Raises StoreError where it holds something else."""
    others = {"answers", "judgements", "eval.toml", "outcomes.jsonl", "results.json", "report.html", "lock", "tasks"}
    if folder.is_dir() and not (folder / "eval.toml").exists():
        foreign = [path.name for path in folder.iterdir() if path.name not in others]
        if foreign:
            raise StoreError(f"{folder} holds {foreign[0]}, so it is no evaluation's folder; name another dir=...")
    if (folder / "config.toml").exists():
        raise StoreError(f"{folder} is a run's folder; name a folder of the evaluation's own (dir=...)")
    lock.take(make=True)
    write_whole(folder / "eval.toml", evaluation_toml(evaluation))


def _as_json(value: Any) -> Any:
    """What JSON can hold: null where there is no number."""
    if isinstance(value, dict):
        return {key: _as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value
