"""Every leak in rows to rank, planted and found with its number; and none where there is none."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from recray.arrays import Float64s
from recray.monitor.leaks import LEAKS, Leak, require_none, write_leaks
from recray.monitor.row_leaks import (
    Column,
    copied_rows,
    is_copied,
    later_times,
    split_by_chance,
    telling_column,
    telling_words,
)
from recray.schema import DataError

NUM_ROWS = 4_000


def labels(seed: int) -> Float64s:
    return (np.random.default_rng(seed).random(NUM_ROWS) < 0.2).astype(np.float64)


def noisy(labels_N: Float64s, flipped: float, seed: int = 0) -> Float64s:
    """The label, told wrongly for a share of the rows."""
    flips_N = np.random.default_rng([seed, 9]).random(len(labels_N)) < flipped
    return np.where(flips_N, 1 - labels_N, labels_N)


def test_numbers_that_tell_the_label() -> None:
    train, test = labels(0), labels(1)
    rng = np.random.default_rng(2)

    def column(labels_N: Float64s, weight: float) -> Column:
        return Column("dwell_s", weight * labels_N + rng.normal(size=NUM_ROWS), labels_N)

    assert telling_column(column(train, 1.5), column(test, 1.5), bins=64) is None  # strong, and honest
    leak = telling_column(column(train, 4.0), column(test, 4.0), bins=64)
    assert leak is not None
    exact = roc_auc_score(test, 4.0 * test + np.random.default_rng(3).normal(size=NUM_ROWS))
    assert leak.number == pytest.approx(exact, abs=0.01)
    middle = [
        Column("code", np.where(y == 1, 5.0, rng.choice([1.0, 9.0], NUM_ROWS)), y) for y in (train, test)
    ]
    assert telling_column(*middle, bins=64) is not None  # neither high nor low
    gone = [Column("paid_at", np.where(noisy(y, 0.02) == 1, 7.0, np.nan), y) for y in (train, test)]
    assert telling_column(*gone, bins=64) is not None  # missing where there was no click


def test_a_column_without_values_tells_nothing() -> None:
    nothing = [Column("I13", np.full(NUM_ROWS, np.nan), y) for y in (labels(0), labels(1))]
    assert telling_column(*nothing, bins=64) is None


def test_categories_that_tell_the_label() -> None:
    train, test = labels(0), labels(1)
    rng = np.random.default_rng(2)
    kinds = [Column("slot", rng.integers(5, size=NUM_ROWS).astype(np.float64), y) for y in (train, test)]
    assert telling_column(*kinds) is None
    names = [Column("row_id", np.arange(1, NUM_ROWS + 1).astype(np.float64), y) for y in (train, test)]
    assert telling_column(names[0], names[1]._replace(values_N=np.zeros(NUM_ROWS))) is None  # learnt by heart
    told = [
        Column("state", (2 * noisy(y, 0.01) + rng.integers(2, size=NUM_ROWS)).astype(np.float64), y)
        for y in (train, test)
    ]
    leak = telling_column(*told)
    assert leak is not None
    assert leak.number == pytest.approx(roc_auc_score(test, noisy(test, 0.01)), abs=0.01)
    assert "ignore=state" in leak.text
    assert telling_column(told[0], told[1]._replace(labels_N=np.ones(NUM_ROWS))) is None


def test_the_evidence_is_counted_and_names_raw_values() -> None:
    parts = [
        Column("state", labels_N, labels_N, ("any other value", "bought")) for labels_N in map(labels, (0, 1))
    ]
    leak = telling_column(*parts)
    assert leak is not None
    assert "rows with the same value nearly all have the same label" in leak.text
    clicks = int(parts[0].labels_N.sum())
    assert sorted(leak.examples) == [
        f"state any other value: 0.0% of {NUM_ROWS - clicks:,} are clicks",
        f"state bought: 100.0% of {clicks:,} are clicks",
    ]
    rows = pl.DataFrame({"state": [1] * 30, "price": list(range(30))})
    copied = copied_rows(rows, rows, {"state": ("any other value", "bought")})
    assert copied is not None
    assert copied.examples[1] == "test row 2: bought, 1"


def test_test_rows_that_stand_in_training() -> None:
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"x": rng.normal(size=NUM_ROWS), "kind": rng.integers(5, size=NUM_ROWS)})
    train, test = rows[:3_000], rows[3_000:]
    assert copied_rows(train, test) is None
    leak = copied_rows(train, pl.concat([test, train[:100]]))
    assert leak is not None
    assert leak.number == pytest.approx(100 / 1_100)
    assert leak.examples[0].startswith("test row 1001: ")
    few = pl.DataFrame({"kind": rng.integers(5, size=NUM_ROWS)})  # equal by nature
    assert copied_rows(few[:3_000], few[3_000:]) is None
    lists = rows.with_columns(tags=pl.concat_list("kind", "kind"))
    assert copied_rows(lists[:3_000], pl.concat([lists[3_000:], lists[:100]])) is not None


@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_table_appended_to_itself_and_split_by_chance(times: int) -> None:
    """Training has as many twins as the test has copies there: their numbers tell, not their share."""
    rng = np.random.default_rng(times)
    rows = pl.DataFrame({"x": rng.normal(size=NUM_ROWS), "kind": rng.integers(5, size=NUM_ROWS)})
    doubled = pl.concat([rows] * times).sample(fraction=1, shuffle=True, seed=0)
    train, test = doubled[: len(doubled) * 4 // 5], doubled[len(doubled) * 9 // 10 :]
    leak = copied_rows(train, test)
    assert leak is not None
    there = set(train.rows())
    assert leak.number == pytest.approx(np.mean([row in there for row in test.rows()]))
    assert "as if the table were appended to itself" in leak.text


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 20_000), st.floats(0.2, 3.0), st.integers(100, 20_000))
def test_rows_that_are_equal_by_chance_are_no_copies(seed: int, kinds: int, tail: float, size: int) -> None:
    rng = np.random.default_rng(seed)
    odds = rng.pareto(tail, kinds) + 1e-9
    assert not is_copied(pl.Series(rng.choice(kinds, size, p=odds / odds.sum())))


def test_times_of_the_target_that_are_no_times_of_the_request() -> None:
    rng = np.random.default_rng(0)
    asked_N = np.sort(rng.integers(0, 30 * 86_400, NUM_ROWS)).astype(np.float64) + 1.7e9
    before_N = asked_N - rng.integers(0, 20 * 86_400, NUM_ROWS)
    price_N = rng.gamma(2, 10, NUM_ROWS)
    for harmless_N in (before_N, price_N, np.full(NUM_ROWS, np.nan)):
        assert later_times("x", harmless_N, asked_N) is None
    after_N = np.where(labels(0) == 1, asked_N + rng.integers(1, 600, NUM_ROWS), np.nan)
    leak = later_times("clicked_at", after_N, asked_N)
    assert leak is not None
    assert leak.number == 1.0
    assert "ignore=clicked_at" in leak.text


def test_words_that_tell_the_label() -> None:
    rng = np.random.default_rng(0)
    words = np.array(["red", "blue", "offer", "new", "shoes", "hat"])
    labels_N = labels(0) == 1
    texts = [" ".join(rng.choice(words, 4)) for _ in range(NUM_ROWS)]
    assert telling_words("note", pl.Series(texts), labels_N) is None
    told = [f"{text} Sold!" if sold else text for text, sold in zip(texts, labels_N, strict=True)]
    leak = telling_words("note", pl.Series([*told[:-1], None]), labels_N)
    assert leak is not None
    assert "'sold'" in leak.text
    assert leak.number > 0.99


def test_a_split_by_chance_of_rows_with_times() -> None:
    assert split_by_chance("time", 0.0) is None
    leak = split_by_chance("time", 0.999)
    assert leak is not None
    assert "split=time" in leak.text


def test_strict_refuses_and_bundles_keep_what_was_found(tmp_path: Path) -> None:
    require_none([])
    leak = Leak(kind="ties sorted by item", number=1.0, text="sorted", examples=("user 'a'",))
    with pytest.raises(DataError, match="1 leak, and strict was asked for:\nties sorted by item: sorted"):
        require_none([leak])
    write_leaks(tmp_path, [leak])
    [kept] = json.loads((tmp_path / LEAKS).read_text())
    assert kept == {"kind": "ties sorted by item", "number": 1.0, "text": "sorted", "examples": ["user 'a'"]}
