"""Cleaning steps against slow loops."""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.data.events.clean import compact, find_duplicates, index_ids, k_core, tidy_up, time_order
from recray.schema import DataError

int64s = st.integers(-(2**63), 2**63 - 1)


def _in_bytes(value: Any) -> Any:
    """What ids are ordered by: text by its UTF-8, numbers as they are."""
    return value.encode() if isinstance(value, str) else value


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.lists(st.integers(-50, 50), min_size=1),
        st.lists(int64s, min_size=1),
        st.lists(st.text(max_size=3), min_size=1),
    )
)
def test_ids_become_ranks_among_the_distinct(ids: list[int] | list[str]) -> None:
    index = index_ids(pl.Series(ids))
    distinct: list[Any] = sorted(set(ids), key=_in_bytes)
    assert index.raw_ids.to_list() == distinct
    assert index.codes_N.tolist() == [distinct.index(i) for i in ids]
    assert index.codes_N.dtype == np.int32


def test_compact_closes_holes() -> None:
    codes, kept = compact(np.array([7, 2, 7, 9]), 12)
    assert codes.tolist() == [1, 0, 1, 2]
    assert kept.tolist() == [2, 7, 9]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([1.0, 2.5]), st.integers(0, 2)),
        min_size=1,
    )
)
def test_duplicates_match_a_slow_loop(rows: list[tuple[int, int, float, int]]) -> None:
    users, items, ratings, times = (np.array(c) for c in zip(*rows, strict=True))
    told_by = {"rating": ratings.astype(np.float32), "timestamp": times}
    found = find_duplicates(users.astype(np.int32), items.astype(np.int32), told_by)
    keep = [row not in rows[:n] for n, row in enumerate(rows)]
    assert found.keep_N.tolist() == keep
    assert found.num_exact == keep.count(False)
    assert found.num_repeated_pairs == len(rows) - len({row[:2] for row in rows})


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60), st.integers(1, 4))
def test_k_core_matches_removing_one_row_at_a_time(pairs: list[tuple[int, int]], k: int) -> None:
    left = list(enumerate(pairs))
    while True:
        users, items = Counter(u for _, (u, _) in left), Counter(i for _, (_, i) in left)
        weak = [row for row in left if users[row[1][0]] < k or items[row[1][1]] < k]
        if not weak:
            break
        left.remove(weak[0])
    users_N, items_N = (np.array([p[c] for p in pairs], dtype=np.int32) for c in (0, 1))
    assert np.flatnonzero(k_core(users_N, items_N, k)).tolist() == [n for n, _ in left]


@settings(max_examples=80, deadline=None)
@given(st.one_of(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 2**62))))
def test_time_order_is_a_stable_sort(times: list[int]) -> None:
    expected = sorted(range(len(times)), key=lambda n: times[n])
    assert time_order(np.array(times, dtype=np.int64)).tolist() == expected


def raw(rows: list[tuple[int, int, float, int]]) -> pl.DataFrame:
    schema = {"user": pl.Int64, "item": pl.Int64, "rating": pl.Float32, "timestamp": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_tidy_up_counts_what_it_drops() -> None:
    rows = [(5, 1, 1.0, 9), (5, 1, 1.0, 9), (5, 2, 1.0, 8), (6, 1, 1.0, 7), (6, 2, 1.0, 7), (7, 3, 1.0, 1)]
    tidy = tidy_up(raw(rows), 2)
    assert tidy.rows._asdict() == {
        "read": 6,
        "exact_duplicates": 1,
        "repeated_pairs": 0,
        "dropped_by_k_core": 1,
        "out_of_order": 3,
    }
    assert tidy.raw_users.to_list() == ["5", "6"]
    assert tidy.raw_items.to_list() == ["1", "2"]
    assert tidy.events.user_ids_N.tolist() == [1, 1, 0, 0]
    assert tidy.events.item_ids_N.tolist() == [0, 1, 1, 0]
    assert tidy.events.timestamps_N.tolist() == [7, 7, 8, 9]


def test_a_k_core_of_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="k_core=3"):
        tidy_up(raw([(1, 1, 1.0, 1), (2, 2, 1.0, 2)]), 3)
