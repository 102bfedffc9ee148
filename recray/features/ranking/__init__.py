"""Every ranking feature, defined once: offline for training, online for serving.

A feature is a small function of what is known strictly before a moment (``known``): its name is the
function's, its unit stands in the decorator, its meaning is the docstring, its group is its file. Some are
named after the columns that the items have (``by_column``). Whoever needs some asks for them by name
(``compute``), so that more features, or fewer, change nothing for a ranker that does not want them, and a
replayed request gives the bits that were served. Missing is NaN, which gradient boosting has a branch for.

Sums behind a division are exact (see ``features.past``), so no thread count and no order of addition
changes a bit. Events at the request time or later never change a feature.
"""

from recray.features.ranking.compute import compute, compute_of_events
from recray.features.ranking.feature import RankingFeature
from recray.features.ranking.known import KnownOfEvents, RankingQuery
from recray.features.ranking.registry import (
    EVENT_FEATURES,
    FEATURES,
    check_names,
    chosen,
    describe,
    event_features_of,
    features_of,
)

__all__ = [
    "EVENT_FEATURES",
    "FEATURES",
    "KnownOfEvents",
    "RankingFeature",
    "RankingQuery",
    "check_names",
    "chosen",
    "compute",
    "compute_of_events",
    "describe",
    "event_features_of",
    "features_of",
]
