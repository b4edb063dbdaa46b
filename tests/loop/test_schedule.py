"""Which rates are called far from what was published."""

from __future__ import annotations

from burnish.loop.schedule import lr_advice


def test_advice_only_beyond_ten_times_what_was_published() -> None:
    published = (5e-7, 1e-6)
    for lr, adapter in ((5.1e-8, False), (9.9e-6, False), (5.1e-7, True), (9.9e-5, True)):
        assert lr_advice("dpo", lr, published, adapter) is None
    for lr, adapter, word in ((4.9e-8, False, "far below"), (1.1e-5, False, "far above"), (1.1e-4, True, "far above")):
        told = lr_advice("dpo", lr, published, adapter)
        assert told is not None and word in told and "dpo" in told
