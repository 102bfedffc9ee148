"""Every ranking feature by its name. A ranker keeps the names that it wants; no one needs all of them.

Some are there for every catalogue (``FEATURES``), others by the columns that its items have.
"""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain

from recray.config import nearest
from recray.features.items import NO_ITEM_FEATURES, Columns
from recray.features.ranking.by_column import PATTERNS, column_features, item_column_features
from recray.features.ranking.context import CONTEXT, FLAG, NUMBER, SAID, OfContext
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


NO_COLUMNS = NO_ITEM_FEATURES.columns()
_OF_CONTEXT = OfContext()
_NO_FEATURE = "item_id"  # a key of the examples


@cache
def _taken() -> frozenset[str]:
    return frozenset([*FEATURES, _NO_FEATURE])


def features_of(columns: Columns) -> Mapping[str, RankingFeature[KnownOfQuery]]:
    """All that there are where the items have these columns."""
    return ChainMap(FEATURES, column_features(columns, _taken()), _OF_CONTEXT)


def event_features_of(columns: Columns) -> Mapping[str, RankingFeature[Known]]:
    """Those of them that need no candidates: also known of every event of a log."""
    return ChainMap(EVENT_FEATURES, item_column_features(columns, _taken()))


def chosen(names: Sequence[str] = (), columns: Columns = NO_COLUMNS) -> tuple[str, ...]:
    """The names, or all that say something here where none is given: first those of every catalogue.

    Raises:
        DataError: a name that these columns do not give, or one given twice.
    """
    features = features_of(columns)
    named(features, names)
    _refuse_repeats(names)
    there = {"", *columns.labels, *columns.numbers}
    of_every = (name for name, feature in FEATURES.items() if feature.column in there)
    return tuple(names or dict.fromkeys([*of_every, *(name for name in features if name not in FEATURES)]))


def check_names(names: Sequence[str]) -> None:
    """
    Raises:
        DataError: a name that no catalogue gives, or one given twice.
    """
    of_every = ChainMap(FEATURES, _OF_CONTEXT)
    named(of_every, [name for name in names if not any(pattern.fits(name) for pattern in PATTERNS)])
    _refuse_repeats(names)


def _refuse_repeats(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise DataError(f"a ranking feature is named twice in {', '.join(names)}: name it once")


def named(features: Mapping[str, RankingFeature[K]], names: Sequence[str]) -> list[RankingFeature[K]]:
    """
    Raises:
        DataError: an unknown name; says the nearest.
    """
    try:
        return [features[name] for name in names]
    except KeyError as unknown:
        name = unknown.args[0]
        raise DataError(f"no ranking feature {name!r}{nearest(name, features)}") from None


def describe() -> str:
    """The table of all features, in Markdown."""
    features = [*FEATURES.values(), *(pattern.of("<column>") for pattern in PATTERNS)]
    rows = [f"| `{f.name}` | {f.group} | {f.unit} | {f.text} |" for f in features]
    rows += [
        f"| `{SAID}<field>` | context | as given | {NUMBER} |",
        f"| `{SAID}<field>=<value>` | context | flag | {FLAG} |",
    ]
    return "\n".join(["| feature | group | unit | meaning |", "| --- | --- | --- | --- |", *rows])
