"""A suite of the evaluation harness's tasks: a number for each document, so that models are compared document by
document."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.config.evaluation import EvaluationConfig, HarnessSuite
from burnish.data.identity import digest
from burnish.errors import ConfigError
from burnish.evals.answering import AnswerBook, AnswerRequest
from burnish.evals.models import Model, ProcessModel
from burnish.reports.evals.records import SuiteOutcome, write_whole
from burnish.runlog.progress import Progress

ABOUT = {  # keys of a sample that are no metric
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash",
}  # fmt: skip


@dataclass
class HarnessRun:
    """The tasks of a suite on every model of this process."""

    name: str
    suite: HarnessSuite
    evaluation: EvaluationConfig
    models: Mapping[str, Model]
    folder: Path
    progress: Progress
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def requests(self) -> dict[str, list[AnswerRequest]]:
        return {}

    def outcomes(self, answers: AnswerBook) -> Iterator[SuiteOutcome]:
        for name, model in self.models.items():
            if not isinstance(model, ProcessModel):
                self.facts.setdefault("texts_left_out", f"'{name}' is no model in this process")
                continue
            for task, rows in self._of(model).items():
                for row in rows:
                    for metric, value in row["metrics"].items():
                        about = f"{task} {metric}" if metric != task else task
                        yield SuiteOutcome(self.name, "lm_eval", name, f"{task}:{row['doc']}", about, float(value))
            model.release()

    def _of(self, model: ProcessModel) -> dict[str, list[dict[str, Any]]]:
        """By task the metrics of each document; kept by the model's contents and the suite's settings."""
        settings = json.dumps([self.suite.model_dump(), self.evaluation.seed], sort_keys=True)
        file = self.folder / "tasks" / f"{model.name}-{digest(model.identity, settings).hex()[:16]}.json"
        if file.exists():
            kept: dict[str, list[dict[str, Any]]] = json.loads(file.read_text(encoding="utf-8"))
            return kept
        self.progress.note(f"{self.name}: {model.name} does {', '.join(_names(self.suite))}")
        found = run_tasks(model, self.suite, self.evaluation.seed)
        write_whole(file, json.dumps(found) + "\n")
        return found


def _names(suite: HarnessSuite) -> list[str]:
    return [suite.tasks] if isinstance(suite.tasks, str) else list(suite.tasks)


def harness(
    name: str, suite: HarnessSuite, evaluation: EvaluationConfig, models: Mapping[str, Model], folder: Path,
    progress: Progress,
) -> HarnessRun:  # fmt: skip
    """A suite of tasks ready to run. Raises ConfigError where the harness is missing, or has no such task."""
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError(f"suite '{name}' needs the evaluation harness: pip install 'burnish[lm-eval]'")
    _manager(suite, name)
    return HarnessRun(name, suite, evaluation, models, folder, progress)


def _manager(suite: HarnessSuite, name: str) -> tuple[Any, list[str]]:
    """(the harness's index of tasks, the names of the suite's tasks). A YAML file adds the tasks of its folder."""
    from lm_eval.tasks import TaskManager

    folders, names = [], []
    for task in _names(suite):
        file = Path(task)
        if file.suffix not in (".yaml", ".yml"):
            names.append(task)
            continue
        if not file.exists():
            raise ConfigError(f"suite '{name}': there is no file {task}")
        folders.append(str(file.resolve().parent))
        lines = file.read_text(encoding="utf-8").splitlines()
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("task:")]
        names.append(named[0] if named else file.stem)
    manager = TaskManager(include_path=list(dict.fromkeys(folders)) or None)
    unknown = [task for task in names if task not in manager.all_tasks]
    if unknown:
        raise ConfigError(f"suite '{name}': the harness has no task '{unknown[0]}'; `lm_eval ls tasks` lists them")
    return manager, names


def run_tasks(model: ProcessModel, suite: HarnessSuite, seed: int) -> dict[str, list[dict[str, Any]]]:
    """By task: for each document its number and the finite values of the task's metrics."""
    from lm_eval.evaluator import simple_evaluate

    from burnish.evals.harness import BurnishLM

    manager, names = _manager(suite, suite.name)
    results = simple_evaluate(
        model=BurnishLM(model.respondent), tasks=names, num_fewshot=suite.num_fewshot, limit=suite.limit,
        bootstrap_iters=0, task_manager=manager, apply_chat_template=suite.chat_template, log_samples=True,
        random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed, fewshot_random_seed=seed,
    )  # fmt: skip
    assert results is not None
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = results["samples"]
    return {task: [{"doc": row["doc_id"], "metrics": _metrics(row)} for row in rows] for task, rows in samples.items()}


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a sample; a metric that is made from all documents at once, such as perplexity, has none here."""
    known = {name: value for name, value in row.items() if name not in ABOUT}
    numbers = {name: float(v) for name, v in known.items() if isinstance(v, (int, float)) and math.isfinite(v)}
    pairs = {n: v[0] / v[1] for n, v in known.items() if isinstance(v, (tuple, list)) and len(v) == 2 and v[1]}
    return numbers | pairs
