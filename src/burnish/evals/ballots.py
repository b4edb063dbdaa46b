"""Models answer, and a ballot is made of their answers. The models can stay, for prompts that raters ask themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from burnish.answers.sampler import Decoding
from burnish.config.balloting import BallotConfig, ballot_toml
from burnish.config.evaluation import AnswerSuite, EvaluationConfig, WinRateSuite, load_evaluation
from burnish.errors import DataError
from burnish.evals.answering import AnswerBook, AnswerRequest, fitting, prompt_id, request_of
from burnish.evals.models import FileModel, Model, models_of
from burnish.findings import counted
from burnish.group import Group, Turns, last_text
from burnish.reports.evals.records import Kept, ModelAnswer, read_outcomes, read_results
from burnish.runlog.progress import Progress
from burnish.stats import unsure_first
from burnish.vote.clusters import kinds_of, named_kind
from burnish.vote.records import BallotPair
from burnish.vote.store import Ballot, create

WIN = "win"  # the outcome of a judged pair in an evaluation


@dataclass(frozen=True)
class Contest:
    """What a ballot is about: the names of its models, their answers to each prompt, and a judge's outcomes."""

    names: tuple[str, ...]
    prompts: tuple[Group, ...]
    answers: Mapping[str, Mapping[str, str]]  # by prompt's id and model
    verdicts: Mapping[str, float]  # by prompt's id: the second model's outcome against the first


def make_ballot(config: BallotConfig, progress: Progress) -> Ballot:
    """Have the models answer, and make the ballot's file. Raises BurnishError's children before any weight loads where
    the input is wrong; answers that were had are kept beside the ballot."""
    contest = judged(Path(config.votes.judged), config) if config.votes.judged else answered(config, progress)
    for name in contest.names:
        if not any(own[name].strip() for own in contest.answers.values()):
            raise DataError(f"{name} answered nothing to any of {counted(len(contest.prompts), 'prompt')}")
    votes = config.votes
    settings = {
        "overlap": votes.overlap, "repeats": votes.repeats, "width": votes.width, "reasons": votes.reasons,
        "raters": votes.raters, "free": votes.free, "seed": config.seed, "config": ballot_toml(config),
    }  # fmt: skip
    return create(Path(config.file), contest.names, pairs_of(contest, votes.spend == "unsure"), settings)


def pairs_of(contest: Contest, unsure: bool) -> list[BallotPair]:
    """Every two models' answers to every prompt."""
    ids = [prompt_id(prompt) for prompt in contest.prompts]
    kinds = kinds_of(
        [last_text(prompt.prompt) for prompt in contest.prompts],
        [named_kind(prompt.source, prompt.meta) for prompt in contest.prompts],
    )
    judged = np.array([contest.verdicts.get(name, 0.5) for name in ids])
    weights = unsure_first(judged) if unsure else np.ones(len(ids))
    pairs = []
    for name, prompt, kind, weight in zip(ids, contest.prompts, kinds, weights.tolist(), strict=True):
        verdict = contest.verdicts.get(name)
        for a, b in combinations(range(len(contest.names)), 2):
            one, other = (contest.answers[name][contest.names[place]] for place in (a, b))
            pairs.append(
                BallotPair(name, prompt.prompt, a, b, one, other, None if verdict is None else 1 - verdict, weight,
                           kind=kind, meta=dict(prompt.meta))
            )  # fmt: skip
    return pairs


def answered(config: BallotConfig, progress: Progress) -> Contest:
    """The models' answers to the ballot's prompts."""
    models = models_of(_evaluation(config))
    request, line = fitting(_request(config, list(models.values()), progress), list(models.values()))
    if line:
        progress.note(line)
    if not request.prompts:
        raise DataError("no prompt is left that all models can answer")
    book = AnswerBook(_folder(config), models, progress)
    answers: dict[str, dict[str, str]] = {prompt_id(prompt): {} for prompt in request.prompts}
    for name, model in models.items():
        for prompt, own in book.of(name, request).items():
            answers[prompt][name] = own[0].text
        model.release()
    return Contest(tuple(models), request.prompts, answers, {})


