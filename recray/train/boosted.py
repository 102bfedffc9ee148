"""Gradient boosting through the same door as every training: a worker's share in, one model out.

Knows neither Ray nor XGBoost. Where a launcher has joined the workers by XGBoost's communicator, each
calls ``train_boosted`` with its own whole queries and all end with the same model; alone, a process
calls it with everything.
"""

import logging
import time
from collections.abc import Callable

from recray.features.examples import RankingExamples
from recray.models.gbdt import GBDTConfig, GBDTRanker, RankingRows

OnRound = Callable[[int, dict[str, float]], None]
PROGRESS_EVERY_S = 2.0

logger = logging.getLogger(__name__)


def train_boosted(
    train: RankingExamples,
    config: GBDTConfig,
    *,
    evaluation: RankingExamples | None = None,
    on_round: OnRound | None = None,
    rank: int = 0,
) -> GBDTRanker:
    """Grow a ranker on this worker's share of the examples.

    With rows from ``features.examples.quantized`` and ``subsample`` 1 the trees are the same on any
    number of workers. Raw rows are binned by sketches that depend on who has which row, and with
    ``subsample`` below 1 each worker draws its own.

    Args:
        train, evaluation: this worker's whole queries (``features.examples.share`` or ``load_examples``
            with rank and world size); a query must not be on two workers.
        on_round: called after each round on every worker with (rounds done, NDCG over all workers).
        rank: only rank 0 logs.
    Raises:
        DataError: no rows, or a query whose rows are not side by side.
    """
    queries = len(set(train.query_ids_N.tolist()))
    logger.info("boosting on %d rows of %d queries (rank %d)", len(train.labels_N), queries, rank)
    report = _Progress(config.rounds, on_round, quiet=rank != 0)
    ranker = GBDTRanker.fit(
        config,
        _rows(train),
        train.feature_names,
        evaluation=None if evaluation is None else _rows(evaluation),
        on_round=report,
    )
    if rank == 0:
        last = {name: round(values[ranker.num_trees - 1], 4) for name, values in ranker.curve.items()}
        logger.info("boosted %d trees: %s", ranker.num_trees, last)
    return ranker


class _Progress:
    """Logs a line every two seconds and passes every round on."""

    def __init__(self, rounds: int, on_round: OnRound | None, *, quiet: bool) -> None:
        self._rounds, self._on_round, self._quiet = rounds, on_round, quiet
        self._started = self._shown = time.monotonic()

    def __call__(self, done: int, metrics: dict[str, float]) -> None:
        now = time.monotonic()
        if not self._quiet and now - self._shown > PROGRESS_EVERY_S:
            self._shown = now
            left_s = (self._rounds - done) * (now - self._started) / done
            shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            logger.info("round %d of %d: %s, %.0f s left at most", done, self._rounds, shown, left_s)
        if self._on_round is not None:
            self._on_round(done, metrics)


def _rows(examples: RankingExamples) -> RankingRows:
    return RankingRows(examples.features_NF, examples.labels_N, examples.query_ids_N)
