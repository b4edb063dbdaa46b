"""What errors say: the nearest name, where one is near enough."""

from __future__ import annotations

from burnish.errors import did_you_mean


def test_the_nearest_name_is_proposed() -> None:
    assert did_you_mean("dpoo", ["kto", "dpo", "ipo"]) == "; did you mean 'dpo'?"
    assert did_you_mean("bta", {"beta": 0.1}, prefix="objective.") == "; did you mean 'objective.beta'?"


def test_far_names_are_not_proposed() -> None:
    assert did_you_mean("zzz", ["kto", "dpo"]) == ""
    assert did_you_mean("zzz", []) == ""
    assert did_you_mean("dpx", ["dpo"], cutoff=0.9) == ""
    assert did_you_mean("zzz", ["dpo"], cutoff=0.0) == "; did you mean 'dpo'?"
