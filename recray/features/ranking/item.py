"""What is known of the item."""

import numpy as np

from recray.features.items import YEAR
from recray.features.past import smoothed_mean
from recray.features.ranking.feature import Group, Value
from recray.features.ranking.known import Known

YEAR_S = 31_556_952  # mean Gregorian year
ITEM = Group[Known]("item")


@ITEM.feature("events")
def item_events(known: Known) -> Value:
    """Events of the item so far."""
    return known.item.events_K


@ITEM.feature("events")
def item_events_7d(known: Known) -> Value:
    """Events of the item since midnight UTC 7 days ago."""
    return known.item.events_since(7)


@ITEM.feature("events")
def item_events_30d(known: Known) -> Value:
    """Events of the item since midnight UTC 30 days ago."""
    return known.item.events_since(30)


@ITEM.feature("events")
def item_events_90d(known: Known) -> Value:
    """Events of the item since midnight UTC 90 days ago."""
    return known.item.events_since(90)


@ITEM.feature("ratio")
def item_trend(known: Known) -> Value:
    """Events a day in the last 30 days over events a day in the last 90: above 1 it is rising."""
    trend: Value = 3.0 * known.item.events_since(30) / known.item.events_since(90)
    return trend


@ITEM.feature("rating")
def item_mean_rating(known: Known) -> Value:
    """Mean rating of the item so far, drawn to the mean of all events by 10 events' worth."""
    return smoothed_mean(known.item, known.mean_rating)


@ITEM.feature("days")
def item_days_since_first(known: Known) -> Value:
    """Time since the item was first seen."""
    return known.item.days_since(known.item.first_time_K)


@ITEM.feature("days")
def item_days_since_last(known: Known) -> Value:
    """Time since the item's last event."""
    return known.item.days_since(known.item.last_time_K)


@ITEM.feature("years", YEAR)
def item_age(known: Known) -> Value:
    """Time since the beginning of the item's release year."""
    return 1970.0 + known.known_until / YEAR_S - number(known, YEAR)


def number(known: Known, column: str) -> Value:
    """As the items have it; NaN where unknown."""
    if column not in known.log.items.numbers:
        return np.nan
    numbers_K: Value = known.log.items.numbers[column].take(known.item_ids_K).astype(np.float64)
    return numbers_K
