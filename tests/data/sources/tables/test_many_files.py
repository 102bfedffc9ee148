"""Files of one table that are not of one type: each is read for itself, and nothing is lost or misread."""

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare
from recray.data.sources.tables.joined import joined
from recray.data.sources.tables.values import ids_of
from recray.schema import DataError

DAY = datetime.date(2026, 1, 1)
DAY_S = 1_767_225_600
NOON = datetime.datetime(2026, 1, 1, 12)
FLOAT_TEXT = "are not told apart: write the ids as whole numbers"


def of_frames(folder: Path, frames: list[dict[str, Any]], options: str = "") -> Dataset:
    folder.mkdir(exist_ok=True)
    for n, columns in enumerate(frames):
        pl.DataFrame(columns).write_parquet(folder / f"{n}.parquet")
    return load_or_prepare(f"{folder}{options}")


def of_texts(folder: Path, texts: list[str], options: str = "") -> Dataset:
    folder.mkdir(exist_ok=True)
    for n, text in enumerate(texts):
        (folder / f"{'abc'[n]}.csv").write_text(text)
    return load_or_prepare(f"{folder}{options}")


def notes(dataset: Dataset) -> list[str]:
    found: list[str] = json.loads((dataset.folder / "quality.json").read_text())["notes"]
    return found


@pytest.mark.parametrize(
    "times",
    [
        pl.Series([DAY_S + 43_200]),
        pl.Series([(DAY_S + 43_200) * 1000]),
        pl.Series([NOON]),
        pl.Series([NOON.replace(tzinfo=datetime.UTC)]),
        pl.Series(["2026-01-01T12:00:00Z"]),
        pl.Series(["1/1/2026 12:00 PM"]),
    ],
)
def test_times_are_each_file_s_own(tmp_path: Path, times: pl.Series) -> None:
    first = {"user": ["a"], "item": [1], "timestamp": [DAY]}
    beside = {"user": ["c"], "item": [1], "timestamp": ["25/12/2025"]}
    dataset = of_frames(tmp_path / "x", [first, {"user": ["b"], "item": [1], "timestamp": times}, beside])
    assert dataset.timestamps_N.tolist() == [DAY_S - 7 * 86_400, DAY_S, DAY_S + 43_200]
    assert dataset.users["raw_id"][dataset.user_ids_N.tolist()].to_list() == ["c", "a", "b"]


def test_the_finest_unit_of_any_file_decides_order(tmp_path: Path) -> None:
    seconds = {"user": [1], "item": ["late"], "ts": [DAY_S + 1]}
    finer = {"user": [1, 1], "item": ["half", "first"], "ts": [DAY_S * 1000 + 500, DAY_S * 1000]}
    dataset = of_frames(tmp_path / "x", [seconds, finer])
    assert dataset.items["raw_id"][dataset.item_ids_N.tolist()].to_list() == ["first", "half", "late"]
    assert "times are unix milliseconds, by the range of all of them (1.parquet)" in notes(dataset)


def test_days_and_months_of_one_file_are_told_by_another(tmp_path: Path) -> None:
    texts = [f"user,item,date\n1,2,{date}\n" for date in ("03/04/2020", "25/04/2020")]
    dataset = of_texts(tmp_path / "x", texts)
    assert dataset.timestamps_N.tolist() == [1_585_872_000, 1_587_772_800]
    with pytest.raises(DataError, match=r"a\.csv: column 'date': .*day or the month first"):
        of_texts(tmp_path / "y", texts[:1])


@pytest.mark.parametrize(
    ("columns", "ratings"),
    [
        (["1,5", "1.25"], [1.5, 1.25]),
        (["1,5", "2"], [1.5, 2]),
        (["1.5", "1.234"], [1.5, 1.234]),
        (["1,234.5", "1,234"], [1234.5, 1234]),
    ],
)
def test_decimal_marks_are_each_file_s_own(tmp_path: Path, columns: list[str], ratings: list[float]) -> None:
    dataset = of_texts(tmp_path / "x", [f'user,item,rating\n1,{n},"{x}"\n' for n, x in enumerate(columns)])
    assert dataset.ratings_N.tolist() == pytest.approx(ratings)


