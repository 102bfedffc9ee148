"""Batches of rows: exactly once per epoch, the same for any number of workers, resumable anywhere."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recray.batch import RankingBatch
from recray.config import ConfigError
from recray.data.batches.rows import MemoryRows, StreamedRows
from recray.data.rows.table import RowTable
from recray.train.loop import Batch, BatchSource
from tests.data.made_rows import block_of, numbers, same_batch, table_of


def in_memory(table: RowTable, part: str, size: int, seed: int = 0, *, shuffle: bool = True) -> MemoryRows:
    return MemoryRows(table.read(part), size, seed, shuffle=shuffle)


Kind = Callable[..., Any]
SOURCES = [in_memory, StreamedRows]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, RowTable]:
    folder = tmp_path_factory.mktemp("rows")
    sizes = {"train": 20_000, "validation": 500, "test": 500}
    return {s: table_of(folder / f"made-{s}", sessions=s, sizes=sizes) for s in (False, True)}


def epoch(source: Any, number: int = 0, rank: int = 0, world_size: int = 1) -> list[RankingBatch]:
    return [source.batch(number, step, rank, world_size) for step in range(source.num_steps())]


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("sessions", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_row_exactly_once_per_epoch_over_all_workers(
    tables: dict[bool, RowTable], kind: Kind, sessions: bool, world_size: int
) -> None:
    table = tables[sessions]
    size = 150 if sessions else 1700
    seen = [
        n
        for rank in range(world_size)
        for n in numbers(epoch(kind(table, "train", size, seed=3), rank=rank, world_size=world_size))
    ]
    assert sorted(seen) == list(range(20_000))


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("sessions", [False, True])
def test_any_number_of_workers_sees_the_same_global_batch(
    tables: dict[bool, RowTable], kind: Kind, sessions: bool
) -> None:
    whole = kind(tables[sessions], "train", 333, seed=1)
    shares = [kind(tables[sessions], "train", 333, seed=1) for _ in range(3)]
    for step in range(whole.num_steps()):
        batch = whole.batch(2, step)
        parts = [source.batch(2, step, rank, 3) for rank, source in enumerate(shares)]
        assert numbers(parts) == numbers([batch])
        assert {part.total for part in parts} == {batch.total} == {batch.size}
        assert sum(part.size for part in parts) == batch.size
        assert max(part.size for part in parts) - min(part.size for part in parts) <= 1


@pytest.mark.parametrize("kind", SOURCES)
def test_a_batch_is_a_pure_function_of_its_place(tables: dict[bool, RowTable], kind: Kind) -> None:
    in_order = kind(tables[False], "train", 900, seed=5)
    wanted = {(e, s): in_order.batch(e, s, 1, 2) for e in (0, 1) for s in range(in_order.num_steps())}
    other = kind(tables[False], "train", 900, seed=5)
    for e, s in [(1, 7), (0, 3), (0, 4), (0, 4), (1, 22), (0, 22), (1, 0)]:
        assert same_batch(other.batch(e, s, 1, 2), wanted[e, s])
    assert not same_batch(wanted[0, 0], wanted[1, 0])
    assert not same_batch(kind(tables[False], "train", 900, seed=6).batch(0, 0, 1, 2), wanted[0, 0])


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_keep_their_features_labels_and_sessions(tables: dict[bool, RowTable], kind: Kind) -> None:
    source = block_of(20_000, sessions=True)
    assert source.offsets_S is not None
    start_of = {int(source.dense_NF[a, 0]): int(b - a) for a, b in pairwise(source.offsets_S)}
    for batch in epoch(kind(tables[True], "train", 100)):
        rows = np.array(numbers([batch]))
        wanted = source._rows(rows, None).to_batch()
        assert same_batch(batch._replace(offsets_S=None, total=0), wanted)
        assert batch.offsets_S is not None
        for a, b in pairwise(batch.offsets_S.tolist()):
            assert start_of[rows[a]] == b - a
            assert (np.diff(rows[a:b]) == 1).all()


@pytest.mark.parametrize("kind", SOURCES)
def test_unshuffled_rows_come_in_the_order_of_the_source(tables: dict[bool, RowTable], kind: Kind) -> None:
    assert numbers(epoch(kind(tables[False], "train", 999, shuffle=False))) == list(range(20_000))


def test_streamed_rows_are_mixed_within_and_across_groups(tables: dict[bool, RowTable]) -> None:
    rows = numbers(epoch(StreamedRows(tables[False], "train", 4096)))
    groups = [n // 4096 for n in rows]
    assert sum(a != b for a, b in pairwise(groups)) == 4
    assert list(dict.fromkeys(groups)) != sorted(set(groups))
    assert sum(b - a == 1 for a, b in pairwise(rows)) < 30


@pytest.mark.parametrize("kind", SOURCES)
def test_fewer_units_than_workers_give_empty_shares(tmp_path: Path, kind: Kind) -> None:
    table = table_of(tmp_path / "made", sizes={"train": 5, "validation": 5, "test": 5})
    batches = [kind(table, "train", 2).batch(0, 0, rank, 4) for rank in range(4)]
    assert [batch.size for batch in batches].count(0) >= 2
    empty = next(batch for batch in batches if not batch.size)
    assert empty.sparse.lengths_FB.shape == (2, 0)
    assert empty.dense_BF.shape == (0, 2)
    assert empty.to(torch.device("cpu")).total > 0


@pytest.mark.parametrize("kind", SOURCES)
def test_they_are_what_the_loop_takes(tables: dict[bool, RowTable], kind: Kind) -> None:
    source: BatchSource = kind(tables[False], "train", 512)
    batch: Batch = source.batch(0, 0)
    assert batch.size == batch.total <= 512
    assert source.num_steps() == 40


@pytest.mark.parametrize("kind", SOURCES)
def test_mistakes_are_named(tables: dict[bool, RowTable], kind: Kind) -> None:
    with pytest.raises(ConfigError, match="global_batch_size must be at least 1, got 0"):
        kind(tables[False], "train", 0)
    source = kind(tables[False], "train", 512)
    with pytest.raises(ConfigError, match=r"step must be in 0..39, got 40"):
        source.batch(0, 40)
    with pytest.raises(ConfigError, match=r"rank must be in 0..1, got 2"):
        source.batch(0, 0, 2, 2)
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        kind(tables[False], "trian", 512)
    with pytest.raises(ConfigError, match="'threads' or 'ray'"):
        StreamedRows(tables[False], "train", 512, reader="dask")  # type: ignore[arg-type]
