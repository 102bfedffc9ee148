"""Numbers of items that the test was counted into, against what is known of items without it."""

import numpy as np
import polars as pl
import pytest

from recray.monitor.group_leaks import LABEL, LATER, means_over_test

NUM_ITEMS = 2_000


def rows(a: float, b: float, seed: int = 0) -> pl.DataFrame:
    """About six rows of each item, its rate of clicks drawn from Beta(a, b); every fifth row is later."""
    rng = np.random.default_rng(seed)
    rates_I = rng.beta(a, b, NUM_ITEMS)
    item_N = np.repeat(np.arange(NUM_ITEMS), 1 + rng.poisson(5, NUM_ITEMS))
    clicks_N = (rng.random(len(item_N)) < rates_I[item_N]).astype(np.int64)
    before_N = rng.random(len(item_N)) < 0.8
    count_I, clicks_I = np.bincount(item_N), np.bincount(item_N, clicks_N)
    trained_I = np.bincount(item_N[before_N], minlength=NUM_ITEMS)
    in_training_I = np.bincount(item_N[before_N], clicks_N[before_N], NUM_ITEMS)
    known_I = {
        "mean": clicks_I / count_I,
        "smoothed": (clicks_I + 1) / (count_I + 5),
        "total": clicks_I,
        "training_mean": in_training_I / trained_I.clip(1),
        "rate": rates_I,
        "price": rates_I + rng.normal(0, 0.3, NUM_ITEMS),
        "one": np.ones(NUM_ITEMS),
    }
    columns = {name: values_I[item_N] for name, values_I in known_I.items()}
    frame = pl.DataFrame({"item": item_N, **columns, LABEL: clicks_N, LATER: ~before_N})
    return frame.with_columns(own=pl.Series(clicks_N + rng.normal(size=len(item_N))))


@pytest.mark.parametrize(("a", "b"), [(1, 1), (0.2, 0.2), (1, 4), (0.3, 3)])
def test_means_over_the_test_are_found_and_what_is_known_of_items_is_not(a: float, b: float) -> None:
    frame = rows(a, b)
    names = [name for name in frame.columns if name not in ("item", LABEL, LATER)]
    found = means_over_test(frame, "item", names)
    assert set(found) == {"mean", "smoothed", "total"}
    assert {leak.number for leak in found.values()} == {1.0}
    assert "count mean up to each row" in found["mean"].text


def test_few_items_say_nothing() -> None:
    assert means_over_test(rows(1, 1).head(60), "item", ["mean"]) == {}
    assert means_over_test(rows(1, 1).head(0), "item", ["mean"]) == {}
    assert means_over_test(rows(1, 1), "item", []) == {}
