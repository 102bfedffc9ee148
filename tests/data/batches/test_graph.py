"""The graph for PyTorch Geometric: what is a message, what is to be predicted, what nodes know."""

import numpy as np
import polars as pl
import pytest
import torch

pytest.importorskip("torch_geometric")

from dataclasses import replace

from recray.data.batches.graph import RATED_BY, RATES, describe, neighbourhoods, user_item_graph
from recray.data.events.split_data import SplitData
from recray.data.events.splits import split_by_name
from tests.data.made import dataset_of

PAIRS = [(u, (u + 3 * n) % 17) for u in range(12) for n in range(8)]  # no pair twice
TIMES_N = 1_600_000_001 + 7 * np.random.default_rng(0).permutation(len(PAIRS))
DATASET = dataset_of([(u, i, int(t)) for (u, i), t in zip(PAIRS, TIMES_N, strict=True)])
DATASET = replace(DATASET, ratings_N=(np.arange(len(DATASET)) % 5 + 1).astype(np.float32))


def pairs(index_2N: torch.Tensor) -> set[tuple[int, int]]:
    return set(map(tuple, index_2N.T.tolist()))


@pytest.mark.parametrize("name", ["leave-one-out", "global-time", "random"])
def test_no_held_out_pair_is_a_message(name: str) -> None:
    split = split_by_name(DATASET, name)
    graph = user_item_graph(SplitData(DATASET, split))
    held_out = pairs(graph[RATES].validation_label_index) | pairs(graph[RATES].test_label_index)
    assert len(held_out) == (split.validation_N | split.test_N).sum()
    assert not held_out & pairs(graph[RATES].edge_index)
    assert not held_out & pairs(graph[RATED_BY].edge_index.flip(0))
    assert pairs(graph[RATES].train_label_index) == pairs(graph[RATES].edge_index)
    assert held_out | pairs(graph[RATES].edge_index) == set(PAIRS)
    for adjacency, flipped in (
        (neighbourhoods(graph).of_users, False),
        (neighbourhoods(graph).of_items, True),
    ):
        receivers = np.repeat(np.arange(adjacency.num_nodes), np.diff(adjacency.offsets))
        found = set(zip(receivers.tolist(), adjacency.senders_N.tolist(), strict=True))
        assert not {(b, a) if flipped else (a, b) for a, b in found} & held_out


@pytest.mark.parametrize("name", ["leave-one-out", "global-time", "random"])
def test_a_held_out_pair_that_repeats_one_of_training_is_not_to_predict(name: str) -> None:
    rng = np.random.default_rng(1)
    drawn_N2 = rng.integers([12, 9], size=(200, 2))  # 108 pairs: most occur more than once
    dataset = dataset_of([(int(u), int(i), 100 * t) for t, (u, i) in enumerate(drawn_N2)])
    split = split_by_name(dataset, name)
    graph = user_item_graph(SplitData(dataset, split))
    told = pairs(graph[RATES].edge_index)
    assert graph[RATES].train_label_index.shape[1] == split.train_N.sum()
    for part, part_N in (("validation", split.validation_N), ("test", split.test_N)):
        found = graph[RATES][f"{part}_label_index"]
        held_out = list(zip(dataset.user_ids_N[part_N], dataset.item_ids_N[part_N], strict=True))
        assert list(map(tuple, found.T.tolist())) == [pair for pair in held_out if pair not in told]
        assert 0 < found.shape[1] < len(held_out)
        assert not pairs(found) & pairs(graph[RATED_BY].edge_index.flip(0))


def test_a_random_split_is_80_10_10() -> None:
    graph = user_item_graph(SplitData(DATASET, split_by_name(DATASET, "random")))
    sizes = [graph[RATES][f"{part}_label_index"].shape[1] for part in ("train", "validation", "test")]
    assert sizes == [77, 9, 10]


def test_edges_carry_rating_and_exact_time_both_ways() -> None:
    split = split_by_name(DATASET, "leave-one-out")
    graph = user_item_graph(SplitData(DATASET, split))
    assert graph.validate()
    assert torch.equal(graph[RATES].edge_index, graph[RATED_BY].edge_index.flip(0))
    assert torch.equal(graph[RATES].edge_attr, graph[RATED_BY].edge_attr)
    ratings_N, times_N = graph[RATES].edge_attr.numpy().T
    np.testing.assert_array_equal(ratings_N, DATASET.ratings_N[split.train_N])
    np.testing.assert_array_equal(times_N.astype(np.int64), DATASET.timestamps_N[split.train_N])


def test_nodes_have_their_side_features_or_seeded_random_ones() -> None:
    genres = [["a"], ["a"], ["b"]] + [["a", "b"]] * 14
    dataset = replace(DATASET, items=DATASET.items.with_columns(pl.Series("genres", genres)))
    split = split_by_name(dataset, "leave-one-out")
    graph = user_item_graph(SplitData(dataset, split))
    x = graph["item"].x
    assert x.shape == (17, 32)
    assert torch.equal(x[0], x[1])
    assert not torch.equal(x[0], x[2])
    torch.testing.assert_close(x[3], (x[0] + x[2]) / 2)
    assert len(graph["user"].x.unique(dim=0)) == 12
    assert torch.equal(user_item_graph(SplitData(dataset, split)).x_dict["user"], graph["user"].x)
    assert not torch.equal(user_item_graph(SplitData(dataset, split), seed=1).x_dict["user"], graph["user"].x)
    assert describe(graph) == "72 messages each way, random features of 12 users, genres features of 17 items"
