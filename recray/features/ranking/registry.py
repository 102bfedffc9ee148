"""Every ranking feature by its name. A ranker keeps the names that it wants; no one needs all of them."""

from collections.abc import Mapping, Sequence
from itertools import chain

from recray.config import nearest
from recray.features.ranking.context import CONTEXT
from recray.features.ranking.feature import Group, K, RankingFeature
from recray.features.ranking.item import ITEM
from recray.features.ranking.known import Known, KnownOfQuery
from recray.features.ranking.places import PLACES
from recray.features.ranking.retrieval import SCORE, SOURCE
from recray.features.ranking.taste import TASTE
from recray.features.ranking.user import USER
from recray.schema import DataError


def _by_name(*groups: Group[K]) -> dict[str, RankingFeature[K]]:
    features = list(chain.from_iterable(group.features for group in groups))
    named = {feature.name: feature for feature in features}
    assert len(named) == len(features), "two ranking features have one name"
    return named


FEATURES: dict[str, RankingFeature[KnownOfQuery]] = _by_name(
    USER, ITEM, TASTE, CONTEXT, SCORE, PLACES, SOURCE
)
EVENT_FEATURES: dict[str, RankingFeature[Known]] = _by_name(USER, ITEM, CONTEXT)
"""Those that need no candidates: also known of every event of a log."""


def chosen(names: Sequence[str] = ()) -> tuple[str, ...]:
    """The names, or all there are where none is given.

    Raises:
        DataError: an unknown name, or one given twice.
    """
    named(FEATURES, names)
    if len(set(names)) < len(names):
        raise DataError(f"a ranking feature is named twice in {', '.join(names)}: name it once")
    return tuple(names or FEATURES)


def named(features: Mapping[str, RankingFeature[K]], names: Sequence[str]) -> list[RankingFeature[K]]:
    """
    Raises:
        DataError: an unknown name; says the nearest.
    """
    for name in names:
        if name not in features:
            raise DataError(f"no ranking feature {name!r}{nearest(name, features)}")
    return [features[name] for name in names]


def describe() -> str:
    """The table of all features, in Markdown."""
    rows = [f"| `{f.name}` | {f.group} | {f.unit} | {f.text} |" for f in FEATURES.values()]
    return "\n".join(["| feature | group | unit | meaning |", "| --- | --- | --- | --- |", *rows])
