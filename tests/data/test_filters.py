"""What is left out, mixed and held out: balances hold exactly, lots depend on seed and content, nothing goes unsaid."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data import filters
from burnish.data.filters import Dropped, SelectSettings, pair_of, prompt_key, score_gap
from burnish.data.pairing import PairRule, make_pairs
from burnish.errors import ConfigError, DataError
from burnish.group import Completion, Feedback, Group, Labels, Message, Preferences, Scores, Unjudged


def pair(prompt: str, better: str, worse: str, row: int = 1, **meta: Any) -> Group:
    answers = (Completion(better), Completion(worse))
    return Group(prompt, answers, Preferences(((0, 1, 1.0),)), where=f"f:{row}", meta=meta)


def texts(groups: list[Group]) -> list[str]:
    return [str(g.where) for g in groups]


words = st.sampled_from(["a", "A", "b  c", "B c", "ﬁ", "fi", "long answer", "", "é", "e\u0301"])
feedbacks = st.one_of(
    st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])).map(Scores),
    st.tuples(st.booleans(), st.booleans()).map(Labels),
    st.sampled_from([Preferences(((0, 1, 1.0),)), Preferences(((1, 0, 1.0),)), Unjudged()]),
)
groups_of_two = st.builds(
    lambda p, a, b, f: Group(p, (Completion(a), Completion(b)), f), words, words, words, feedbacks
)
lists = st.lists(groups_of_two, max_size=25)


# ------------------------------------------------------------------------------------------------------------ prompts


def test_prompts_are_alike_as_a_reader_sees_them() -> None:
    plain_text = Group("What  IS\u00a0ﬁve?", ())
    assert prompt_key(plain_text) == prompt_key(Group((Message("user", "what is five?\n"),), ()))
    assert prompt_key(plain_text) != prompt_key(Group((Message("system", "what is five?"),), ()))
    two = Group((Message("user", "a"), Message("assistant", "b")), ())
    assert prompt_key(two) != prompt_key(Group("a\nassistant: b", ()))
    called = Message("assistant", "b", {"tool_calls": [{"name": "f"}]})
    assert prompt_key(Group((Message("user", "a"), called), ())) != prompt_key(two)


# ---------------------------------------------------------------------------------------------------------- duplicates


@given(lists)
def test_dedupe_is_idempotent_and_keeps_the_first(groups: list[Group]) -> None:
    kept, dropped = filters.dedupe(groups)
    assert len(kept) + dropped.count == len(groups)
    assert filters.dedupe(kept) == (kept, Dropped(dropped.reason, 0))
    places = [next(i for i, g in enumerate(groups) if g is k) for k in kept]
    assert places == sorted(places)


def test_duplicates_are_those_that_say_the_same() -> None:
    first = pair("Q?", "Yes.", "No.", 1)
    turned = Group("q?", (Completion("no."), Completion("YES.")), Preferences(((1, 0, 1.0),)), where="f:2")
    other_vote = pair("Q?", "No.", "Yes.", 3)
    other_tools = Group("Q?", first.completions, first.feedback, tools=({"name": "t"},), where="f:4")
    kept, dropped = filters.dedupe([first, turned, other_vote, other_tools])
    assert texts(kept) == ["f:1", "f:3", "f:4"]
    assert (
        dropped.line()
        == "1 group left out: prompt, answers and feedback of an earlier group (data.dedupe) (line 2 of f)"
    )


def test_answers_that_differ_in_case_alone_are_told_apart() -> None:
    lower, upper = pair("in lower case", "yes", "YES", 1), pair("in upper case", "YES", "yes", 2)
    wrong = pair("in upper case", "yes", "YES", 3)
    assert filters.dedupe([upper, wrong])[0] == [upper, wrong]
    assert texts(filters.drop_contradictions([lower, upper, wrong])[0]) == ["f:1"]


def test_a_contradiction_takes_all_sides_with_it() -> None:
    rows = [pair("q", "a", "b", 1), pair("Q", "A", "B", 2), pair("q", "b", "a", 3), pair("other", "a", "b", 4)]
    scored = Group("other", (Completion("a"), Completion("c")), Scores((0.0, 1.0)), where="f:5")
    ranked = Group("q", tuple(map(Completion, "abc")), Scores((0.0, 1.0, 2.0)), where="f:6")
    both = Group("third", (Completion("a"), Completion("b")), Preferences(((0, 1, 2.0), (1, 0, 1.0))), where="f:7")
    kept, dropped = filters.drop_contradictions([*rows, scored, ranked, both])
    assert texts(kept) == ["f:4", "f:5", "f:6"] and dropped.examples == ("f:1", "f:2", "f:3")
    assert "(lines 1, 2, 3 of f, ...)" in dropped.line()


def test_one_answer_labelled_both_ways_is_a_contradiction() -> None:
    rows = [Group("q", (Completion("a"),), Labels((good,)), where=f"f:{i}") for i, good in enumerate((True, False))]
    other = Group("q", (Completion("b"),), Labels((True,)), where="f:9")
    assert texts(filters.drop_contradictions([*rows, other])[0]) == ["f:9"]


@given(lists)
def test_what_contradicts_nothing_stays(groups: list[Group]) -> None:
    kept, dropped = filters.drop_contradictions(groups)
    assert filters.drop_contradictions(kept) == (kept, Dropped(dropped.reason, 0))


# --------------------------------------------------------------------------------------------------- lengths and scores


def test_the_length_gap_is_two_sided() -> None:
    rows = [pair("q", "x" * 15, "y" * 5, 1), pair("q", "x" * 5, "y" * 16, 2), pair("q", "x" * 16, "y" * 5, 3)]
    single = Group("q", (Completion("a" * 99),), where="f:4")
    kept, dropped = filters.limit_length_gap([*rows, single], 10)
    assert texts(kept) == ["f:1", "f:4"] and dropped.count == 2
    by_words = filters.limit_length_gap([pair("q", "a b c", "d")], 1, lambda turns: str(turns).count(" "))
    assert by_words[1].count == 1


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60), st.integers(0, 3))
def test_matched_lengths_balance_exactly_at_every_gap(sizes: list[tuple[int, int]], seed: int) -> None:
    groups = [pair(f"q{i}", "x" * a, "y" * b, i) for i, (a, b) in enumerate(sizes)]
    kept, dropped = filters.match_lengths(groups, seed=seed)
    bins: Counter[tuple[int, bool]] = Counter()
    for group in kept:
        gap = len(str(group.completions[0].messages)) - len(str(group.completions[1].messages))
        bins[abs(gap).bit_length(), gap > 0] += 1
    for size in range(1, 8):
        assert bins[size, True] == bins[size, False]
        whole = [sum((a > b) == longer and abs(a - b).bit_length() == size for a, b in sizes) for longer in (0, 1)]
        assert bins[size, True] == min(whole)  # and nothing is left out without need
    assert bins[0, False] == sum(a == b for a, b in sizes)
    assert sorted(filters.match_lengths(groups[::-1], seed=seed)[0], key=repr) == sorted(kept, key=repr)
    assert dropped.count == len(groups) - len(kept)


def test_score_gaps_are_read_where_they_are_said() -> None:
    two = (Completion("a"), Completion("b"))
    assert score_gap(Group("q", two, Scores((1.0, 3.0)))) == 2.0
    assert score_gap(pair("q", "a", "b", score_chosen=8.5, score_rejected=6)) == 2.5
    assert score_gap(pair("q", "a", "b", score_chosen=8.5)) is None
    assert score_gap(pair("q", "a", "b", score_chosen=float("nan"), score_rejected=1.0)) is None
    assert score_gap(pair("q", "a", "b", scores=[1.0, 4.0])) is None  # whose score comes first?
    made = next(make_pairs([Group("q", two, Scores((1.0, 4.0)))], PairRule("all")))
    assert score_gap(made) == 3.0
    assert score_gap(Group("q", two, Labels((True, False)))) is None
    assert pair_of(Group("q", (*two, Completion("c")), Scores((1.0, 2.0, 3.0)))) is None


def test_score_gaps_are_bounded_and_pairs_without_scores_stay() -> None:
    gaps = {1: 0.1, 2: 0.2, 3: 0.5, 4: 0.6}
    rows = [pair("q", "a", "b", i, score_chosen=0.1 + gap, score_rejected=0.1) for i, gap in gaps.items()]
    kept, dropped = filters.limit_score_gap([*rows, pair("q", "a", "b", 5)], 0.2, 0.5)
    assert texts(kept) == ["f:2", "f:3", "f:5"]
    assert "below 0.2 (data.min_score_gap) or above 0.5 (data.max_score_gap)" in dropped.reason


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(1, 3), st.integers(0, 3))
def test_a_prompt_keeps_at_most_so_many(prompts: list[int], limit: int, seed: int) -> None:
    groups = [pair(f"q{p}", f"a{i}", "b", i) for i, p in enumerate(prompts)]
    kept, _ = filters.limit_per_prompt(groups, limit, seed)
    wanted = {prompt_key(g): 0 for g in groups} | Counter(prompt_key(g) for g in groups)
    assert Counter(prompt_key(g) for g in kept) == {key: min(limit, n) for key, n in wanted.items()}
    turned, _ = filters.limit_per_prompt(groups[::-1], limit, seed)
    assert turned == kept[::-1]  # which ones stay does not depend on the order of the rows


# --------------------------------------------------------------------------------------------------- mixing, splitting


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 12), min_size=1),
    st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0]),
    st.integers(0, 3),
)
def test_a_weight_is_a_number_of_copies(sizes: dict[str, int], weight: float, seed: int) -> None:
    sources = {name: [pair(f"{name}{i}", "a", "b") for i in range(n)] for name, n in sizes.items()}
    first = next(iter(sources))
    mixed = filters.mix(sources, {first: weight}, seed)
    counts = Counter(str(g.prompt) for g in mixed)
    for name, groups in sources.items():
        own = [counts[str(g.prompt)] for g in groups]
        if name != first:
            assert own == [1] * len(own)
            continue
        assert sum(own) == max(1, int(weight * len(own) + 0.5)) and max(own) - min(own) <= 1
    assert filters.mix(sources, {first: weight}, seed) == mixed


def test_a_half_is_another_half_with_another_seed() -> None:
    source = {"a": [pair(f"q{i}", "a", "b") for i in range(20)]}
    assert filters.mix(source, {"a": 0.5}, 0) != filters.mix(source, {"a": 0.5}, 1)
    assert filters.mix({**source, "b": source["a"][:1]}, {"a": 0.0}, 0) == source["a"][:1]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"hh_rlfh": 1.0}, "no such source; did you mean 'hh_rlhf'"),
        ({"hh_rlhf": -1.0}, "the weight of 'hh_rlhf' is -1"),
        ({"hh_rlhf": float("nan")}, "must be finite"),
        ({"hh_rlhf": 0.0}, "the weights leave no source"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(weights: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        filters.mix({"hh_rlhf": [pair("q", "a", "b")]}, weights, 0)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(0, 5), st.sampled_from([0.1, 0.5, 0.8]))
def test_no_prompt_is_on_both_sides_and_each_has_two_groups(prompts: list[int], seed: int, fraction: float) -> None:
    groups = [pair(f"Q {p}" if i % 2 else f"q  {p}", f"a{i}", "b", i) for i, p in enumerate(prompts)]
    sizes = list(Counter(prompts).values())
    try:
        train, held = filters.split_by_prompt(groups, fraction, seed)
    except DataError as error:
        assert f"{len(sizes)} different prompt" in str(error)
        assert len(groups) < 4 or len(sizes) < 4, "four prompts can always be divided in twos"
        return
    sides = {prompt_key(g) for g in train}, {prompt_key(g) for g in held}
    assert not sides[0] & sides[1] and len(train) + len(held) == len(groups)
    assert len(train) >= 2 and len(held) >= 2


def test_new_rows_move_no_prompt_to_the_other_side() -> None:
    groups = [pair(f"q{i}", "a", "b", i) for i in range(60)]
    train, held = filters.split_by_prompt(groups, 0.3, 0)
    more = [pair(f"new {i}", "a", "b") for i in range(5)]
    later = filters.split_by_prompt([*more, *groups], 0.3, 0)
    assert [g for g in later[0] if g not in more] == train and [g for g in later[1] if g not in more] == held


@pytest.mark.parametrize(("fraction", "held"), [(0.01, 2), (0.99, 4)])
def test_tiny_sets_leave_two_groups_on_each_side(fraction: float, held: int) -> None:
    groups = [pair(f"q{i}", "a", "b", i) for i in range(6)]
    for seed in range(20):
        sides = filters.split_by_prompt(groups, fraction, seed)
        assert [len(side) for side in sides] == [6 - held, held]
    with pytest.raises(DataError, match="3 groups with 3 different prompts cannot be divided"):
        filters.split_by_prompt(groups[:3], 0.5, 0)


def test_the_held_out_share_is_that_of_the_prompts() -> None:
    groups = [pair(f"q{i}", "a", "b") for i in range(4000)]
    _, held = filters.split_by_prompt(groups, 0.1, 0)
    assert abs(len(held) - 400) < 80  # four standard deviations
    with pytest.raises(DataError, match="1 group with 1 different prompt cannot be divided"):
        filters.split_by_prompt(groups[:1], 0.1, 0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        filters.split_by_prompt(groups, 1.0, 0)


# ------------------------------------------------------------------------------------------------------- all of them


def test_apply_tells_what_each_filter_left_out() -> None:
    rows = [
        pair("q", "aaa", "b", 1, score_chosen=3, score_rejected=1), pair("q", "aaa", "b", 2),
        pair("r", "a", "b", 3), pair("r", "b", "a", 4), pair("s", "x" * 50, "b", 5),
        pair("t", "a", "b", 6, score_chosen=3, score_rejected=2.9), Group("u", (Completion("a"),), where="f:7"),
    ]  # fmt: skip
    settings = SelectSettings(dedupe=True, contradictions="drop", max_length_gap=10, min_score_gap=1.0)
    kept, lines = filters.apply(rows, settings)
    assert texts(kept) == ["f:1", "f:7"]
    assert [line.split(":")[0] for line in lines] == [
        "1 group kept by data.max_length_gap, data.min_score_gap",
        "4 groups kept by data.min_score_gap",
        "1 group left out",
        "2 groups left out",
        "1 group left out",
        "1 group left out",
    ]
    assert filters.apply(rows, SelectSettings()) == (rows, [])


def test_apply_measures_each_answer_once_and_matches_last() -> None:
    measured: Counter[str] = Counter()

    def length(turns: str | tuple[Message, ...]) -> int:
        measured[str(turns)] += 1
        return len(str(turns))

    rows = [pair(f"q{i}", f"x{i}" + "x" * (i % 3), f"y{i}", i) for i in range(30)]
    rows += [pair(f"r{i}", f"x{i}", f"y{i}" + "y" * (i % 3), i) for i in range(30, 40)]
    settings = SelectSettings(max_length_gap=5, length_match=True, max_pairs_per_prompt=1)
    kept, _ = filters.apply(rows, settings, length, seed=1)
    gaps = [length(g.completions[0].messages) - length(g.completions[1].messages) for g in kept]
    assert sum(gap > 0 for gap in gaps) == sum(gap < 0 for gap in gaps) > 0
    assert filters.apply(rows, settings, seed=1) == filters.apply(rows, settings, seed=1)
    assert max(measured.values()) <= 2  # once by `apply`, once above


def test_filters_that_find_nothing_to_look_at_are_refused() -> None:
    single: list[Group] = [Group("q", (Completion("a"),), Labels((True,)))]
    with pytest.raises(ConfigError, match=r"data\.length_match looks at pairs, and the data holds none"):
        filters.apply(single, SelectSettings(length_match=True))
    with pytest.raises(ConfigError, match=r"data\.min_score_gap is set, and no pair of the data has scores"):
        filters.apply([pair("q", "a", "b")], SelectSettings(min_score_gap=1.0))
    with pytest.raises(DataError, match="leave nothing of the data: 1 group left out"):
        filters.apply([pair("q", "aaaa", "b")], SelectSettings(max_length_gap=1))


@pytest.mark.parametrize(
    "settings",
    [
        {"contradictions": "majority"},
        {"max_length_gap": -1},
        {"min_score_gap": float("nan")},
        {"min_score_gap": 2.0, "max_score_gap": 1.0},
        {"max_pairs_per_prompt": 0},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{next(iter(settings))} "):
        SelectSettings(**settings)


def test_settings_are_read_off_a_table() -> None:
    class Table:
        train, dedupe, contradictions, max_length_gap, length_match = "x", True, "drop", 3, False
        min_score_gap = max_score_gap = max_pairs_per_prompt = None

    assert SelectSettings.of(Table()) == SelectSettings(dedupe=True, contradictions="drop", max_length_gap=3)


def test_feedback_kinds_tell_their_pair() -> None:
    two = (Completion("a"), Completion("b"))
    found: list[tuple[Feedback, tuple[int, int] | None]] = [
        (Scores((0.0, 1.0)), (1, 0)), (Scores((1.0, 1.0)), None), (Labels((True, False)), (0, 1)),
        (Labels((True, True)), None), (Preferences(((1, 0, 1.0), (1, 0, 2.0))), (1, 0)),
        (Preferences(((1, 0, 1.0), (0, 1, 1.0))), None), (Unjudged(), None),
    ]  # fmt: skip
    assert [pair_of(Group("q", two, feedback)) for feedback, _ in found] == [expected for _, expected in found]
