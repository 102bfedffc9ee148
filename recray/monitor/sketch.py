"""What drift goes by, kept small: how many rows of each group of users fall where, for each watched column.

Rows of one user hang together: they have its taste, its history and its hours. So users, not rows, are dealt
out to G groups by a hash, and every count is kept by group: what differs between the groups says how much
the same stream would differ from itself. Sketches of two stretches add up to that of both; a million rows
and one more hour cost no memory.

Shapes: N rows, G groups of users, S slots of the week, T bins of all columns, R random Fourier features,
H buckets of item ids, I items.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl
import scipy.sparse

from recray.arrays import Bools, Float32s, Float64s, Int64s
from recray.config import ConfigError
from recray.monitor.drift_report import Group

GROUPS = 128
SLOTS = 12  # four hours of a working day, or of a weekend: six each
HASHED = 4096  # buckets of item ids
BARS = 20
WHO = 2**20  # places of users, by the first 20 bits of their hashes
LABELS = 30  # of a categorical column: the most frequent ones; the others are one
OTHER, MISSING = "other", "missing"
HOUR_S, DAY_S = 3600, 86_400


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A column that is watched: where its values are told apart."""

    name: str
    group: Group
    edges: tuple[float, ...] | None = None  # numeric: ascending, bin i holds edges[i - 1] <= value < edges[i]
    labels: tuple[str, ...] = ()  # categorical: ``OTHER`` stands for further ones

    @property
    def num_bins(self) -> int:
        """With one for what has no value, the last."""
        return (len(self.labels) if self.edges is None else len(self.edges) + 1) + 1

    def bins(self, values: pl.Series) -> Int64s:
        """bin_N."""
        missing = self.num_bins - 1
        if self.edges is not None:
            values_N = values.cast(pl.Float64, strict=False).to_numpy()
            found_N = np.searchsorted(np.array(self.edges), values_N, side="right")
            return np.where(np.isnan(values_N), missing, found_N)
        places = {label: place for place, label in enumerate(self.labels)}
        other = places.get(OTHER, missing)
        kept = {label: place for label, place in places.items() if label != OTHER}
        text = values.cast(pl.String)
        coded = text.replace_strict(list(kept), list(kept.values()), default=other, return_dtype=pl.Int64)
        return np.where(text.is_null().to_numpy(), missing, coded.fill_null(missing).to_numpy())


def watched_numbers(name: str, group: Group, values: pl.Series) -> Watched:
    """By quantiles of the values; a value that many rows have gets a bin of its own, and so does what lies
    beyond all of them."""
    known = values.cast(pl.Float64, strict=False).drop_nulls().drop_nans()
    known_N = known.filter(known.is_finite()).to_numpy()
    if not len(known_N):
        return Watched(name=name, group=group, edges=(0.0,))
    distinct = np.unique(known_N)
    if len(distinct) <= BARS:
        edges = [*distinct, np.nextafter(distinct, np.inf)]
    else:
        cuts, times = np.unique(
            np.quantile(known_N, np.arange(1, BARS) / BARS, method="lower"), return_counts=True
        )
        alone = cuts[times > 1]
        edges = [known_N.min(), *cuts, *np.nextafter(alone, np.inf), np.nextafter(known_N.max(), np.inf)]
    flat = np.unique(np.concatenate([np.atleast_1d(one) for one in edges]))
    return Watched(name=name, group=group, edges=tuple(flat.tolist()))


def watched_labels(name: str, group: Group, values: pl.Series) -> Watched:
    """By the most frequent values."""
    counted = values.cast(pl.String).drop_nulls().value_counts(sort=True)
    names = [label for label in counted[values.name].head(LABELS).to_list() if label != OTHER]
    return Watched(name=name, group=group, labels=(*sorted(names), OTHER))


class Rows(NamedTuple):
    """A stretch of a stream, as it is counted."""

    at_N: Float64s  # unix seconds
    users: pl.Series  # whose rows hang together: none is null
    answers: pl.Series  # that they belong to
    columns: pl.DataFrame  # one per watched column, by its name; others are left alone
    items: pl.Series | None = None  # raw ids; null: none
    item_rows_N: Int64s | None = None  # rows of the catalogue; -1: not in it


