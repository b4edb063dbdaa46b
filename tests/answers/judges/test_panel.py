"""Several judges as one, people's votes, and reward models as judges."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from burnish import config
from burnish.answers.judges import human, panel
from burnish.answers.judges.panel import Panel, as_scores
from burnish.config import HumanConfig, RewardModelConfig, VerifierConfig
from burnish.engine import scoring
from burnish.errors import ConfigError, ModelError
from burnish.group import Completion, Feedback, Group, Labels, Preferences, Scores, Unjudged
from tests.loop.online import world


@dataclass(frozen=True)
class Says:
    """A judge that always says the same."""

    name: str
    said: Feedback

    def __call__(self, groups: Sequence[Group]) -> list[Feedback]:
        return [self.said for _ in groups]


def group(*texts: str, prompt: str = "_1+_2=", **more: object) -> Group:
    return Group(prompt, tuple(Completion(text) for text in texts), **more)  # type: ignore[arg-type]


THREE = group("a", "b", "c")


def test_scores_are_summed_by_weight_and_each_part_is_kept() -> None:
    judges = Says("x", Scores((1.0, 0.0, 0.5))), Says("y", Scores((0.0, 2.0, 2.0)))
    (told,) = Panel(judges, (1.0, 0.25), (None, None))([THREE])
    assert told == Scores((1.0, 0.5, 1.0))
    assert isinstance(told, Scores) and told.parts == {"x": (1.0, 0.0, 0.5), "y": (0.0, 2.0, 2.0)}


def test_what_does_not_pass_a_gate_gets_nothing_from_the_judges_after_it() -> None:
    judges = (
        Says("format", Scores((1.0, 0.0, 1.0))),
        Says("right", Scores((1.0, 1.0, 0.0))),
        Says("short", Scores((1.0,) * 3)),
    )
    (told,) = Panel(judges, (0.1, 1.0, 0.5), (1.0, 0.5, None))([THREE])
    assert isinstance(told, Scores) and told.values == pytest.approx((0.1 + 1.0 + 0.5, 0.0, 0.1 + 0.0))
    assert told.parts["right"] == (1.0, 1.0, 0.0)


def test_one_judge_that_fails_leaves_the_group_unjudged() -> None:
    judges = Says("x", Scores((1.0, 0.0, 0.5))), Says("x", Unjudged("the endpoint is down"))
    assert Panel(judges, (1.0, 1.0), (None, None))([THREE]) == [Unjudged("x#2: the endpoint is down")]


def test_other_feedback_as_scores() -> None:
    assert as_scores(Preferences(((0, 1, 2.0), (1, 0, 1.0))), 3) == Scores((2 / 3, 1 / 3, 0.5))
    assert as_scores(Labels((True, False, True)), 3) == Scores((1.0, 0.0, 1.0))


def test_tables_become_judges(tmp_path: Path) -> None:
    one = VerifierConfig(name="gsm8k")
    assert panel.make([], tmp_path) is None
    judge = panel.make([one], tmp_path)
    assert judge is not None and judge.name == "gsm8k"
    both = panel.make([VerifierConfig(name="format", pattern=".*", gate=1.0), one], tmp_path)
    assert both is not None
    told = both([group("A: 3", "4", meta={"answer": "3"})])
    assert told == [Scores((2.0, 1.0))]
    with pytest.raises(ConfigError, match="about several judges"):
        panel.make([VerifierConfig(name="gsm8k", weight=2.0)], tmp_path)
    with pytest.raises(ConfigError, match="no judge comes after it"):
        panel.make([one, VerifierConfig(name="gsm8k", gate=1.0)], tmp_path)


def test_several_judges_are_written_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        '[model]\npath = "m"\n[source]\nprompts = "p"\nrefresh_every = 1\n'
        '[[judge]]\nkind = "verifier"\nname = "format"\npattern = "a"\ngate = 1.0\n'
        '[[judge]]\nkind = "reward_model"\npath = ["x", "y"]\ncombine = "worst"\n[gold]\nkind = "human"\nvotes = "v"\n'
    )
    run = config.load(str(file), ["gold.votes=w"])
    again = tmp_path / "again.toml"
    again.write_text(config.to_toml(run))
    assert config.load(str(again), ["run.dir=runs/default"]) == run
    assert [one.kind for one in run.judge] == ["verifier", "reward_model"] and run.gold == (HumanConfig(votes="w"),)
    with pytest.raises(ConfigError, match="give the whole list"):
        config.load(str(file), ["judge.name=gsm8k"])


def test_votes_are_found_again_by_what_answers_say(tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    rows = [("3", "4", [[0, 1, 1.0]]), ("4", "3", [[1, 0, 1.0]]), ("3", "5", [[0, 1, 1.0]])]
    votes.write_text("".join(
        json.dumps({"prompt": "_1+_2=", "completions": [{"messages": a}, {"messages": b}], "preferences": p}) + "\n"
        for a, b, p in rows
    ))  # fmt: skip
    judge = human.make(HumanConfig(votes=str(votes)))
    told = judge([group("4", "3", "7"), group("8", "9"), group("3", "4", prompt="_9+_9=")])
    assert told[0] == Preferences(((1, 0, 2.0),))
    assert all(isinstance(one, Unjudged) for one in told[1:])
    with pytest.raises(ConfigError, match="name the file"):
        human.make(HumanConfig())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, and two reward models of a few steps."""
    from burnish.loop import train

    place = world.make(tmp_path_factory.mktemp("models"))
    data = place / "pairs.jsonl"
    rows = [
        {
            "prompt": f"_{i}+_2=",
            "completions": [{"messages": f"#{i + 2}"}, {"messages": "~~9"}],
            "preferences": [[0, 1, 1.0]],
        }
        for i in range(8)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for seed in (0, 1):
        train.run(
            config.load(None, [
                f"model.path={place / 'sft'}", "model.dtype=float32", f"data.train={data}", "optim.lr=1e-3",
                "objective.name=bradley_terry", "optim.steps=3", "engine.threads=1", f"seed={seed}",
                f"run.dir={place / f'rm-{seed}'}",
            ])
        )  # fmt: skip
    return place


def test_a_reward_model_judges_as_it_scores(models: Path) -> None:
    judge = panel.make([RewardModelConfig(path=str(models / "rm-0"))], models)
    assert judge is not None
    groups = [group("#3", "~~9", "#4"), group("12", "7")]
    (first, second) = judge(groups)
    member = judge.members[0]  # type: ignore[attr-defined]
    expected = scoring.rewards(member.engine, member.renderer.encode_many(groups))
    assert first == Scores(expected[0]) and second == Scores(expected[1])


def test_rewards_are_bounded_by_the_reference_answer(models: Path) -> None:
    plain, sigmoid, reference = (
        panel.make([RewardModelConfig(path=str(models / "rm-0"), bound=bound)], models)  # type: ignore[arg-type]
        for bound in ("none", "sigmoid", "reference")
    )
    assert plain is not None and sigmoid is not None and reference is not None
    one = group("#3", "~~9", meta={"reference": "#3"})
    (raw,), (squashed,), (relative,) = plain([one]), sigmoid([one]), reference([one])
    assert isinstance(raw, Scores) and isinstance(relative, Scores)
    assert isinstance(squashed, Scores)
    assert squashed.values == pytest.approx([1 / (1 + math.exp(-r)) for r in raw.values], rel=1e-12)
    assert relative.values[0] == pytest.approx(0.5, abs=1e-5)  # it is the reference answer itself
    assert relative.values[1] == pytest.approx(1 / (1 + math.exp(raw.values[0] - raw.values[1])), rel=1e-6)
    (missing,) = reference([group("#3", "4")])
    assert isinstance(missing, Unjudged) and "reference" in missing.reason


def test_an_ensemble_is_as_its_members_are_combined(models: Path) -> None:
    paths = [str(models / f"rm-{seed}") for seed in (0, 1)]
    one = group("#3", "~~9", "#4")
    means, sds, rewards = [], [], []
    for path in paths:
        judge = panel.make([RewardModelConfig(path=path)], models)
        assert judge is not None
        (told,) = judge([one])
        assert isinstance(told, Scores)
        rewards.append(told.values)
        about = json.loads((Path(path) / "model" / "reward.json").read_text())
        means.append(about["mean"])
        sds.append(about["sd"])
    z = [[(r - m) / s for r in row] for row, m, s in zip(rewards, means, sds, strict=True)]
    for how, expected in (
        ("mean", [(a + b) / 2 for a, b in zip(*z, strict=True)]),
        ("worst", [min(a, b) for a, b in zip(*z, strict=True)]),
        ("uncertainty", [(a + b) / 2 - 0.5 * ((a - b) / 2) ** 2 for a, b in zip(*z, strict=True)]),
    ):
        judge = panel.make([RewardModelConfig(path=paths, combine=how)], models)  # type: ignore[arg-type]
        assert judge is not None
        (told,) = judge([one])
        assert isinstance(told, Scores) and told.values == pytest.approx(expected, rel=1e-6)


def test_what_is_no_reward_model_is_refused(models: Path) -> None:
    for path, wrong in ((str(models / "sft"), ModelError), ("nowhere", ModelError), ("", ConfigError)):
        with pytest.raises(wrong):
            panel.make([RewardModelConfig(path=path)], models)
    with pytest.raises(ConfigError, match="names one"):
        panel.make([RewardModelConfig(path=str(models / "rm-0"), combine="worst")], models)


def test_a_run_with_a_reward_model_and_a_gate(models: Path) -> None:
    file = models / "run.toml"
    own = [text for text in world.overrides(models, "gated", steps=3) if not text.startswith("judge.")]
    file.write_text(
        '[[judge]]\nkind = "verifier"\nname = "format"\npattern = ".*[0-9].*"\ngate = 1.0\nweight = 0.1\n'
        f'[[judge]]\nkind = "reward_model"\npath = "{models / "rm-0"}"\nbound = "sigmoid"\n'
    )
    from burnish.loop import train

    folder = train.run(config.load(str(file), own))
    for record in world.records(folder, "refresh"):
        assert 0 <= record["reward/format"] <= 1 and 0 < record["reward/reward_model"] < 1
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    for row in rows:
        for total, form, score in zip(row["scores"], row["parts"]["format"], row["parts"]["reward_model"], strict=True):
            assert total == pytest.approx(0.1 * form + (score if form >= 1 else 0.0), rel=1e-12)
