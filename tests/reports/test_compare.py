"""Several runs side by side: levels by their formula, orders that the noise allows, and what is not compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish.reports.compare import levels
from burnish.reports.compare.picks import pick
from burnish.reports.compare.quality import ACCURACY, GOLD, Quality
from burnish.reports.compare.tracks import Track, track_of
from burnish.reports.history import read_history
from tests.reports.logs import write_run
from tests.runs.cli import burnish


def compared(capsys: pytest.CaptureFixture[str], *folders: Path) -> Any:
    capsys.readouterr()
    assert burnish("compare", *map(str, folders), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert burnish("compare", *map(str, folders)) == 0
    return found


def test_at_equal_kl_cost_and_best_each_run_is_read_at_its_own_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run gains more a step, the other more a nat: which is best depends on what is held equal."""
    fast = write_run(tmp_path / "fast", lambda t: 0.3 + 0.4 * t, kl=lambda t: 8 * t, noise=0.005)
    thrifty = write_run(tmp_path / "thrifty", lambda t: 0.3 + 0.2 * t, kl=lambda t: 2 * t, noise=0.005)
    found = compared(capsys, fast, thrifty)
    last = found["equal_kl"][-1]  # the least of both highest: 2 nats, where one has gained 0.1 and the other 0.2
    assert last["order"] == "thrifty > fast"
    assert last["runs"]["thrifty"]["value"][0] - last["runs"]["fast"]["value"][0] == pytest.approx(0.1, abs=0.02)
    assert found["best"]["fast"]["value"][0] > found["best"]["thrifty"]["value"][0]
    assert {row["order"] for row in found["equal_cost"]} == {"fast > thrifty"}
    assert found["pick"]["run"] == "fast" and found["pick"]["measure"] == GOLD


def test_runs_that_are_alike_are_not_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / name, lambda t: 0.4 + 0.1 * t, seed=s) for s, name in enumerate("ab")]
    found = compared(capsys, *runs)
    assert all("~" in row["order"] for row in found["equal_kl"][1:])
    assert "not told apart" in " ".join(found["pick"]["reasons"])


def test_the_same_prompts_are_paired_and_signed_second_minus_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low = write_run(tmp_path / "low", lambda t: 0.4, answers=True)
    high = write_run(tmp_path / "high", lambda t: 0.5, answers=True, seed=1)
    (row,) = compared(capsys, low, high)["paired"]
    assert (row["first"], row["second"], row["prompts"]) == ("low", "high", 30)
    assert row["value"][0] == pytest.approx(0.1, abs=0.02) and row["value"][1] > 0 and row["p_holm"] < 1e-3


def test_what_runs_do_not_share_is_said_and_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "one", lambda t: 0.4)
    other = write_run(
        tmp_path / "other", lambda t: 0.5, words=("objective.name=grpo", "gold.name=length", "gold.target=9")
    )
    none = write_run(tmp_path / "none", None, steps=1)
    found = compared(capsys, one, other, none)
    said = " ".join(found["caveats"])
    assert "objectives differ" in said and "[gold] differs" in said
    assert GOLD not in found["quality"] and not found["paired"]
    assert {row["key"] for row in found["differing"]} >= {"objective.name", "gold.name"}


def test_the_interval_of_a_window_holds_the_mean_under_a_trend() -> None:
    """2,000 tracks with a trend and noise: the interval holds the trend's mean over the window in 95 % of them."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(2000):
        t = np.arange(60.0)
        values = 0.01 * t + rng.normal(0, 0.1, 60)
        track = Track("r", t.astype(np.int64), {"gold": values, "kl/answer": t}, {})
        level = levels.level_at(track, 40, "gold")
        assert level is not None
        held += level.low <= 0.01 * (40 - (track.window - 1) / 2) <= level.high
    assert 0.93 < held / 2000 < 0.975


def test_costs_count_what_came_before_a_refresh(tmp_path: Path) -> None:
    track = track_of(read_history(write_run(tmp_path / "r", lambda t: 0.5, steps=10)))
    assert track.costs["seconds"].tolist() == [float(i) for i in range(10)]
    assert track.costs["labels"].tolist() == [48.0 * (i + 1) for i in range(10)]


def quality(low: float, kl: float = 1.0, measure: str = GOLD) -> Quality:
    return Quality(measure, low + 0.05, low, low + 0.1, kl)


def test_the_pick_is_the_highest_lower_bound_within_the_kl() -> None:
    known = {GOLD: [quality(0.5), quality(0.7, kl=20.0), quality(0.6)], ACCURACY: [quality(0.9, measure=ACCURACY)] * 3}
    chosen = pick(["a", "b", "c"], known, [10.0] * 3, [])
    assert (chosen.run, chosen.runner_up, chosen.measure) == ("c", "a", GOLD)
    assert any("b was left out" in reason for reason in chosen.reasons)
    assert pick(["a"], {}, [None], []).run == ""
    alone = pick(["a", "b"], {ACCURACY: [quality(0.5, measure=ACCURACY), None]}, [None, None], [])
    assert alone.run == "a" and any("b had no" in reason for reason in alone.reasons)
