"""How the item meets what the user did last."""

import numpy as np

from recray.features.items import GENRES
from recray.features.ranking.feature import Group, Value
from recray.features.ranking.known import KnownOfQuery

TASTE = Group[KnownOfQuery]("user x item")


def affinity(known: KnownOfQuery, column: str) -> Value:
    """Share of the user's last 512 events that have a label of the item, mean over its labels."""
    taste = known.taste(column)
    return taste.shared_K / (taste.num_labels_K * taste.num_events)


def affinity_recent(known: KnownOfQuery, column: str) -> Value:
    """The same share, an event weighing half as much with every 10 later events."""
    taste = known.taste(column)
    return taste.shared_recent_K / (taste.num_labels_K * taste.recent_weight)


def mean_rating(known: KnownOfQuery, column: str) -> Value:
    """Mean rating that the user gave to the item's labels, over the last 512 events."""
    taste = known.taste(column)
    return taste.shared_ratings_K / taste.shared_K


def overlap_last(known: KnownOfQuery, column: str) -> Value:
    """Labels that the item and the user's last event share, over the labels of either."""
    taste = known.taste(column)
    return taste.shared_last_K / (taste.num_labels_K + taste.num_labels_last - taste.shared_last_K)


@TASTE.feature("share", GENRES)
def genre_affinity(known: KnownOfQuery) -> Value:
    """Share of the user's last 512 events that have a genre of the item, mean over its genres."""
    return affinity(known, GENRES)


@TASTE.feature("share", GENRES)
def genre_affinity_recent(known: KnownOfQuery) -> Value:
    """The same share, an event weighing half as much with every 10 later events."""
    return affinity_recent(known, GENRES)


@TASTE.feature("rating", GENRES)
def genre_mean_rating(known: KnownOfQuery) -> Value:
    """Mean rating that the user gave to the item's genres, over the last 512 events."""
    return mean_rating(known, GENRES)


@TASTE.feature("share", GENRES)
def genre_overlap_last(known: KnownOfQuery) -> Value:
    """Genres that the item and the user's last event share, over the genres of either."""
    return overlap_last(known, GENRES)


@TASTE.feature("share")
def follows_last(known: KnownOfQuery) -> Value:
    """How often the item came within 8 events after the last 256 occurrences of the user's last item."""
    item_ids_H = known.history.item_ids_H
    if not len(item_ids_H):
        return np.nan
    last, ids_K = int(item_ids_H[-1]), known.item_ids_K
    counts_K, occurrences = known.log.followers_before(last, known.time, ids_K)
    return counts_K / occurrences if occurrences else np.nan
