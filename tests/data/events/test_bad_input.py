"""Bad input: each a ``DataError`` that names file, line or column and the way out; nothing stays behind."""

import time
from pathlib import Path

import polars as pl
import pytest

from recray.data.events.prepare import load_or_prepare, prepare
from recray.data.source import Source
from recray.data.sources.published.movielens import MovieLens
from recray.data.sources.tables.interactions import InteractionTable
from recray.schema import DataError
from tests.data import made

GOOD = "user_id,item_id,rating,timestamp\n1,10,4.0,100\n2,11,5.0,101\n1,11,3.0,102\n"


def refused(source: Source, folder: Path) -> str:
    """The message; asserts that nothing but the lock is left beside the target."""
    before = set(folder.iterdir())
    with pytest.raises(DataError) as caught:
        prepare(source, folder / "out")
    assert {p.name for p in set(folder.iterdir()) - before} <= {".out.lock"}
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD.replace("item_id", "thing"), ["no column for the item", "user_id, thing", "item="]),
        (GOOD.replace("5.0", "five"), ["line 3", "'rating'", "'five'", "not a number"]),
        (GOOD.replace("5.0", '"5,0"'), ["line 3", "'5,0'", "decimal point"]),
        (GOOD.replace("5.0", "nan"), ["line 3", "rating is nan", "drop the row"]),
        (GOOD.replace("5.0", "inf"), ["line 3", "rating is inf"]),
        (GOOD.replace("5.0", ""), ["line 3", "rating is empty"]),
        (GOOD.replace("5.0", "1e39"), ["line 3", "rating 1e+39 does not fit"]),
        (GOOD.replace("2,11", ",11"), ["line 3", "'user_id'", "user is empty"]),
        (GOOD.replace("101", "-5"), ["line 3", "timestamp -5 is negative", "unix seconds"]),
        (GOOD.replace("101", "1700000000000"), ["line 3", "future", "milliseconds", "time_unit=ms"]),
        # Named, since processes that share the tests must agree on what each is called.
        pytest.param(
            GOOD.replace("101", f"{time.time() + 3 * 86400:.0f}"), ["line 3", "future"], id="three days ahead"
        ),
        (GOOD.replace("101", "9e300"), ["line 3", "9e+300", "future"]),
        (GOOD.replace("101", "2020-01-01"), ["line 3", "'2020-01-01'", "unix seconds"]),
        (GOOD.replace("101", "nan"), ["line 3", "timestamp", "not a number"]),
        (GOOD.replace("2,11", f"{2**63},11"), ["line 3", "'user_id'", str(2**63), "64 bits", "ids='text'"]),
        (GOOD.replace("2,11", f"2,{10**25}"), ["line 3", "'item_id'", "64 bits"]),
        (GOOD.replace("2,11,5.0,101", "2,11,5.0"), ["line 3", "3 fields instead of 4", "cut off"]),
        (GOOD.replace("2,11,5.0,101", "2,11,5.0,101,9"), ["line 3", "5 fields instead of 4"]),
        (GOOD[:-6], ["line 4", "3 fields instead of 4"]),
        (GOOD.replace("2,11", '"2,11'), ["line 4", "1 fields instead of 4"]),
        (GOOD.replace("item_id", "user_id"), ["line 1", "occurs twice"]),
        (GOOD.replace(",", " "), ["no column for the user", "is the separator right?"]),
        (GOOD.splitlines()[0] + "\n", ["no rows"]),
        ("\n\n", ["no line of text"]),
        ("", ["empty (0 bytes)"]),
    ],
)
def test_csv(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    message = refused(InteractionTable(path=path), tmp_path)
    assert str(path) in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("data", "line", "byte"),
    [
        (GOOD.replace("2,11", "é,11").encode("latin-1"), 3, "0xe9"),
        (GOOD.replace("user_id", "usér_id").encode("latin-1"), 1, "0xe9"),
    ],
)
def test_wrong_encoding(tmp_path: Path, data: bytes, line: int, byte: str) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    message = refused(InteractionTable(path=tmp_path / "x.csv"), tmp_path)
    assert f"line {line}: byte {byte} is not utf-8" in message
    assert "save the file as UTF-8" in message


def test_a_column_that_was_named_but_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(GOOD)
    message = refused(InteractionTable(path=tmp_path / "x.csv", rating="ratign"), tmp_path)
    assert "no column 'ratign' for the rating, did you mean 'rating'?" in message


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    assert "does not exist" in refused(InteractionTable(path=tmp_path / "x.csv"), tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "parts"),
    [
        ("rating", ["a", "b"], ["row 1", "column 'rating'", "'a' is not a number"]),
        ("rating", [1.0, float("nan")], ["row 2", "rating is nan"]),
        ("rating", [1.0, None], ["row 2", "rating is empty"]),
        ("user", [1, None], ["row 2", "user is empty"]),
        ("user", [1.5, 2.5], ["column 'user'", "Float64", "whole numbers or text"]),
        ("timestamp", [5, -5], ["row 2", "negative"]),
        ("timestamp", [5, 10**13], ["row 2", "future", "milliseconds"]),
        ("timestamp", ["x", "y"], ["row 1", "column 'timestamp'", "'x' is neither a number nor a date"]),
    ],
)
def test_parquet(tmp_path: Path, column: str, values: list[object], parts: list[str]) -> None:
    table = {"user": [1, 2], "item": [1, 2], "rating": [1.0, 2.0], "timestamp": [1, 2]} | {column: values}
    path = tmp_path / "x.parquet"
    pl.DataFrame(table).write_parquet(path)
    message = refused(InteractionTable(path=path), tmp_path)
    for part in [str(path), *parts]:
        assert part in message


