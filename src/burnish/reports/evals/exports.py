"""An evaluation's records in the forms that other tools read.

scores    Inspect's `precomputed_scores`: a JSON Lines file for each suite and model, a line an answer, by the
          prompt's id, with the draw as the epoch
alpaca    AlpacaEval's model outputs: a JSON file for each model, of the prompts of its win-rate suites
votes     judged pairs as arena votes, which `data.format = arena` reads as preferences
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from burnish.errors import ConfigError, did_you_mean
from burnish.reports.evals import passes, wins
from burnish.reports.evals.records import Kept, ModelAnswer, SuiteOutcome, read_outcomes, read_results, write_whole

EDGE = 0.5


def export(folder: Path, form: str, out: Path) -> list[Path]:
    """Write the files of a form and name them. Raises ConfigError, DataError where there is nothing to write."""
    if form not in FORMS:
        raise ConfigError(f"there is no form '{form}'{did_you_mean(form, FORMS)}. They are: {', '.join(FORMS)}")
    outcomes = read_outcomes(folder)
    answers = _answers(folder)
    files = []
    for name, text in FORMS[form](outcomes, answers, read_results(folder)):
        write_whole(out / name, text)
        files.append(out / name)
    if not files:
        raise ConfigError(f"{folder} holds nothing that can be written as '{form}'")
    return files


def _answers(folder: Path) -> dict[str, ModelAnswer]:
    found: dict[str, ModelAnswer] = {}
    for file in sorted((folder / "answers").glob("*.jsonl")):
        found |= Kept(file, ModelAnswer).known
    return found


Files = Iterator[tuple[str, str]]  # name, text


def _scores(outcomes: list[SuiteOutcome], answers: dict[str, ModelAnswer], results: Any) -> Files:
    """The score of every judged answer, and the outcome of every judged pair."""
    by_file: dict[str, list[dict[str, Any]]] = {}
    for outcome in outcomes:
        if outcome.metric in (passes.SCORE, wins.WIN):
            answer = answers.get(outcome.answer)
            row: dict[str, Any] = {"id": (answer and answer.sample) or outcome.prompt, "value": outcome.value}
            row |= {"epoch": outcome.draw + 1, "answer": answer.text if answer else ""}
            row["metadata"] = {"suite": outcome.suite, "model": outcome.model, "prompt": outcome.prompt}
            by_file.setdefault(f"{outcome.suite}.{outcome.model}.jsonl", []).append(row)
    for name, rows in by_file.items():
        yield name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _alpaca(outcomes: list[SuiteOutcome], answers: dict[str, ModelAnswer], results: Any) -> Files:
    """The first answer to each prompt of the win-rate suites, of the models and their baselines."""
    by_model: dict[str, dict[str, dict[str, str]]] = {}
    baselines = {suite["name"]: suite["baseline"] for suite in results["suites"]}
    for outcome in outcomes:
        if outcome.metric in (wins.WIN, wins.UNJUDGED) and outcome.kind == "win_rate" and outcome.draw == 0:
            for model, key in ((outcome.model, outcome.answer), (baselines[outcome.suite], outcome.other)):
                if answer := answers.get(key):
                    row = {"instruction": answer.asked, "output": answer.text, "generator": model}
                    by_model.setdefault(model, {})[outcome.prompt] = row
    for model, rows in by_model.items():
        yield f"{model}.json", json.dumps(list(rows.values()), ensure_ascii=False, indent=1) + "\n"


def _votes(outcomes: list[SuiteOutcome], answers: dict[str, ModelAnswer], results: Any) -> Files:
    """A vote for each judged pair: who won over both orders."""
    baselines = {suite["name"]: suite["baseline"] for suite in results["suites"]}
    by_suite: dict[str, list[dict[str, Any]]] = {}
    for outcome in outcomes:
        mine, other = answers.get(outcome.answer), answers.get(outcome.other)
        if outcome.metric == wins.WIN and mine is not None and other is not None:
            winner = "tie" if outcome.value == EDGE else "model_a" if outcome.value > EDGE else "model_b"
            row: dict[str, Any] = {"question_id": mine.sample or outcome.prompt, "model_a": outcome.model}
            row |= {"model_b": baselines[outcome.suite], "winner": winner, "judge": outcome.suite, "turn": 1}
            row |= {"conversation_a": _conversation(mine), "conversation_b": _conversation(other)}
            by_suite.setdefault(outcome.suite, []).append(row)
    for suite, rows in by_suite.items():
        yield f"{suite}.votes.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _conversation(answer: ModelAnswer) -> list[dict[str, str]]:
    return [{"role": "user", "content": answer.asked}, {"role": "assistant", "content": answer.text}]


FORMS: dict[str, Callable[[list[SuiteOutcome], dict[str, ModelAnswer], Any], Files]] = {
    "scores": _scores, "alpaca": _alpaca, "votes": _votes,
}  # fmt: skip
