"""Prepared in partitions: the same folder as in memory, whatever is in the rows and however they are cut."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recray.config import ConfigError
from recray.data.events import prepare as preparing
from recray.data.events.dataset import load_dataset
from recray.data.events.prepare import Reader, in_memory, in_partitions, prepared_manifest
from recray.schema import DataError

ROWS = 3_000


def table(rows: int = ROWS, seed: int = 0, **columns: Any) -> pl.DataFrame:
    """Copies, repeats and equal times among them."""
    rng = np.random.default_rng(seed)
    made = {
        "user_id": (200 * rng.random(rows) ** 2).astype(np.int64) - 7,
        "item_id": (90 * rng.random(rows) ** 2).astype(np.int64),
        "rating": rng.integers(1, 6, rows).astype(np.float64) / 2,
        "timestamp": rng.integers(1_600_000_000, 1_600_000_900, rows),
    }
    frame = pl.DataFrame({name: v for name, v in {**made, **columns}.items() if v is not None})
    return pl.concat([frame, frame[rng.integers(rows, size=rows // 5)]])


TEXTS = [f"k{n}" for n in range(40)] + [str(n) for n in range(40)]
CASES: dict[str, tuple[pl.DataFrame, int]] = {
    "plain": (table(), 0),
    "k-core": (table(), 9),
    "text ids in some slices alone": (
        table().with_columns(
            pl.when(pl.int_range(pl.len()) < 2_500).then("user_id").otherwise(pl.col("user_id") + 7)
            .cast(pl.String).str.replace("^5$", "five").alias("user_id")
        ), 0,
    ),
    "no times": (table(timestamp=None), 3),
    "no ratings": (table(rating=None), 0),
    "fractions of seconds in one slice": (
        table().with_columns(
            (pl.col("timestamp") * 1_000_000 + pl.when(pl.int_range(pl.len()) == 1_234).then(1).otherwise(0))
            .cast(pl.Datetime("us", "UTC"))
        ), 0,
    ),
    "types of events": (table(event_type=[["view", "cart", "buy"][n * n % 3] for n in range(ROWS)]), 2),
    "one moment": (table(timestamp=[1_600_000_000] * ROWS), 0),
    "milliseconds": (table().with_columns(pl.col("timestamp") * 1000 + pl.col("item_id")), 0),
}  # fmt: skip


def written(frame: pl.DataFrame, folder: Path, files: int = 1) -> str:
    folder.mkdir()
    for n in range(files):
        piece = frame[len(frame) * n // files : len(frame) * (n + 1) // files]
        piece.write_parquet(folder / f"part-{n}.parquet")
    return str(folder if files > 1 else folder / "part-0.parquet")


def both(
    data: str, k_core: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int = 700
) -> list[Path]:
    """The folders that the two readers make."""
    monkeypatch.setattr(preparing, "ROWS", rows)
    folders = []
    for name, reader in (("memory", in_memory), ("partitions", in_partitions())):
        monkeypatch.setenv("RECRAY_HOME", str(tmp_path / name))
        prepared_manifest(data, k_core=k_core, reader=reader)
        (folder,) = (tmp_path / name / "datasets").glob("[!.]*")
        folders.append(folder)
    return folders


@pytest.mark.parametrize(("case", "files"), zip(CASES, [1, 3] * len(CASES), strict=False))
def test_the_same_data_set_as_in_memory(
    case: str, files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, k_core = CASES[case]
    memory, partitions = both(written(frame, tmp_path / "raw", files), k_core, tmp_path, monkeypatch)
    one, other = load_dataset(memory), load_dataset(partitions)
    assert other.hash == one.hash
    assert other.manifest.options == one.manifest.options
    assert other.manifest.event_types == one.manifest.event_types
    assert other.users.equals(one.users)
    assert other.items.equals(one.items)
    told, wanted = (json.loads((folder / "quality.json").read_text()) for folder in (partitions, memory))
    assert told == wanted
    assert not list((tmp_path / "partitions" / "datasets").glob(".*preparing*"))


def test_tables_of_items_and_rows_without_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = table().with_columns(pl.when(pl.col("item_id") % 7 > 0).then("user_id").alias("user_id"))
    data = written(nobody, tmp_path / "raw", 3)
    items = pl.DataFrame({"item_id": range(120), "brand": [f"b{n % 5}" for n in range(120)]})
    items.write_csv(tmp_path / "items.csv")
    asked = f"{data}?items={tmp_path / 'items.csv'}&anonymous=drop"
    memory, partitions = both(asked, 0, tmp_path, monkeypatch)
    one, other = load_dataset(memory), load_dataset(partitions)
    assert (other.hash, other.num_items) == (one.hash, 120)


@pytest.mark.parametrize("reader", [in_memory, in_partitions()])
def test_a_wrong_value_is_told_with_its_file_and_row(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "ROWS", 500)
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    wrong = table().with_columns(pl.when(pl.int_range(pl.len()) != 3_000).then("item_id").alias("item_id"))
    data = written(wrong, tmp_path / "raw", 2)
    with pytest.raises(DataError, match=r"part-1.parquet, row 1201: column 'item_id': item is empty"):
        prepared_manifest(data, reader=reader)
    assert not list((tmp_path / "home" / "datasets").glob("*/*"))


@pytest.mark.parametrize(
    ("name", "said"), [("events.csv", "is text, which is read as a whole"), ("ml-100k", "is read as a whole")]
)
def test_what_is_read_as_a_whole_says_so(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    table().write_csv(tmp_path / "events.csv")
    with pytest.raises((ConfigError, DataError), match=said):
        prepared_manifest(str(tmp_path / name) if "." in name else name, reader=in_partitions())


def test_columns_beside_the_events_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    data = written(table().with_columns(brand=pl.lit("b")), tmp_path / "raw")
    with pytest.raises(DataError, match=r"name a table of the items \(items=\)"):
        prepared_manifest(data, reader=in_partitions())


def test_nothing_left_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    with pytest.raises(DataError, match="no interaction is left"):
        prepared_manifest(written(table(), tmp_path / "raw"), k_core=500, reader=in_partitions())
