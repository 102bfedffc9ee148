"""Training queries: the moments at which users came back, and what they went on to do.

One query at the start of each day on which a user did something asks what a returning user asks of a
live system. Queries at a single moment for everybody would let a ranker recognise items by their
counts at that moment and learn what became popular next.

Shapes: B queries, U users, N events.
"""

import numpy as np
import torch

from recray.arrays import Bools, Int64s
from recray.batch import EvalExamples, Jagged, QueryBatch
from recray.features.log import EventLog
from recray.features.past import DAY_S
from recray.schema import DataError


def day_queries(
    log: EventLog,
    start: int,
    stop: int,
    *,
    users_U: Bools | None = None,
    max_queries: int | None = None,
    seed: int = 0,
) -> EvalExamples:
    """A query at each user's first event of each UTC day in [start, stop), in order of time.

    Its history is everything before that event's second, its targets are what the user did from then on
    until ``stop`` and had not done before. Days that bring nothing new are left out.

    Args:
        start, stop: unix seconds.
        users_U: users to ask for; everybody without it. Ask for those whom the retriever knows.
        max_queries: a seeded draw of so many, where there are more.
    Raises:
        DataError: no query is left.
    """
    order_N = np.argsort(log.user_ids_N, kind="stable")  # by user, then by time
    items_N = log.item_ids_N[order_N].astype(np.int64)
    times_N = log.timestamps_N[order_N]
    starts_U = np.searchsorted(log.user_ids_N[order_N], np.arange(log.num_users + 1))
    parts = []
    for user, time in _moments(log, start, stop, users_U, max_queries, seed):
        rows = slice(starts_U[user], starts_U[user + 1])
        now, end = np.searchsorted(times_N[rows], (time, stop)).tolist()
        history, later = items_N[rows][:now], items_N[rows][now:end]
        first = np.sort(np.unique(later, return_index=True)[1])
        targets = later[first][~np.isin(later[first], history)]
        if len(targets):
            parts.append((user, time, history, times_N[rows][:now], targets))
    if not parts:
        raise DataError(
            f"no user did anything new between {start} and {stop} (unix seconds): widen the window"
        )
    users, moments, histories, history_times, found = zip(*parts, strict=True)
    queries = QueryBatch(
        torch.tensor(users),
        _jagged(histories),
        torch.from_numpy(np.concatenate(history_times)),
        torch.tensor(moments),
    )
    return EvalExamples(queries, _jagged(found))


def _moments(
    log: EventLog,
    start: int,
    stop: int,
    users_U: Bools | None,
    max_queries: int | None,
    seed: int,
) -> list[tuple[int, int]]:
    """(user, time) of the first event of each user's day, in order of time."""
    window = slice(*log.timestamps_N.searchsorted((start, stop)).tolist())
    users_N, times_N = log.user_ids_N[window].astype(np.int64), log.timestamps_N[window]
    if users_U is not None:
        users_N, times_N = users_N[users_U[users_N]], times_N[users_U[users_N]]
    _, first = np.unique(np.stack([users_N, times_N // DAY_S]), axis=1, return_index=True)
    if max_queries is not None and len(first) > max_queries:
        first = np.random.default_rng(seed).choice(first, max_queries, replace=False)
    first = np.sort(first)
    return list(zip(users_N[first].tolist(), times_N[first].tolist(), strict=True))


def _jagged(rows: tuple[Int64s, ...]) -> Jagged:
    offsets_B = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Jagged(torch.from_numpy(np.concatenate(rows)), torch.from_numpy(offsets_B))
