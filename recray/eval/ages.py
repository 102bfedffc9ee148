"""What a second stage is worth when the newest thing that it was told is old."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from recray.config import ConfigError

HOUR_S, DAY_S = 3_600, 86_400
AGES_S = (HOUR_S, DAY_S, 7 * DAY_S, 90 * DAY_S)
METRIC = "ndcg@10"
_UNITS_S = {"s": 1, "min": 60, "m": 60, "h": HOUR_S, "d": DAY_S, "y": 365 * DAY_S}
_TIME = re.compile(rf"(\d{{1,6}}) ?({'|'.join(_UNITS_S)})", re.ASCII)


class AtAge(NamedTuple):
    """Both stages, asked so long after the last thing that they were told: means of ``METRIC``."""

    age_s: int
    first: float  # the retriever's order
    both: float
    low: float  # the 95 % interval of the paired difference
    high: float


def helps_until(ages: Sequence[AtAge]) -> int | None:
    """The age in seconds before the first at which the second stage is shown to be worse; None: at all."""
    worse = next((n for n, at in enumerate(ages) if at.high < 0), None)
    if worse is None:
        return None
    return ages[worse - 1].age_s if worse else 0


def require_help(ages: Sequence[AtAge], what: str) -> None:
    """
    Raises:
        ConfigError: at some age the second stage is shown to make the lists worse.
    """
    for at in ages:
        if at.high < 0:
            raise ConfigError(
                f"{what}: served {as_words(at.age_s)} after its newest event it makes the retriever's lists "
                f"worse ({METRIC} {at.both:.4f} for {at.first:.4f}): it is not promoted. Train it again, "
                "serve the retriever alone, or promote it anyway with --force"
            )


def seconds(text: str) -> int:
    """``7d`` -> 604800; units are s, min (or m), h, d and y (of 365 days).

    Raises:
        ConfigError: something else.
    """
    found = _TIME.fullmatch(text)
    if not found:
        raise ConfigError(f"{text!r} is no time: give a number and a unit, as in 90s, 30min, 1h, 7d or 1y")
    return int(found[1]) * _UNITS_S[found[2]]


def as_words(age_s: int) -> str:
    """``86400`` -> ``1 d``: whole days from two days on, else hours, minutes or seconds."""
    for unit, size in (("d", DAY_S), ("h", HOUR_S), ("min", 60)):
        if age_s >= size:
            return f"{age_s / size:.3g} {unit}" if age_s < 1000 * size else f"{age_s // size:,} {unit}"
    return f"{age_s} s"
