"""Which items are most alike by what they say of themselves: what stands in for what nobody has learnt.

An item is a bag of terms (``data.content.terms``): words of its texts, labels of its columns. Each term t
weighs ``log((1 + I) / (1 + df_t)) + 1``, df_t being how many of the I items have it (one that none has
counts too: it makes an item less like all others), and the likeness of two items is the cosine of these.

Shapes: I items, L of them learnt, E further ones, V terms.
"""

from collections import Counter
from collections.abc import Sequence, Set

import numpy as np
import polars as pl
import scipy.sparse as sp

from recray.arrays import Bools, Float32s, Float64s, Int64s
from recray.data.content.terms import PLAIN_TEXTS, terms_of
from recray.features.columns import text_columns

MOST_ALIKE = 20  # items that stand in for a further one
NOBODY: Int64s = np.empty(0, np.int64)
_TOGETHER = 64  # rows that are compared with all items at a time


class Likeness:
    """
    Args:
        items: the catalogue; row = item id.
        learnt_I: which of its items may stand in for others.
    """

    def __init__(self, items: pl.DataFrame, learnt_I: Bools) -> None:
        self._columns = [name for name in items.columns if name != "raw_id"]
        self._texts = tuple(dict.fromkeys((*PLAIN_TEXTS, *text_columns(items))))
        self._num_items = len(items)
        rows = self._terms(items)
        counts = Counter(term for row in rows for term in row)
        self._places = {term: place for place, term in enumerate(counts)}
        self._idf_V = self._idf(np.fromiter(counts.values(), np.float64, len(counts)))
        self._learnt_L: Int64s = np.flatnonzero(learnt_I)
        self._found: dict[frozenset[str], tuple[Int64s, Float32s]] = {}  # they come again with every change
        self._learnt_LV = self._weights([rows[row] for row in self._learnt_L.tolist()])

    def _terms(self, table: pl.DataFrame) -> list[set[str]]:
        told = table.select(name for name in self._columns if name in table.columns)
        return [set(terms_of(row, bigrams=False, texts=self._texts)) for row in told.iter_rows(named=True)]

    def _idf(self, counts_V: Float64s) -> Float64s:
        idf_V: Float64s = np.log((1 + self._num_items) / (1 + counts_V)) + 1
        return idf_V

    def _weights(self, rows: Sequence[Set[str]]) -> sp.csr_array:
        """Unit rows over the terms of the catalogue; shorter by what no item of it says."""
        known = [[self._places[term] for term in sorted(row) if term in self._places] for row in rows]
        starts = np.concatenate([[0], np.cumsum([len(places) for places in known])]).astype(np.int64)
        columns = np.array([place for places in known for place in places], np.int64)
        values = self._idf_V[columns]
        unheard_R = np.array([len(row) for row in rows]) - np.diff(starts)
        squares_R = np.add.reduceat(np.append(values**2, 0.0), starts[:-1]) if len(rows) else np.empty(0)
        squares_R = np.where(np.diff(starts) > 0, squares_R, 0.0)
        squares_R += unheard_R * self._idf(np.zeros(1)) ** 2
        norm_R = np.sqrt(np.maximum(squares_R, 1e-12))
        return sp.csr_array(
            (values / np.repeat(norm_R, np.diff(starts)), columns, starts), (len(rows), len(self._idf_V))
        )

    def stand_ins(self, table: pl.DataFrame) -> sp.csr_array:
        """weights_EI: the ``MOST_ALIKE`` learnt items of each row of a table, each by its share of their
        likeness, ties by id; rows without anything alike are empty, all others sum to 1."""
        rows = [frozenset(row) for row in self._terms(table)]
        unheard = [row for row in dict.fromkeys(rows) if row not in self._found]
        for start in range(0, len(unheard), _TOGETHER):
            chunk = unheard[start : start + _TOGETHER]
            self._found |= zip(chunk, map(_shares, self._like(chunk)), strict=True)
        found = [self._found[row] for row in rows]
        starts = np.cumsum([0, *(len(places) for places, _ in found)])
        ids = [self._learnt_L[places] for places, _ in found]
        shares = np.concatenate([np.empty(0, np.float32), *(values for _, values in found)])
        return sp.csr_array((shares, np.concatenate([NOBODY, *ids]), starts), (len(table), self._num_items))

    def _like(self, rows: Sequence[Set[str]]) -> Float64s:
        """likeness_EL."""
        likeness_EL: Float64s = (self._weights(rows) @ self._learnt_LV.T).toarray()
        return likeness_EL


def _shares(likeness_L: Float64s) -> tuple[Int64s, Float32s]:
    """Places of the most alike, ties by place, and their shares of the likeness of all of them."""
    count = min(MOST_ALIKE, len(likeness_L))
    if not count:
        return NOBODY, np.empty(0, np.float32)
    least = np.partition(likeness_L, len(likeness_L) - count)[len(likeness_L) - count]
    places = np.flatnonzero((likeness_L >= least) & (likeness_L > 0))
    best = places[np.argsort(-likeness_L[places], kind="stable")[:count]]
    return best, (likeness_L[best] / likeness_L[best].sum()).astype(np.float32)
