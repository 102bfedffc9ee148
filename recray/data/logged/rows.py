"""Lists as they were shown, for a ranker to learn from: each item with the features that were served.

Shapes: N rows of all lists, F features, U users, I items.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Float64s, Int64s
from recray.config import ConfigError
from recray.data.events.dataset import places_of
from recray.data.logged.origin import ROWS
from recray.event_log.forgotten import Forgotten
from recray.event_log.tables import FEATURE
from recray.features.examples import RankingExamples
from recray.features.ranking.context import field_of
from recray.schema import DataError

KEYS = (
    *("request_id", "user_id", "item_id", "at", "known_at", "closes", "rank", "label", "propensity"),
    "context",  # JSON, as the client sent it
)


@dataclass(frozen=True, kw_only=True)
class LoggedConfig:
    """Lists that were shown, to learn from beside the retriever's candidates."""

    folder: str = ""
    """What `recray feedback` made; empty: none."""
    share: float = 1.0
    """Of the lists, drawn."""
    examined: tuple[float, ...] = ()
    """How likely each rank is looked at, from the first on (the last holds for all below): a list counts as
    much as its outcomes were unlikely to be seen. None: all lists count alike."""
    alone: bool = False
    """Learn from them alone: among a retriever's candidates what was never shown stands as if nobody wanted
    it, and who learns that shows again what was shown."""
    least: int = 50
    """Lists; from fewer, before the test part, nothing is learnt alone."""
    most_weight: float = 5.0
    """Of an outcome at a rank that hardly anybody looks at."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"logged.share must be above 0 and at most 1, got {self.share}")
        if any(not 0 < chance <= 1 for chance in self.examined):
            raise ConfigError(f"logged.examined holds chances, above 0 and at most 1, got {self.examined}")
        if self.least < 1:
            raise ConfigError(f"logged.least must be at least 1, got {self.least}")
        if self.most_weight < 1:
            raise ConfigError(f"logged.most_weight must be at least 1, got {self.most_weight}")


class LoggedLists(NamedTuple):
    """Examples, a list each query, and whose they are: -1 where nobody known asked."""

    examples: RankingExamples
    user_ids_Q: Int64s


def ranked_rows(
    rows: pl.DataFrame, left_out: pl.DataFrame, since: float | None, until: float
) -> pl.DataFrame:
    """The lists that teach something: closed within a time, with an outcome, by features that were logged.

    Args:
        rows: of ``outcomes``; left_out: of ``screened``.
    """
    features = [column for column in rows.columns if column.startswith(FEATURE)]
    within = (pl.col("closes") <= until) & (pl.col("closes") > (since if since is not None else -np.inf))
    ranked = pl.any_horizontal(pl.lit(value=False), *(pl.col(name).is_not_null() for name in features))
    kept = rows.filter(within & ranked).join(left_out, on="user_id", how="anti", maintain_order="left")
    has_outcome = (pl.col("label") > 0).any().over("request_id")
    return kept.filter(has_outcome).sort("at", "request_id", "rank").select(*KEYS, *features)


def write_rows(folder: Path, rows: pl.DataFrame, before: Path | None, forgotten: Forgotten) -> int:
    """With those of an earlier folder; returns how many lists there are."""
    parts = [pl.read_parquet(before / ROWS), rows] if before else [rows]
    kept = forgotten.without(pl.concat(parts, how="diagonal"), "user_id", "at")
    kept.write_parquet(folder / ROWS)
    return kept["request_id"].n_unique()


def logged_lists(
    config: LoggedConfig,
    feature_names: Sequence[str],
    users: pl.Series,
    items: pl.Series,
    before_U: Float64s | None = None,
    before: float = np.inf,
    seed: int = 0,
) -> LoggedLists:
    """Examples of lists of which all was known strictly before a moment.

    Args:
        feature_names: the columns to make; of fields of the context by what the request said, of the others
            as they were logged, or missing.
        users, items: raw ids by id; items that are not among them are left out.
        before_U: unix seconds, the moment of each user; ``before``: of all others.
        seed: of the draws.
    Raises:
        DataError: the folder holds no lists.
    """
    path = Path(config.folder) / ROWS
    if not path.is_file():
        raise DataError(f"{path}: no such file; make it with `recray feedback`")
    rows = pl.read_parquet(path)
    rows = rows.with_columns(
        item=pl.Series(places_of(rows["item_id"], items)), user=pl.Series(places_of(rows["user_id"], users))
    ).filter(pl.col("item") >= 0)
    user_N = rows["user"].to_numpy()
    moments_N = np.full(len(rows), before)
    if before_U is not None:
        moments_N = np.where(user_N >= 0, before_U[user_N], before)
    # A data set's times are whole seconds: what is of the same one is not before it.
    rows = rows.filter(np.floor(rows["known_at"].to_numpy()) < moments_N)
    if config.examined:
        rows = _one_outcome_each(rows)
    return _examples(rows, feature_names, config, seed)


def _one_outcome_each(rows: pl.DataFrame) -> pl.DataFrame:
    """A list for every outcome, of it and of the items without any.

    Joachims, Swaminathan, Schnabel, Unbiased Learning-to-Rank with Biased Feedback, WSDM 2017, equation 8:
    each click is a query of its own that weighs the inverse of its chance to be seen.
    """
    hits = rows.filter(pl.col("label") > 0).select("request_id", hit="rank")
    each = rows.join(hits, on="request_id", how="inner", maintain_order="right_left")
    each = each.filter((pl.col("label") == 0) | (pl.col("rank") == pl.col("hit")))
    return each.with_columns(request_id=pl.format("{} {}", "request_id", "hit"))


def _examples(rows: pl.DataFrame, names: Sequence[str], config: LoggedConfig, seed: int) -> LoggedLists:
    columns = [_column(rows, name).cast(pl.Float32).fill_null(np.nan).to_numpy() for name in names]
    query_N = rows["request_id"].rle_id().cast(pl.Int64).to_numpy()
    starts_Q = np.flatnonzero(np.diff(query_N, prepend=-1))
    examples = RankingExamples(
        tuple(names),
        np.stack(columns, axis=1).astype(np.float32),
        rows["label"].to_numpy().astype(np.float32),
        query_N,
        rows["item"].to_numpy(),
    )
    copies_Q = _copies(_weights(rows, starts_Q, config), config.share, seed)
    return _repeated(examples, starts_Q, copies_Q, rows["user"].to_numpy()[starts_Q])


def _column(rows: pl.DataFrame, name: str) -> pl.Series:
    """As it was served; what a request said of itself is known also where no ranker went by it."""
    if (field := field_of(name)) and "context" in rows.columns:
        said = {text: field.of(json.loads(text)) for text in rows["context"].drop_nulls().unique()}
        return rows["context"].replace_strict(said, default=None, return_dtype=pl.Float64)
    if FEATURE + name in rows.columns:
        return rows[FEATURE + name]
    return pl.repeat(None, len(rows), dtype=pl.Float32, eager=True)


def _weights(rows: pl.DataFrame, starts_Q: Int64s, config: LoggedConfig) -> Float64s:
    """Of each list: one over the chance that its outcome was seen."""
    if not config.examined or not len(starts_Q):
        return np.ones(len(starts_Q))
    chances = np.array(config.examined)
    hit_N = np.where(rows["label"].to_numpy() > 0, rows["rank"].to_numpy(), 0)
    ranks_Q = np.maximum.reduceat(hit_N, starts_Q)
    weights_Q: Float64s = np.minimum(1 / chances[np.clip(ranks_Q, 1, len(chances)) - 1], config.most_weight)
    return weights_Q


def _copies(weights_Q: Float64s, share: float, seed: int) -> Int64s:
    """How often each list is learnt: on average as its weight stands to the mean, times the share.

    Neither ranker weighs rows alike, so that lists are drawn by weight: what is expected is the same.
    """
    if not len(weights_Q):
        return np.zeros(0, np.int64)
    wanted_Q = weights_Q / weights_Q.mean() * share
    drawn_Q: Int64s = np.floor(wanted_Q + np.random.default_rng(seed).random(len(wanted_Q))).astype(np.int64)
    return drawn_Q


def _repeated(examples: RankingExamples, starts_Q: Int64s, copies_Q: Int64s, users_Q: Int64s) -> LoggedLists:
    lengths_Q = np.diff(np.append(starts_Q, len(examples.labels_N)))
    chosen = np.repeat(np.arange(len(starts_Q)), copies_Q)
    lengths = lengths_Q[chosen]
    first = np.cumsum(lengths) - lengths
    rows = np.arange(lengths.sum()) + np.repeat(starts_Q[chosen] - first, lengths)
    query_N: Int64s = np.repeat(np.arange(len(chosen)), lengths)
    return LoggedLists(examples.select(rows)._replace(query_ids_N=query_N), users_Q[chosen])
