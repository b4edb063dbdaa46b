"""Which rates are called far from what was published."""

from __future__ import annotations

from burnish.loop.schedule import lr_advice, steps_advice


def test_advice_only_beyond_ten_times_what_was_published() -> None:
    published = (5e-7, 1e-6)
    for lr, adapter in ((5.1e-8, False), (9.9e-6, False), (5.1e-7, True), (9.9e-5, True)):
        assert lr_advice("dpo", lr, published, adapter) is None
    for lr, adapter, word in ((4.9e-8, False, "far below"), (1.1e-5, False, "far above"), (1.1e-4, True, "far above")):
        told = lr_advice("dpo", lr, published, adapter)
        assert told is not None and word in told and "dpo" in told


def test_few_steps_are_told_what_gives_more_and_allow_a_higher_rate() -> None:
    line = steps_advice(2, 36, 32)
    assert line is not None and "36 groups in steps of 32 make 2 steps" in line
    assert "optim.groups_per_step=4 optim.epochs=6" in line  # 54 steps
    assert steps_advice(50, 36, 32) is None
    assert "1 group in steps of 32 make 1 step," in str(steps_advice(1, 1, 32))
    published = (5e-8, 1e-6)
    assert lr_advice("dpo", 2e-4, published, True, 24) is None
    assert "far above" in str(lr_advice("dpo", 2e-4, published, True, 1000))


def test_a_named_number_of_steps_is_spoken_of_where_the_set_is_smaller_than_one_or_they_are_two() -> None:
    assert "3 groups for steps of 32 (optim.groups_per_step): a step takes each 11 times" in str(
        steps_advice(60, 3, 32, fixed=True)
    )
    assert "3 groups for steps of 4" in str(steps_advice(60, 3, 4)), "epochs enough for 60 steps change nothing"
    assert "2 steps in all" in str(steps_advice(2, 64, 32, fixed=True))
    assert steps_advice(3, 32, 32, fixed=True) is None
