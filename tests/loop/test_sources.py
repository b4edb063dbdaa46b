"""The dial's positions: what each step is given, how old it may be, and that a state taken up goes on as before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import pytest

from burnish.answers.answered import Answered, Refresh
from burnish.data.prompts import Prompt
from burnish.group import EncodedGroup, Group, Rollout, Scores, encoded_from_json, encoded_to_json
from burnish.loop.sources import Fixed, Mixed, Refreshed, shares

PROMPTS = [Prompt(f"key{i}", (i,), Group(f"q{i}", ())) for i in range(40)]


class Answers:
    """Answers in the shape of answers: every group says when it was asked, prompts with an even number teach."""

    def __init__(self, reward: dict[str, float] | None = None, useless: int = 0) -> None:
        self.asked: list[tuple[int, list[str]]] = []
        self.reward, self.useless = reward or {}, useless

    def __call__(self, prompts: Sequence[Prompt], seed: int, step: int) -> Refresh:
        self.asked.append((step, [prompt.key for prompt in prompts]))
        return Refresh([self._answered(number, prompt, step) for number, prompt in enumerate(prompts)])

    def _answered(self, number: int, prompt: Prompt, step: int) -> Answered:
        rollout = Rollout(step, ((-1.0, -0.5),))
        texts = Group(prompt.group.prompt, (), id=f"{prompt.key}@{step}.{number}")
        group = EncodedGroup(texts.id, prompt.ids, ((step, number),), (True,), Scores((0.5,)), rollout=rollout)
        teaches = not self.useless or number % self.useless
        reward = Scores((self.reward.get(prompt.key, 0.5),))
        return Answered(prompt, texts, group, reward, group=group if teaches else None)


def refreshed(answers: Answers, **settings: object) -> Refreshed:
    values: dict[str, object] = {"every": 1, "per_step": 4, "seed": 3} | settings
    return Refreshed(PROMPTS, answers, **values)  # type: ignore[arg-type]


def versions(groups: Sequence[EncodedGroup]) -> list[int]:
    return [group.rollout.version for group in groups if group.rollout is not None]


def test_every_step_its_own_answers() -> None:
    source = refreshed(Answers())
    for step in range(6):
        assert versions(source.next(step)[0]) == [step] * 4


def test_asking_twice_for_a_step_answers_once() -> None:
    answers = Answers()
    source = refreshed(answers, every=2)
    (groups, refresh), (again, none) = source.next(0), source.next(0)
    assert groups == again and refresh is not None and none is None
    source.next(1)[0], source.next(2)[0]
    assert [step for step, _ in answers.asked] == [0, 2]


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_every_fresh_group_takes_part_in_as_many_steps_as_asked(epochs: int) -> None:
    answers = Answers()
    source = refreshed(answers, every=4, epochs=epochs)
    for start in (0, 4):
        seen = Counter(group.id for step in range(start, start + 4) for group in source.next(step)[0])
        assert len(answers.asked[-1][1]) == 4 * 4 // epochs
        assert set(seen.values()) == {epochs} and len(seen) == 16 // epochs


def test_no_answers_are_asked_for_that_no_step_uses() -> None:
    answers = Answers()
    source = refreshed(answers, every=4, steps=6)
    for step in range(6):
        assert len(source.next(step)[0]) == 4
    assert [len(keys) for _, keys in answers.asked] == [16, 8]
    long = Answers()
    refreshed(long, every=100, steps=3).next(0)
    assert [len(keys) for _, keys in long.asked] == [12]


def test_every_prompt_comes_once_an_epoch() -> None:
    answers = Answers()
    source = refreshed(answers)
    for step in range(10):
        source.next(step)[0]
    assert Counter(key for _, keys in answers.asked for key in keys) == Counter(prompt.key for prompt in PROMPTS)


def test_answers_that_teach_nothing_leave_a_smaller_step() -> None:
    source = refreshed(Answers(useless=2))
    assert len(source.next(0)[0]) == 2
    assert refreshed(Answers(useless=1)).next(0)[0] == []


def test_replayed_groups_are_no_older_than_allowed() -> None:
    source = refreshed(Answers(), replay=3, replay_share=0.5)
    for step in range(12):
        ages = [step - version for version in versions(source.next(step)[0])]
        assert ages[:2] == [0, 0]
        assert all(1 <= age <= 3 for age in ages[2:]) and len(ages) == (2 if step == 0 else 4)


def test_adaptive_asks_most_where_success_is_near_one_half() -> None:
    reward = {prompt.key: (0.0, 0.5, 1.0)[i % 3] for i, prompt in enumerate(PROMPTS)}
    answers = Answers(reward)
    source = refreshed(answers, adaptive=True)
    for step in range(300):
        source.next(step)[0]
    counts = Counter(reward[key] for _, keys in answers.asked[100:] for key in keys)
    assert counts[0.5] > 3 * counts[0.0] and counts[0.5] > 3 * counts[1.0]
    assert all(len(set(keys)) == 4 for _, keys in answers.asked)


@pytest.mark.parametrize("settings", [{}, {"every": 4, "epochs": 2}, {"replay": 5}, {"adaptive": True}])
@pytest.mark.parametrize("stop", [1, 3, 4, 7])
def test_a_state_taken_up_goes_on_as_before(settings: dict[str, object], stop: int) -> None:
    whole, broken = refreshed(Answers(), **settings), refreshed(Answers(), **settings)
    expected = [whole.next(step)[0] for step in range(12)]
    for step in range(stop):
        broken.next(step)[0]
    state = json.loads(json.dumps(broken.state()))
    resumed = refreshed(Answers(), **settings)
    resumed.restore(state)
    assert [resumed.next(step)[0] for step in range(stop, 12)] == expected[stop:]


def test_mixed_gives_each_its_share() -> None:
    static = [EncodedGroup(f"s{i}", (i,), ((1,), (2,)), (True, True), Scores((0.0, 1.0))) for i in range(9)]
    source = Mixed(refreshed(Answers(), per_step=3), Fixed(static, 1, seed=0))
    for step in range(4):
        groups = source.next(step)[0]
        assert versions(groups) == [step] * 3 and len(groups) == 4
    assert shares(10, 0.25) == (2, 8) and shares(10, 1.0) == (10, 0)
    assert shares(2, 0.99) == (1, 1) and shares(8, 0.01) == (1, 7)


def test_a_group_in_token_space_is_read_back_equal() -> None:
    rollout = Rollout(
        3, ((-0.1, -1e-17), ()), ((-0.30000000000000004, 0.0), ()), ((-1.0, -2.0), ()), ((0.5, 0.25), ()),
        {"ppo": ((1.0, 2.0), ())}, {"ppo": ((0.1, 0.2), ())}, 16,
    )  # fmt: skip
    group = EncodedGroup("x@3", (1, 2), ((5, 6), ()), (True, False), Scores((0.1, 0.7)), "s", "f:1", rollout)
    again = encoded_from_json(json.loads(json.dumps(encoded_to_json(group))))
    assert again == group and again.rollout == rollout


@pytest.mark.parametrize(("every", "epochs", "steps"), [(3, 3, 7), (10, 10, 4), (4, 2, 7)])
def test_a_refresh_that_is_cut_short_still_fills_its_steps(every: int, epochs: int, steps: int) -> None:
    source = refreshed(Answers(), every=every, epochs=epochs, steps=steps)
    assert [len(source.next(step)[0]) for step in range(steps)] == [4] * steps


def test_replay_leaves_room_for_what_is_fresh() -> None:
    source = refreshed(Answers(), replay=5, replay_share=0.95)
    assert all(versions(source.next(step)[0])[0] == step for step in range(5))