def judged(folder: Path, config: BallotConfig) -> Contest:
    """The answers and the judge's outcomes of an evaluation's win rates. Raises DataError where it has none, or has
    several models against the baseline."""
    results, outcomes = read_results(folder), [o for o in read_outcomes(folder) if o.metric == WIN and o.draw == 0]
    suites = {suite["name"]: suite["baseline"] for suite in results["suites"] if suite["kind"] == "win_rate"}
    outcomes = [o for o in outcomes if o.suite in suites and (not config.models or o.model in config.models)]
    names = sorted({(o.suite, o.model) for o in outcomes})
    if len(names) != 1:
        found = ", ".join(model for _, model in names) or "none"
        raise DataError(
            f"votes.judged = {folder} must hold the win rate of one model over a baseline, and has: {found}; name the "
            "two with models.NAME=..."
        )
    (suite, model), baseline = names[0], suites[names[0][0]]
    kept = {name: Kept(folder / "answers" / f"{name}.jsonl", ModelAnswer) for name in (baseline, model)}
    evaluation = load_evaluation(str(folder / "eval.toml"))
    of_suite = dict(evaluation.named())[suite]
    assert isinstance(of_suite, WinRateSuite)
    asked = request_of(evaluation, of_suite, of_suite.prompts).prompts
    prompts = {prompt_id(prompt): prompt for prompt in asked}
    answers: dict[str, dict[str, str]] = {}
    verdicts: dict[str, float] = {}
    for outcome in outcomes:
        mine, other = kept[model].get(outcome.answer), kept[baseline].get(outcome.other)
        if mine is not None and other is not None and outcome.prompt in prompts and len(verdicts) != config.limit:
            verdicts[outcome.prompt] = outcome.value
            answers[outcome.prompt] = {baseline: other.text, model: mine.text}
    if not verdicts:
        raise DataError(f"votes.judged = {folder}: the answers of suite '{suite}' are not in its folder any more")
    return Contest((baseline, model), tuple(prompts[name] for name in verdicts), answers, verdicts)


def respondents(config: BallotConfig, names: Sequence[str]) -> Callable[[Turns, int, int, int], tuple[str, str]] | None:
    """What answers a rater's own prompt by two of the ballot's models; None where some are files of answers.

    Both models answer before anything is given back; one prompt at a time.
    """
    if not config.votes.free or not config.models or any(entry.answers for entry in config.models.values()):
        return None
    models = models_of(_evaluation(config))
    decoding = Decoding(config.max_new_tokens, config.temperature or 1.0, config.top_p, config.top_k)
    lock = threading.Lock()

    def answer(turns: Turns, a: int, b: int, seed: int) -> tuple[str, str]:
        with lock:
            texts = [models[names[place]]([Group(turns, ())], 1, decoding, seed)[0][0].text for place in (a, b)]
        return texts[0], texts[1]

    return answer


def _evaluation(config: BallotConfig) -> EvaluationConfig:
    """The parts of a ballot that an evaluation has, too."""
    return EvaluationConfig(
        dir=str(_folder(config)), models=config.models, model=config.model, data=config.data, engine=config.engine,
        seed=config.seed,
    )  # fmt: skip


def _folder(config: BallotConfig) -> Path:
    """Where answers are kept, so that a ballot that was stopped goes on."""
    file = Path(config.file)
    return file.with_name(f"{file.stem}-answers")


def _request(config: BallotConfig, models: Sequence[Model], progress: Progress) -> AnswerRequest:
    """What is asked: the prompts of the file, or those that all answer files share."""
    decoding = Decoding(config.max_new_tokens, config.temperature, config.top_p, config.top_k)
    if config.prompts:
        suite = AnswerSuite(prompts=config.prompts, format=config.format, limit=config.limit)
        return AnswerRequest(request_of(_evaluation(config), suite, config.prompts).prompts, 1, decoding, config.seed)
    files = [model for model in models if isinstance(model, FileModel)]
    shared = [key for key in files[0].asked if all(key in other.asked for other in files)]
    for file in files:
        if alone := len(file.asked) - len(shared):
            progress.note(f"{counted(alone, 'prompt')} of {file.file} left out: the other answers lack them")
    if not shared:
        raise DataError(f"{' and '.join(file.file for file in files)} share no prompt")
    return AnswerRequest(tuple(files[0].asked[key] for key in shared[: config.limit]), 1, decoding, config.seed)
