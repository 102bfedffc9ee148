"""Which mark stands before the decimals: found out, stated, or asked for."""

from pathlib import Path

import polars as pl
import pytest

from recray.config import ConfigError
from recray.data.events.prepare import load_or_prepare
from recray.data.sources.tables.checks import BadValueError
from recray.data.sources.tables.values import ratings_of
from recray.schema import DataError


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1.5", "2"], [1.5, 2]),
        (["1,5", "2"], [1.5, 2]),
        (["0.125", "0.250"], [0.125, 0.25]),
        (["1.234", "2.5"], [1.234, 2.5]),
        (["1,234", "2.5"], [1234, 2.5]),
        (["1,234.5", "1,000"], [1234.5, 1000]),
        (["1.234,5", "1.000"], [1234.5, 1000]),
        (["1,234,567", "1,234", "900"], [1_234_567, 1234, 900]),
        (["1.234.567", "1.234", "900"], [1_234_567, 1234, 900]),
    ],
)
def test_the_values_tell_the_mark(texts: list[str], numbers: list[float]) -> None:
    assert ratings_of(pl.Series(texts)).values.to_list() == pytest.approx(numbers)


@pytest.mark.parametrize("mark", [".", ","])
def test_three_digits_behind_every_mark_are_refused(mark: str) -> None:
    with pytest.raises(BadValueError, match=f"'1{mark}234' may be thousands") as caught:
        ratings_of(pl.Series(["900", f"1{mark}234"]))
    assert caught.value.row == 1


def test_one_of_each_mark_is_no_number() -> None:
    with pytest.raises(BadValueError, match="'1,5' is not a number"):
        ratings_of(pl.Series(["2.5", "1,5"]))


@pytest.mark.parametrize("rows", [["1.000", "900"], ["5"] * 200 + ["1.234", "900"]])
def test_a_file_is_asked_about_whether_it_begins_so_or_not(tmp_path: Path, rows: list[str]) -> None:
    path = tmp_path / "x.csv"
    path.write_text("user,item,plays\n" + "".join(f"{n},7,{row}\n" for n, row in enumerate(rows)))
    with pytest.raises(DataError, match=rf"line {len(rows)}: column 'plays': rating '1.*decimal=,"):
        load_or_prepare(str(path))
    thousands = load_or_prepare(f"{path}?decimal=,").ratings_N
    assert thousands.tolist()[-2:] == [float(rows[-2].replace(".", "")), 900.0]
    assert load_or_prepare(f"{path}?decimal=.").ratings_N.tolist()[-2:] == pytest.approx(
        [float(rows[-2]), 900.0]
    )
    with pytest.raises(ConfigError, match="decimal must be"):
        load_or_prepare(f"{path}?decimal=x")
