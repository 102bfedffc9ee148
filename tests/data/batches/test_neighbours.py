"""Neighbour sampling: what is drawn, from where, and what must never be told."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.batch import GraphBatch, Hop
from recray.config import ConfigError
from recray.data.batches import neighbours
from recray.data.batches.neighbours import GraphBatches, Neighbourhoods, WholeGraph, draw
from recray.data.batches.pairs import PairBatches
from recray.data.events.dataset import Dataset
from tests.data.made import dataset_of

Edge = tuple[int, int]


def world(seed: int, rows: int = 90, users: int = 7, items: int = 9) -> Dataset:
    """Interactions at random, repeats among them."""
    rng = np.random.default_rng(seed)
    drawn_2N = rng.integers([[users], [items]], size=(2, rows))
    return dataset_of([(int(u), int(i), 100 * t) for t, (u, i) in enumerate(drawn_2N.T)])


def graph_of(dataset: Dataset) -> Neighbourhoods:
    edges_2N = np.stack([dataset.user_ids_N, dataset.item_ids_N])
    ratings_N = np.arange(len(dataset), dtype=np.float32) % 5
    return Neighbourhoods.of(edges_2N, ratings_N, dataset.timestamps_N, dataset.num_users, dataset.num_items)


def batches_of(dataset: Dataset, size: int = 16, seed: int = 0, **changes: object) -> GraphBatches:
    pairs = PairBatches(dataset, np.ones(len(dataset), bool), size, seed)
    settings: dict[str, Any] = {"fanouts": (3,) if changes.get("causal", True) else (3, 2), **changes}
    return GraphBatches(pairs, graph_of(dataset), **settings)


def heard(batch: GraphBatch) -> list[set[Edge]]:
    """(user, item) of every message, per hop and direction."""
    found = []
    users, items = batch.user_ids_U, batch.item_ids_I
    for hop in batch.hops:
        output_users, output_items = users[hop.users_B], items[hop.items_J]
        sender, receiver = hop.to_users.edges_2N
        found.append(set(zip(output_users[receiver].tolist(), items[sender].tolist(), strict=True)))
        sender, receiver = hop.to_items.edges_2N
        found.append(set(zip(users[sender].tolist(), output_items[receiver].tolist(), strict=True)))
        users, items = output_users, output_items
    assert torch.equal(users, batch.pairs.user_ids_B)
    assert torch.equal(items, batch.pairs.item_ids_B.unique())
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 40),
    workers=st.integers(1, 3),
    newest=st.booleans(),
    causal=st.booleans(),
)
def test_a_batch_hears_edges_of_the_graph_but_never_its_own_pairs(
    seed: int, size: int, workers: int, newest: bool, causal: bool
) -> None:
    dataset = world(seed)
    edges = set(zip(dataset.user_ids_N.tolist(), dataset.item_ids_N.tolist(), strict=True))
    source = batches_of(dataset, size, seed, newest=newest, causal=causal)
    everyone = source.pairs.batch(1, 0)
    asked = set(zip(everyone.user_ids_B.tolist(), everyone.item_ids_B.tolist(), strict=True))
    for rank in range(workers):
        batch = source.batch(1, 0, rank, workers)
        expected = source.pairs.batch(1, 0, rank, workers)
        assert torch.equal(batch.pairs.user_ids_B, expected.user_ids_B)
        assert torch.equal(batch.pairs.item_ids_B, expected.item_ids_B)
        assert (batch.size, batch.total) == (expected.size, expected.total)
        assert all(messages <= edges - asked for messages in heard(batch))


def test_messages_bring_rating_and_age() -> None:
    dataset = world(3)
    graph = graph_of(dataset)
    ratings_N = np.arange(90) % 5
    scaled_N = (ratings_N - ratings_N.mean()) / ratings_N.std()
    for hop in WholeGraph(graph):
        senders, receivers = hop.to_users.edges_2N.tolist()
        for sender, receiver, edge in zip(senders, receivers, hop.to_users.edge_NF.tolist(), strict=True):
            user = int(hop.users_B[receiver])
            rows = np.flatnonzero(dataset.user_ids_N == user)  # oldest first
            same = [n for n in rows if dataset.item_ids_N[n] == sender]
            expected = [
                (scaled_N[n], np.log1p((rows > n).sum()), np.log1p(100 * (rows[-1] - n)) / 10) for n in same
            ]
            assert any(np.allclose(edge, e, atol=1e-5) for e in expected)


def test_the_user_of_a_pair_hears_only_what_came_before() -> None:
    dataset = dataset_of([(0, n, n) for n in range(30)])  # item n at time n
    for newest in (True, False):
        batch = batches_of(dataset, 8, fanouts=(4,), newest=newest).batch(0, 0)
        asked = set(batch.pairs.item_ids_B.tolist())
        hop = batch.hops[0]
        for b, item in enumerate(batch.pairs.item_ids_B.tolist()):
            mine = hop.to_users.edges_2N[1] == b
            found = batch.item_ids_I[hop.to_users.edges_2N[0, mine]].tolist()
            assert all(other < item for other in found)
            if newest:
                assert sorted(found) == sorted(set(range(max(0, item - 4), item)) - asked)
    free = batches_of(dataset, 8, fanouts=(30,), causal=False).batch(0, 0)
    assert free.hops[0].to_users.edges_2N.shape[1] == free.size * (30 - free.size)  # all but the batch's own


def test_batches_are_a_function_of_seed_epoch_step_and_rank() -> None:
    dataset = world(1)

    def edges(seed: int, *position: int) -> list[list[int]]:
        batch = batches_of(dataset, seed=seed, newest=False, causal=False).batch(*position)
        return batch.hops[0].to_users.edges_2N.tolist()

    assert edges(0, 2, 3, 1, 2) == edges(0, 2, 3, 1, 2)
    others = [(1, 2, 3, 1, 2), (0, 3, 3, 1, 2), (0, 2, 2, 1, 2), (0, 2, 3, 0, 2)]
    assert all(edges(*other) != edges(0, 2, 3, 1, 2) for other in others)


@pytest.mark.parametrize("rows", [3_000, 30_000])
def test_memory_is_bounded_by_batch_and_fanouts_whatever_the_graph(rows: int) -> None:
    dataset = world(0, rows=rows, users=50, items=40)  # degrees far above the fanouts
    batch = batches_of(dataset, 8, fanouts=(3, 2), causal=False).batch(0, 0)
    for hop, nodes, fanout in zip(reversed(batch.hops), (8, 8 * (1 + 3)), (3, 2), strict=True):
        for messages in (hop.to_users, hop.to_items):
            assert 0 < messages.edges_2N.shape[1] <= 2 * nodes * fanout
    assert len(batch.user_ids_U) <= 8 * (1 + 3) * (1 + 2)
    assert len(batch.item_ids_I) <= 8 * (1 + 3) * (1 + 2)


def test_a_draw_has_no_repeats_and_takes_all_where_there_are_no_more() -> None:
    adjacency = graph_of(world(5)).of_users
    nodes_B, lengths = np.arange(7), np.diff(adjacency.offsets)
    rng = np.random.default_rng(0)
    counted: Counter[int] = Counter()
    for _ in range(2000):
        drawn = draw(adjacency, nodes_B, 4, rng)
        for b in nodes_B:
            mine = drawn.positions_N[drawn.receiver_N == b].tolist()
            assert len(set(mine)) == len(mine) == min(4, lengths[b])
            assert all(adjacency.offsets[b] <= p < adjacency.offsets[b + 1] for p in mine)
        counted.update(drawn.positions_N.tolist())
    for b in nodes_B:  # each entry as often as any other: within five standard deviations
        expected, share = 2000 * min(4, lengths[b]) / lengths[b], min(4, lengths[b]) / lengths[b]
        spread = 5 * np.sqrt(2000 * share * (1 - share)) + 1e-9
        row = range(adjacency.offsets[b], adjacency.offsets[b + 1])
        assert all(abs(counted[p] - expected) <= spread for p in row)


def test_without_a_generator_a_draw_is_the_newest() -> None:
    adjacency = graph_of(world(5)).of_items
    drawn = draw(adjacency, np.array([2, 0]), 3)
    for b, node in enumerate((2, 0)):
        stop = adjacency.offsets[node + 1]
        assert drawn.positions_N[drawn.receiver_N == b].tolist() == [stop - 1, stop - 2, stop - 3]


@pytest.mark.parametrize("at_once", [1, 30, 10_000])
def test_the_whole_graph_in_parts_is_every_edge_once_each_way(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "EDGES_AT_ONCE", at_once)
    dataset = world(2)
    edges = Counter(zip(dataset.user_ids_N.tolist(), dataset.item_ids_N.tolist(), strict=True))
    to_users: Counter[Edge] = Counter()
    to_items: Counter[Edge] = Counter()
    parts: list[Hop] = list(WholeGraph(graph_of(dataset)))
    for hop in parts:
        (item, user), (sender, receiver) = hop.to_users.edges_2N, hop.to_items.edges_2N
        to_users.update(zip(hop.users_B[user].tolist(), item.tolist(), strict=True))
        to_items.update(zip(sender.tolist(), hop.items_J[receiver].tolist(), strict=True))
    assert to_users == to_items == edges
    assert torch.cat([hop.users_B for hop in parts]).tolist() == list(range(7))
    assert torch.cat([hop.items_J for hop in parts]).tolist() == list(range(9))
    assert max(hop.to_users.edges_2N.shape[1] for hop in parts) <= max(at_once, 90 // 7 * 3)


def test_nonsense_is_refused() -> None:
    dataset = world(0)
    with pytest.raises(
        ConfigError, match=r"fanouts must be numbers of at least 1, one per layer, got \(3, 0\)"
    ):
        batches_of(dataset, fanouts=(3, 0))
    with pytest.raises(
        ConfigError, match=r"with 2 layers the user of a pair hears its future .* model.layers 1"
    ):
        batches_of(dataset, fanouts=(3, 2), causal=True)
    half = PairBatches(dataset, np.arange(90) < 45, 8)
    with pytest.raises(ConfigError, match="45 pairs and 90 edges"):
        GraphBatches(half, graph_of(dataset), fanouts=(2,))
