"""The prepared folder of rows: format, statistics, hash, refusals."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from recray import paths
from recray.cli.catalogue import datasets
from recray.cli.prepare import Prepare, prepare
from recray.config import ConfigError
from recray.data.row_block import MultiHot, RowBlock
from recray.data.row_source import Malformed, Part, RawRows
from recray.data.rows.prepare import load_or_prepare_rows, prepare_rows
from recray.data.rows.table import RowTable, load_rows
from recray.data.sources import SOURCES, names
from recray.data.sources.files.raw_files import where_to_put
from recray.schema import DataError
from tests.conftest import raw_file
from tests.data.made_rows import Made, block_of, click_line, same_batch, table_of


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> RowTable:
    return table_of(tmp_path_factory.mktemp("rows") / "made")


def same(a: RowBlock, b: RowBlock) -> bool:
    return same_batch(a.to_batch(), b.to_batch())


@pytest.mark.parametrize("sessions", [False, True])
def test_what_is_read_is_what_was_written(tmp_path: Path, sessions: bool) -> None:
    table = table_of(tmp_path / "made", sessions=sessions, cut=70)
    for n, part in enumerate(("train", "validation", "test")):
        wanted = block_of(table.num_rows(part), sessions=sessions, first=100_000 * n)
        assert same(table.read(part), wanted)
        assert table.num_units(part) == wanted.num_units
        assert table.info(part).positives == int((wanted.labels_N > 0).sum())


def test_the_folder_is_parquet_with_a_column_for_each_feature(table: RowTable) -> None:
    file = pq.ParquetFile(table.folder / "train-00000.parquet")
    assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == [4096, 4096, 808]
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types == {
        "x": "float",
        "y": "float",
        "one": "int32",
        "many": "list<element: int32>",
        "label": "float",
    }
    assert {p.name for p in table.folder.iterdir()} == {
        *(f"{part}-00000.parquet" for part in ("train", "validation", "test")),
        "manifest.json",
        "quality.json",
        "quality.html",
    }


def test_sessions_are_whole_in_row_groups_and_numbered(tmp_path: Path) -> None:
    table = table_of(tmp_path / "made", sessions=True)
    file = pq.ParquetFile(table.folder / "train-00000.parquet")
    seen: set[int] = set()
    for group, stated in enumerate(table.groups("train")):
        sessions = set(file.read_row_group(group)["session"].to_pylist())
        assert not sessions & seen
        assert stated.units == len(sessions)
        assert stated.rows == file.metadata.row_group(group).num_rows <= 4096
        seen |= sessions
    assert seen == set(range(table.num_units("train")))


def test_statistics_are_of_the_training_part_alone(table: RowTable) -> None:
    x, y = table.dense
    values = block_of(9000).dense_NF[:, 1]
    assert (x.low, x.high, x.missing) == (0, 8999, 0)
    assert x.mean == pytest.approx(4499.5)
    assert x.std == pytest.approx(np.arange(9000).std())
    assert y.missing == pytest.approx(np.isnan(values).mean())
    assert (y.mean, y.std) == pytest.approx((np.nanmean(values), np.nanstd(values)), rel=1e-6)


def test_statistics_and_hash_do_not_depend_on_how_the_source_cuts_its_blocks(
    table: RowTable, tmp_path: Path
) -> None:
    other = table_of(tmp_path / "made", cut=333)
    assert other.hash == table.hash
    assert other.manifest.parts == table.manifest.parts
    for a, b in zip(table.dense, other.dense, strict=True):
        assert (a.low, a.high, a.missing) == (b.low, b.high, b.missing)
        assert (a.mean, a.std) == pytest.approx((b.mean, b.std), rel=1e-12)


def test_another_value_is_another_hash(table: RowTable, tmp_path: Path) -> None:
    assert table_of(tmp_path / "a", sizes={"train": 8999, "validation": 400, "test": 300}).hash != table.hash


def test_shards_mix_rows_where_the_source_asks_for_it(table: RowTable, tmp_path: Path) -> None:
    mixed = table_of(tmp_path / "a", shuffle_train=True)
    x_N = mixed.read("train").dense_NF[:, 0]
    assert (np.sort(x_N) == np.arange(9000)).all()
    assert np.abs(np.corrcoef(x_N, np.arange(9000))[0, 1]) < 0.1
    assert same(mixed.read("test"), table.read("test"))
    assert mixed.hash == table.hash


def test_preparing_again_only_loads_and_other_options_are_refused(table: RowTable) -> None:
    times = {p: p.stat().st_mtime_ns for p in table.folder.iterdir()}
    assert prepare_rows(Made(), table.folder).manifest == table.manifest
    assert {p: p.stat().st_mtime_ns for p in table.folder.iterdir()} == times
    with pytest.raises(DataError, match="holds another data set"):
        prepare_rows(Made(sizes={"train": 1, "validation": 1, "test": 1}), table.folder)


def test_a_failed_preparation_leaves_nothing(tmp_path: Path) -> None:
    class Broken(Made):
        def rows(self, scratch: Path) -> RawRows:
            raw = super().rows(scratch)
            bad = block_of(10)
            np.asarray(bad.ids["one"])[3] = 50
            return RawRows(schema=raw.schema, parts={**raw.parts, "test": [bad]}, split="made")

    with pytest.raises(DataError, match=r"one has ids \d+..50, its table has 0..49"):
        prepare_rows(Broken(), tmp_path / "out")
    with pytest.raises(DataError, match=r"no row is left for test \(10 for train, 10 for validation\)"):
        table_of(tmp_path / "out", sizes={"train": 10, "validation": 10, "test": 0})
    assert {p.name for p in tmp_path.iterdir()} == {".out.lock"}


@pytest.mark.parametrize("damage", ["cut", "bit", "gone", "manifest"])
def test_a_damaged_folder_is_refused(table: RowTable, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(table.folder, tmp_path / "copy")
    shard = folder / "train-00000.parquet"
    data = bytearray(shard.read_bytes())
    if damage == "manifest":
        (folder / "manifest.json").write_text("{}")
    elif damage == "gone":
        shard.unlink()
    else:
        data[1000] ^= 1
        shard.write_bytes(data[:-1] if damage == "cut" else data)
    with pytest.raises(DataError, match=r"prepare it again"):
        load_rows(folder).read("train")


def test_there_are_three_parts(table: RowTable) -> None:
    with pytest.raises(ConfigError, match=r"no part 'tset' of made, did you mean 'test'"):
        table.read("tset")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("criteo-sampel", {}, "did you mean 'criteo-sample'"),
        ("synthetic-clicks", {"row": 5}, "did you mean 'num_rows'|no setting 'row'"),
        ("synthetic-clicks", {"num_rows": 5}, "at least 100"),
        ("synthetic-clicks", {"ids": "hash"}, "'hash'"),
        ("synthetic-clicks", {"buckets": 1}, "^buckets must be at least 2 and below 2.31, got 1"),
        ("synthetic-clicks", {"min_count": 0}, "^min_count must be at least 1, got 0"),
        ("synthetic-clicks", {"max_malformed": 2.0}, "^max_malformed must be between 0 and 1, got 2.0"),
        ("criteo-sample", {"sessions": "user"}, "only ratings become lists, and criteo-sample has none"),
        ("ltr-lightgbm", {"validation": 1.5}, "validation must be between 0 and 1"),
        ("synthetic", {"sessions": "item"}, "sessions must be"),
    ],
)
def test_wrong_names_and_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_or_prepare_rows(name, **options)


def test_a_file_of_interactions_becomes_clicks(tmp_path: Path) -> None:
    rows = [(n % 7, n % 11, n % 5 + 1, 1000 + n) for n in range(200)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "stars", "timestamp"], orient="row")
    frame.write_csv(tmp_path / "events.csv")
    frame.write_csv(tmp_path / "events.tsv", separator="\t")
    frame.write_parquet(tmp_path / "events.parquet")
    atomic = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    frame.rename(dict(zip(frame.columns, atomic, strict=True))).write_csv(
        tmp_path / "events.inter", separator="\t"
    )
    for name in ("events.csv", "events.tsv", "events.parquet", "events.inter"):
        table = load_or_prepare_rows(f"{tmp_path / name}?threshold=5")
        assert re.fullmatch("events-[0-9a-f]{8}-ratings", table.name)
        assert [part.rows for part in table.manifest.parts] == [160, 20, 20]
        assert table.info("train").positives == 160 // 5
    with_columns = load_or_prepare_rows(f"{tmp_path / 'events.csv'}?user=item_id&item=user_id&sessions=user")
    assert with_columns.name.endswith("-lists")
    with pytest.raises(ConfigError, match="min_count"):
        load_or_prepare_rows(f"{tmp_path / 'events.csv'}?min_count=3")
    with pytest.raises(DataError, match="nothing.csv does not exist"):
        load_or_prepare_rows(str(tmp_path / "nothing.csv"))


def test_generated_clicks_and_the_rows_of_generated_ratings_have_folders_of_their_own() -> None:
    clicks = load_or_prepare_rows("synthetic-clicks", num_rows=1000)
    ratings = load_or_prepare_rows("synthetic")
    assert ratings.folder != clicks.folder
    derived = {f"{name}-{kind}" for name in names("interactions") for kind in ("ratings", "lists")}
    assert ratings.name in derived
    assert not derived & set(SOURCES)


def test_click_logs_of_any_name_are_told_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "logs.csv"
    path.write_text((click_line("1") + "\n" + click_line("0") + "\n") * 35)
    table = load_or_prepare_rows(str(path))
    assert (table.manifest.source, table.num_rows("train")) == ("criteo", 60)


def test_each_raw_folder_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_RAW_DIR", str(paths.home() / "raw"))
    assert where_to_put("logs/").count(str(paths.home() / "raw")) == 1


def test_options_behind_the_name() -> None:
    table = load_or_prepare_rows("synthetic-clicks?num_rows=1000&ids=hashed&buckets=50&max_malformed=0.5")
    assert (
        table.folder
        == load_or_prepare_rows(
            "synthetic-clicks", num_rows=1000, ids="hashed", buckets=50, max_malformed=0.5
        ).folder
    )
    assert sum(part.rows for part in table.manifest.parts) == 1000
    with pytest.raises(ConfigError, match="num_rows must be int, got 'many'"):
        load_or_prepare_rows("synthetic-clicks?num_rows=many")


@pytest.mark.data
def test_the_job_and_the_list_of_data_sets_know_rows(capsys: pytest.CaptureFixture[str]) -> None:
    raw_file("ltr-lightgbm/rank.train")
    prepare(Prepare("ltr-lightgbm"))
    assert "2,396 train, 609 validation, 768 test rows" in capsys.readouterr().out
    listed = {row["name"]: row["prepared"] for row in datasets()}
    assert listed["ltr-lightgbm"] == "2,396 train, 609 validation, 768 test rows"
    assert {"criteo-sample", "criteo-kaggle", "criteo-1tb", "synthetic-clicks", "ml-1m"} <= set(listed)
    prepare(Prepare("ml-100k", rows=True))
    assert "ml-100k-ratings: 79,999 train" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="k_core, item_content and reader are for interactions"):
        prepare(Prepare("ml-100k", k_core=5, rows=True))


def test_a_path_without_anything_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_or_prepare_rows(str(tmp_path / "nothing.txt"))
    with pytest.raises(DataError, match="holds no Criteo logs"):
        load_or_prepare_rows(str(tmp_path))


def test_the_quality_report_counts_and_warns(tmp_path: Path) -> None:
    class Odd(Made):
        def rows(self, scratch: Path) -> RawRows:
            raw = super().rows(scratch)
            block = block_of(100)
            block.dense_NF[:, 0] = 7
            unknown = RowBlock(
                raw.schema,
                block.dense_NF,
                {
                    "one": np.zeros(100, np.int32),
                    "many": MultiHot(np.empty(0, np.int32), np.zeros(101, np.int64)),
                },
                np.ones(100, np.float32),
            )
            malformed = Malformed(lines=1000)
            malformed.add("day_0", 17, "2 fields instead of 40", "<script>alert(1)</script>")
            parts: dict[Part, list[RowBlock]] = {"train": [block], "validation": [block], "test": [unknown]}
            return RawRows(schema=raw.schema, parts=parts, split="odd", malformed=malformed)

    table = prepare_rows(Odd(), tmp_path / "out")
    quality = json.loads((table.folder / "quality.json").read_text())
    levels = {check["name"]: check["level"] for check in quality["checks"]}
    assert levels == {
        "Malformed lines": "warning",
        "Positive labels": "warning",
        "Ids unknown in the test part": "warning",
        "Columns that tell nothing": "note",
    }
    assert quality["parts"][2]["unknown"] == {"one": 1.0, "many": 1.0}
    assert quality["malformed"]["samples"][0]["line"] == 17
    page = (table.folder / "quality.html").read_text()
    assert "2 fields instead of 40" in page
    assert "<script>" not in page
    assert "<svg" in page
