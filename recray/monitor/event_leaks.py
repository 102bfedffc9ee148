"""Leaks in events of users and items, and in what is known of them.

Ji et al., A Critical Study on Data Leakage in Recommender System Offline Evaluation, TOIS 2023,
https://arxiv.org/abs/2010.11060.

Shapes: N events, U users, I users or items of a table, P pairs of neighbouring events.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Bools, Float64s, Int64s
from recray.monitor.leaks import EXAMPLES, FEW, Leak, seconds_of

SORTED = 0.95  # share of tied neighbours in one order
COPIED = 0.01  # share of test events that training holds too
SIGMAS = 3.0  # by which repetition has to win
FOLLOWED = 0.05  # share of test events with something later of their user in training
AFTERWARDS = 0.1  # share of users or items whose date lies after their first event
AHEAD = 0.5  # partial correlation with what is still to come


class Events(NamedTuple):
    """Events in the order in which a model is told of them."""

    user_ids_N: Int64s
    item_ids_N: Int64s
    timestamps_N: Int64s
    users: Sequence[str]  # raw ids
    items: Sequence[str]

    def shown(self, row: int) -> str:
        user, item = self.users[self.user_ids_N[row]], self.items[self.item_ids_N[row]]
        return f"user {user!r}, item {item!r}, time {self.timestamps_N[row]}"


def later_training(events: Events, train_N: Bools, test_N: Bools) -> Leak | None:
    """A split by chance of events with times: training knows what the user did after the test event."""
    latest_U = np.full(len(events.users), np.iinfo(np.int64).min)
    np.maximum.at(latest_U, events.user_ids_N[train_N], events.timestamps_N[train_N])
    followed_N = test_N & (events.timestamps_N < latest_U[events.user_ids_N])
    share = followed_N.sum() / max(test_N.sum(), 1)
    if followed_N.sum() < FEW or share < FOLLOWED:
        return None
    return Leak(
        kind="split against time",
        number=float(share),
        text=f"{share:.1%} of the test events lie before a training event of their user: what is to be "
        "predicted is told by what came after; split by time (leave-one-out, global-time)",
        examples=tuple(map(events.shown, np.flatnonzero(followed_N)[:EXAMPLES])),
    )


def sorted_ties(events: Events) -> Leak | None:
    """Events of one moment in the order of their item ids: the order says nothing, or more than it should."""
    order_N = np.argsort(events.user_ids_N, kind="stable")
    users_N, items_N, times_N = (x[order_N] for x in events[:3])
    tied_P = (np.diff(users_N) == 0) & (np.diff(times_N) == 0) & (np.diff(items_N) != 0)
    if tied_P.sum() < FEW * 5:
        return None
    place_I = _in_order(events.items)
    rising_P = np.diff(place_I[items_N])[tied_P] > 0
    share = float(max(rising_P.mean(), 1 - rising_P.mean()))
    if share < SORTED:
        return None
    rows = order_N[np.flatnonzero(tied_P)[:EXAMPLES]]
    return Leak(
        kind="ties sorted by item",
        number=share,
        text=f"{share:.1%} of {tied_P.sum():,} neighbours of one user and one moment stand in the order of "
        "their item ids: the file was sorted, so the last of them is no later than the others; bring finer "
        "times, or the order in which things happened",
        examples=tuple(map(events.shown, rows)),
    )


def repeated_last(events: Events, train_N: Bools, test_N: Bools) -> Leak | None:
    """The test event repeats the one before it so often that repeating it beats ten popular items.

    Only where items that were seen may be recommended; else a repetition is no answer.
    """
    order_N = np.argsort(events.user_ids_N, kind="stable")
    users_N, items_N, tests_N = (x[order_N] for x in (events.user_ids_N, events.item_ids_N, test_N))
    asked = np.flatnonzero((np.diff(users_N) == 0) & tests_N[1:] & ~tests_N[:-1]) + 1
    if len(asked) < FEW:
        return None
    repeated = items_N[asked] == items_N[asked - 1]
    counts_I = np.bincount(events.item_ids_N[train_N], minlength=len(events.items))
    popular = np.isin(items_N[asked], np.argsort(-counts_I, kind="stable")[:10]).mean()
    share = repeated.mean()
    spread = (share * (1 - share) / len(asked)) ** 0.5
    if repeated.sum() < FEW or share <= popular + SIGMAS * spread:
        return None
    return Leak(
        kind="last item repeated",
        number=float(share),
        text=f"{share:.1%} of the tests ask for the item of the event just before, and the ten most popular "
        f"items hold {popular:.1%}: repeating the last item wins; merge repeats, or leave out seen items",
        examples=tuple(map(events.shown, order_N[asked[repeated][:EXAMPLES]])),
    )


def copied_events(events: Events, train_N: Bools, test_N: Bools, *, timed: bool) -> Leak | None:
    """Test events that training holds too; without times, pairs of user and item."""
    columns = {"user": events.user_ids_N, "item": events.item_ids_N}
    if timed:
        columns["time"] = events.timestamps_N
    frame = pl.DataFrame({**columns, "row": np.arange(len(test_N))})
    copies = frame.filter(test_N).join(frame.filter(train_N), on=list(columns), how="semi")["row"]
    share = len(copies) / max(test_N.sum(), 1)
    if share < COPIED:
        return None
    return Leak(
        kind="test events in training",
        number=float(share),
        text=f"{len(copies):,} test events ({share:.1%}) stand in the training part too: take them out "
        "of one of them",
        examples=tuple(map(events.shown, copies.to_numpy()[:EXAMPLES])),
    )


def dated_afterwards(what: str, table: pl.DataFrame, ids_N: Int64s, timestamps_N: Int64s) -> list[Leak]:
    """Dates of users or items that lie after their own first event: written with what was known then.

    Args:
        what: ``user`` or ``item``.
        table: row i is user or item i: ``raw_id`` and side columns.
    """
    first_I = np.full(len(table), np.iinfo(np.int64).max)
    np.minimum.at(first_I, ids_N, timestamps_N)
    known_I = np.bincount(ids_N, minlength=len(table)) > 0
    found = []
    for name in table.columns:
        seconds_I = None if name == "raw_id" else seconds_of(table[name])
        if seconds_I is None:
            continue
        dated_I = known_I & ~np.isnan(seconds_I)
        late_I = dated_I & (np.nan_to_num(seconds_I) >= first_I + 1)
        share = late_I.sum() / max(dated_I.sum(), 1)
        if late_I.sum() < FEW or share < AFTERWARDS:
            continue
        shown = np.flatnonzero(late_I)[:EXAMPLES]
        found.append(
            Leak(
                kind="column from after the event",
                number=float(share),
                text=f"{what}s' {name} lies after the {what}'s first event for {share:.1%} of them: it was "
                f"written afterwards, and so may be what stands beside it; leave out {name}, or bring the "
                "table as it was",
                examples=tuple(f"{what} {table['raw_id'][int(i)]!r}: {table[name][int(i)]}" for i in shown),
            )
        )
    return found


def counts_ahead(what: str, table: pl.DataFrame, past_I: Int64s, future_I: Int64s) -> list[Leak]:
    """Numbers of users or items that know how many events they will have: counted over all of the data.

    By the partial rank correlation of the column and the future counts, past counts held fixed.
    """
    from scipy.stats import rankdata  # half a second, which most starts do not need

    known_I = past_I > 0
    found: list[Leak] = []
    if known_I.sum() < FEW * 5:
        return found
    past, future = (rankdata(counts_I[known_I]) for counts_I in (past_I, future_I))
    for name in table.columns:
        if not table[name].dtype.is_numeric():
            continue
        # Of what was counted, nothing is the least.
        values = table[name].cast(pl.Float64).fill_nan(None).fill_null(-np.inf).to_numpy()[known_I]
        if (values == values[0]).all():
            continue
        ahead = _partial_correlation(rankdata(values), future, past)
        if abs(ahead) < AHEAD:
            continue
        shown = np.flatnonzero(known_I)[np.argsort(-values, kind="stable")[:EXAMPLES]]
        found.append(
            Leak(
                kind="column that counts the future",
                number=float(ahead),
                text=f"{what}s' {name} correlates by {ahead:.2f} with how many events are still to come, at "
                f"equal numbers of past ones: it was counted over the test too; count {name} up to the cut",
                examples=tuple(
                    f"{what} {table['raw_id'][int(i)]!r}: {table[name][int(i)]}, {past_I[i]} past and "
                    f"{future_I[i]} later"
                    for i in shown
                ),
            )
        )
    return found


def _in_order(raw_ids: Sequence[str]) -> Int64s:
    """Place of each raw id among all: as numbers where all are, else as text."""
    ids = pl.Series(raw_ids, dtype=pl.String)
    numbers = ids.cast(pl.Int64, strict=False)
    place_I: Int64s = (ids if numbers.null_count() else numbers).rank("ordinal").cast(pl.Int64).to_numpy()
    return place_I


def _partial_correlation(a: Float64s, b: Float64s, fixed: Float64s) -> float:
    ab, af, bf = (np.corrcoef(x, y)[0, 1] for x, y in ((a, b), (a, fixed), (b, fixed)))
    left = (1 - af**2) * (1 - bf**2)
    return float((ab - af * bf) / left**0.5) if left > 1e-9 else 0.0
