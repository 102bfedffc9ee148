"""Columns of times, however they are told, as whole ticks since 1970 at the finest resolution they have.

Numbers are unix seconds, milli-, micro- or nanoseconds, recognised by the range of the whole column, or dates
such as 20240131. Text is ISO 8601, a date with the year last where it can be read in one way only, or of a
stated form.
"""

import datetime
import math
import re
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

import polars as pl

from recray.data.sources.tables.checks import DAY_S, BadValueError, bounds, first_row, time_problem

TimeUnit = Literal["s", "ms", "us", "ns"]
TICKS_PER_S: dict[str, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_NS = TICKS_PER_S["ns"]
_JANUARY_1970_S = 31 * DAY_S
_EARLIEST_S = 100_000_000  # March 1973: no column of real times lies before it, so units do not overlap
_PLAUSIBLE_S = 157_766_400  # 1975: people's data begins later
_EXCEL_DAYS = (20_000, 60_000)  # since 1900: 1954 to 2064
# Minutes in digits would be milliseconds of 1976, and seconds are no time in any unit.
_IN_DIGITS = {
    "%Y%m%d": (19_700_101, 21_000_101),
    "%Y%m%d%H%M": (197_001_010_000, 210_001_010_000),
    "%Y%m%d%H%M%S": (19_700_101_000_000, 21_000_101_000_000),
}
_EXAMPLE = datetime.datetime(2024, 1, 31, 12, 30)
_EMPTY = "timestamp is empty: drop the row or fill it in"
_FORM = "time_format=%d.%m.%Y %H:%M"
_ISO = (
    r"^(?<year>\d{4})[-/](?<month>\d{1,2})[-/](?<day>\d{1,2})"
    r"(?:[T ]+(?<hour>\d{1,2}):(?<minute>\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d{1,9}))?)?"
    r"\s*(?<half>[AaPp][Mm])?\s*(?<zone>Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?$"
)
_COMMON = r"\d{4}-\d{2}-\d{2}([T ])\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z| UTC)?$"
_LONGEST_US = "2020-09-13 12:26:40.123456"
_YEAR_LAST = (
    r"^(?<first>\d{1,2})[./-](?<other>\d{1,2})[./-](?<year>\d{4})"
    r"(?:[T ,]+(?<hour>\d{1,2}):(?<minute>\d{2})(?::(?<second>\d{2}))?(?:\s?[AaPp][Mm])?)?$"
)
_CLOCK = re.compile(r"\d{4}([T ,]*)([\d:]*)(\s?[AaPp][Mm])?$")
_SLICE_ROWS = 1_000_000  # of text are taken apart at a time: the parts take more room than the whole


class Times(NamedTuple):
    ticks: pl.Series  # Int64, not negative, no nulls
    ticks_per_s: int
    notes: tuple[str, ...] = ()
    doubt: str = ""  # what makes it unlikely that these are times as they were read


def times_of(
    values: pl.Series,
    *,
    unit: TimeUnit | None = None,
    form: str | None = None,
    beside: Sequence[pl.Series] = (),
) -> Times:
    """
    Args:
        unit: of numbers; None recognises it.
        form: of text, as ``strftime`` writes it; None recognises it.
        beside: text of other files, asked where this does not tell days from months.

    Raises:
        BadValueError: a value that is missing, no time, or not between 1970 and tomorrow.
    """
    if form and (values.dtype.is_integer() or values.dtype == pl.String):
        found = _of_text(values.cast(pl.String), unit, form, beside)
    elif values.dtype.is_temporal() and values.dtype != pl.Time and not isinstance(values.dtype, pl.Duration):
        found = _of_moments(values)
    elif values.dtype.is_numeric():
        found = _of_numbers(values, unit)
    elif values.dtype == pl.String:
        found = _of_text(values, unit, form, beside)
    else:
        raise BadValueError(None, f"has type {values.dtype}, but a timestamp needs numbers or times")
    _require_range(found, values)
    return found


def _require_range(found: Times, values: pl.Series) -> None:
    latest = int((time.time() + DAY_S) * found.ticks_per_s)
    low, high = bounds(found.ticks)
    if low < 0 or high > latest:
        row = first_row((found.ticks < 0) | (found.ticks > latest))
        problem = time_problem(found.ticks[row] / found.ticks_per_s) or "is no time"
        if not values.dtype.is_numeric():
            problem = f"timestamp {str(values[row])!r} {_far(1969 if found.ticks[row] < 0 else 9999)}"
        raise BadValueError(row, problem)


def _far(year: int) -> str:
    return f"lies {'before 1970' if year < 1970 else 'in the future'}: correct it or drop the row"


def _of_moments(values: pl.Series) -> Times:
    _require_all(values)
    has_zone = isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is not None
    if values.dtype == pl.Date:
        return Times(values.cast(pl.Int64) * DAY_S, 1)
    assert isinstance(values.dtype, pl.Datetime)
    ticks_per_s = TICKS_PER_S[values.dtype.time_unit]
    return _coarsest(values.to_physical(), ticks_per_s, () if has_zone else (_WITHOUT_ZONE,))


_WITHOUT_ZONE = "times without a zone are taken as UTC"


def _coarsest(ticks: pl.Series, ticks_per_s: int, notes: tuple[str, ...]) -> Times:
    """The same times at the coarsest resolution that loses nothing: a column of whole seconds is one."""
    for per_s in (1, 1_000, 1_000_000):
        share = ticks_per_s // per_s
        if share > 1 and not (ticks % share != 0).any():
            return Times(ticks // share, per_s, notes)
    return Times(ticks, ticks_per_s, notes)


def _of_numbers(values: pl.Series, unit: TimeUnit | None) -> Times:
    if values.dtype.is_float():
        values = values.fill_nan(None)
    if values.null_count():
        raise BadValueError(
            first_row(values.is_null()), "timestamp is missing or not a number: drop the row or fill it in"
        )
    low, high = bounds(values)
    _refuse_coarse(values, max(-low, high))
    dates = _dates_in_digits(values, low, high) if unit is None else None
    if dates is not None:
        return dates
    if unit is None:
        _refuse_excel(values, low, high)
    found = unit or _unit_of(low, high)
    per_s = TICKS_PER_S[found]
    if unit and 0 <= high / per_s < _JANUARY_1970_S:
        raise BadValueError(
            None,
            f"with time_unit={unit} all times lie in January 1970 (the latest is {high:.0f}): state another "
            "unit, or leave time_unit out and it is recognised",
        )
    notes = () if unit or found == "s" else (f"times are unix {_NAMES[found]}, by the range of all of them",)
    if high / per_s > time.time() + DAY_S or low < 0:  # said before floats lose what they cannot hold
        row = first_row((values < 0) | (values > (time.time() + DAY_S) * per_s))
        raise BadValueError(row, time_problem(float(values[row]) / per_s) or "is no time")
    doubt = "" if unit or per_s > 1 else _doubt(values)
    if values.dtype.is_float() and (values != values.floor()).any():
        if per_s > 1:
            return Times(values.floor().cast(pl.Int64), per_s, notes)
        ticks = (values * TICKS_PER_S["us"]).round().cast(pl.Int64)
        return _coarsest(ticks, TICKS_PER_S["us"], notes)._replace(doubt=doubt)
    return Times(values.cast(pl.Int64), per_s, notes, doubt)


def _dates_in_digits(values: pl.Series, low: float, high: float) -> Times | None:
    """Where every number is a date such as 20240131 or 20240131120000."""
    form = next((form for form, (first, last) in _IN_DIGITS.items() if first <= low and high <= last), None)
    if form is None or (values.dtype.is_float() and not _all_whole(values)):
        return None
    moments = values.cast(pl.Int64).cast(pl.String).str.to_datetime(form, time_unit="ms", strict=False)
    if moments.null_count():
        return None
    return Times(
        moments.to_physical() // 1_000, 1, (f"times are dates written like {_EXAMPLE.strftime(form)}",)
    )


def _refuse_coarse(values: pl.Series, largest: float) -> None:
    if values.dtype in (pl.Float16, pl.Float32) and largest >= 2**24:
        step = 2 ** (math.frexp(largest)[1] - 24)
        raise BadValueError(
            None,
            f"has type {values.dtype}, whose neighbouring values are {step:,} apart near {largest:.0f}, so "
            "that times are rounded and their order is lost: write it as whole numbers (Int64) or Float64 "
            "from where it is still exact",
        )


def _all_whole(values: pl.Series) -> bool:
    return bool((values == values.floor()).all())


def _refuse_excel(values: pl.Series, low: float, high: float) -> None:
    is_like_excel = _EXCEL_DAYS[0] <= low and high <= _EXCEL_DAYS[1] and values.dtype.is_float()
    if is_like_excel and not _all_whole(values):
        raise BadValueError(
            None,
            f"timestamp {values[0]} is a day and a part of it, as Excel counts from 1900: save the "
            "column as dates, or write (days - 25569) * 86400, which are unix seconds; time_unit=s takes it "
            "as seconds",
        )


def _doubt(values: pl.Series) -> str:
    """What to ask where half of the seconds or more lie before anybody's data."""
    median = values.median()
    if not isinstance(median, (int, float)) or median >= _PLAUSIBLE_S:
        return ""
    return (
        f"numbers such as {values[0]} are read as unix seconds, so about {time.gmtime(median).tm_year}: "
        "are they minutes, days (Excel counts them from 1900) or row numbers? If so, write unix seconds or "
        "dates, or leave the column out with timestamp= (nothing)"
    )


def _unit_of(low: float, high: float) -> str:
    """Seconds, unless all values lie where only another unit has times from 1973 to tomorrow."""
    for unit, per_s in TICKS_PER_S.items():
        if low >= _EARLIEST_S * per_s and high <= (time.time() + DAY_S) * per_s:
            return unit
    return "s"


def _of_text(
    values: pl.Series, unit: TimeUnit | None, form: str | None, beside: Sequence[pl.Series]
) -> Times:
    text = values.str.strip_chars()
    text = text.set(text == "", None)
    _require_all(text)
    if form:
        return _of_form(text, form)
    numbers = text.cast(pl.Int64, strict=False)
    if numbers.null_count():
        numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0:
        return _of_numbers(numbers, unit)
    if numbers[0] is not None:
        row = first_row(numbers.is_null())
        raise BadValueError(row, f"timestamp {text[row]!r} is not a number: write it as unix seconds")
    if pl.Series([text[0]]).str.contains(_YEAR_LAST)[0]:
        return _of_form(text, *_year_last_form(text, beside))
    at_once = _all_alike(text)
    if at_once:
        return at_once
    slices = [_iso(text.slice(start, _SLICE_ROWS)) for start in range(0, len(text), _SLICE_ROWS)]
    found = pl.concat(slices)
    if found["ns"].null_count():
        row = first_row(found["ns"].is_null())
        day = dates_in(text.slice(row, 1))[0]
        what = f"is neither a number nor a date: tell its form, e.g. {_FORM}"
        raise BadValueError(row, f"timestamp {text[row]!r} {_far(day.year) if day else what}")
    return _coarsest(found["ns"], _NS, (_WITHOUT_ZONE,) if not found["has_zone"].all() else ())


def _all_alike(text: pl.Series) -> Times | None:
    """Where every text is written as the first one is, in a common form: several times faster than apart."""
    found = re.match(_COMMON, text[0])
    if not found:
        return None
    between, fraction, zone = found.groups(default="")
    if bounds(text.str.len_bytes())[1] > len(_LONGEST_US + zone):
        return None
    form = f"%Y-%m-%d{between}%H:%M:%S{'%.f' if fraction else ''}{zone}"
    # In nanoseconds, years beyond 2262 would wrap round to others.
    moments = text.str.to_datetime(form, time_unit="us", strict=False)
    if moments.null_count():
        return None
    return _coarsest(moments.to_physical(), TICKS_PER_S["us"], () if zone else (_WITHOUT_ZONE,))


def _require_all(values: pl.Series) -> None:
    if values.null_count():
        raise BadValueError(first_row(values.is_null()), _EMPTY)


def _iso(text: pl.Series) -> pl.DataFrame:
    """``ns`` since 1970 (null: no such date) and ``has_zone`` of each ISO 8601 text."""
    part = text.str.extract_groups(_ISO).struct.unnest()
    zone = pl.col("zone")
    digits = zone.str.replace(":", "", literal=True)
    offset_min = digits.str.slice(1, 2).cast(pl.Int64, strict=False) * 60
    offset_min += digits.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    signed = pl.when(zone.str.starts_with("-")).then(-offset_min).otherwise(offset_min).fill_null(0)
    moment = pl.format(
        "{}-{}-{} {}:{}:{}",
        *("year", "month", "day"),
        *(pl.col(name).fill_null("0") for name in ("hour", "minute", "second")),
    ).str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ms", strict=False)
    seconds = moment.dt.epoch("s") - signed * 60 + _afternoon_s()
    fraction = pl.col("fraction").str.pad_end(9, "0").cast(pl.Int64).fill_null(0)
    fits = seconds.abs() < 2**63 // _NS
    return part.select(
        pl.when(fits).then(seconds * _NS + fraction).alias("ns"), zone.is_not_null().alias("has_zone")
    )


def _afternoon_s() -> pl.Expr:
    """What AM or PM adds to the hour as it is written; null where there is no such hour."""
    half, hour = pl.col("half").str.to_lowercase(), pl.col("hour").cast(pl.Int64, strict=False)
    shift = pl.when(half == "pm").then(12).otherwise(0) - pl.when(hour == 12).then(12).otherwise(0)
    told = pl.when(hour.is_between(1, 12)).then(shift * 3600)
    return pl.when(half.is_null()).then(0).otherwise(told)


def dates_in(text: pl.Series) -> pl.Series:
    """The day of each text, of any year; null where there is none."""
    parts = text.str.extract_groups(
        r"^(?<year>\d{4})[-/](?<month>\d{1,2})[-/](?<day>\d{1,2})"
    ).struct.unnest()
    days = parts.select(pl.format("{}-{}-{}", "year", "month", "day").str.to_date("%Y-%m-%d", strict=False))
    found = days.to_series()
    if found.null_count() == len(found) and len(text.drop_nulls()):
        try:
            form, _ = _year_last_form(text.drop_nulls())
        except BadValueError:
            return found
        found = text.str.to_datetime(form, strict=False).dt.date()
    return found


def _year_last_form(text: pl.Series, beside: Sequence[pl.Series] = ()) -> tuple[str, str]:
    """The form of ``14.09.2020 04:30``, and a note; refused where day and month may be either."""
    bad = ~text.str.contains(_YEAR_LAST)
    if bad.any():
        row = first_row(bad)
        raise BadValueError(
            row, f"timestamp {text[row]!r} is not of the first one's form: tell it, e.g. {_FORM}"
        )
    mark = text[0].lstrip("0123456789")[0]
    orders = (_is_day_first(each) for each in (text, *beside))
    day_first = next((order for order in orders if order is not None), None)
    if day_first is None:
        raise BadValueError(
            None,
            f"timestamp {text[0]!r} may have the day or the month first: tell by time_format="
            f"%d{mark}%m{mark}%Y or %m{mark}%d{mark}%Y",
        )
    date = f"%d{mark}%m{mark}%Y" if day_first else f"%m{mark}%d{mark}%Y"
    between, clock, half = _CLOCK.search(text[0]).groups(default="")  # type: ignore[union-attr]
    hour = "%I" if half.strip() else "%H"
    clock = {0: "", 1: f"{hour}:%M", 2: f"{hour}:%M:%S"}[clock.count(":")]
    blank = half[: len(half) - len(half.lstrip())]
    form = date + between + clock + (f"{blank}%p" if half.strip() else "")
    return form, f"times are read with the {'day' if day_first else 'month'} first"


def _is_day_first(text: pl.Series) -> bool | None:
    """None: nothing tells, or there is no such date."""
    part = text.str.extract_groups(_YEAR_LAST).struct.unnest().drop_nulls("year")
    if not len(part):
        return None
    first, other = (bounds(part[name].cast(pl.Int64))[1] for name in ("first", "other"))
    dotted = bool(text.str.contains(r"^\d+\.").all())
    if other <= 12 and (first > 12 or dotted):
        return True
    return False if first <= 12 < other else None


def _of_form(text: pl.Series, form: str, *notes: str) -> Times:
    try:
        moments = text.str.to_datetime(form, time_unit="us", strict=False)
    except pl.exceptions.PolarsError as error:
        raise BadValueError(None, f"time_format={form!r} is no form of times: write e.g. {_FORM}") from error
    if moments.null_count():
        row = first_row(moments.is_null())
        raise BadValueError(
            row, f"timestamp {text[row]!r} is not of the form {form!r}: set time_format to what it is"
        )
    zone = isinstance(moments.dtype, pl.Datetime) and moments.dtype.time_zone is not None
    return _coarsest(moments.to_physical(), TICKS_PER_S["us"], (*notes, *(() if zone else (_WITHOUT_ZONE,))))
