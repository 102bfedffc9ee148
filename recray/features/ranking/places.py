"""The item's place within the list.

Places stay comparable while counts and scores drift with the months, and trees cannot compare the rows of
a list themselves.
"""

import numpy as np

from recray.features.items import GENRES
from recray.features.ranking.feature import Group, Value
from recray.features.ranking.item import item_events, item_events_30d, item_mean_rating
from recray.features.ranking.known import KnownOfQuery
from recray.features.ranking.taste import genre_affinity, genre_affinity_recent
from recray.ops import look_ups as loops

PLACES = Group[KnownOfQuery]("list")


def place_within(values: Value) -> Value:
    """1 + how many of the list have a higher value: ties share, order does not matter, NaN is lowest."""
    rank_K: Value = loops.ranks(np.ascontiguousarray(values, np.float64))
    return rank_K


@PLACES.feature("rank")
def item_events_rank(known: KnownOfQuery) -> Value:
    """1 + how many candidates have more events so far."""
    return place_within(item_events(known))


@PLACES.feature("rank")
def item_events_30d_rank(known: KnownOfQuery) -> Value:
    """1 + how many candidates have more events since midnight UTC 30 days ago."""
    return place_within(item_events_30d(known))


@PLACES.feature("rank")
def item_mean_rating_rank(known: KnownOfQuery) -> Value:
    """1 + how many candidates have a higher (smoothed) mean rating."""
    return place_within(item_mean_rating(known))


@PLACES.feature("rank", GENRES)
def genre_affinity_rank(known: KnownOfQuery) -> Value:
    """1 + how many candidates have a higher genre_affinity."""
    return place_within(genre_affinity(known))


@PLACES.feature("rank", GENRES)
def genre_affinity_recent_rank(known: KnownOfQuery) -> Value:
    """1 + how many candidates have a higher genre_affinity_recent."""
    return place_within(genre_affinity_recent(known))
