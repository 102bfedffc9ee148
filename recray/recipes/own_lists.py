"""The lists that a version gives to requests of its own data: what drift goes by at first."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch

from recray.batch import EvalExamples, QueryBatch
from recray.contract import Scorer
from recray.event_log.tables import FEATURE
from recray.features.examples import ranking_query
from recray.features.ranking import compute
from recray.recipes.two_stage import TwoStage

MOST_QUERIES = 300
SHOWN = 10


def own_lists(stages: TwoStage, ranker: Scorer, asked: Sequence[EvalExamples]) -> pl.DataFrame:
    """As the log's shown items, the ranker's best first.

    Args:
        asked: evenly spread, so many of each part that they are ``MOST_QUERIES`` together.
    """
    each = MOST_QUERIES // max(len(asked), 1)
    parts = [_lists(stages, ranker, _some(part.queries, each), n) for n, part in enumerate(asked)]
    return pl.concat(parts)


def _some(queries: QueryBatch, most: int) -> QueryBatch:
    count = len(queries.user_ids_B)
    return queries.take(torch.from_numpy(np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))))


def _lists(stages: TwoStage, ranker: Scorer, queries: QueryBatch, part: int) -> pl.DataFrame:
    users, items = (
        frame["raw_id"].cast(pl.String) for frame in (stages.data.dataset.users, stages.data.dataset.items)
    )
    tables = []
    for b, candidates in enumerate(stages.candidates(queries)):
        features_KF = compute(stages.log, ranking_query(queries, b, candidates), ranker.feature_names)
        scores_K = ranker.score(features_KF, candidates.item_ids_K)
        best_S = np.argsort(-scores_K, kind="stable")[:SHOWN]
        user = int(queries.user_ids_B[b])
        columns = {
            "item_id": items.gather(candidates.item_ids_K[best_S]),
            "rank": pl.Series(np.arange(1, len(best_S) + 1), dtype=pl.Int32),
            "score": scores_K[best_S].astype(np.float64),
            **{FEATURE + name: features_KF[best_S, f] for f, name in enumerate(ranker.feature_names)},
        }
        tables.append(
            pl.DataFrame(columns).with_columns(
                at=pl.lit(float(queries.request_times_B[b])),
                user_id=pl.lit(users[user] if user >= 0 else None, pl.String),
                request_id=pl.lit(f"{part}-{b}"),
            )
        )
    return pl.concat(tables)
