"""Users who are none: programs, by how fast they ask and by what they click."""

from dataclasses import dataclass

import polars as pl

from recray.config import ConfigError
from recray.event_log.reading import Log

MINUTE_S = 60


@dataclass(frozen=True, kw_only=True)
class Screening:
    """What nobody does by hand. 0 leaves a check out."""

    requests_per_minute: int = 60
    """Answers that one user got in one minute; with more it is a program."""
    events_per_minute: int = 120
    """Events of one user in one minute."""
    clicked: float = 0.9
    """Share of the items shown to a user that it clicked."""
    least_shown: int = 50
    """Items; of a user who was shown fewer, the share says nothing."""

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "events_per_minute", "least_shown"):
            if getattr(self, name) < 0:
                raise ConfigError(f"screening.{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.clicked <= 1:
            raise ConfigError(f"screening.clicked must be a share from 0 to 1, got {self.clicked}")


def screened(log: Log, rows: pl.DataFrame, screening: Screening) -> pl.DataFrame:
    """The users who are left out: ``user_id``, ``why`` and ``number``, the first reason of each.

    Args:
        rows: of ``outcomes``.
    """
    requests = log.shown.unique(["request_id"], keep="first", maintain_order=True)
    found = [
        _too_fast(requests, screening.requests_per_minute, "requests per minute"),
        _too_fast(log.events, screening.events_per_minute, "events per minute"),
        _clicks_all(rows, screening),
    ]
    return pl.concat(found).unique("user_id", keep="first", maintain_order=True)


def _too_fast(table: pl.DataFrame, most: int, why: str) -> pl.DataFrame:
    of_minute = (
        table.drop_nulls("user_id").group_by("user_id", pl.col("at").floordiv(MINUTE_S).alias("minute")).len()
    )
    most_of_user = of_minute.group_by("user_id").agg(number=pl.col("len").max().cast(pl.Float64))
    return _named(most_of_user.filter((pl.col("number") > most) & (most > 0)), why)


def _clicks_all(rows: pl.DataFrame, screening: Screening) -> pl.DataFrame:
    of_user = (
        rows.drop_nulls("user_id")
        .group_by("user_id")
        .agg(number=(pl.col("label") > 0).mean(), shown=pl.len())
        .filter(
            (pl.col("shown") >= screening.least_shown)
            & (pl.col("number") >= screening.clicked)
            & (screening.clicked > 0)
        )
    )
    return _named(of_user, "share of items clicked")


def _named(found: pl.DataFrame, why: str) -> pl.DataFrame:
    return found.sort("user_id").select("user_id", pl.lit(why).alias("why"), "number")
