"""The columns asked for, and no others: of a query's candidates, or of every event of a log."""

from collections.abc import Sequence

import numpy as np

from recray.arrays import Float32s
from recray.features.look_ups import LookUps
from recray.features.ranking.feature import K, RankingFeature
from recray.features.ranking.known import KnownOfEvents, KnownOfQuery, RankingQuery
from recray.features.ranking.registry import event_features_of, features_of, named
from recray.schema import DataError


def compute(log: LookUps, query: RankingQuery, names: Sequence[str]) -> Float32s:
    """features_KF, float32, NaN where missing; columns are ``names``, rows the candidates.

    Raises:
        DataError: no feature of that name, a user that is not in the log, a candidate or a history item
            that is not in the catalogue, or lengths differ.
    """
    features = named(features_of(log.columns), names)
    _check(log, query)
    features_FK = _rows(features, KnownOfQuery(log, query), len(query.candidate_ids_K))
    return np.ascontiguousarray(features_FK.T)


def compute_of_events(known: KnownOfEvents, names: Sequence[str]) -> Float32s:
    """features_NF, float32, of each event's user and item, strictly before the event; rows as in the log.

    A value is what ``compute`` gives for the same user, item and time.

    Raises:
        DataError: no feature of that name, or one that needs candidates.
    """
    return _rows(named(event_features_of(known.log.columns), names), known, len(known.log)).T


def _rows(features: Sequence[RankingFeature[K]], known: K, count: int) -> Float32s:
    features_FK = np.empty((len(features), count), np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is a share of nothing: missing
        for row, feature in enumerate(features):
            features_FK[row] = feature.define(known)
    features_FK += 0.0  # one zero: -0.0 would come and go with the order of additions
    return features_FK


def _check(log: LookUps, query: RankingQuery) -> None:
    count = len(query.candidate_ids_K)
    if len(query.retrieval_scores_K) != count or len(query.sources_K) != count:
        lengths = (count, len(query.retrieval_scores_K), len(query.sources_K))
        raise DataError(f"candidates, retrieval scores and sources have {lengths} entries; give one each")
    if query.history_ids is None:
        log.check_user(query.user_id)
    elif query.history_times is not None:
        items, times = len(query.history_ids), len(query.history_times)
        if items != times:
            raise DataError(f"{items} history items and {times} times; give a time for each")
    for what, ids in (("candidate", query.candidate_ids_K), ("history item", query.history_ids)):
        if ids is not None and len(ids) and (ids.min() < 0 or ids.max() >= log.num_items):
            wrong = int(ids[(ids < 0) | (ids >= log.num_items)][0])
            raise DataError(f"{what} {wrong} is not in the log's catalogue (0..{log.num_items - 1})")
