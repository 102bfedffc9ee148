"""Neighbours of users and items in the training interactions: sampled for a batch, or all of them.

The graph is two CSR arrays, by user and by item, each row in order of time. A batch costs memory by its
size and its fanouts, never by the size of the graph. ``data/graph.py`` has the same graph for PyTorch
Geometric; this is the part that training runs on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from recray.arrays import Bools, Float32s, Int64s
from recray.batch import EDGE_FEATURES, GraphBatch, Hop, Messages
from recray.config import ConfigError
from recray.data.batches.pairs import PairBatches
from recray.data.events.dataset import Dataset
from recray.data.events.splits import Split

EDGES_AT_ONCE = 200_000  # of the whole graph, where all of it is walked through
_SECONDS_TO_LOG_SCALE = 10.0


class Adjacency(NamedTuple):
    """Interactions by the node that receives messages over them, oldest first."""

    offsets: Int64s  # rows of node n: offsets[n] to offsets[n + 1]
    senders_N: Int64s
    rows_N: Int64s  # number of the interaction among those of the graph, rising within a node
    times_N: Int64s  # unix seconds
    ratings_N: Float32s  # standardised over the graph

    @property
    def num_nodes(self) -> int:
        return len(self.offsets) - 1


class Drawn(NamedTuple):
    """Positions in an adjacency, and for each of them which receiver asked and where its row ends."""

    positions_N: Int64s
    receiver_N: Int64s
    stops_B: Int64s

    def keep(self, mask_N: Bools) -> "Drawn":
        return Drawn(self.positions_N[mask_N], self.receiver_N[mask_N], self.stops_B)


@dataclass(frozen=True)
class Neighbourhoods:
    """Who rated what, both ways."""

    of_users: Adjacency
    of_items: Adjacency
    user_ids_N: Int64s  # of each interaction, in order of time
    item_ids_N: Int64s

    @staticmethod
    def of(
        edges_2N: Int64s, ratings_N: Float32s, times_N: Int64s, num_users: int, num_items: int
    ) -> "Neighbourhoods":
        """The graph of these interactions, (user, item) in order of time, and of no other."""
        users_N, items_N = edges_2N
        spread = float(ratings_N.std()) or 1.0
        scaled_N = ((ratings_N - ratings_N.mean()) / spread).astype(np.float32)
        return Neighbourhoods(
            _adjacency(users_N, items_N, times_N, scaled_N, num_users),
            _adjacency(items_N, users_N, times_N, scaled_N, num_items),
            users_N,
            items_N,
        )

    def pair_keys(self, rows_N: Int64s) -> Int64s:
        """A number for the pair of each interaction: equal for the same user and item."""
        return self.user_ids_N[rows_N] * self.of_items.num_nodes + self.item_ids_N[rows_N]


class WholeGraph:
    """One layer's messages over the whole graph, in parts: inputs are all nodes, outputs a part's.

    Args:
        newest: messages that a user takes, its newest ones; 0: all. Items take all.
    """

    def __init__(self, graph: Neighbourhoods, newest: int = 0) -> None:
        self.graph, self.newest = graph, newest

    def __iter__(self) -> Iterator[Hop]:
        nobody = np.empty(0, np.int64)
        for users_B in _chunks(self.graph.of_users, self.newest):
            yield self._hop(users_B, nobody)
        for items_J in _chunks(self.graph.of_items, 0):
            yield self._hop(nobody, items_J)

    def _hop(self, users_B: Int64s, items_J: Int64s) -> Hop:
        of_users, of_items = self.graph.of_users, self.graph.of_items
        to_users, to_items = draw(of_users, users_B, self.newest), draw(of_items, items_J, 0)
        return Hop(
            torch.from_numpy(users_B),
            torch.from_numpy(items_J),
            messages(of_users, to_users, of_users.senders_N[to_users.positions_N]),
            messages(of_items, to_items, of_items.senders_N[to_items.positions_N]),
        )


class GraphBatches:
    """Pairs as ``PairBatches`` has them, and around each batch the neighbours that a model of L layers asks.

    Neighbours are a pure function of (seed, epoch, step, rank). The pairs of a global batch carry no message
    in either direction, so nothing is told what it should find.

    Args:
        pairs: all interactions of the graph, in the same order; those that weigh nothing are messages only.
        fanouts: messages that a node takes at most, from the last layer (around the pairs) to the first.
        newest: a user's messages are its newest ones; else any, drawn evenly. An item's are drawn evenly.
        causal: the user of a pair takes messages from before the pair only, as when it asks what is next.
            For one layer: see ``require_one_layer``.
    """

    def __init__(
        self,
        pairs: PairBatches,
        graph: Neighbourhoods,
        *,
        fanouts: Sequence[int],
        newest: bool = True,
        causal: bool = True,
    ) -> None:
        if not fanouts or min(fanouts) < 1:
            raise ConfigError(f"fanouts must be numbers of at least 1, one per layer, got {tuple(fanouts)}")
        if pairs.num_interactions != len(graph.user_ids_N):
            raise ConfigError(
                f"{pairs.num_interactions} pairs and {len(graph.user_ids_N)} edges: pairs must be the edges"
            )
        if causal:
            require_one_layer(len(fanouts))
        self.pairs, self.graph = pairs, graph
        self.fanouts, self.newest, self.causal = tuple(fanouts), newest, causal

    def num_steps(self) -> int:
        """Global batches in an epoch."""
        return self.pairs.num_steps()

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> GraphBatch:
        """This worker's pairs of a global batch, and their surroundings."""
        pairs = self.pairs.batch(epoch, step, rank, world_size)
        rows_B = self.pairs.rows(epoch, step)
        silent = np.unique(self.graph.pair_keys(rows_B))
        rows_B = rows_B[len(rows_B) * rank // world_size :][: pairs.size]
        rng = np.random.default_rng([self.pairs.seed, epoch, step, rank])
        item_ids = np.unique(self.graph.item_ids_N[rows_B])
        hops, user_ids, item_ids = self._surroundings(rows_B, item_ids, silent, rng)
        return GraphBatch(pairs, torch.from_numpy(user_ids), torch.from_numpy(item_ids), hops)

    def _surroundings(
        self, rows_B: Int64s, items: Int64s, silent: Int64s, rng: np.random.Generator
    ) -> tuple[tuple[Hop, ...], Int64s, Int64s]:
        """(hops from the first layer to the last, input users, input items)."""
        of_users, of_items = self.graph.of_users, self.graph.of_items
        users, stops = self.graph.user_ids_N[rows_B], None
        if self.causal:
            stops = of_users.offsets[users] + _before(of_users, users, rows_B)
        hops: list[Hop] = []
        for fanout in self.fanouts:
            user_rng = None if self.newest else rng
            to_users = self._heard(of_users, draw(of_users, users, fanout, user_rng, stops), silent)
            to_items = self._heard(of_items, draw(of_items, items, fanout, rng), silent)
            heard_items = of_users.senders_N[to_users.positions_N]
            heard_users = of_items.senders_N[to_items.positions_N]
            input_users = np.unique(np.concatenate([users, heard_users]))
            input_items = np.unique(np.concatenate([items, heard_items]))
            hops.append(
                Hop(
                    torch.from_numpy(np.searchsorted(input_users, users)),
                    torch.from_numpy(np.searchsorted(input_items, items)),
                    messages(of_users, to_users, np.searchsorted(input_items, heard_items)),
                    messages(of_items, to_items, np.searchsorted(input_users, heard_users)),
                )
            )
            users, items = input_users, input_items
        return tuple(reversed(hops)), users, items

    def _heard(self, adjacency: Adjacency, drawn: Drawn, silent: Int64s) -> Drawn:
        """What was drawn but for the pairs of these keys (sorted)."""
        keys_N = self.graph.pair_keys(adjacency.rows_N[drawn.positions_N])
        found_N = np.minimum(np.searchsorted(silent, keys_N), len(silent) - 1)
        return drawn.keep(silent[found_N] != keys_N)


def require_one_layer(layers: int) -> None:
    """What ``causal`` needs.

    In lower layers a node has one vector for all pairs that hear it, so nothing stops it at one pair's time:
    a pair's user would hear its own future through those that it hears.

    Raises:
        ConfigError: there are more.
    """
    if layers > 1:
        raise ConfigError(
            f"causal stops messages in the last layer only, and with {layers} layers the user of a pair "
            "hears its future through the others: give model.layers 1 and one fanout, or causal False "
            "(for a split without order: random)"
        )


def pairs_to_predict(dataset: Dataset, split: Split, part_N: Bools) -> Int64s:
    """User and item of a part's interactions, int64 [2, n].

    Held-out ones that are not relevant or repeat a pair of the training part are left out: that pair is a
    message.
    """
    pair_N = dataset.user_ids_N * dataset.num_items + dataset.item_ids_N
    held_out_N, kept_N = part_N & ~split.train_N, part_N.copy()
    kept_N[held_out_N] = ~np.isin(pair_N[held_out_N], pair_N[split.train_N])
    if split.relevant_N is not None:
        kept_N &= split.relevant_N | ~held_out_N
    return np.stack([dataset.user_ids_N[kept_N], dataset.item_ids_N[kept_N]])


def draw(
    adjacency: Adjacency,
    nodes_B: Int64s,
    fanout: int,
    rng: np.random.Generator | None = None,
    stops_B: Int64s | None = None,
) -> Drawn:
    """Up to ``fanout`` entries of each node's row, none twice; all of them where there are no more.

    Args:
        fanout: 0 takes whole rows.
        rng: None takes the newest entries, else any, evenly.
        stops_B: where each row ends for this purpose; None: where it ends.
    """
    starts_B = adjacency.offsets[nodes_B]
    stops_B = adjacency.offsets[nodes_B + 1] if stops_B is None else stops_B
    counts_B = stops_B - starts_B
    taken_B = np.minimum(counts_B, fanout) if fanout else counts_B
    receiver_N = np.repeat(np.arange(len(nodes_B)), taken_B)
    # Counted from the end of each row, so that without a draw they are its newest entries.
    back_N = np.arange(len(receiver_N)) - np.repeat(np.cumsum(taken_B) - taken_B, taken_B)
    if rng is not None and fanout and len(crowded := np.flatnonzero(counts_B > fanout)):
        drawn = _distinct(counts_B[crowded], fanout, rng)
        within = np.zeros(len(nodes_B), bool)
        within[crowded] = True
        back_N[within[receiver_N]] = drawn.ravel()
    return Drawn(stops_B[receiver_N] - 1 - back_N, receiver_N, stops_B)


def messages(adjacency: Adjacency, drawn: Drawn, senders_N: Int64s) -> Messages:
    """What travels over the entries drawn; ``senders_N`` says where each sender is among the inputs."""
    newest_N = drawn.stops_B[drawn.receiver_N] - 1
    edge_NF = np.empty((len(senders_N), EDGE_FEATURES), np.float32)
    edge_NF[:, 0] = adjacency.ratings_N[drawn.positions_N]
    edge_NF[:, 1] = np.log1p(newest_N - drawn.positions_N)
    age_N = adjacency.times_N[newest_N] - adjacency.times_N[drawn.positions_N]
    edge_NF[:, 2] = np.log1p(age_N) / _SECONDS_TO_LOG_SCALE
    return Messages(
        torch.from_numpy(np.stack([senders_N, drawn.receiver_N])),
        torch.from_numpy(edge_NF),
    )


def _adjacency(
    receivers_N: Int64s, senders_N: Int64s, times_N: Int64s, ratings_N: Float32s, num_nodes: int
) -> Adjacency:
    order_N = np.argsort(receivers_N, kind="stable")  # interactions are in order of time
    counts = np.bincount(receivers_N, minlength=num_nodes)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Adjacency(offsets, senders_N[order_N], order_N, times_N[order_N], ratings_N[order_N])


def _before(adjacency: Adjacency, nodes_B: Int64s, rows_B: Int64s) -> Int64s:
    """How many entries of each node's row are of interactions before the one given: halving, all at once."""
    low_B, high_B = adjacency.offsets[nodes_B], adjacency.offsets[nodes_B + 1]
    start_B = low_B
    while (open_B := low_B < high_B).any():
        middle_B = (low_B + high_B) // 2
        earlier_B = open_B & (adjacency.rows_N[np.minimum(middle_B, len(adjacency.rows_N) - 1)] < rows_B)
        low_B, high_B = (
            np.where(earlier_B, middle_B + 1, low_B),
            np.where(open_B & ~earlier_B, middle_B, high_B),
        )
    return low_B - start_B


def _distinct(counts_B: Int64s, fanout: int, rng: np.random.Generator) -> Int64s:
    """``fanout`` distinct numbers below each count, every set equally likely: int64 [B, fanout].

    Floyd's algorithm (Bentley & Floyd, A Sample of Brilliance, CACM 1987), for all rows at once.
    """
    chosen = np.empty((len(counts_B), fanout), np.int64)
    for n in range(fanout):
        last_B = counts_B - fanout + n
        number_B = rng.integers(0, last_B + 1)
        taken_B = (chosen[:, :n] == number_B[:, None]).any(axis=1)
        chosen[:, n] = np.where(taken_B, last_B, number_B)
    return chosen


def _chunks(adjacency: Adjacency, newest: int) -> Iterator[Int64s]:
    """Nodes in order, as many at a time as take ``EDGES_AT_ONCE`` messages together; at least one."""
    counts = np.diff(adjacency.offsets)
    load = np.cumsum((np.minimum(counts, newest) if newest else counts) + 1)
    start = 0
    while start < adjacency.num_nodes:
        done = load[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(load, done + EDGES_AT_ONCE, side="right")))
        yield np.arange(start, stop)
        start = stop
