"""Raw ids outside, row numbers inside: the only place where the two meet.

Shapes: U users, I items, N ids of one request.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from recray.arrays import Int64s
from recray.config import ConfigError, nearest
from recray.serve.events.live import LiveVersion, rows_of
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.query import UNKNOWN_USER, Query

SHOWN = ("category", "price")  # where the items have them and nothing else is asked for


class Catalogue:
    """The users and items of one retriever version.

    Args:
        shown: columns that answers show of an item, beside its title; none: those of ``SHOWN``.
    Raises:
        ConfigError: the items have no such column.
    """

    def __init__(self, users: pl.DataFrame, items: pl.DataFrame, shown: Sequence[str] = ()) -> None:
        self.item_raw_ids: list[str] = items["raw_id"].cast(pl.String).to_list()
        self.titles: list[str | None] = (
            items["title"].to_list() if "title" in items.columns else [None] * len(items)
        )
        for name in shown:
            if name not in items.columns:
                raise ConfigError(f"shown: the items have no column {name!r}{nearest(name, items.columns)}")
        wanted = shown or [name for name in SHOWN if name in items.columns]
        self._details: dict[str, list[Any]] = {name: items[name].to_list() for name in wanted}
        self.user_rows, self.item_rows = rows_of(users), rows_of(items)
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

    def query(self, request: RecommendRequest) -> Query:
        """
        Raises:
            RequestError: 422, the history or the exclusions name an item that is not in the catalogue, or
                the history's times do not fit it.
        """
        time, user_row = request.time(), UNKNOWN_USER
        history_ids = self._rows("history", request.history) if request.history else None
        exclude_ids = self._rows("exclude", request.exclude)
        history_times = request.times_of_history(time)
        if history_ids is None:
            history_times = None
        if request.user_id is not None:
            user_row = self.user_rows.get(str(request.user_id), UNKNOWN_USER)
            if user_row == UNKNOWN_USER and history_ids is None and self.live is not None:
                history_ids, history_times = self.live.history_of(str(request.user_id), time) or (None, None)
        return Query(user_row, history_ids, exclude_ids, time, request.k, history_times, request.explain)

    def _rows(self, field: str, raw_ids: Sequence[str | int]) -> Int64s:
        rows = [self.item_rows.get(str(raw)) for raw in raw_ids]
        if None in rows:
            wrong = _shown(str(raw_ids[rows.index(None)]))
            raise RequestError(422, "unknown_item", f"{field}: no item {wrong} in this catalogue")
        return np.array(rows, dtype=np.int64)


def _shown(raw_id: str) -> str:
    """A client's text, short and in ASCII, fit for a message."""
    return ascii(raw_id[:40])