@dataclass
class Sketch:
    """Counts of a stretch of a stream.

    Attributes:
        counts_GST: bins of the watched columns, one after the other.
        items_GH: shown items by bucket.
        vectors_GSR: sums of the random Fourier features of the shown items' vectors; R = 0: there are none.
        with_vector_GS: how many of them had a vector.
        shown_I: which items of the catalogue were shown.
        sums, known: of numeric columns, by name: sum of the finite values, and how many there are.
    """

    watched: tuple[Watched, ...]
    counts_GST: Int64s
    items_GH: Int64s
    vectors_GSR: Float64s
    with_vector_GS: Int64s
    shown_I: Bools
    since: float = np.inf
    until: float = -np.inf
    rows: int = 0
    answers: int = 0
    who: Bools = field(default_factory=lambda: np.zeros(WHO, bool))  # by hashes of users
    num_users: int = (
        0  # to a thousandth, however many: Whang et al., A linear-time probabilistic counting, 1990
    )
    sums: dict[str, float] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)

    @classmethod
    def empty(
        cls, watched: Sequence[Watched], *, slots: int = SLOTS, num_items: int = 0, num_features: int = 0
    ) -> "Sketch":
        """
        Args:
            slots: 1: hours of the week are not told apart.
            num_features: R.
        """
        bins = sum(column.num_bins for column in watched)
        return cls(
            watched=tuple(watched),
            counts_GST=np.zeros((GROUPS, slots, bins), np.int64),
            items_GH=np.zeros((GROUPS, HASHED), np.int64),
            vectors_GSR=np.zeros((GROUPS, slots, num_features)),
            with_vector_GS=np.zeros((GROUPS, slots), np.int64),
            shown_I=np.zeros(num_items, bool),
        )

    @property
    def slots(self) -> int:
        return int(self.counts_GST.shape[1])

    def column(self, name: str) -> tuple[Watched, Int64s]:
        """A watched column, and counts_GSJ of its J bins."""
        start = 0
        for column in self.watched:
            if column.name == name:
                return column, self.counts_GST[:, :, start : start + column.num_bins]
            start += column.num_bins
        raise ConfigError(f"no column {name!r} is watched: {', '.join(one.name for one in self.watched)}")

    def add(self, rows: Rows, features_IR: Float32s | None = None) -> None:
        """
        Args:
            features_IR: random Fourier features of the catalogue's vectors.
        """
        if not len(rows.at_N):
            return
        hashed_N = rows.users.hash(seed=1).to_numpy()
        groups_N = (hashed_N % np.uint64(GROUPS)).astype(np.int64)
        cells_N = groups_N * self.slots + (slots_of(rows.at_N) if self.slots > 1 else 0)
        start = 0
        for column in self.watched:
            size = column.num_bins
            if column.name in rows.columns.columns:
                values = rows.columns[column.name]
                counted = np.bincount(
                    cells_N * size + column.bins(values), minlength=GROUPS * self.slots * size
                )
                self.counts_GST[:, :, start : start + size] += counted.reshape(GROUPS, self.slots, size)
                if column.edges is not None:
                    number = values.cast(pl.Float64, strict=False)
                    finite = number.filter(number.is_finite())
                    self.sums[column.name] = self.sums.get(column.name, 0.0) + float(finite.sum() or 0.0)
                    self.known[column.name] = self.known.get(column.name, 0) + int(finite.count())
            start += size
        if rows.items is not None:
            self._add_items(rows, groups_N, cells_N, features_IR)
        self.since, self.until = min(self.since, float(rows.at_N.min())), max(self.until, rows.at_N.max())
        self.rows += len(rows.at_N)
        self.answers += rows.answers.n_unique()
        self.who[hashed_N >> np.uint64(44)] = True
        self.num_users = _counted(self.who)

    def _add_items(self, rows: Rows, groups_N: Int64s, cells_N: Int64s, features_IR: Float32s | None) -> None:
        assert rows.items is not None
        is_item_N = rows.items.is_not_null().to_numpy()
        buckets_N = (rows.items.hash(seed=2).to_numpy() % np.uint64(HASHED)).astype(np.int64)
        places_N = (groups_N * HASHED + buckets_N)[is_item_N]
        self.items_GH += np.bincount(places_N, minlength=GROUPS * HASHED).reshape(GROUPS, HASHED)
        if rows.item_rows_N is None or not len(self.shown_I):
            return
        is_known_N = rows.item_rows_N >= 0
        items_M, cells_M = rows.item_rows_N[is_known_N], cells_N[is_known_N]
        self.shown_I[items_M] = True
        if features_IR is None or not self.vectors_GSR.shape[2]:
            return
        shape = GROUPS * self.slots, len(self.shown_I)
        shown = scipy.sparse.csr_matrix((np.ones(len(items_M), np.float32), (cells_M, items_M)), shape)
        self.vectors_GSR += (shown @ features_IR).reshape(self.vectors_GSR.shape)
        self.with_vector_GS += np.bincount(cells_M, minlength=shape[0]).reshape(GROUPS, self.slots)

    def mean(self, name: str) -> float | None:
        """Of a numeric column's values; None: it has none, or their sum is beyond what a number can be."""
        mean = self.sums[name] / self.known[name] if self.known.get(name) else np.inf
        return mean if np.isfinite(mean) else None


