"""Columns of times: recognised, at full resolution, and refused where they could be something else."""

import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recray.data.sources.tables.checks import BadValueError
from recray.data.sources.tables.times import TICKS_PER_S, times_of

S = 1_600_000_000  # 2020-09-13 12:26:40 UTC
MOMENT = datetime.datetime(2020, 9, 13, 12, 26, 40, 250_000)


@pytest.mark.parametrize(
    ("values", "ticks", "per_s"),
    [
        ([S, S + 1], [S, S + 1], 1),
        ([50, 100], [50, 100], 1),  # small numbers are seconds: nothing says otherwise
        ([20200913, 20240229], [1_599_955_200, 1_709_164_800], 1),
        (["20200913", "20200914"], [1_599_955_200, 1_600_041_600], 1),
        ([20200913, 20200931], [20200913, 20200931], 1),  # of no calendar
        ([S * 1000 + 1], [S * 1000 + 1], 1_000),
        ([S * 10**6], [S * 10**6], 10**6),
        ([S * 10**9 + 7], [S * 10**9 + 7], 10**9),
        ([float(S), S + 0.25], [S * 10**3, S * 10**3 + 250], 1_000),
        ([str(S), f" {S + 1} "], [S, S + 1], 1),
        (["1.6e9"], [S], 1),
        (["2020-09-13T12:26:40Z", "2020-09-13T12:26:40.25Z"], [S * 1000, S * 1000 + 250], 1_000),
        (["2020-09-13 12:26:40 UTC", "2020-09-13 14:26:41+02:00"], [S, S + 1], 1),
        (["2020-09-13T12:26:40.123456789Z"], [S * 10**9 + 123_456_789], 10**9),
        (["2020-09-13 12:26", "2020/9/13"], [S - 40, 1_599_955_200], 1),
        (["13.09.2020 12:26:40", "1.9.2020 00:00:00"], [S, 1_598_918_400], 1),
        (["09/13/2020 12:26:40 PM", "09/13/2020 1:00:00 am"], [S, 1_599_958_800], 1),
        (["09/13/2020 12:26 AM"], [1_599_956_760], 1),
        (
            ["2020-09-13 12:26:40 PM", "2020-09-13 1:00 am", "2020-09-13 12:00 AM"],
            [S, 1_599_958_800, 1_599_955_200],
            1,
        ),
        ([20200913122640], [S], 1),
        (["20200913122640"], [S], 1),
        ([202009131226], [S - 40], 1),
        (["09/13/2020"], [1_599_955_200], 1),
        (["13-09-2020", "01-10-2020"], [1_599_955_200, 1_601_510_400], 1),
        ([MOMENT], [S * 1000 + 250], 1_000),
        ([MOMENT.date()], [1_599_955_200], 1),
        ([MOMENT.replace(tzinfo=datetime.UTC)], [S * 1000 + 250], 1_000),
    ],
)
def test_what_is_recognised(values: list[Any], ticks: list[int], per_s: int) -> None:
    found = times_of(pl.Series(values))
    assert (found.ticks.to_list(), found.ticks_per_s) == (ticks, per_s)


@pytest.mark.parametrize(
    ("values", "options", "row", "message"),
    [
        ([S, 5 * S], {}, 1, "in the future"),
        ([S, S * 1000], {}, 1, "in the future.*time_unit=ms"),
        ([S, -1], {}, 1, "negative"),
        ([S, None], {}, 1, "missing"),
        ([1.0, float("nan")], {}, 1, "not a number"),
        ([1e300], {}, 0, "in the future"),
        ([S], {"unit": "ms"}, None, "January 1970"),
        ([5], {"unit": "s"}, None, "January 1970"),
        ([45_000.0, 45_000.5], {}, None, "as Excel counts.*time_unit=s"),
        (["5", ""], {}, 1, "empty"),
        (["5", "five"], {}, 1, "'five' is not a number"),
        (["yesterday"], {}, 0, "neither a number nor a date.*time_format="),
        (["2020-02-30"], {}, 0, "'2020-02-30' is neither"),
        (["1969-12-31"], {}, 0, "'1969-12-31' lies before 1970"),
        (["2999-01-01T00:00:00Z"], {}, 0, "lies in the future"),
        (["9999-12-31"], {}, 0, "'9999-12-31' lies in the future: correct it or drop the row"),
        (["0001-01-01"], {}, 0, "'0001-01-01' lies before 1970: correct it"),
        (["2020-09-13 13:00 PM"], {}, 0, "'2020-09-13 13:00 PM'"),
        (["03/04/2020"], {}, None, "day or the month first"),
        (["13.09.2020", "2020-09-13"], {}, 1, "not of the first one's form"),
        (["13-Sep-2020"], {"form": "%d.%m.%Y"}, 0, "is not of the form '%d.%m.%Y'"),
        (pl.Series([S], dtype=pl.Float32), {}, None, "Float32, .* are 128 apart near 1600000000.*Int64"),
        ([True], {}, None, "needs numbers or times"),
    ],
)
def test_what_is_refused(values: list[Any], options: dict[str, Any], row: int | None, message: str) -> None:
    with pytest.raises(BadValueError, match=message) as caught:
        times_of(pl.Series(values), **options)
    assert caught.value.row == row


def test_numbers_that_lie_about_1970_are_in_doubt_unless_a_unit_is_stated() -> None:
    assert "so about 1970: are they minutes, days" in times_of(pl.Series([19_675, 19_676])).doubt
    assert "such as 0.5 are" in times_of(pl.Series([0.5, 0.75])).doubt
    assert times_of(pl.Series([0, S, S])).doubt == ""  # one zero among times
    assert times_of(pl.Series([10**8]), unit="s").doubt == ""
    assert times_of(pl.Series([20240131])).doubt == ""


def test_stated_forms_and_units_are_taken() -> None:
    assert times_of(pl.Series(["13-Sep-2020 12:26"]), form="%d-%b-%Y %H:%M").ticks.to_list() == [S - 40]
    assert times_of(pl.Series([20200913]), form="%Y%m%d").ticks.to_list() == [1_599_955_200]
    assert times_of(pl.Series([0, S * 1000]), unit="ms").ticks_per_s == 1_000


@given(st.lists(st.integers(0, 1_700_000_000 * 10**9), min_size=1), st.sampled_from(sorted(TICKS_PER_S)))
def test_moments_lose_nothing(nanoseconds: list[int], unit: str) -> None:
    """As text to the nanosecond, and as typed columns of any resolution."""
    per_s = TICKS_PER_S[unit]
    cut = [ns // (10**9 // per_s) for ns in nanoseconds]
    digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[unit]
    text = []
    for ticks in cut:
        seconds, fraction = divmod(ticks, per_s)
        when = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        text.append(f"{when}.{fraction:0{digits}d}Z" if digits else f"{when}Z")
    columns = [pl.Series(text)]
    if unit != "s":
        columns.append(pl.Series(cut).cast(pl.Datetime(unit)))  # type: ignore[arg-type]
    for column in columns:
        found = times_of(column)
        assert [t * per_s for t in found.ticks] == [t * found.ticks_per_s for t in cut]
