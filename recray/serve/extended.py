"""A version with what was said of items since it was published: more of them, and changed ones.

All that does not depend on the items is the version's own, shared and not copied; each part is made when it
is first wanted, so that no stage needs to know that there is more than was published.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import polars as pl
from cachetools import LRUCache
from torch import nn

from recray.arrays import Float32s, Int64s
from recray.bundles.newcomers import Grown, Told
from recray.bundles.retriever import COUNT_COLUMN, RetrieverFiles
from recray.contract import Scorer
from recray.features.added_items import with_rows
from recray.features.candidates import Candidates
from recray.features.live_log import LiveLog
from recray.serve.item_content import Values, table_of
from recray.serve.versions import OpenedVersion


class ExtendedVersion(OpenedVersion):
    """
    Args:
        version: as it was published; a log of it goes on (``LiveLog``).
        content: by raw id, what was said of items, in the order in which they were first told of: new ones
            get the rows behind the others in that order.
    """

    def __init__(self, version: OpenedVersion, content: Mapping[str, Values]) -> None:
        super().__init__(version.bundles)
        self._version = version
        known, (_, items) = version.item_rows, version.catalogue
        self._new_raw_ids = [raw for raw in content if raw not in known]
        rows = []
        for raw, values in content.items():
            row = items.row(known[raw], named=True) if raw in known else {COUNT_COLUMN: 0}
            rows.append({**row, **version.fitting(raw, values), "raw_id": raw})
        texts = pl.Schema({**items.schema, "raw_id": pl.String()})
        self._said = self._as_told(items, table_of(rows, texts), [self.item_rows[raw] for raw in content])

    def _as_told(self, items: pl.DataFrame, table: pl.DataFrame, rows: list[int]) -> Told:
        place_I = np.arange(len(items) + len(self.new_raw_ids))
        place_I[rows] = len(items) + np.arange(len(rows))
        both = pl.concat([items.with_columns(pl.col("raw_id").cast(pl.String)), table])
        return Told(both[place_I], np.array(rows, np.int64), table)

    @property
    def num_published(self) -> int:
        return self._version.num_published

    @property
    def new_raw_ids(self) -> Sequence[str]:
        return self._new_raw_ids

    @cached_property
    def user_rows(self) -> Mapping[str, int]:
        return self._version.user_rows

    @cached_property
    def item_rows(self) -> Mapping[str, int]:
        further = enumerate(self.new_raw_ids, start=self.num_published)
        return {**self._version.item_rows, **{raw: row for row, raw in further}}

    @cached_property
    def catalogue(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        return self._version.catalogue[0], self._said.items

    @cached_property
    def event_log(self) -> LiveLog | None:
        log = self._version.event_log
        if log is None:
            return None
        assert isinstance(log, LiveLog)
        num_items, (_, rows_M, table) = len(self._said.items), self._said
        return log.with_items(with_rows(log.items, num_items, rows_M, table), num_items)

    @cached_property
    def recent(self) -> LRUCache[int, Candidates]:
        return self._version.recent

    @cached_property
    def popular_first_I(self) -> Int64s:
        published_I = self._version.popular_first_I
        return np.append(published_I, np.arange(len(published_I), len(self._said.items)))

    @cached_property
    def ranker(self) -> Scorer | None:
        return self._version.ranker

    @cached_property
    def _grown(self) -> Grown:
        return self._version.newcomers.grown(self._said)

    @cached_property
    def retriever_files(self) -> RetrieverFiles:
        return self._grown.files

    @cached_property
    def retriever_model(self) -> nn.Module:
        return self._grown.model

    def item_vectors(self) -> Float32s:
        vectors_ID = self._grown.files.item_ID
        return self._version.item_vectors() if vectors_ID is None else vectors_ID
