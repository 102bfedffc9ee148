"""Tables of clicks with any columns: types, splits, vocabularies, and errors that name the line."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.config import ConfigError
from recray.data.rows.prepare import load_or_prepare_rows
from recray.data.rows.sources import holds_ratings
from recray.data.rows.table import RowTable
from recray.data.sources.tables.frames import frame_table
from recray.schema import DataError

NUM_ROWS = 300


def frame() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "clicked": (rng.random(NUM_ROWS) < 0.4).astype(int),
            "country": [("DE", "NA", None)[n] for n in rng.choice(3, NUM_ROWS, p=[0.6, 0.3, 0.1])],
            "price": np.round(rng.gamma(2, 10, NUM_ROWS), 2),
            "age": pl.Series([None if n % 7 == 0 else n % 50 for n in range(NUM_ROWS)]),
            "ad_id": rng.integers(100, 104, NUM_ROWS),
            "time": rng.permutation(NUM_ROWS) * 60 + 1_600_000_000,
        }
    )


def latest(rows: int) -> pl.DataFrame:
    """The last rows in time, in the order of the table."""
    return frame().filter(pl.col("time").rank() > NUM_ROWS - rows)


def same_rows(a: RowTable, b: RowTable) -> bool:
    return a.hash == b.hash and a.schema == b.schema


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clicks") / "clicks.csv"
    frame().write_csv(path)
    return path


def test_columns_are_typed_by_what_they_hold(plain: Path) -> None:
    table = load_or_prepare_rows(f"{plain}?name=clicks")
    assert table.name == "clicks"
    assert table.schema.dense == ("price", "age")
    assert [f.name for f in table.schema.sparse] == ["country", "ad_id"]
    columns = table.manifest.options["columns"]
    assert (columns["label"], columns["time"]) == ("clicked", "time")
    assert columns["numbers"] == ["price", "age"]
    test, late = table.read("test"), latest(30)
    assert test.labels_N.tolist() == late["clicked"].to_list()
    np.testing.assert_array_equal(test.dense_NF[:, 0], late["price"].to_numpy().astype(np.float32))
    assert np.isnan(test.dense_NF[:, 1]).tolist() == late["age"].is_null().to_list()


@pytest.mark.parametrize("words", ["y/n", "T/F", "Yes/No", "TRUE/FALSE", "1.0/0.0"])
def test_a_label_says_yes_and_no_in_any_usual_words(tmp_path: Path, plain: Path, words: str) -> None:
    yes, no = words.split("/")
    said = pl.when(pl.col("clicked") == 1).then(pl.lit(yes)).otherwise(pl.lit(no)).alias("clicked")
    frame().with_columns(said).write_csv(tmp_path / "said.csv")
    assert same_rows(load_or_prepare_rows(str(tmp_path / "said.csv")), load_or_prepare_rows(str(plain)))


def test_two_columns_of_one_name_are_both_named(tmp_path: Path) -> None:
    twice = frame().with_columns(pl.col("clicked").alias("Clicked"))
    twice.write_csv(tmp_path / "twice.csv")
    message = "'clicked' and 'Clicked' could each say what was a click: name one with label=clicked"
    with pytest.raises(DataError, match=message):
        load_or_prepare_rows(str(tmp_path / "twice.csv"))
    chosen = load_or_prepare_rows(f"{tmp_path / 'twice.csv'}?label=clicked&ignore=Clicked")
    assert chosen.schema.dense == ("price", "age")


def test_ids_follow_the_training_part_the_most_frequent_first(plain: Path) -> None:
    table = load_or_prepare_rows(str(plain))
    train = frame().sort("time")[: int(NUM_ROWS * 0.8)]
    counts = train["country"].drop_nulls().value_counts(sort=True)
    assert table.encoding is not None
    assert table.encoding.values[0] == tuple(counts["country"].to_list())
    ids = np.asarray(table.read("test").ids["country"])
    known = {value: n + 1 for n, value in enumerate(table.encoding.values[0])}
    assert ids.tolist() == [known.get(value, 0) for value in latest(30)["country"]]


def test_rows_differ_where_their_ids_stand_for_other_values(tmp_path: Path) -> None:
    rows = []
    for country in ("DE", "FR"):
        path = tmp_path / country / "clicks.csv"
        path.parent.mkdir()
        frame().with_columns(pl.col("country").str.replace("DE", country)).write_csv(path)
        rows.append(load_or_prepare_rows(str(path)))
    german, french = rows
    assert np.array_equal(german.read("test").ids["country"], french.read("test").ids["country"])
    assert german.hash != french.hash
    assert german.name != french.name


@pytest.mark.parametrize(
    "kind", ["tsv", "semicolons", "gz", "zst", "parquet", "bom", "dates", "days", "floats", "commas"]
)
def test_one_table_told_in_many_ways_makes_the_same_rows(plain: Path, tmp_path: Path, kind: str) -> None:
    table, path = frame(), tmp_path / "clicks.csv"
    if kind == "tsv":
        path = tmp_path / "clicks.tsv"
        table.write_csv(path, separator="\t")
    elif kind == "semicolons":
        table.write_csv(path, separator=";")
    elif kind == "gz":
        path = tmp_path / "clicks.csv.gz"
        path.write_bytes(gzip.compress(table.write_csv().encode()))
    elif kind == "zst":
        path = tmp_path / "clicks.csv.zst"
        table.write_csv(path, compression="zstd")
    elif kind == "parquet":
        path = tmp_path / "clicks.parquet"
        table.write_parquet(path)
    elif kind == "bom":
        table.write_csv(path, include_bom=True, line_terminator="\r\n")
    elif kind == "dates":
        table.with_columns(pl.from_epoch("time").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(path)
    elif kind == "days":
        table.with_columns(pl.from_epoch("time").dt.strftime("%d.%m.%Y %H:%M:%S")).write_csv(path)
    elif kind == "floats":
        table.with_columns(pl.col("ad_id").cast(pl.Float64)).write_csv(path)
    else:
        commas = pl.col("price").cast(pl.String).str.replace(".", ",", literal=True)
        table.with_columns(commas).write_csv(path, separator=";")
    found = load_or_prepare_rows(str(path) + (r"?separator=\t" if kind == "tsv" else ""))
    assert found.name.startswith("clicks-")
    assert same_rows(found, load_or_prepare_rows(str(plain)))


def test_options_change_what_columns_are_for(plain: Path) -> None:
    table = load_or_prepare_rows(f"{plain}?numbers=ad_id&categories=age&ignore=price&min_count=1")
    assert table.schema.dense == ("ad_id",)
    assert [f.name for f in table.schema.sparse] == ["country", "age"]
    rated = load_or_prepare_rows(f"{plain}?label=price&threshold=20&ignore=clicked")
    assert rated.read("test").labels_N.tolist() == (latest(30)["price"] >= 20).to_list()


def test_the_parts_that_a_benchmark_brings_are_kept(tmp_path: Path) -> None:
    table = frame().drop("time")
    for name, rows in (("train", table[:200]), ("valid", table[200:240]), ("test", table[240:])):
        rows.write_csv(tmp_path / f"{name}.csv")
    found = load_or_prepare_rows(str(tmp_path))
    assert [part.rows for part in found.manifest.parts] == [200, 40, 60]
    assert found.manifest.split == "files train.csv, valid.csv, test.csv"
    assert found.read("test").labels_N.tolist() == table[240:]["clicked"].to_list()
    (tmp_path / "valid.csv").unlink()
    with pytest.raises(DataError, match="no file for the validation part: it needs train, valid and test"):
        load_or_prepare_rows(str(tmp_path))


def test_without_times_rows_are_split_by_chance_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame().drop("time").write_csv(tmp_path / "clicks.csv")
    with caplog.at_level("WARNING"):
        table = load_or_prepare_rows(str(tmp_path / "clicks.csv"))
    assert "split by chance" in caplog.text
    assert table.manifest.split.startswith("random")
    ordered = load_or_prepare_rows(f"{tmp_path / 'clicks.csv'}?split=order")
    assert ordered.read("test").labels_N.tolist() == frame()["clicked"].to_list()[270:]


@pytest.mark.parametrize("name", ["viewed_at", "event timestamp", "clickDate"])
def test_a_column_of_times_cuts_the_parts_whatever_it_is_called_for(tmp_path: Path, name: str) -> None:
    frame().rename({"time": name}).write_csv(tmp_path / "clicks.csv")
    table = load_or_prepare_rows(str(tmp_path / "clicks.csv"))
    assert table.manifest.options["columns"]["time"] == name
    assert table.schema.dense == ("price", "age")
    assert table.read("test").labels_N.tolist() == latest(30)["clicked"].to_list()
    kept = load_or_prepare_rows(f"{tmp_path / 'clicks.csv'}?numbers={name.replace(' ', '%20')}")
    assert name in kept.schema.dense


def test_columns_that_could_be_the_time_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    twice = frame().rename({"time": "seen"}).with_columns(viewed_at="seen", sent_at="seen", hour_at="age")
    for left_out, said in (
        ([], "viewed_at or sent_at"),
        (["sent_at", "viewed_at"], "clicks.csv: seen could"),
    ):
        twice.drop(left_out).write_csv(tmp_path / "clicks.csv")
        caplog.clear()
        with caplog.at_level("WARNING"):
            table = load_or_prepare_rows(str(tmp_path / "clicks.csv"))
        assert f"{said}" in caplog.text
        assert table.manifest.options["columns"]["time"] is None


def test_labels_may_be_words(plain: Path, tmp_path: Path) -> None:
    words = frame()["clicked"].replace_strict({1: "Yes", 0: "no"})
    frame().with_columns(clicked=words).write_csv(tmp_path / "clicks.csv")
    assert same_rows(load_or_prepare_rows(str(tmp_path / "clicks.csv")), load_or_prepare_rows(str(plain)))


def test_clicks_that_are_read_as_something_else_hear_of_label(tmp_path: Path) -> None:
    frame().rename({"clicked": "bought"}).write_csv(tmp_path / "clicks.csv")
    with pytest.raises(DataError, match=r"read as ratings: of a table of clicks, .* label="):
        load_or_prepare_rows(str(tmp_path / "clicks.csv"))
    (tmp_path / "lists.txt").write_text("2 qid:1 1:0.5\n0 qid:1 1:0.25\n" * 9)
    with pytest.raises(DataError, match=r"LETOR format are a folder, .* label="):
        load_or_prepare_rows(str(tmp_path / "lists.txt"))


def test_rows_of_one_moment_are_never_on_both_sides_of_a_cut(tmp_path: Path) -> None:
    frame().with_columns(time=pl.int_range(pl.len()) // 9).write_csv(tmp_path / "clicks.csv")
    table = load_or_prepare_rows(str(tmp_path / "clicks.csv"))
    assert [part.rows % 9 for part in table.manifest.parts][:2] == [0, 0]
    frame().with_columns(time=pl.int_range(pl.len()) // 250).write_csv(tmp_path / "clicks.csv")
    with pytest.raises(DataError, match="too few different times"):
        load_or_prepare_rows(str(tmp_path / "clicks.csv"))


GOOD = "label,price,kind,time\n" + "".join(f"{n % 2},{n}.5,k{n % 3},{n}\n" for n in range(60))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1,7.5,", "2,7.5,", r"line 9: label is '2', and a label is 0 or 1: .* threshold="),
        ("1,7.5,", "maybe,7.5,", r"line 9: label is 'maybe', and a label is 0 or 1: .* label="),
        ("1,7.5,", ",7.5,", r"line 9: label is None, and a label is 0 or 1"),
        (
            "1,7.5,",
            "1,cheap,",
            r"line 9: price is 'cheap', nearly all others are numbers: .* categories=price",
        ),
        ("1,7.5,", "1,1e39,", r"line 9: price is '1e39', nearly all others are numbers"),
        ("1,7.5,k1,7", "1,7.5,k1,7,8", r"line 9: has 5 fields instead of 4"),
        ("1,7.5,k1,7", "1,7.5,k1", r"line 9: has 3 fields instead of 4"),
        ("1,7.5,k1,7", '1,7.5,"k1,7', r"line (9|61|62): "),
        (
            "1,7.5,k1,7",
            "1,7.5,k1,soon",
            r"line 9: column 'time': timestamp 'soon' .* ignore=time",
        ),
        ("1,7.5,k1,7", "1,7.5,k1,", r"line 9: column 'time': timestamp is empty"),
        ("label,price", "label,label", r"line 1: a column name occurs twice"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        load_or_prepare_rows(str(path))
    assert "clicks.csv" in str(caught.value)


def test_a_bad_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    frame().with_columns(clicked=pl.int_range(pl.len()) % 3).write_parquet(tmp_path / "clicks.parquet")
    with pytest.raises(DataError, match=r"clicks.parquet, row 3: clicked is 2, and a label is 0 or 1"):
        load_or_prepare_rows(str(tmp_path / "clicks.parquet"))
    frame().with_columns(tags=pl.concat_list("ad_id", "age")).write_parquet(tmp_path / "clicks.parquet")
    with pytest.raises(DataError, match=r"column 'tags' has type List\(Int64\), .* ignore=tags"):
        load_or_prepare_rows(str(tmp_path / "clicks.parquet"))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("label=clickd", "no column 'clickd', did you mean 'clicked'"),
        ("ignore=prise", "no column 'prise', did you mean 'price'"),
        ("split=chance", "split must be one of auto, time, order, random, got 'chance'"),
        ("min_count=0", "min_count must be at least 1, got 0"),
        ("labels=clicked", "did you mean 'label'"),
        ("separator=", "separator '' cannot separate fields"),
        ("numbers=price&ignore=price", "'price' stands twice among categories, numbers and ignore"),
        ("time=country", r"line 10: column 'country': timestamp is empty"),
    ],
)
def test_wrong_options_are_refused(plain: Path, query: str, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        load_or_prepare_rows(f"{plain}?{query}")


def test_a_column_without_a_name_is_no_feature(tmp_path: Path) -> None:
    lines = frame().with_row_index("n").write_csv().replace("n,clicked", ",clicked", 1)
    (tmp_path / "clicks.csv").write_text(lines)
    assert load_or_prepare_rows(str(tmp_path / "clicks.csv")).schema.dense == ("price", "age")


def test_a_table_of_ratings_stays_one(tmp_path: Path) -> None:
    rows = pl.DataFrame({"user_id": [n % 7 for n in range(200)], "item_id": [n % 11 for n in range(200)]})
    rated = rows.with_columns(rating=pl.int_range(200) % 5 + 1, timestamp=pl.int_range(200), label=pl.lit(1))
    rated.write_csv(tmp_path / "events.csv")
    assert load_or_prepare_rows(str(tmp_path / "events.csv")).manifest.source == "clicks"
    asked = load_or_prepare_rows(f"{tmp_path / 'events.csv'}?label=rating&threshold=4&ignore=label")
    assert asked.manifest.source == "click-table"
    assert [f.name for f in asked.schema.sparse] == ["user_id", "item_id"]


@pytest.mark.parametrize("kind", ["folder", "glob", "address", "formats", "frame"])
def test_a_table_may_lie_wherever_events_may(plain: Path, tmp_path: Path, kind: str) -> None:
    table, folder = frame(), tmp_path / "days"
    folder.mkdir()
    if kind == "frame":
        place = frame_table(table.to_pandas(), "shop", label="clicked")
    else:
        for day in range(3):
            rows = table[day * 100 : day * 100 + 100]
            if kind == "formats" and day == 1:
                rows.write_parquet(folder / "day-1.parquet")
            elif kind == "formats" and day == 2:
                (folder / "day-2.csv.gz").write_bytes(gzip.compress(rows.write_csv(separator=";").encode()))
            else:
                rows.write_csv(folder / f"day-{day}.csv")
        place = {"glob": f"{folder}/day-*.csv", "address": folder.as_uri()}.get(kind, str(folder))
    assert not holds_ratings(place)
    assert same_rows(load_or_prepare_rows(place), load_or_prepare_rows(str(plain)))


def test_a_bad_value_is_named_with_the_file_it_is_in(tmp_path: Path) -> None:
    for day in range(2):
        (tmp_path / f"{day}.csv").write_text(GOOD.replace("1,7.5,", "1,7.5," if day else "maybe,7.5,", 1))
    with pytest.raises(DataError, match=r"0\.csv, line 9: label is 'maybe'"):
        load_or_prepare_rows(str(tmp_path))
    (tmp_path / "0.csv").write_text(GOOD)
    (tmp_path / "1.csv").write_text(GOOD.replace("1,7.5,", "1,cheap,", 1))
    with pytest.raises(DataError, match=r"1\.csv, line 9: price is 'cheap'"):
        load_or_prepare_rows(str(tmp_path))
    (tmp_path / "1.csv").write_text(GOOD.replace("kind", "sort"))
    with pytest.raises(DataError, match=r"1\.csv: no column 'kind', which .*0\.csv has"):
        load_or_prepare_rows(str(tmp_path))


@pytest.mark.parametrize("name", ["log.csv.gz", "log.txt", "log.txt.gz", "log.dat"])
def test_what_is_in_a_file_decides_who_reads_it(tmp_path: Path, name: str) -> None:
    packed = gzip.compress if name.endswith(".gz") else bytes
    path = tmp_path / name
    path.write_bytes(packed(GOOD.encode()))
    assert load_or_prepare_rows(str(path)).manifest.source == "click-table"
    path.write_bytes(packed(GOOD.replace("label", "bought").encode()))
    assert load_or_prepare_rows(f"{path}?label=bought").manifest.source == "click-table"
    rng = np.random.default_rng(0)
    lines = (f"{n % 2}\t{n}" + "\t1" * 12 + f"\t{rng.integers(9):08x}" * 26 for n in range(700))
    path.write_bytes(packed("\n".join(lines).encode() + b"\n"))
    assert load_or_prepare_rows(str(path)).manifest.source == "criteo"


def test_a_table_that_is_sorted_by_its_label_is_mixed(tmp_path: Path) -> None:
    rows = 400_000
    clicks = pl.DataFrame({"label": pl.int_range(rows, eager=True) >= rows // 2}).with_columns(price=1.5)
    clicks.with_row_index("hour").write_parquet(tmp_path / "clicks.parquet")
    table = load_or_prepare_rows(f"{tmp_path / 'clicks.parquet'}?split=random")
    shares = [float(block.labels_N.mean()) for block in table.blocks("train")]
    assert len(shares) == 2
    assert all(0.3 < share < 0.7 for share in shares)


@pytest.mark.parametrize(
    ("prices", "options", "numbers"),
    [
        (["1,234", "12,345.5", "999"], "", [1234, 12345.5, 999]),
        (["1,234", "1,234,567", "999"], "", [1234, 1_234_567, 999]),
        (["1,25", " 12,5 ", "999"], "", [1.25, 12.5, 999]),
        (["1.234,5", "12", ""], "", [1234.5, 12, np.nan]),
        (["1,234", "12,345", "999"], "&decimal=.", [1234, 12345, 999]),
        (["1,234", "12,345", "999"], "&decimal=,", [1.234, 12.345, 999]),
    ],
)
def test_commas_stand_before_decimals_or_between_thousands(
    tmp_path: Path, prices: list[str], options: str, numbers: list[float]
) -> None:
    rows = {"label": [0, 1, 1] * 20, "price": prices * 20}
    pl.DataFrame(rows).write_csv(tmp_path / "x.csv")
    table = load_or_prepare_rows(f"{tmp_path / 'x.csv'}?split=order{options}")
    assert table.schema.dense == ("price",)
    np.testing.assert_allclose(table.read("test").dense_NF[:, 0], np.array(numbers * 2, np.float32))


def test_commas_that_may_be_either_are_asked_about(tmp_path: Path) -> None:
    pl.DataFrame({"label": [0, 1, 1], "price": ["999", "1,234", "12,345"]}).write_csv(tmp_path / "x.csv")
    with pytest.raises(
        DataError, match=r"line 3: price '1,234' may be thousands .*decimal=\..*categories=price"
    ):
        load_or_prepare_rows(str(tmp_path / "x.csv"))
    with pytest.raises(ConfigError, match="decimal must be"):
        load_or_prepare_rows(f"{tmp_path / 'x.csv'}?decimal=x")


def test_dates_beside_unix_seconds_are_no_one_column(tmp_path: Path) -> None:
    for n, day in enumerate((pl.Series([20_000]).cast(pl.Date), pl.Series([1_600_000_000]))):
        pl.DataFrame({"label": [1], "price": [2.5], "date": day}).write_parquet(tmp_path / f"{n}.parquet")
    with pytest.raises(DataError, match=r"column 'date' has type Date in .*0\.parquet and Int64 in"):
        load_or_prepare_rows(f"{tmp_path}?label=label")
