"""Features of the catalogue's own columns, named after them: ``brand_affinity``, ``price_vs_user``.

Every column of labels, numbers or dates that a log's items have gives some; ``genres`` and ``year`` have
names of their own. Items are as they are now: a past request too is told the price of today, be it from a
table or from the newest event.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Generic

import numpy as np

from recray.features.items import GENRES, YEAR, Columns
from recray.features.past import DAY_S
from recray.features.ranking.feature import K, RankingFeature, Value
from recray.features.ranking.item import number
from recray.features.ranking.known import Known, KnownOfQuery
from recray.features.ranking.taste import affinity, affinity_recent, mean_rating, overlap_last

log = logging.getLogger(__name__)
_BRACKETS = str.maketrans("[]<", "()(")  # XGBoost refuses these in names


def number_vs_user(known: KnownOfQuery, column: str) -> Value:
    """The item's value minus the mean of the user's last 512 events."""
    if column not in known.log.items.numbers:
        return np.nan
    taken_H = known.log.items.numbers[column].take(known.history.item_ids_H).astype(np.float64)
    known_H = taken_H[~np.isnan(taken_H)]
    return number(known, column) - (known_H.mean() if len(known_H) else np.nan)


def age_in_days(known: Known, column: str) -> Value:
    """Time since the item's date; missing where the request is older."""
    dates_K = known.log.items.dates[column].take(known.item_ids_K)
    # What appeared since the log ended is as new as anything can be.
    return np.where(dates_K <= known.time, np.maximum(known.known_until - dates_K, 0) / DAY_S, np.nan)


@dataclass(frozen=True)
class Pattern(Generic[K]):
    """A feature of each column of one kind."""

    name: str  # with {} for the column
    group: str
    unit: str
    define: Callable[[K, str], Value]

    def of(self, column: str, taken: frozenset[str] = frozenset()) -> RankingFeature[K]:
        """
        Args:
            taken: names that are others' for good: ``genre_affinity`` is of ``genres``, and a column that is
                called ``genre`` has ``genre__affinity``.
        """
        text = (self.define.__doc__ or "").strip()
        called, define = column.translate(_BRACKETS), self.define
        if (name := self.name.format(called)) in taken:
            name = self.name.format(f"{called}_")
        return RankingFeature(name, self.group, self.unit, text, lambda known: define(known, column))

    def fits(self, name: str) -> bool:
        """Whether some column would give a feature of that name."""
        before, after = self.name.split("{}")
        return name.startswith(before) and name.endswith(after) and len(name) > len(before + after)


_LABELS = (
    Pattern("{}_affinity", "user x item", "share", affinity),
    Pattern("{}_affinity_recent", "user x item", "share", affinity_recent),
    Pattern("{}_mean_rating", "user x item", "rating", mean_rating),
    Pattern("{}_overlap_last", "user x item", "share", overlap_last),
)
_NUMBER = Pattern[Known]("item_{}", "item", "as given", number)
_VS_USER = Pattern("{}_vs_user", "user x item", "as given", number_vs_user)
_AGE = Pattern[Known]("item_age_{}", "item", "days", age_in_days)
PATTERNS: tuple[Pattern[KnownOfQuery], ...] = (*_LABELS, _NUMBER, _VS_USER, _AGE)


@cache
def column_features(columns: Columns, taken: frozenset[str]) -> dict[str, RankingFeature[KnownOfQuery]]:
    """The features of these columns, in their order; of two columns' that have one name the first."""
    found: dict[str, RankingFeature[KnownOfQuery]] = {}
    made = [pattern.of(c, taken) for c in columns.labels if c != GENRES for pattern in _LABELS]
    made += [pattern.of(c, taken) for c in columns.numbers if c != YEAR for pattern in (_NUMBER, _VS_USER)]
    made += [_AGE.of(c, taken) for c in columns.dates]
    for feature in made:
        if feature.name in found:
            log.warning("a column gives no %s: another column's feature has that name", feature.name)
        else:
            found[feature.name] = feature
    return found


@cache
def item_column_features(columns: Columns, taken: frozenset[str]) -> dict[str, RankingFeature[Known]]:
    """Those of them that need no candidates."""
    made = [_NUMBER.of(c, taken) for c in columns.numbers if c != YEAR]
    made += [_AGE.of(c, taken) for c in columns.dates]
    return {feature.name: feature for feature in made if feature.name in column_features(columns, taken)}
