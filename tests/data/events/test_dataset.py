"""The folder on disk: read back as written, and refused when it is not what was written."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.data.events.dataset import INTERACTIONS, Dataset, content_hash, load_dataset
from recray.data.events.prepare import prepare
from recray.data.sources.tables.interactions import InteractionTable
from recray.schema import DataError

CSV = "user_id,item_id,rating,timestamp\nb,10,4.0,100\na,11,5.0,100\nb,11,3.0,99\n"


@pytest.fixture
def prepared(tmp_path: Path) -> Dataset:
    (tmp_path / "x.csv").write_text(CSV)
    return prepare(InteractionTable(path=tmp_path / "x.csv"), tmp_path / "out")


def test_arrays_have_the_promised_types_and_order(prepared: Dataset) -> None:
    assert prepared.users["raw_id"].to_list() == ["a", "b"]
    assert prepared.items["raw_id"].to_list() == ["10", "11"]
    assert prepared.user_ids_N.tolist() == [1, 1, 0]
    assert prepared.item_ids_N.tolist() == [1, 0, 1]
    assert prepared.timestamps_N.tolist() == [99, 100, 100]
    assert prepared.ratings_N.tolist() == [3.0, 4.0, 5.0]
    dtypes = [a.dtype for a in (prepared.user_ids_N, prepared.item_ids_N, prepared.timestamps_N)]
    assert dtypes == [np.int64] * 3
    assert prepared.ratings_N.dtype == np.float32
    assert (prepared.name[:2], prepared.num_users, prepared.num_items, len(prepared)) == ("x-", 2, 2, 3)
    assert prepared.user_ids_N.flags.writeable  # torch warns about arrays that are not


def test_the_hash_is_of_the_content(prepared: Dataset, tmp_path: Path) -> None:
    again = prepare(InteractionTable(path=tmp_path / "x.csv"), tmp_path / "again")
    assert again.hash == prepared.hash
    (tmp_path / "x.csv").write_text(CSV.replace("5.0", "4.0"))
    changed = prepare(InteractionTable(path=tmp_path / "x.csv"), tmp_path / "changed")
    assert changed.hash != prepared.hash


def test_the_hash_of_a_known_content_never_changes() -> None:
    arrays = [np.array([0, 1], dtype=np.int32), np.array([1.0, 0.5], dtype=np.float32)]
    table = pl.DataFrame({"raw_id": ["a", "b"], "genres": [["x"], None]})
    assert content_hash(arrays, [table]).startswith("dcb0849bde71aad5")


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a prepared data set"):
        load_dataset(tmp_path)


def test_a_changed_file_is_noticed(prepared: Dataset) -> None:
    path = prepared.folder / INTERACTIONS
    pl.read_parquet(path).with_columns(pl.lit(1.0, pl.Float32).alias("rating")).write_parquet(path)
    with pytest.raises(DataError, match="changed after it was prepared"):
        load_dataset(prepared.folder)


def test_a_missing_file_is_noticed(prepared: Dataset) -> None:
    (prepared.folder / "items.parquet").unlink()
    with pytest.raises(DataError, match=r"items\.parquet is missing"):
        load_dataset(prepared.folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "format None"),
        ('{"format": 99}', "format 99"),
        ('{"format": 1, "nmae": "x"}', "did you mean 'name'"),
    ],
)
def test_a_damaged_manifest_is_refused(prepared: Dataset, text: str, message: str) -> None:
    (prepared.folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(prepared.folder)


def test_counts_are_checked_against_the_manifest(prepared: Dataset) -> None:
    path = prepared.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_users": 7}))
    with pytest.raises(DataError, match="manifest says"):
        load_dataset(prepared.folder)
