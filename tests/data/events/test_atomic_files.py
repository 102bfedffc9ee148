"""Atomic files as RecBole reads them, and as our own reader reads them back."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.data.events.atomic_files import side_fields, write_atomic_files
from recray.data.events.dataset import Dataset
from recray.data.sources.published.recbole import RecBole
from tests.data.made import dataset_of

# Two events of user 0 lie a second apart: the same float32. User 1 has a tie, kept in the order given.
ROWS = [
    (0, 2, 1_600_000_000),
    (1, 0, 1_600_000_000),
    (0, 1, 1_600_000_001),
    (1, 2, 1_600_000_005),
    (1, 1, 1_600_000_005),
]


@pytest.fixture
def dataset() -> Dataset:
    made = dataset_of(ROWS)
    items = made.items.with_columns(
        pl.Series("title", ["Tab\tand line\nbreak", None, 'A "quoted" one']),
        pl.Series("genres", [["Sci Fi", "Drama"], [], None], dtype=pl.List(pl.String)),
        pl.Series("year", [1995, None, 2001]),
        pl.Series("price", [1.5, None, 3.0]),
        pl.Series("vector", [[0.1], [0.2], [0.3]]),
    )
    return replace(made, items=items)


def test_files_are_what_recbole_documents(dataset: Dataset, tmp_path: Path) -> None:
    write_atomic_files(dataset, tmp_path, "made")
    assert (tmp_path / "made.inter").read_text().splitlines() == [
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        "0\t2\t1.0\t1",
        "1\t0\t1.0\t1",
        "0\t1\t1.0\t2",
        "1\t2\t1.0\t2",
        "1\t1\t1.0\t3",
    ]
    assert (tmp_path / "made.user").read_text().splitlines() == ["user_id:token", "0", "1"]
    assert (tmp_path / "made.item").read_text().splitlines() == [
        "item_id:token\ttitle:token_seq\tgenres:token_seq\tyear:token\tprice:float",
        "0\tTab and line break\tSci_Fi Drama\t1995\t1.5",
        "1\t\t\t\t",
        "2\tA 'quoted' one\t\t2001\t3.0",
    ]
    assert side_fields(dataset.items) == ["title", "genres", "year", "price"]


def test_a_text_that_starts_with_a_quote_takes_no_other_rows_with_it(
    dataset: Dataset, tmp_path: Path
) -> None:
    items = dataset.items.with_columns(
        pl.Series("title", ['"Quoted', "plain", '"']),
        pl.Series("genres", [['"a" b'], [], ["c"]]),
        pl.Series("brand", ['"x', "y", 'z"']),
    )
    write_atomic_files(replace(dataset, items=items.drop("year", "price", "vector")), tmp_path, "made")
    with (tmp_path / "made.item").open() as file:
        rows = list(csv.reader(file, delimiter="\t"))  # what pandas reads by, for RecBole
    assert rows[1:] == [["0", "'Quoted", "'a'_b", "'x"], ["1", "plain", "", "y"], ["2", "'", "c", "z'"]]


def test_our_own_reader_reads_the_same_events_in_the_same_order(dataset: Dataset, tmp_path: Path) -> None:
    write_atomic_files(dataset, tmp_path, "made")
    events = (
        RecBole(path=tmp_path / "made.inter")
        .read(tmp_path / "scratch")
        .interactions.sort("user", "timestamp", maintain_order=True)
    )
    by_user = np.argsort(dataset.user_ids_N, kind="stable")
    assert events["user"].to_list() == dataset.user_ids_N[by_user].tolist()
    assert events["item"].to_list() == dataset.item_ids_N[by_user].tolist()


def test_times_stay_apart_in_float32(dataset: Dataset, tmp_path: Path) -> None:
    write_atomic_files(dataset, tmp_path, "made")
    table = pl.read_csv(
        tmp_path / "made.inter", separator="\t", schema_overrides={"timestamp:float": pl.Float32}
    )
    assert not table.select("user_id:token", "timestamp:float").is_duplicated().any()
