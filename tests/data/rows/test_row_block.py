"""Rows in memory: choosing, cutting and joining them against plain Python lists."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recray.data.row_block import MultiHot, RowBlock, session_groups
from tests.data.made_rows import block_of

Row = tuple[Any, ...]
seeds = st.integers(0, 1000)


def rows_of(block: RowBlock) -> list[Row]:
    many = block.ids["many"]
    assert isinstance(many, MultiHot)
    hot = [tuple(many.values[a:b].tolist()) for a, b in pairwise(many.offsets_N.tolist())]
    columns = (
        block.dense_NF[:, 0].tolist(),
        np.asarray(block.ids["one"]).tolist(),
        hot,
        block.labels_N.tolist(),
    )
    return list(zip(*columns, strict=True))


def units_of(block: RowBlock) -> list[list[Row]]:
    rows = rows_of(block)
    offsets = range(len(rows) + 1) if block.offsets_S is None else block.offsets_S.tolist()
    return [rows[a:b] for a, b in pairwise(offsets)]


@given(seeds, st.integers(0, 80), st.booleans(), st.data())
def test_select_slice_and_concat(seed: int, num_rows: int, sessions: bool, data: st.DataObject) -> None:
    block = block_of(num_rows, sessions=sessions and num_rows > 0, seed=seed)
    units = units_of(block)
    assert block.num_units == len(units)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(units))] * 2)))
    assert units_of(block.slice(start, stop)) == units[start:stop]
    if units:
        chosen = data.draw(st.lists(st.integers(0, len(units) - 1), max_size=20))
        picked = block.select(np.array(chosen, dtype=np.int64))
        assert units_of(picked) == [units[n] for n in chosen]
        joined = RowBlock.concat([block.slice(start, stop), picked, RowBlock.empty(block.schema)])
        assert units_of(joined) == units[start:stop] + [units[n] for n in chosen]


@given(seeds, st.integers(1, 80), st.booleans())
def test_a_table_and_back(seed: int, num_rows: int, sessions: bool) -> None:
    block = block_of(num_rows, sessions=sessions, seed=seed)
    table = block.to_table(first_session=7)
    half = num_rows // 2
    if sessions:
        assert table["session"].to_pylist()[0] == 7
    else:
        assert rows_of(RowBlock.from_table(block.schema, table.slice(half))) == rows_of(block)[half:]
    again = RowBlock.from_table(block.schema, table)
    assert units_of(again) == units_of(block)
    assert np.array_equal(again.dense_NF, block.dense_NF, equal_nan=True)


@given(seeds, st.integers(1, 80))
def test_a_batch_is_feature_by_feature(seed: int, num_rows: int) -> None:
    block = block_of(num_rows, seed=seed)
    batch = block.to_batch(total=99)
    assert (batch.total, batch.size) == (99, num_rows)
    one, many = batch.sparse.lengths_FB.tolist()
    assert one == [1] * num_rows
    hot = block.ids["many"]
    assert isinstance(hot, MultiHot)
    assert many == np.diff(hot.offsets_N).tolist()
    assert batch.sparse.values_N.tolist() == [*np.asarray(block.ids["one"]).tolist(), *hot.values.tolist()]


@given(st.lists(st.integers(1, 12), max_size=30), st.integers(1, 10))
def test_groups_hold_whole_sessions_and_as_many_as_fit(sizes: list[int], most: int) -> None:
    groups = session_groups(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), most)
    assert [n for a, b in groups for n in range(a, b)] == list(range(len(sizes)))
    for (a, b), after in zip(groups, [*groups[1:], None], strict=False):
        assert sum(sizes[a:b]) <= most or b == a + 1
        assert after is None or sum(sizes[a : b + 1]) > most