def test_a_truncated_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"user": [1], "item": [1]}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "not a complete Parquet file" in refused(InteractionTable(path=path), tmp_path)


def test_an_empty_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"user": [1], "item": [1]}).clear().write_parquet(path)
    assert "0 rows" in refused(InteractionTable(path=path), tmp_path)


HEADER = "userId,movieId,rating,timestamp\n"


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (HEADER + "1,10,5.0,1\n1,x,5.0,1\n", ["line 3", "'movieId'", "'x' is not a whole number"]),
        (HEADER + "1,10,5.0,1\n1,3000000000,5.0,1\n", ["line 3", "3000000000", "32 bits"]),
        (HEADER + "1,10,good,1\n", ["line 2", "'rating'", "'good'"]),
        (HEADER + "1,10,5.0,1e99\n", ["line 2", "not a whole number"]),
        (HEADER + "1,10,5.0,978300760000\n", ["line 2", "milliseconds"]),
        (HEADER + "1,10,5.0,-1\n", ["line 2", "negative"]),
        (HEADER + "1,10,5.0\n", ["line 2", "3 fields instead of 4"]),
        (HEADER, ["no rows"]),
        ("userId,rating,timestamp\n1,5.0,1\n", ["no column 'movieId'"]),
    ],
)
def test_movielens_csv(tmp_path: Path, rows: str, parts: list[str]) -> None:
    path = made.ml_25m(tmp_path / "ml-25m.zip", ratings=rows)
    message = refused(MovieLens(name="ml-25m", archive=path), tmp_path)
    for part in ["ml-25m.zip: ml-25m/ratings.csv", *parts]:
        assert part in message


def test_movielens_1m_and_100k_name_the_line_too(tmp_path: Path) -> None:
    path = made.ml_1m(tmp_path / "ml-1m.zip", ratings="1::10::5::978300760\n2::20::abc::978300761\n")
    message = refused(MovieLens(name="ml-1m", archive=path), tmp_path)
    assert "ratings.dat, line 2: column 'rating': rating 'abc'" in message
    path = made.ml_100k(tmp_path / "ml-100k.zip", ratings="1\t2\t3\t4\n1\t2\t3\n")
    message = refused(MovieLens(name="ml-100k", archive=path), tmp_path)
    assert "u.data, line 2: has 3 fields instead of 4" in message


def test_side_tables_name_the_line_too(tmp_path: Path) -> None:
    path = made.ml_25m(tmp_path / "a.zip", movies="movieId,title,genres\n1,Good,Drama\n2,Bad\n")
    assert "movies.csv, row 3: 2 fields instead of 3" in refused(
        MovieLens(name="ml-25m", archive=path), tmp_path
    )
    path = made.ml_25m(tmp_path / "b.zip")
    path = made.zip_of(
        path,
        {
            "ml-25m/ratings.csv": HEADER + "1,10,5.0,1\n",
            "ml-25m/movies.csv": b"movieId,title,genres\n1,\xe9,x\n",
        },
    )
    assert "line 2: byte 0xe9 is not utf-8" in refused(MovieLens(name="ml-25m", archive=path), tmp_path)


@pytest.mark.parametrize("keep", [0.2, 0.7, 0.95])
def test_a_truncated_zip(tmp_path: Path, keep: float) -> None:
    path = made.ml_1m(tmp_path / "ml-1m.zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    message = refused(MovieLens(name="ml-1m", archive=path), tmp_path)
    assert "not a complete zip" in message
    assert "fetch it again" in message


def test_a_damaged_member(tmp_path: Path) -> None:
    path = made.ml_1m(tmp_path / "ml-1m.zip", ratings="".join(f"{n}::{n}::3::{n}\n" for n in range(1, 2000)))
    data = bytearray(path.read_bytes())
    data[500:600] = bytes(100)
    path.write_bytes(data)
    message = refused(MovieLens(name="ml-1m", archive=path), tmp_path)
    assert "ratings.dat is damaged" in message
    assert "fetch it again" in message


def test_the_wrong_archive(tmp_path: Path) -> None:
    path = made.ml_100k(tmp_path / "ml-1m.zip")
    message = refused(MovieLens(name="ml-1m", archive=path), tmp_path)
    assert "no ratings.dat inside" in message
    assert "u.data" in message


def test_brackets_and_stars_of_a_file_name_are_letters(tmp_path: Path) -> None:
    """``g[1].csv`` is what browsers call a second download; ``g1.csv`` beside it is another file."""
    for name, users in (("g[1].csv", 3), ("g1.csv", 5), ("a*.csv", 4), ("ab c.csv", 6)):
        rows = [f"u{u},i{n},{1_600_000_000 + n}" for u in range(users) for n in range(4)]
        (tmp_path / name).write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
        assert load_or_prepare(str(tmp_path / name)).num_users == users
        parquet = (tmp_path / name).with_suffix(".parquet")
        pl.read_csv(tmp_path / name, glob=False).write_parquet(parquet)
        assert load_or_prepare(str(parquet)).num_users == users
