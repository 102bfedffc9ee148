"""CSV, TSV and Parquet tables of any shape."""

import datetime
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare, prepare
from recray.data.source import ROW_NUMBERS
from recray.data.sources.tables.interactions import InteractionTable
from recray.data.sources.tables.values import numbers_where_all_are
from recray.schema import DataError


def prepared(path: Path, text: str, **options: Any) -> Dataset:
    path.write_text(text)
    return prepare(InteractionTable(path=path, **options), path.with_suffix(".out"))


def test_usual_names_are_found(tmp_path: Path) -> None:
    dataset = prepared(tmp_path / "x.csv", "unixReviewTime,overall,asin,reviewerID\n20,5,B1,A1\n10,1,B2,A1\n")
    assert dataset.items["raw_id"].to_list() == ["B1", "B2"]
    assert dataset.item_ids_N.tolist() == [1, 0]
    assert dataset.ratings_N.tolist() == [1.0, 5.0]


def test_named_columns_win(tmp_path: Path) -> None:
    text = "user_id,who,what,stars,at\n1,9,3,2,50\n"
    dataset = prepared(tmp_path / "x.csv", text, user="who", item="what", rating="stars", timestamp="at")
    assert dataset.users["raw_id"].to_list() == ["9"]
    assert dataset.timestamps_N.tolist() == [50]


def test_rating_and_time_are_optional(tmp_path: Path) -> None:
    dataset = prepared(tmp_path / "x.csv", "user,item\n1,5\n1,3\n")
    assert dataset.ratings_N.tolist() == [1.0, 1.0]
    assert dataset.timestamps_N.tolist() == [0, 1]
    assert dataset.items["raw_id"][dataset.item_ids_N.tolist()].to_list() == ["5", "3"]
    assert dataset.manifest.options["times"] == ROW_NUMBERS


def test_tabs_and_milliseconds(tmp_path: Path) -> None:
    dataset = prepared(tmp_path / "x.tsv", "user\titem\tts\n1\t5\t1700000000999\n", time_unit="ms")
    assert dataset.timestamps_N.tolist() == [1_700_000_000]


def test_another_separator_and_encoding(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("user;item;ts\né;5;1\n".encode("latin-1"))
    dataset = prepare(InteractionTable(path=path, separator=";", encoding="latin-1"), tmp_path / "out")
    assert dataset.users["raw_id"].to_list() == ["é"]


def test_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("user,item,ts\né,5,1\nü,6,2\n".encode("utf-16"))
    dataset = prepare(InteractionTable(path=path, encoding="utf-16"), tmp_path / "out")
    assert dataset.users["raw_id"].to_list() == ["é", "ü"]


def test_line_ends_byte_order_mark_spaces_quotes_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbfuser, item,ts\r\n"a,b",5,1\r\n\r\nc,6,2\r\n\r\n')
    dataset = prepare(InteractionTable(path=path), tmp_path / "out")
    assert dataset.users["raw_id"].to_list() == ["a,b", "c"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_behind_the_header(tmp_path: Path, end: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(end.join(["user,item,ts", "", " ", "a,5,1", "", "b,6,x"]).encode())
    with pytest.raises(DataError, match="line 6: column 'ts': timestamp 'x' is not a number"):
        prepare(InteractionTable(path=path), tmp_path / "out")
    path.write_bytes(path.read_bytes().replace(b"x", b"2"))
    assert prepare(InteractionTable(path=path), tmp_path / "out").users["raw_id"].to_list() == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("user=user&user=item", "user= is given twice"),
        ("user=item&item=item", "column 'item' is named for the user and for the item"),
        ("rating=timestamp", "column 'timestamp' is named for the rating and for the timestamp"),
        ("name=a/b", "name='a/b' is no name"),
        ("name=.a", "name='.a' is no name"),
    ],
)
def test_options_that_contradict_are_refused(tmp_path: Path, options: str, message: str) -> None:
    (tmp_path / "x.csv").write_text("user,item,timestamp\n1,2,3\n")
    with pytest.raises((ConfigError, DataError), match=message):
        load_or_prepare(f"{tmp_path / 'x.csv'}?{options}")


@pytest.mark.parametrize(
    ("ids", "numeric"),
    [
        (["2", "10"], True),
        (["02", "2"], False),
        (["2.0", "3"], False),
        (["-1", "0"], True),
        (["x", "1"], False),
    ],
)
def test_ids_are_numbers_only_where_nothing_is_lost(ids: list[str], numeric: bool) -> None:
    assert numbers_where_all_are(pl.Series(ids)).to_list() == ([int(i) for i in ids] if numeric else ids)


def test_numeric_ids_are_ordered_as_numbers(tmp_path: Path) -> None:
    dataset = prepared(tmp_path / "x.csv", "user,item,ts\n10,1,1\n9,1,2\n")
    assert dataset.users["raw_id"].to_list() == ["9", "10"]
    as_text = prepared(tmp_path / "y.csv", "user,item,ts\n10,1,1\n9,1,2\n", ids="text")
    assert as_text.users["raw_id"].to_list() == ["10", "9"]


def test_parquet_with_dates(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    when = [
        datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    ]
    pl.DataFrame({"user": ["a", "b"], "item": [7, 8], "timestamp": when}).write_parquet(path)
    dataset = prepare(InteractionTable(path=path), tmp_path / "out")
    assert dataset.timestamps_N.tolist() == [1577836800, 1577923200]
    assert dataset.users["raw_id"].to_list() == ["a", "b"]
    assert dataset.user_ids_N.tolist() == [1, 0]


def test_parquet_with_unsigned_ids_beyond_63_bits(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pl.DataFrame(
        {"user": [2**64 - 1, 3], "item": [1, 1], "ts": [1, 2]}, schema_overrides={"user": pl.UInt64}
    )
    table.write_parquet(path)
    assert prepare(InteractionTable(path=path), tmp_path / "out").users["raw_id"].to_list() == [
        "18446744073709551615",
        "3",
    ]


@pytest.mark.parametrize("word", ["NULL", "nan", "None", r"\N", "n/a"])
def test_words_for_nothing_are_ids_and_said(tmp_path: Path, word: str) -> None:
    dataset = prepared(tmp_path / "x.csv", f"user,item\n1,5\n {word} ,6\n")
    assert dataset.users["raw_id"].to_list() == ["1", word]
    said = json.loads((dataset.folder / "quality.json").read_text())["notes"]
    assert any(f"1 user ids are words such as {word}: they are taken as ids" in note for note in said)


def test_doubtful_times_and_copies_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="recray"):
        dataset = prepared(tmp_path / "x.csv", "user,item,date\n1,5,19675\n1,5,19675\n2,5,19676\n")
    assert "x.csv: column 'date': numbers such as 19675 are read as unix seconds" in caplog.text
    assert "1 of 3 rows are copies of earlier ones (same user, item and all else, time too)" in caplog.text
    assert "so about 1970" in (dataset.folder / "quality.json").read_text()


def test_a_negative_core_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="k_core must be 0 .* got -1"):
        prepare(InteractionTable(path=tmp_path / "x.csv"), tmp_path / "out", k_core=-1)


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no encoding called 'utf-9'"):
        InteractionTable(path=tmp_path / "x.csv", encoding="utf-9")


def test_an_unknown_time_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="time_unit"):
        InteractionTable(path=tmp_path / "x.csv", time_unit="minutes")  # type: ignore[arg-type]
