"""Batches: the only thing data and models both know about.

Shape suffixes, used across recray (a new letter gets a line here):
B batch rows, K top-k or candidates, D embedding dim, I catalogue size, U users, T sequence
positions, J distinct items of a batch, L codebook levels, H heads, N values of a jagged tensor or
interactions of a data set, F features, S sessions, M metrics, R bootstrap resamples, G bags of ids, P
rows of stacked tables, C column blocks, W workers. ``offsets_B`` of a jagged tensor has B + 1 entries,
as ``offsets_S`` has S + 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Jagged(NamedTuple):
    """Rows of different lengths laid end to end: row b is ``values_N[offsets_B[b]:offsets_B[b+1]]``."""

    values_N: Tensor
    offsets_B: Tensor  # int64, B + 1 entries, first 0, last N

    def lengths_B(self) -> Tensor:
        return self.offsets_B.diff()

    def rows_N(self) -> Tensor:
        """The row that each value belongs to, int64."""
        index = torch.arange(len(self.offsets_B) - 1, device=self.offsets_B.device)
        return torch.repeat_interleave(index, self.lengths_B())

    def places_N(self) -> Tensor:
        """Where each value stands in its row, from 0, int64."""
        rows_N = self.rows_N()
        return torch.arange(len(rows_N), device=rows_N.device) - self.offsets_B[rows_N]

    def row(self, b: int) -> Tensor:
        return self.values_N[self.offsets_B[b] : self.offsets_B[b + 1]]

    def slice(self, start: int, stop: int) -> "Jagged":
        """Rows ``start`` to ``stop``, without copying the values."""
        offsets_B = self.offsets_B[start : stop + 1]
        return Jagged(self.values_N[offsets_B[0] : offsets_B[-1]], offsets_B - offsets_B[0])

    def take(self, rows: Tensor) -> "Jagged":
        """These rows, in this order."""
        return Jagged(self.values_N[self.positions_of(rows)], _offsets(self.lengths_B()[rows]))

    def positions_of(self, rows: Tensor) -> Tensor:
        """Where the values of these rows lie, row after row."""
        offsets_B = _offsets(self.lengths_B()[rows])
        shift_B = self.offsets_B[rows] - offsets_B[:-1]
        count = torch.arange(int(offsets_B[-1]), device=offsets_B.device)
        return count + torch.repeat_interleave(shift_B, offsets_B.diff())

    def keep(self, kept_N: Tensor) -> "Jagged":
        """The values where ``kept_N`` (bool) is true; a row may become empty."""
        return Jagged(self.values_N[kept_N], _offsets(kept_N)[self.offsets_B])

    def newest_N(self, count: int) -> Tensor:
        """Whether a value is among the last ``count`` of its row, bool."""
        ends_N = self.offsets_B[1:][self.rows_N()]
        return torch.arange(len(ends_N), device=ends_N.device) >= ends_N - count

    def to(self, device: torch.device) -> "Jagged":
        return Jagged(self.values_N.to(device), self.offsets_B.to(device))

    @staticmethod
    def from_rows(rows: list[list[int]]) -> "Jagged":
        lengths_B = torch.tensor([0, *map(len, rows)])
        values_N = torch.tensor([v for row in rows for v in row], dtype=torch.int64)
        return Jagged(values_N, lengths_B.cumsum(0))


def _offsets(lengths_B: Tensor) -> Tensor:
    return torch.cat([lengths_B.new_zeros(1), lengths_B.cumsum(0)])


class KeyedJagged(NamedTuple):
    """Ids of several features, each with any number of ids per row: what embedding tables take.

    Feature by feature, and within a feature row by row (the layout of TorchRec's KeyedJaggedTensor).
    """

    keys: tuple[str, ...]  # F names
    values_N: Tensor  # int64
    lengths_FB: Tensor  # int64 [F, B], ids of each feature in each row; the sum is N
    weights_N: Tensor | None = None  # float32, how much each id counts when pooled; None: 1

    def num_rows(self) -> int:
        return self.lengths_FB.shape[1]

    def to(self, device: torch.device) -> "KeyedJagged":
        weights_N = None if self.weights_N is None else self.weights_N.to(device)
        return KeyedJagged(self.keys, self.values_N.to(device), self.lengths_FB.to(device), weights_N)


class RankingBatch(NamedTuple):
    """Rows to rank: clicks or not, alone or in sessions that lie side by side."""

    dense_BF: Tensor  # float32, as recorded; NaN where missing
    sparse: KeyedJagged
    labels_B: Tensor  # float32, 0 or 1, or a grade of relevance
    offsets_S: Tensor | None = None  # int64, S + 1 entries: rows of session s; None: rows stand alone
    total: int = 0  # rows (sessions) of the global batch that this is a share of; 0: all shares are equal

    @property
    def size(self) -> int:
        """Terms of the loss's mean: sessions, or rows where there are none."""
        return len(self.labels_B) if self.offsets_S is None else len(self.offsets_S) - 1

    def to(self, device: torch.device) -> "RankingBatch":
        return RankingBatch(
            self.dense_BF.to(device),
            self.sparse.to(device),
            self.labels_B.to(device),
            None if self.offsets_S is None else self.offsets_S.to(device),
            self.total,
        )


class Pool(NamedTuple):
    """The pairs of the global batch that a worker has a share of: every worker knows all of them."""

    item_ids_P: Tensor  # int64
    item_logq_P: Tensor  # float32
    start: int  # where the share begins

    def to(self, device: torch.device) -> "Pool":
        return Pool(self.item_ids_P.to(device), self.item_logq_P.to(device), self.start)


class PairBatch(NamedTuple):
    """Observed (user, item) pairs."""

    user_ids_B: Tensor  # int64
    item_ids_B: Tensor  # int64
    item_logq_B: Tensor  # float32, log sampling probability of each item
    weight_B: Tensor | None = None  # float32, how much each pair counts; None: all alike
    total: int = 0  # pairs of the global batch that this is a share of; 0: all shares are equal
    negative_ids_BK: Tensor | None = (
        None  # int64, items that the user did not have to do with; None: not drawn
    )
    weight_sum: float | None = None  # of weight_B, if the weight of the global batch were spread evenly
    pool: Pool | None = None  # None: this is the whole global batch

    @property
    def size(self) -> int:
        """Terms of the loss's mean."""
        return len(self.user_ids_B)

    def to(self, device: torch.device) -> "PairBatch":
        weight_B = None if self.weight_B is None else self.weight_B.to(device)
        negatives = None if self.negative_ids_BK is None else self.negative_ids_BK.to(device)
        ids = self.user_ids_B.to(device), self.item_ids_B.to(device)
        pool = None if self.pool is None else self.pool.to(device)
        logq_B = self.item_logq_B.to(device)
        return PairBatch(*ids, logq_B, weight_B, self.total, negatives, self.weight_sum, pool)


EDGE_FEATURES = 3  # columns of ``Messages.edge_NF``


class Messages(NamedTuple):
    """Messages of one kind in one layer of a graph network, over interactions with a rating and a time."""

    edges_2N: Tensor  # int64 [2, N]: where the sender is among the inputs, the receiver among the outputs
    edge_NF: Tensor  # float32 [N, 3]: rating, newer messages of the receiver, time before its newest

    def to(self, device: torch.device) -> "Messages":
        return Messages(self.edges_2N.to(device), self.edge_NF.to(device))


class Hop(NamedTuple):
    """One layer of a graph network over users and items: from input nodes to output nodes."""

    users_B: Tensor  # int64, where each output user is among the input users
    items_J: Tensor  # int64, the same of items
    to_users: Messages  # from items
    to_items: Messages  # from users

    def to(self, device: torch.device) -> "Hop":
        ids = self.users_B.to(device), self.items_J.to(device)
        return Hop(*ids, self.to_users.to(device), self.to_items.to(device))


class GraphBatch(NamedTuple):
    """Observed pairs and what surrounds them in the graph, without the pairs themselves."""

    pairs: PairBatch
    user_ids_U: Tensor  # int64, distinct users that the first layer starts from
    item_ids_I: Tensor  # int64, distinct items that the first layer starts from
    hops: tuple[Hop, ...]  # first layer first; the last one ends at the pairs' users and distinct items

    @property
    def size(self) -> int:
        """Terms of the loss's mean: pairs."""
        return self.pairs.size

    @property
    def total(self) -> int:
        """Pairs of the global batch that this is a share of; 0: all shares are equal."""
        return self.pairs.total

    def to(self, device: torch.device) -> "GraphBatch":
        ids = self.user_ids_U.to(device), self.item_ids_I.to(device)
        return GraphBatch(self.pairs.to(device), *ids, tuple(hop.to(device) for hop in self.hops))


class ContentBatch(NamedTuple):
    """Content vectors of items."""

    content_BF: Tensor  # float32
    total: int = 0  # items of the global batch that this is a share of; 0: all shares are equal

    @property
    def size(self) -> int:
        """Terms of the loss's mean."""
        return len(self.content_BF)

    def to(self, device: torch.device) -> "ContentBatch":
        return ContentBatch(self.content_BF.to(device), self.total)


class Negatives(NamedTuple):
    """Items that were drawn for a global batch: the same ones for every worker."""

    item_ids_K: Tensor  # int64, with replacement
    logq_K: Tensor  # float32, how likely each draw was this item: the log
    num_items: int  # that they were drawn from

    def to(self, device: torch.device) -> "Negatives":
        return Negatives(self.item_ids_K.to(device), self.logq_K.to(device), self.num_items)


class SequenceBatch(NamedTuple):
    """What users did in order; items from ``first_target_B`` on are predicted from those before them."""

    user_ids_B: Tensor  # int64
    items: Jagged  # item ids, oldest first, at least two per row
    times_N: Tensor  # int64 unix seconds, one per value of ``items``, not decreasing within a row
    first_target_B: Tensor  # int64, position of the first target within its row, at least 1
    total: int = 0  # targets of the global batch that this is a share of; 0: all shares are equal
    # float32, one per value of ``items``: how much it counts as a target; the mean over the targets of the
    # global batch is 1, so that shares of it add up; None: all alike.
    weights_N: Tensor | None = None
    negatives: Negatives | None = None  # None: not drawn

    @property
    def size(self) -> int:
        """Terms of the loss's mean: targets."""
        return int((self.items.lengths_B() - self.first_target_B).sum())

    def is_read_N(self) -> Tensor:
        """Whether an item is there to predict others from: all but the last of each row, bool."""
        return self.items.places_N() < (self.items.lengths_B() - 1)[self.items.rows_N()]

    def is_target_N(self) -> Tensor:
        """Whether an item is to be predicted, bool."""
        return self.items.places_N() >= self.first_target_B[self.items.rows_N()]

    def to(self, device: torch.device) -> "SequenceBatch":
        return SequenceBatch(
            self.user_ids_B.to(device),
            self.items.to(device),
            self.times_N.to(device),
            self.first_target_B.to(device),
            self.total,
            None if self.weights_N is None else self.weights_N.to(device),
            None if self.negatives is None else self.negatives.to(device),
        )

    def target_weights(self) -> Tensor | None:
        """``weights_N`` of the targets, row by row; None: all alike."""
        return None if self.weights_N is None else self.weights_N[self.is_target_N()]


class QueryBatch(NamedTuple):
    """Who asks, what they did before, and when: all that a retriever may look at."""

    user_ids_B: Tensor  # int64, -1 where the user is unknown
    history: Jagged  # item ids, oldest first
    history_times_N: Tensor  # int64 unix seconds, one per value of ``history``
    request_times_B: Tensor  # int64 unix seconds

    def slice(self, start: int, stop: int) -> "QueryBatch":
        first, last = self.history.offsets_B[start], self.history.offsets_B[stop]
        return QueryBatch(
            self.user_ids_B[start:stop],
            self.history.slice(start, stop),
            self.history_times_N[first:last],
            self.request_times_B[start:stop],
        )

    def take(self, rows: Tensor) -> "QueryBatch":
        """These queries, in this order."""
        return QueryBatch(
            self.user_ids_B[rows],
            self.history.take(rows),
            self.history_times_N[self.history.positions_of(rows)],
            self.request_times_B[rows],
        )

    def newest(self, count: int) -> "QueryBatch":
        """The same queries with the last ``count`` events of each history."""
        kept_N = self.history.newest_N(count)
        return self._replace(history=self.history.keep(kept_N), history_times_N=self.history_times_N[kept_N])

    @staticmethod
    def without_history(user_ids_B: Tensor) -> "QueryBatch":
        """These users, asking at time 0, of whom nothing else is known."""
        nothing = user_ids_B.new_empty(0)
        history = Jagged(nothing, user_ids_B.new_zeros(len(user_ids_B) + 1))
        return QueryBatch(user_ids_B, history, nothing, torch.zeros_like(user_ids_B))

    def to(self, device: torch.device) -> "QueryBatch":
        return QueryBatch(
            self.user_ids_B.to(device),
            self.history.to(device),
            self.history_times_N.to(device),
            self.request_times_B.to(device),
        )


class Generated(NamedTuple):
    """Items that a generative retriever answers with, best first, ties in order of their codes."""

    item_ids_BK: Tensor  # int64; -1 where fewer items are allowed
    scores_BK: Tensor  # float32 log probability; -inf there
    exact_B: Tensor  # bool: certainly no other item scores higher


class EvalExamples(NamedTuple):
    """Queries and the items that each of them should find."""

    queries: QueryBatch
    targets: Jagged  # item ids, at least one per query, no repeats within a query

    def take(self, rows: Tensor) -> "EvalExamples":
        """These queries and their targets, in this order."""
        return EvalExamples(self.queries.take(rows), self.targets.take(rows))


class FeatureTables(NamedTuple):
    """Side features of every user and item by feature name: ``ids`` int64 [rows, width], 0 = absent;
    ``dense`` float32 [rows, width]."""

    user: dict[str, Tensor]
    item: dict[str, Tensor]