def added(sketches: Sequence[Sketch]) -> Sketch:
    """That of all stretches together, which watch the same columns of the same catalogue."""
    first = sketches[0]
    total = Sketch.empty(
        first.watched,
        slots=first.slots,
        num_items=len(first.shown_I),
        num_features=first.vectors_GSR.shape[2],
    )
    for one in sketches:
        total.counts_GST += one.counts_GST
        total.items_GH += one.items_GH
        total.vectors_GSR += one.vectors_GSR
        total.with_vector_GS += one.with_vector_GS
        total.shown_I |= one.shown_I
        total.since, total.until = min(total.since, one.since), max(total.until, one.until)
        total.rows += one.rows
        total.answers += one.answers
        total.who |= one.who
        for name in one.sums:
            total.sums[name] = total.sums.get(name, 0.0) + one.sums[name]
            total.known[name] = total.known.get(name, 0) + one.known[name]
    total.num_users = _counted(total.who)
    return total


def _counted(who: Bools) -> int:
    """How many left their mark, of whom some share one."""
    free = max(len(who) - int(who.sum()), 1)
    return round(-len(who) * float(np.log(free / len(who))))


def slots_of(at_N: Float64s) -> Int64s:
    """Which part of the week (UTC): 0 to 5 on working days, 6 to 11 on Saturday and Sunday."""
    days_N = (at_N // DAY_S).astype(np.int64)
    is_weekend_N = (days_N + 3) % 7 >= 5  # 1970 began on a Thursday, days count from Monday
    hours_N = ((at_N % DAY_S) // HOUR_S).astype(np.int64)
    return hours_N // 4 + 6 * is_weekend_N


def fourier_features(vectors_ID: Float32s, num_features: int = 64) -> Float32s:
    """features_IR whose inner products approximate a Gaussian kernel of the median distance between vectors
    (Rahimi & Recht, Random features for large-scale kernel machines, NIPS 2007): the distance between two
    means of them is the maximum mean discrepancy (Gretton et al., JMLR 13, 2012). It is the same each time.
    """
    rng = np.random.default_rng(0)
    few_JD = vectors_ID[rng.choice(len(vectors_ID), min(256, len(vectors_ID)), replace=False)].astype(float)
    squared_JJ = ((few_JD[:, None, :] - few_JD[None, :, :]) ** 2).sum(-1)
    scale = float(np.sqrt(np.median(squared_JJ[np.triu_indices(len(few_JD), 1)]))) if len(few_JD) > 1 else 1.0
    frequencies_DF = rng.normal(size=(vectors_ID.shape[1], num_features // 2)) / (scale or 1.0)
    angles_IF = vectors_ID @ frequencies_DF.astype(np.float32)
    waves_IR = np.concatenate([np.cos(angles_IF), np.sin(angles_IF)], axis=1)
    scaled: Float32s = (waves_IR * np.sqrt(2.0 / num_features)).astype(np.float32)
    return scaled
