"""A log read in pieces is the log, and no answer is cut."""

import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recray.event_log.pieces import newest, pieces
from recray.event_log.reading import read
from recray.event_log.writer import LogWriter
from tests.event_log.logged import AT, answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Partitions of two hours, by two nodes, and what is live; three items an answer."""
    for node, first in (("a", 0), ("b", 3_600)):
        log = LogWriter(tmp_path, node)
        log.expose([answer(first + n, features=n % 2 == 0) for n in range(20)])
        log.compact()
        log.expose([answer(first + 20 + n) for n in range(3)])
        log.close()
    return tmp_path


@pytest.mark.parametrize("rows", [1, 2, 7, 1_000])
def test_pieces_are_the_log(folder: Path, rows: int) -> None:
    found = list(pieces(folder, lambda _: True, rows=rows))
    assert all(set(piece.group_by("request_id").len()["len"]) == {3} for piece in found)
    assert rows > 60 or len(found) > 2
    whole = read(folder).shown.sort("node", "seq", "rank")
    together = pl.concat(found, how="diagonal").sort("node", "seq", "rank")
    assert_frame_equal(together.select(whole.columns), whole)


def test_of_a_time_and_by_column(folder: Path) -> None:
    (piece, *more) = pieces(folder, "item_id".__eq__, since=AT + 2, until=AT + 4)
    assert not more
    assert set(piece.columns) == {"at", "node", "seq", "item_id"}
    assert piece["at"].unique().sort().to_list() == [AT + 2, AT + 3]


@pytest.mark.parametrize(
    ("answers", "first"), [(1, 3_622), (3, 3_620), (4, 3_619), (23, 3_600), (24, 22), (99, 0)]
)
def test_the_last_so_many(folder: Path, answers: int, first: int) -> None:
    assert newest(folder, answers) == AT + first


def test_a_column_that_files_are_older_than_is_null(folder: Path) -> None:
    for file in folder.glob("shown/*/*/*.parquet"):
        pl.read_parquet(file, hive_partitioning=False).drop("named", "brought").write_parquet(file)
    for log in (folder / "live").glob("*.sqlite"):
        with closing(sqlite3.connect(log)) as live, live:
            live.execute("update shown set body = cast(json_remove(cast(body as text), '$.named') as blob)")
    found = pl.concat(pieces(folder, {"named", "brought"}.__contains__))
    assert found["named"].null_count() == len(found) == len(read(folder).shown)
    assert read(folder).shown["named"].null_count() == len(found)
