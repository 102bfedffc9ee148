"""Histories that are told little by little."""

import numpy as np

from recray.features.histories import Histories


def test_a_history_is_by_time_and_ties_are_in_the_order_of_telling() -> None:
    rng, histories = np.random.default_rng(0), Histories[str]()
    told: list[tuple[int, int]] = [(n, int(rng.integers(0, 40))) for n in range(300)]
    for start in range(0, 300, 7):
        histories.add({"u": told[start : start + 7], f"other {start}": [(9, 9)]})
    for time in (0, 1, 20, 40, 99):
        meant = sorted((one for one in told if one[1] < time), key=lambda one: one[1])
        found = histories.before("u", time)
        assert (None if found is None else list(zip(*map(np.ndarray.tolist, found), strict=True))) == (
            meant or None
        )
    assert histories.before("nobody", 99) is None
