"""Runs with the dial turned, through the same door as any other: exact where two ways must agree."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import config
from burnish.errors import BurnishError, ConfigError, JudgeError, StoreError
from burnish.group import from_json
from burnish.lab.world import CHARACTERS
from burnish.loop import train
from burnish.loop.interrupt import Interrupted
from burnish.objectives import TABLE
from tests.answers.sampler.server import ScriptedServer
from tests.loop.online import world
from tests.loop.online.world import JUDGING
from tests.runs.cli import signalled_after

ROLLOUTS = ["rloo", "reinforce", "grpo", "dr_grpo", "dapo", "gspo", "ppo", "pg"]
ON_FRESH = ["dpo", "ipo", "online_dpo", "kto", "simpo", "pl_dpo", "multi_pair_dpo", "sft", "bco", "beta_dpo", "tdpo1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.make(tmp_path_factory.mktemp("dial"))


@pytest.mark.parametrize("name", [*ROLLOUTS, *ON_FRESH])
def test_every_objective_trains_on_fresh_answers(place: Path, name: str) -> None:
    folder = world.run(place, f"any-{name}", f"objective.name={name}", "optim.groups_per_step=4", steps=3)
    steps, fresh = world.records(folder, "step"), world.records(folder, "refresh")
    assert len(steps) == 3 and [r["step"] for r in fresh] == [1, 2, 3]
    for record in fresh:
        for key in ("reward", "kl/answer", "kl/token", "entropy/token", "length", "finished", "distinct", "no_signal",
                    "reward/spread", "mismatch/mean", "mismatch/max_ratio", "groups_used"):  # fmt: skip
            assert isinstance(record[key], float), key
        assert record["mismatch/mean"] < 1e-5
    assert fresh[0]["kl/answer"] == pytest.approx(0, abs=1e-6)
    assert fresh[2]["kl/answer"] > 1e-5


@pytest.mark.parametrize("name", ["grpo", "online_dpo"])  # whose trainers' logits are divided, and are not
@pytest.mark.parametrize("how", ["temperature=0.6", "temperature=1.7", "top_k=5", "top_p=0.7"])
def test_mismatch_compares_like_with_like(place: Path, name: str, how: str) -> None:
    folder = world.run(place, f"like-{name}-{how}", f"objective.name={name}", f"source.{how}", steps=2)
    for record in world.records(folder, "refresh"):
        assert record["mismatch/mean"] < 1e-5 and record["mismatch/max_ratio"] < 1.001


def test_a_policy_learns_what_its_judge_likes(place: Path) -> None:
    folder = world.run(place, "learns", "objective.kl_in_reward=0", steps=25)
    rewards = [r["reward"] for r in world.records(folder, "refresh")]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "rloo"])
def test_equal_rewards_change_nothing_at_all(place: Path, name: str) -> None:
    kl = {"rloo": ["objective.kl_in_reward=0"], "grpo": ["objective.kl_coef=0"]}.get(name, [])
    folder = world.run(place, f"equal-{name}", f"judge.name={JUDGING}:same", f"objective.name={name}", *kl)
    before, after = world.load_file(place / "sft" / "model.safetensors"), world.weights(folder)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(r["no_signal"] == 1.0 for r in world.records(folder, "refresh"))


RESUMED = {
    "rloo": [],
    "every third step": ["source.refresh_every=3", "source.epochs=3", "objective.name=grpo"],
    "replay": ["source.replay=4", "objective.name=online_dpo"],
    "adaptive": ["source.curriculum=adaptive", f"judge.name={JUDGING}:digits"],
    "ppo": ["objective.name=ppo", "objective.kl_target=0.1", "objective.kl_horizon=100.0", "source.refresh_every=2",
            "source.epochs=2", "value.backbone=own"],
    "lora": ["adapter.kind=lora", "adapter.rank=2"],
    "once": ["source.refresh_every=never", "objective.name=dpo", "optim.groups_per_step=3"],
}  # fmt: skip


@pytest.mark.parametrize("how", RESUMED)
@pytest.mark.parametrize("stop", [1, 4])
def test_interrupted_and_resumed_is_unbroken(place: Path, how: str, stop: int) -> None:
    own, name = RESUMED[how], how.replace(" ", "-")
    whole = place / f"whole-{name}"
    if not whole.exists():
        world.run(place, f"whole-{name}", *own, steps=7)
    broken = place / f"broken-{name}-{stop}"
    with signalled_after(stop, signal.SIGTERM), pytest.raises(Interrupted):
        world.run(place, broken.name, *own, steps=7)
    train.run(config.load(str(broken / "config.toml"), ["run.resume=true", "run.overwrite=false"]))
    if "lora" in how:
        assert world.records(whole, "step") == world.records(broken, "step")
    else:
        assert world.equal(whole, broken)
    lines = [(folder / "answers.jsonl").read_text() for folder in (whole, broken)]
    assert lines[0] == lines[1]


def grades(number: int, path: str, given: dict[str, Any]) -> Any:
    text = given["messages"][0]["content"]
    choice = {"finish_reason": "stop", "message": {"content": f"Grade: {len(text) % 7}"}}
    return {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


def test_what_a_judge_has_spent_is_in_the_checkpoint(place: Path) -> None:
    with ScriptedServer(grades) as server:
        asked = ["judge.kind=llm", f"judge.url={server.url}", "judge.model=m", "judge.mode=pointwise",
                 "judge.price_in=1000.0", "judge.budget=100.0"]  # fmt: skip

        def settings(name: str) -> list[str]:
            kept = [text for text in world.overrides(place, name, *asked, steps=4) if not text.startswith("judge.name")]
            return [*kept, f"judge.cache={place / f'{name}-cache'}"]

        whole = train.run(config.load(None, settings("spent")))
        with signalled_after(2, signal.SIGTERM), pytest.raises(Interrupted):
            train.run(config.load(None, settings("spent-on")))
        broken = place / "spent-on"
        more = ["run.resume=true", "run.overwrite=false", "judge.budget=200.0", "judge.seconds=30.0"]
        train.run(config.load(str(broken / "config.toml"), more))  # the limit may be another one
        again = config.load(str(broken / "config.toml"), ["run.resume=true", "judge.model=other"])
        with pytest.raises(StoreError, match="judge would differ"):
            train.run(again)
    spent = [[(r["judge/requests"], r["judge/dollars"]) for r in world.records(f, "refresh")] for f in (whole, broken)]
    assert spent[0] == spent[1] and spent[0][-1][0] > spent[0][1][0] > 0


@pytest.mark.parametrize("what", ["a field of the rows", "the votes"])
def test_a_run_whose_judge_reads_something_else_is_refused(place: Path, what: str) -> None:
    prompts, votes = place / "read.jsonl", place / "read-votes.jsonl"
    rows = [json.dumps({"prompt": f"_{i}+_2=", "answer": str(i + 2)}) for i in range(8)]
    prompts.write_text("".join(row + "\n" for row in rows))
    votes.write_text(json.dumps({"prompt": "_1+_2=", "chosen": "#3", "rejected": "#4"}) + "\n")
    judges = ["judge.kind=verifier", f"judge.name={JUDGING}:digits", "gold.kind=human", f"gold.votes={votes}"]
    with signalled_after(1, signal.SIGTERM), pytest.raises(Interrupted):
        world.run(place, "reads", f"source.prompts={prompts}", *judges, steps=3)
    file = prompts if what.startswith("a field") else votes
    kept = file.read_text()
    resumed = config.load(str(place / "reads" / "config.toml"), ["run.resume=true", "run.overwrite=false"])
    file.write_text(kept.replace('"answer": "3"', '"answer": "4"').replace("#4", "#5"))
    with pytest.raises(StoreError, match="what the judges read is not what it was"):
        train.run(resumed)
    file.write_text(kept)
    train.run(resumed)


def writable(text: str) -> bool:
    return bool(text) and set(text) <= set(CHARACTERS)


def test_never_on_the_answers_of_step_0_is_the_offline_run_to_the_bit(place: Path) -> None:
    """The answers of a run that asks once, written to a file, and trained on as any data set."""
    shared = ["objective.name=dpo", "optim.groups_per_step=2", "source.k=2",
              "source.max_new_tokens=16"]  # fmt: skip
    once = world.run(place, "once", *shared, "source.refresh_every=never")
    groups = [json.loads(line) for line in (once / "answers.jsonl").read_text().splitlines()]
    kept = [row for row in groups if all(c["meta"]["finished"] and writable(c["messages"]) for c in row["completions"])]
    assert 2 < len(kept) < len(groups)  # text that gives back exactly the tokens that were sampled
    prompts = place / "finished.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in kept))
    once = world.run(place, "once", *shared, "source.refresh_every=never", f"source.prompts={prompts}")
    rows = [json.loads(line) for line in (once / "answers.jsonl").read_text().splitlines()]
    assert all(from_json(row).completions for row in rows)
    data = place / "offline.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [text for text in world.overrides(place, "offline", *shared) if not text.startswith(("source.", "judge."))]
    offline = train.run(config.load(None, [*given, f"data.train={data}"]))
    a, b = world.weights(once), world.weights(offline)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert [r["loss"] for r in world.records(once, "step")] == [r["loss"] for r in world.records(offline, "step")]


@pytest.mark.parametrize("name", ["grpo", "ppo", "online_dpo"])
def test_token_budget_and_batch_of_the_sampler_change_nothing_but_rounding(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [f"objective.name={name}", "model.dtype=float64", "source.refresh_every=2"]
    one = world.run(place, f"budget-one-{name}", *own)
    monkeypatch.setattr("burnish.answers.sampler.process.ProcessSampler.rows", 5, raising=False)
    many = world.run(place, f"budget-many-{name}", *own, "engine.token_budget=40")
    for a, b in zip(world.records(one, "step"), world.records(many, "step"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-9, abs=1e-12)
    a, b = world.weights(one), world.weights(many)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-6, atol=1e-7)


def test_on_policy_the_clipped_gradient_is_that_of_reinforce(place: Path) -> None:
    """At ratio 1: `pg` without a KL and with sums over tokens against `reinforce`, same advantages, one step."""
    shared = ["model.dtype=float64", "objective.kl_in_reward=0", "optim.max_grad_norm=0"]
    clipped = world.run(place, "clipped", *shared, "objective.name=pg", "objective.advantage=rloo",
                        "objective.agg=seq_mean_token_sum", steps=1)  # fmt: skip
    plain = world.run(place, "plain", *shared, "objective.name=rloo", steps=1)
    norms = [world.records(folder, "step")[0]["grad_norm"] for folder in (clipped, plain)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-9) and norms[0] > 0
    assert world.records(clipped, "step")[0]["ratio/max"] == pytest.approx(1, abs=1e-9)
    a, b = world.weights(clipped), world.weights(plain)
    assert all(torch.allclose(a[key], b[key], rtol=1e-9, atol=1e-12) for key in a)


def test_mixed_steps_hold_fresh_and_static_groups(place: Path) -> None:
    data = place / "static.jsonl"
    row = {"prompt": "_1+_2=", "completions": [{"messages": "#3"}, {"messages": "#9"}], "preferences": [[0, 1, 1.0]]}
    data.write_text("".join(json.dumps(row | {"id": f"static-{i}"}) + "\n" for i in range(6)))
    folder = world.run(place, "mixed", "objective.name=dpo", "source.fresh=0.5", f"data.train={data}")
    for step in range(1, 7):
        ids = {r["group"] for r in world.records(folder, "completion") if r["step"] == step}
        assert sum(name.startswith("static") for name in ids) == 3
        assert sum(not name.startswith("static") for name in ids) == 3


@pytest.mark.parametrize("judge", ["picky", "extreme"])
def test_groups_that_were_not_judged_are_left_out_and_counted(place: Path, judge: str) -> None:
    """Scores that float32 cannot square are no judgement either."""
    folder = world.run(place, judge, f"judge.name={JUDGING}:{judge}")
    fresh = world.records(folder, "refresh")
    assert 0 < sum(r["unjudged"] for r in fresh) / len(fresh) < 1
    assert all(r["groups_used"] <= 1 - r["unjudged"] + 1e-9 for r in fresh)


def test_an_alarm_ends_the_run_with_the_best_weights(place: Path) -> None:
    """The judge likes what gold does not: the first complete window is the best, and its weights are what is left."""
    own = [
        "gold.kind=verifier",
        f"gold.name={JUDGING}:fewer",
        "stop.window=3",
        "objective.kl_in_reward=0",
    ]
    folder = world.run(place, "stopped", *own, "stop.when=gold", steps=60)
    steps = world.records(folder, "step")
    (stopped,) = world.records(folder, "stopped")
    assert len(steps) < 60 and stopped["alarm"] == "gold" and stopped["step"] == len(steps)
    assert stopped["best"] < stopped["step"]
    best = world.run(place, "best", *own, steps=stopped["best"])
    a, b = world.weights(folder), world.weights(best)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_an_offline_run_is_watched_by_gold(place: Path) -> None:
    data = place / "pairs.jsonl"
    row = {"prompt": "_1+_2=", "completions": [{"messages": "#3"}, {"messages": "~~9"}], "preferences": [[0, 1, 1.0]]}
    data.write_text("".join(json.dumps(row | {"id": str(i)}) + "\n" for i in range(8)))
    given = [text for text in world.overrides(place, "watched", "objective.name=dpo", steps=4)
             if not text.startswith(("judge.", "source.refresh"))]  # fmt: skip
    own = ["gold.kind=verifier", f"gold.name={world.JUDGE}", "eval.every=2", f"data.train={data}", "eval.prompts=7"]
    folder = train.run(config.load(None, [*given, *own]))
    fresh = world.records(folder, "refresh")
    assert [r["step"] for r in fresh] == [1, 3, 5]
    assert all(r["answers"] == 28 and "gold" in r and "kl/answer" in r for r in fresh)
    unwatched = train.run(config.load(None, [*[text for text in given if "source" not in text],
                                             f"data.train={data}", f"run.dir={place / 'unwatched'}"]))  # fmt: skip
    a, b = world.weights(folder), world.weights(unwatched)
    assert all(torch.equal(a[key], b[key]) for key in a)


REFUSED: dict[str, tuple[list[str], str]] = {
    "nobody judges": (["judge"], "nobody judges them"),
    "policy gradient offline": (["judge", "source"], "set source.refresh_every"),
    "policy gradient once": (["source.refresh_every=never"], "answers of the policy as it stands"),
    "too many epochs": (["source.epochs=2"], "leaves fewer until the next refresh"),
    "server without address": (["source.sampler=server"], "needs source.url"),
    "stored reference": (["reference.scores=stored", "objective.name=dpo"], "of a fixed data set"),
    "reward model": (["objective.name=bradley_terry"], "trains a reward model"),
    "unknown check": (["judge.name=gsm9k"], "did you mean 'gsm8k'"),
    "unknown function": ([f"judge.name={JUDGING}:nothing"], "has no function nothing"),
    "unknown module": (["judge.name=tests.loop.online.nowhere:f"], "cannot be imported"),
    "unknown key": (["judge.nme=x"], "did you mean 'judge.name'"),
    "unknown kind": (["judge.kind=robot"], "judge.kind is missing or unknown"),
    "ignored key": (["judge.pattern=x"], "does not look at it"),
    "gate of one": (["judge.gate=1"], "about several judges"),
    "one answer": (["source.k=1"], "compares a prompt's answers"),
    "one answer of a pair": (["source.k=1", "objective.name=dpo"], "compares a prompt's answers"),
    "one answer of a yes": (["source.k=1", "objective.name=kto"], "compares a prompt's answers"),
    "gold offline": (
        ["judge", "source", "objective.name=dpo", "stop.when=gold", "gold.kind=verifier", f"gold.name={world.JUDGE}"],
        "offline there is no judge",
    ),
    "a constant of nothing": (["objective.name=pg", "objective.agg=const"], "give both, or neither"),
    "no terms by token": (
        ["objective.name=pg", "objective.level=sequence_sum", "objective.kl_coef=0.1"],
        "no term for each",
    ),
    "no prompts": (["source.prompts=nowhere.jsonl"], "nowhere.jsonl"),
    "stopping offline": (["judge", "source", "objective.name=dpo", "stop.when=kl"], "stop.when listens"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused_before_weights_load(
    place: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, reason = REFUSED[case]
    drop = tuple(text for text in changes if "=" not in text)
    given = [text for text in world.overrides(place, "refused", *[c for c in changes if "=" in c])
             if not drop or not text.startswith(drop)]  # fmt: skip
    if "source" in drop:
        given.append(f"data.train={place / 'prompts.jsonl'}")

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("burnish.engine.weights.load_base", never)
    with pytest.raises(BurnishError, match=reason):
        train.run(config.load(None, given))


def test_the_objectives_that_need_fresh_answers_are_those_of_the_table() -> None:
    assert {name for name, row in TABLE.items() if row.view == "rollouts" and row.advantages} == set(ROLLOUTS)


def test_a_mixture_of_policy_gradient_and_kl_is_divided_by_its_own_counts(place: Path) -> None:
    """`grpo` with its KL in the loss, and `grpo` without beside `kl_loss` put together the same way: one gradient."""
    shared = ["model.dtype=float64", "optim.max_grad_norm=0", "source.refresh_every=2", "source.epochs=2"]
    one = world.run(place, "kl-inside", *shared, "objective.name=grpo", "objective.kl_coef=0.3", steps=4)
    file = place / "mixture.toml"
    file.write_text(
        '[[objective]]\nname = "grpo"\nkl_coef = 0.0\n[[objective]]\nname = "kl_loss"\nweight = 0.3\n'
        'agg = "seq_mean_token_mean"\n'
    )
    given = [t for t in world.overrides(place, "kl-beside", *shared, steps=4) if not t.startswith("objective")]
    other = train.run(config.load(str(file), given))
    for a, b in zip(world.records(one, "step"), world.records(other, "step"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-9, abs=1e-13)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-9)


def test_credit_from_votes_is_the_share_of_them_won(place: Path) -> None:
    first = world.run(place, "voted-on", steps=1)
    rows = [json.loads(line) for line in (first / "answers.jsonl").read_text().splitlines()]
    for row in rows:
        row["preferences"] = [[2, 0, 1.0], [2, 1, 1.0]]
        del row["scores"]
    votes = place / "votes.jsonl"
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [t for t in world.overrides(place, "voted", steps=1) if not t.startswith("judge.")]
    folder = train.run(config.load(None, [*given, "judge.kind=human", f"judge.votes={votes}"]))
    (fresh,) = world.records(folder, "refresh")
    assert fresh["no_signal"] < 1 and world.records(folder, "step")[0]["grad_norm"] > 0


def test_parts_of_a_mixture_are_refused_alone(place: Path) -> None:
    for name, reason in (("kl_loss", "part of a mixture"), ("value_loss", "part of a mixture")):
        with pytest.raises(ConfigError, match=reason):
            train.run(config.load(None, world.overrides(place, "alone", f"objective.name={name}")))


def test_prompts_with_the_same_id_stay_apart(place: Path) -> None:
    file = place / "same.jsonl"
    file.write_text("".join(json.dumps({"id": "0", "prompt": f"_{i}+_2="}) + "\n" for i in range(3)))
    folder = world.run(place, "same", f"source.prompts={file}", "optim.groups_per_step=3", steps=1)
    done = world.records(folder, "completion")
    assert len({r["group"] for r in done}) == 3 and len({(r["logp"], r["length"]) for r in done}) > 4


def test_a_refresh_that_nobody_could_judge_is_left_out_and_the_next_step_asks_the_next_prompts(place: Path) -> None:
    """The judge is away in the first and the third step."""
    folder = world.run(place, "absent", f"judge.name={JUDGING}:absent", steps=6)
    fresh, steps = world.records(folder, "refresh"), world.records(folder, "step")
    assert [r["unjudged"] for r in fresh] == [1, 0, 1, 0, 0, 0]
    assert [r["groups"] > 0 for r in steps] == [False, True, False, True, True, True]
    assert ["nobody could judge the 6 groups" in r["text"] for r in world.records(folder, "note")] == [True, True]
    every = ["source.refresh_every=3", "source.epochs=3", "objective.name=grpo"]
    folder = world.run(place, "absent-every", f"judge.name={JUDGING}:absent", *every, steps=6)
    assert [(r["step"], r["unjudged"]) for r in world.records(folder, "refresh")] == [(1, 1), (2, 0), (4, 0)]
    assert [r["groups"] > 0 for r in world.records(folder, "step")] == [False, True, True, True, True, True]


def test_several_in_a_row_end_the_run_and_the_resumed_one_goes_on_with_the_next_prompts(place: Path) -> None:
    tired = [f"judge.name={JUDGING}:tired", "source.max_unjudged=2", "save.every=1"]
    with pytest.raises(JudgeError, match=r"last 2 refreshes \(source.max_unjudged\).*after step 5 are in"):
        world.run(place, "falls", *tired, steps=9)
    saved = config.load(str(place / "falls" / "config.toml"), ["run.resume=true", "run.overwrite=false"])
    with pytest.raises(JudgeError, match="after step 7 are in"):
        train.run(saved)
    train.run(saved)
    assert [r["step"] for r in world.records(place / "falls", "refresh")] == list(range(1, 10))


def test_a_run_of_which_nothing_could_be_judged_is_no_run(place: Path) -> None:
    with pytest.raises(JudgeError, match="any answer of the whole run"):
        world.run(place, "silent", f"judge.name={JUDGING}:silent", steps=2)
    assert not (place / "silent" / "model").exists()
    with pytest.raises(JudgeError, match="nobody could judge any of 100 groups"):
        world.run(place, "silent", f"judge.name={JUDGING}:silent", "source.refresh_every=never", "objective.name=dpo")


def test_a_gold_judge_that_fails_ends_no_run(place: Path) -> None:
    data = place / "watched.jsonl"
    row = {"prompt": "_1+_2=", "chosen": "#3", "rejected": "~~9"}
    data.write_text("".join(json.dumps(row | {"id": str(i)}) + "\n" for i in range(8)))
    given = [text for text in world.overrides(place, "unwatched-gold", "objective.name=dpo", steps=3)
             if not text.startswith(("judge.", "source.refresh"))]  # fmt: skip
    gold = ["gold.kind=verifier", f"gold.name={JUDGING}:silent", "eval.every=1", f"data.train={data}"]
    folder = train.run(config.load(None, [*given, *gold, "source.max_unjudged=1"]))
    assert [r["unjudged"] for r in world.records(folder, "refresh")] == [1.0] * 4


def test_the_ratio_of_whole_answers_is_divided_by_answers(place: Path) -> None:
    """`sequence_sum` is one term an answer, whatever `agg` says: at ratio 1 the gradient of RLOO."""
    shared = ["model.dtype=float64", "objective.kl_in_reward=0", "optim.max_grad_norm=0"]
    one = [world.run(place, f"whole-{agg}", *shared, "objective.name=pg", "objective.advantage=rloo",
                     "objective.level=sequence_sum", f"objective.agg={agg}", steps=1)
           for agg in ("token_mean", "seq_mean_token_mean")]  # fmt: skip
    plain = world.run(place, "whole-plain", *shared, "objective.name=rloo", steps=1)
    norms = [world.records(folder, "step")[0]["grad_norm"] for folder in (*one, plain)]
    assert norms[0] == pytest.approx(norms[2], rel=1e-6) and norms[1] == pytest.approx(norms[2], rel=1e-6)
