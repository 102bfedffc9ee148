"""How the item meets what the user did last."""

import numpy as np

from recray.features.ranking.feature import Group, Value
from recray.features.ranking.known import KnownOfQuery

TASTE = Group[KnownOfQuery]("user x item")


@TASTE.feature("share")
def genre_affinity(known: KnownOfQuery) -> Value:
    """Share of the user's last 512 events that have a genre of the item, mean over its genres."""
    taste = known.taste
    return taste.shared_K / (taste.num_genres_K * taste.num_events)


@TASTE.feature("share")
def genre_affinity_recent(known: KnownOfQuery) -> Value:
    """The same share, an event weighing half as much with every 10 later events."""
    taste = known.taste
    return taste.shared_recent_K / (taste.num_genres_K * taste.recent_weight)


@TASTE.feature("rating")
def genre_mean_rating(known: KnownOfQuery) -> Value:
    """Mean rating that the user gave to the item's genres, over the last 512 events."""
    return known.taste.shared_ratings_K / known.taste.shared_K


@TASTE.feature("share")
def genre_overlap_last(known: KnownOfQuery) -> Value:
    """Genres that the item and the user's last event share, over the genres of either."""
    taste = known.taste
    return taste.shared_last_K / (taste.num_genres_K + taste.num_genres_last - taste.shared_last_K)


@TASTE.feature("share")
def follows_last(known: KnownOfQuery) -> Value:
    """How often the item came within 8 events after the last 256 occurrences of the user's last item."""
    item_ids_H = known.history.item_ids_H
    if not len(item_ids_H):
        return np.nan
    counts_I, occurrences = known.log.followers_before(int(item_ids_H[-1]), known.time)
    return counts_I.take(known.item_ids_K) / occurrences if occurrences else np.nan
