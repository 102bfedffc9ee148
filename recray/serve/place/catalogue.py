"""Raw ids outside, row numbers inside: the only place where the two meet.

Shapes: U users, I items, N ids of one request.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Int64s
from recray.config import ConfigError, nearest
from recray.serve.events.live import LiveVersion
from recray.serve.http import answers
from recray.serve.http.requests import (
    MAX_EXPLAINED,
    RecommendRequest,
    RequestError,
)
from recray.serve.query import UNKNOWN_USER, History, Query
from recray.serve.versions import OpenedVersion

SHOWN = ("category", "price")  # where the items have them and nothing else is asked for


class Asked(NamedTuple):
    """A request in row numbers, and what of it has none."""

    query: Query
    unknown: answers.Unknown


class Catalogue:
    """The users and items of one retriever version.

    Args:
        shown: columns that answers show of an item, beside its title; none: those of ``SHOWN``.
        budget_ms: of requests that name none; 0: as long as it takes.
    Raises:
        ConfigError: the items have no such column.
    """

    def __init__(self, version: OpenedVersion, shown: Sequence[str] = (), budget_ms: int = 0) -> None:
        items = version.catalogue[1]
        self.budget_ms, self.schema = budget_ms, items.schema
        self.item_raw_ids: list[str] = items["raw_id"].cast(pl.String).to_list()
        self.titles: list[str | None] = (
            items["title"].to_list() if "title" in items.columns else [None] * len(items)
        )
        for name in shown:
            if name not in items.columns:
                raise ConfigError(f"shown: the items have no column {name!r}{nearest(name, items.columns)}")
        wanted = shown or [name for name in SHOWN if name in items.columns]
        self._details: dict[str, list[Any]] = {name: items[name].to_list() for name in wanted}
        self.user_rows, self.item_rows = version.user_rows, version.item_rows
        self.lenient = True  # a stage that can be done without may fail
        self.live: LiveVersion | None = None  # knows what strangers did, where something is told

    def some_user(self) -> str | None:
        """A raw id that is known, where there is one."""
        return next(iter(self.user_rows), None)

    def item_row(self, raw_id: str) -> int:
        """
        Raises:
            RequestError: 404, there is no such item.
        """
        row = self.item_rows.get(raw_id)
        if row is None:
            raise RequestError(404, "unknown_item", f"no item {_shown(raw_id)} in this catalogue")
        return row

    @property
    def shows_details(self) -> bool:
        return bool(self._details)

    def details(self, row: int) -> dict[str, Any]:
        """What is shown of an item besides its title, as the catalogue has it."""
        return {name: values[row] for name, values in self._details.items()}

    def query(self, request: RecommendRequest) -> Asked:
        """The request without the items that are not in the catalogue, and which those are.

        Raises:
            RequestError: 422, the history's times do not fit it; too many items are to be explained; or,
                where the request is strict, an item is not in the catalogue.
        """
        if request.explain and request.k > MAX_EXPLAINED:
            raise RequestError(
                422,
                "invalid_request",
                f"explain: up to k={MAX_EXPLAINED} items, not {request.k}: ask for fewer",
            )
        history_N = self._rows("history", request.history or (), request.strict)
        exclude_N = self._rows("exclude", request.exclude, request.strict)
        exclude_ids = exclude_N[exclude_N >= 0]
        if (
            request.user_id is not None
            and self.live
            and (gone := self.live.dismissed_by(str(request.user_id)))
        ):
            exclude_ids = np.concatenate([exclude_ids, np.array(sorted(gone), np.int64)])
        unknown: answers.Unknown = {
            "history": _unknown(request.history or (), history_N),
            "exclude": _unknown(request.exclude, exclude_N),
        }
        is_known_N, time, user_row = history_N >= 0, request.time(), UNKNOWN_USER
        history_ids: Int64s | None = history_N[is_known_N]
        history_times = request.times_of_history(time)
        if not is_known_N.any():
            history_ids = history_times = None
        elif history_times is not None:
            history_times = history_times[is_known_N]
        told: History | None = None
        if request.user_id is not None:
            user_row = self.user_rows.get(str(request.user_id), UNKNOWN_USER)
            if user_row == UNKNOWN_USER and self.live is not None:
                done = self.live.strangers.before(str(request.user_id), time)
                told = None if done is None else History(done.item_ids_H.astype(np.int64), done.times_H)
        query = Query(
            user_row,
            history_ids,
            exclude_ids,
            time,
            request.k,
            history_times,
            request.explain,
            request.budget_ms or self.budget_ms or None,
            self.lenient,
            told,
            context=request.context,
        )
        return Asked(query, unknown)

    def _rows(self, field: str, raw_ids: Sequence[str | int], is_strict: bool) -> Int64s:
        """rows_N: -1 where there is no such item."""
        rows = [self.item_rows.get(str(raw), -1) for raw in raw_ids]
        if is_strict and -1 in rows:
            wrong = _shown(str(raw_ids[rows.index(-1)]))
            raise RequestError(422, "unknown_item", f"{field}: no item {wrong} in this catalogue")
        return np.array(rows, dtype=np.int64)


def _unknown(raw_ids: Sequence[str | int], rows_N: Int64s) -> list[str]:
    return [str(raw_ids[place]) for place in np.flatnonzero(rows_N < 0).tolist()]


def _shown(raw_id: str) -> str:
    """A client's text, short and in ASCII, fit for a message."""
    return ascii(raw_id[:40])
