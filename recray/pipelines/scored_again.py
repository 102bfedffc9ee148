"""Logged items scored again: the ranker of the version that answered, on the features that the log has.

Shapes: N shown items, F features.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Bools, Float32s, Int64s
from recray.bundles.ranker import read_ranker
from recray.bundles.retriever import read_catalogue
from recray.config import ConfigError
from recray.contract import Scorer
from recray.event_log.tables import FEATURE
from recray.pipelines.lineage import said_bundle
from recray.schema import DataError
from recray.serve.versions import rows_of
from recray.store import Store

COLUMNS = frozenset({"request_id", "rank", "item_id", "score", "source", "version", "skipped"})
EXAMPLES = 5
NO_ITEM = -1  # the row of an item that the version does not know
NO_RANKER = "the version has no ranker"
NO_FEATURES = "their features are not in the log"


class ScoredApart(NamedTuple):
    """An item whose score is another one now."""

    request_id: str
    item_id: str
    version: str
    logged: float
    again: float


class Scores(NamedTuple):
    """What came of scoring a log again."""

    answers: int
    replayed: int  # answers of which at least one item could be scored again
    equal: int  # of these, bit by bit in all their items
    items: int  # that could be
    items_equal: int
    largest: float  # difference
    largest_steps: int  # the same, in steps between neighbouring float32
    apart: tuple[ScoredApart, ...]  # the first few
    not_replayed: dict[str, int]  # answers, by the reason


class _Opened(NamedTuple):
    ranker: Scorer
    item_rows: Mapping[str, int]


class Rescoring:
    """Adds up what comes of one piece of a log after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._opened: dict[str, _Opened | str] = {}
        self._answers = self._replayed = self._equal = self._items = self._items_equal = 0
        self._largest, self._largest_steps = 0.0, 0
        self._apart: list[ScoredApart] = []
        self._not: Counter[str] = Counter()

    def add(self, shown: pl.DataFrame) -> None:
        """
        Args:
            shown: whole answers, with ``COLUMNS`` and the features.
        """
        features = [name for name in shown.columns if name.startswith(FEATURE)]
        table = shown.with_columns(
            has=pl.any_horizontal(pl.lit(value=False), *(pl.col(name).is_not_null() for name in features)),
            again=pl.lit(None, pl.Float32),
        )
        parts = [self._scored(said or "{}", part) for (said,), part in table.group_by("version")]
        self._count(pl.concat(parts))

    def _scored(self, said: str, part: pl.DataFrame) -> pl.DataFrame:
        """With ``again`` and ``why_not``."""
        version = json.loads(said).get("ranker", "")
        opened = self._open(version) if version else NO_RANKER
        if isinstance(opened, str):
            return part.select(*COLUMNS, "again", why_not=pl.lit(opened))
        why_not = (
            pl.when(pl.col("rank") == 0)
            .then(pl.lit("they hold no item"))
            .when(pl.col("skipped").list.eval(pl.element().str.starts_with("rank:")).list.any())
            .then(pl.lit("the ranker did not do its part"))
            .otherwise(pl.lit(NO_FEATURES))
        )
        can = part["has"].to_numpy() & part["score"].is_not_null().to_numpy()
        again_N = np.full(len(part), np.nan, np.float32)
        if can.any():
            known = part.filter(can)
            rows_N = [opened.item_rows.get(item, NO_ITEM) for item in known["item_id"].to_list()]
            logged_NF = features_of_rows(known, opened.ranker.feature_names)
            again_N[can] = opened.ranker.score(logged_NF, np.array(rows_N, np.int64))
        again = pl.Series("again", again_N).to_frame().select(pl.when(pl.Series(can)).then("again"))
        return part.with_columns(again["again"]).select(*COLUMNS, "again", why_not=why_not)

    def _open(self, version: str) -> _Opened | str:
        if version not in self._opened:
            try:
                bundle = said_bundle(self._store, version)
                retriever = self._store.resolve(bundle.manifest.requires["retriever"])
                _, items = read_catalogue(retriever)
                self._opened[version] = _Opened(read_ranker(bundle), rows_of(items))
            except (ConfigError, DataError) as error:
                self._opened[version] = f"{version.split()[0]} cannot be opened: {error}"
        return self._opened[version]

    def _count(self, table: pl.DataFrame) -> None:
        logged_N = table["score"].cast(pl.Float32).fill_null(np.nan).to_numpy()
        again_N = table["again"].fill_null(np.nan).to_numpy()
        is_scored_N = table["again"].is_not_null().to_numpy()
        is_equal_N = same(logged_N, again_N)
        table = table.with_columns(
            is_scored=pl.Series(is_scored_N), is_apart=pl.Series(is_scored_N & ~is_equal_N)
        )
        answers = table.group_by("request_id").agg(
            pl.col("is_scored").any(), pl.col("is_apart").any(), pl.col("why_not").first()
        )
        self._answers += len(answers)
        self._replayed += int(answers["is_scored"].sum())
        self._equal += int((answers["is_scored"] & ~answers["is_apart"]).sum())
        self._items += int(is_scored_N.sum())
        self._items_equal += int((is_scored_N & is_equal_N).sum())
        reasons = answers.filter(~pl.col("is_scored"))["why_not"].value_counts()
        self._not.update(dict(reasons.iter_rows()))
        self._look_at(table.filter("is_apart"))

    def _look_at(self, apart: pl.DataFrame) -> None:
        logged_N = apart["score"].cast(pl.Float32).to_numpy()
        again_N = apart["again"].to_numpy()
        if len(apart):
            self._largest = max(self._largest, float(np.abs(logged_N - again_N).max()))
            self._largest_steps = max(self._largest_steps, int(steps_apart(logged_N, again_N).max()))
        few = apart.head(EXAMPLES - len(self._apart))
        columns = few.select("request_id", "item_id", "version", "score", pl.col("again").cast(pl.Float64))
        self._apart += [ScoredApart(*row) for row in columns.iter_rows()]

    def scores(self) -> Scores:
        return Scores(
            self._answers,
            self._replayed,
            self._equal,
            self._items,
            self._items_equal,
            self._largest,
            self._largest_steps,
            tuple(self._apart),
            dict(self._not.most_common()),
        )


def features_of_rows(shown: pl.DataFrame, names: tuple[str, ...]) -> Float32s:
    """features_NF of shown items as they were logged; NaN where one was missing, or is not in the log."""
    columns = [
        shown[FEATURE + name].fill_null(np.nan).to_numpy()
        if FEATURE + name in shown.columns
        else np.full(len(shown), np.nan, np.float32)
        for name in names
    ]
    return np.ascontiguousarray(np.stack(columns, axis=1), np.float32)


def same(one_N: Float32s, other_N: Float32s) -> Bools:
    """Bit by bit, where one zero is like another and nothing like nothing."""
    is_same_N: Bools = (one_N == other_N) | (np.isnan(one_N) & np.isnan(other_N))
    return is_same_N


def steps_apart(one_N: Float32s, other_N: Float32s) -> Int64s:
    """From one float32 to the next: how many such steps lead from the one to the other."""

    def place(values_N: Float32s) -> Int64s:
        bits_N = np.ascontiguousarray(values_N, np.float32).view(np.int32).astype(np.int64)
        places_N: Int64s = np.where(bits_N >= 0, bits_N, -(2**31) - bits_N)
        return places_N

    steps_N: Int64s = np.abs(place(one_N) - place(other_N))
    return steps_N
