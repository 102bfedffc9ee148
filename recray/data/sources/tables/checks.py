"""What counts as a bad value in an interaction, for every reader: one rule, one wording."""

import math
import time
from typing import NamedTuple

import polars as pl

DAY_S = 86_400
_MAX_FLOAT32 = 3.4e38


class Problem(NamedTuple):
    row: int  # 0-based data row
    text: str  # what is wrong and the way out


class BadValueError(Exception):
    """A value of a column that no reader may let through; whoever knows the file says where it stands."""

    def __init__(self, row: int | None, text: str) -> None:
        super().__init__(text)
        self.row = row  # 0-based data row; None: the column as a whole
        self.text = text  # what is wrong and the way out


def first_row(mask_N: pl.Series) -> int:
    """The first row at which a mask with at least one True is True."""
    return int(mask_N.fill_null(False).arg_max() or 0)


def bounds(numbers: pl.Series) -> tuple[float, float]:
    """The lowest and the highest; there must be one."""
    low, high = (
        numbers.alias("x").to_frame().select(pl.min("x").alias("low"), pl.max("x").alias("high")).row(0)
    )
    return low, high


def time_problem(seconds: float) -> str | None:
    """Interactions lie between 1970 and tomorrow; beyond that the unit is wrong, not the user."""
    if math.isnan(seconds):
        return "timestamp is missing or not a number: drop the row or fill it in"
    shown = f"{seconds:.0f}" if abs(seconds) < 1e18 else f"{seconds:g}"
    if seconds < 0:
        return f"timestamp {shown} is negative: times are unix seconds from 1970 on"
    if seconds > time.time() + DAY_S:
        return (
            f"timestamp {shown} is in the future: times are unix seconds; "
            "milliseconds are the usual cause (divide by 1000, or set time_unit=ms)"
        )
    return None


def rating_problem(rating: float) -> str | None:
    if not math.isfinite(rating):
        return f"rating is {rating}: drop the row or give it a finite number"
    if abs(rating) > _MAX_FLOAT32:
        return f"rating {rating:g} does not fit into 32 bits: scale the ratings down"
    return None


def first_problem(events: pl.DataFrame) -> Problem | None:
    """The first row of ``user, item, rating, timestamp`` that no reader may let through."""
    now = time.time() + DAY_S
    seconds, rating = pl.col("timestamp"), pl.col("rating")
    bad = (
        pl.any_horizontal(pl.all().is_null())
        | ~rating.is_finite()
        | (seconds < 0)
        | (seconds.cast(pl.Float64) > now)
    )
    # One cheap pass first: minima, maxima and null counts, without a mask of N rows.
    summary = events.select(
        pl.sum_horizontal(pl.all().null_count()).alias("nulls"),
        rating.is_finite().all().alias("finite"),
        seconds.min().alias("low"),
        seconds.max().alias("high"),
    ).row(0, named=True)
    if not summary["nulls"] and summary["finite"] and summary["low"] >= 0 and summary["high"] <= now:
        return None
    row = events.with_row_index("row").filter(bad).row(0, named=True)
    return Problem(row["row"], _describe(row))


def _describe(row: dict[str, float | str | None]) -> str:
    for role in ("user", "item", "rating", "timestamp"):
        if row[role] is None:
            return f"{role} is empty: drop the row or fill it in"
    rating, seconds = float(row["rating"] or 0), float(row["timestamp"] or 0)
    return rating_problem(rating) or time_problem(seconds) or "is not a valid interaction"