@pytest.mark.parametrize("first", ["1,5", "900"])
def test_another_mark_does_not_tell_thousands_from_decimals(tmp_path: Path, first: str) -> None:
    texts = [f'user,item,rating\n1,{n},"{text}"\n' for n, text in enumerate((first, "1.234"))]
    with pytest.raises(DataError, match=r"b\.csv, line 2: column 'rating': rating '1.234' may be thousands"):
        of_texts(tmp_path / "x", texts)
    with pytest.raises(DataError, match=r"rating '1.234' may be"):
        of_texts(tmp_path / "y", texts[1:])


def test_files_that_differ_in_their_marks_are_named(tmp_path: Path) -> None:
    texts = ['user,item,rating\n1,1,"1,5"\n', "user,item,rating\n1,2,2.5\n"]
    assert "ratings are written with a decimal comma (a.csv)" in notes(of_texts(tmp_path / "x", texts))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (pl.Series([9007199254740993.0, 9007199254740992.0]), FLOAT_TEXT),
        (pl.Series([1.0, 2.0**53]), FLOAT_TEXT),
        (pl.Series([16_777_216], dtype=pl.Float32), f"Float32, .*16,777,216 on {FLOAT_TEXT}"),
        (pl.Series([float("inf")]), FLOAT_TEXT),
        (pl.Series([1e20]), FLOAT_TEXT),
        (pl.Series([1.5]), "has type Float64, but items need whole numbers or text"),
        (pl.Series([decimal.Decimal("1.5")]), "has type Decimal.* whole numbers or text"),
        (pl.Series([["a"]]), "has type List"),
    ],
)
def test_ids_that_may_have_fallen_together_are_refused(tmp_path: Path, ids: pl.Series, message: str) -> None:
    first = {"user": [1], "item": [2**53 + 1]}
    with pytest.raises(DataError, match=rf"1\.parquet.*column 'item': .*{message}"):
        of_frames(tmp_path / "x", [first, {"user": [1] * len(ids), "item": ids}])
    (tmp_path / "events.csv").write_text("user,item\n1,2\n")
    pl.DataFrame({"id": ids}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=message):
        load_or_prepare(f"{tmp_path / 'events.csv'}?items=items.parquet")


def test_whole_ids_of_any_type_are_one_column(tmp_path: Path) -> None:
    big = 2**53 + 1
    items: list[Any] = [[big, 7], [7.0, None], ["7", "8"], [decimal.Decimal(7), decimal.Decimal(9)]]
    frames = [{"user": [1, 2], "item": each} for each in items]
    frames[1] = {"user": [1], "item": [7.0]}
    frames += [{"user": [3], "item": pl.Series(["7"], dtype=pl.Categorical)}]
    assert of_frames(tmp_path / "x", frames).items["raw_id"].to_list() == ["7", "8", "9", str(big)]
    wide = pl.Series([2**64 - 1, 7], dtype=pl.UInt64)
    both = of_frames(tmp_path / "y", [{"user": [1, 2], "item": wide}, {"user": [1], "item": [7]}])
    assert both.items["raw_id"].to_list() == [str(2**64 - 1), "7"]
    assert ids_of(pl.Series([decimal.Decimal(2**70)]), "user").values.to_list() == [str(2**70)]


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["2026-01-01", "4,5"])])
def test_categories_are_text(tmp_path: Path, kind: Any) -> None:
    columns = {"date": pl.Series(["2026-01-01"], dtype=kind), "rating": pl.Series(["4,5"], dtype=kind)}
    dataset = of_frames(tmp_path / "x", [{"user": [1], "item": [2], **columns}])
    assert (dataset.timestamps_N.tolist(), dataset.ratings_N.tolist()) == ([DAY_S], [4.5])


