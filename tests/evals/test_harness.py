"""The harness's requests through our engine, against its own `hf` model: the same tokens, the same scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.runs.cli import burnish
from tests.zoo import save_model_dir

pytest.importorskip("lm_eval", reason="the evaluation harness is not installed: pip install 'burnish[lm-eval]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the harness and what it loads

from burnish.reports.evals.records import read_outcomes, read_results  # noqa: E402

FAMILIES = ("llama", "gemma2", "gpt2", "qwen3_moe")
QUESTION = "What is 3+4? The answer is one of these, and it is a number. " * 3


def pairs() -> list[tuple[str, str]]:
    """Contexts with several continuations; none; one that ends in a blank; one that is too long for any model."""
    shared = [(QUESTION, f" {word}") for word in ("seven", "eight", "It is 7", "7")]
    longest = [("What is 5+5? " * 400, " ten"), ("What is 5+5? " * 400, " twelve is it")]
    return [*shared, ("", "It is 7"), ("It is ", "seven"), ("It is ", " seven"), *longest, (QUESTION, " seven")]


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from lm_eval.models.huggingface import HFLM

    from burnish.evals.harness import BurnishLM

    folder = save_model_dir(tmp_path_factory.mktemp("harness") / "model", request.param)
    ours = BurnishLM(str(folder), dtype="float32")
    return ours, HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=3)


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


def test_scores_and_greediness_are_the_harness_s_own(both: tuple[Any, Any]) -> None:
    ours, theirs = (model.loglikelihood(instances("loglikelihood", pairs()), disable_tqdm=True) for model in both)
    for (mine, top), (other, their_top) in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, abs=1e-4) and top == their_top
    assert ours[0] == ours[-1]  # the same request twice


def test_rolling_scores_are_the_harness_s_own(both: tuple[Any, Any]) -> None:
    texts = [("It is seven.",), ("What is 5+5? " * 300,)]  # the second takes several windows
    ours, theirs = (
        model.loglikelihood_rolling(instances("loglikelihood_rolling", texts), disable_tqdm=True) for model in both
    )
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-4)


def test_generated_texts_are_the_harness_s_own(both: tuple[Any, Any]) -> None:
    greedy = {"max_gen_toks": 8, "do_sample": False}
    stops: list[list[str]] = [["."], ["e", " "], []]
    asked = [(QUESTION, {"until": until, **greedy}) for until in stops] + [("It", {"until": [], **greedy})]
    ours, theirs = (model.generate_until(instances("generate_until", asked), disable_tqdm=True) for model in both)
    assert ours == theirs


def test_a_suite_of_tasks_pairs_models_by_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"question": f"What is {i}+{i}?", "choices": [str(2 * i), "no", "It is", "know"], "answer": 0} for i in range(6)
    ]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sums.yaml").write_text(
        f"task: tiny_sums\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path / 'docs.jsonl'}\n"
        'test_split: test\noutput_type: multiple_choice\ndoc_to_text: "{{question}} The answer is"\n'
        'doc_to_target: answer\ndoc_to_choice: "{{choices}}"\nmetric_list:\n  - metric: acc\n'
    )
    for name in ("a", "b"):
        save_model_dir(tmp_path / name, "llama" if name == "a" else "qwen2")
    words = [f"models.a={tmp_path / 'a'}", f"models.b={tmp_path / 'b'}", f"dir={tmp_path / 'e'}", "model.dtype=float32",
             "suite.kind=lm_eval", f"suite.tasks={tmp_path / 'sums.yaml'}"]  # fmt: skip
    assert burnish("eval", *words) == 0
    outcomes = read_outcomes(tmp_path / "e")
    assert {o.model for o in outcomes} == {"a", "b"} and len([o for o in outcomes if o.metric == "tiny_sums acc"]) == 12
    (suite,) = read_results(tmp_path / "e")["suites"]
    change = suite["models"]["b"]["tasks"]["tiny_sums acc"]["change"]
    right = {m: [o.value for o in outcomes if o.model == m and o.metric == "tiny_sums acc"] for m in ("a", "b")}
    assert change["value"][0] == pytest.approx(sum(right["b"]) / 6 - sum(right["a"]) / 6)
    assert change["test"] == "mcnemar"
    assert burnish("eval", *words[:-1], "suite.tasks=no_such_task") == 2
    assert "has no task 'no_such_task'" in capsys.readouterr().err