@pytest.mark.parametrize(
    ("column", "role"), [("rating", "rating"), ("ts", "timestamp"), ("event", "event_type")]
)
def test_a_column_that_one_file_lacks_is_said(tmp_path: Path, column: str, role: str) -> None:
    texts = ["user,item\n1,2\n", f"user,item,{column}\n1,2,1600000000\n"]
    with pytest.raises(
        DataError, match=rf"a\.csv has no column for the {role}, which is '{column}' in .*b\.csv"
    ):
        of_texts(tmp_path / "x", texts)
    assert len(of_texts(tmp_path / "x", texts, f"?{role}=")) == 1


def test_side_columns_of_several_types(tmp_path: Path) -> None:
    folder = tmp_path / "items"
    (tmp_path / "events.csv").write_text("user,item\n1,1\n")
    zoned = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    first = {"id": [1], "brand_id": [7], "since": [NOON], "tags": ["a|b"]}
    second = {"id": [2.0], "brand_id": ["x"], "since": [zoned], "size": [3]}
    folder.mkdir()
    for n, columns in enumerate((first, second)):
        pl.DataFrame(columns).write_parquet(folder / f"{n}.parquet")
    items = load_or_prepare(f"{tmp_path / 'events.csv'}?items=items").items
    assert items.rows() == [("1", "7", DAY, ["a", "b"], None), ("2", "x", DAY, None, 3.0)]
    pl.DataFrame({"id": [3], "tags": [["a"]]}).write_parquet(folder / "2.parquet")
    with pytest.raises(
        DataError, match=r"column 'tags' has type String in .*0\.parquet and List\(String\) in .*2"
    ):
        load_or_prepare(f"{tmp_path / 'events.csv'}?items=items")


@pytest.mark.parametrize(
    "pieces", [([DAY], [5]), ([NOON], [1.5]), (["a"], [["a"]]), ([None], [DAY], [5]), ([[DAY]], [[5]], ["a"])]
)
def test_what_is_no_one_column_is_refused(pieces: tuple[list[Any], ...]) -> None:
    with pytest.raises(DataError, match="column 'x' has type .* write it as one type"):
        joined([pl.Series("x", values) for values in pieces], [str(n) for n in range(len(pieces))])


def test_folders_of_a_partition_are_columns(tmp_path: Path) -> None:
    for day, event, item in (("2026-01-02", "view", 1), ("2026-01-01", "buy%20now", 2)):
        folder = tmp_path / "hive" / f"date={day}" / f"event_type={event}"
        folder.mkdir(parents=True)
        pl.DataFrame({"user": [1], "item": [item]}).write_parquet(folder / "part-0.parquet")
    dataset = load_or_prepare(str(tmp_path / "hive"))
    assert dataset.timestamps_N.tolist() == [DAY_S, DAY_S + 86_400]
    assert dataset.items["raw_id"][dataset.item_ids_N.tolist()].to_list() == ["2", "1"]
    assert dataset.manifest.event_types == ("buy now", "view")
    by_glob = load_or_prepare(f"{tmp_path}/hive/date=*/*/*.parquet")
    assert by_glob.hash == dataset.hash


def test_a_column_of_the_file_comes_before_its_folder_s(tmp_path: Path) -> None:
    folder = tmp_path / "hive" / "date=2026-01-02" / "user=9" / "brand=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir(parents=True)
    (folder / "part.csv").write_text(f"user,item,event_timestamp\n1,2,{DAY_S}\n")
    dataset = load_or_prepare(str(tmp_path / "hive"))
    assert (dataset.timestamps_N.tolist(), dataset.users["raw_id"].to_list()) == ([DAY_S], ["1"])
    assert dataset.items.rows() == [("2", None)]
    named = load_or_prepare(f"{tmp_path / 'hive'}?timestamp=date")
    assert named.timestamps_N.tolist() == [DAY_S + 86_400]


def test_columns_of_events_that_differ_are_called_as_in_the_files(tmp_path: Path) -> None:
    for column, message in (("event", "column 'event' has type String"), ("brand", "column 'brand' has")):
        frames = [{"user": [1], "item": [1], column: value} for value in (["a"], [["b"]])]
        with pytest.raises(DataError, match=message):
            of_frames(tmp_path / column, frames)
