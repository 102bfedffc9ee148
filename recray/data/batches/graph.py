"""The interactions of a data set as a graph of users and items, in PyTorch Geometric's terms.

Messages travel over the training interactions only, in both directions; what is to be predicted stands
beside them, part by part, and is never a message. Any PyTorch Geometric model can take it from here;
recray's own training draws neighbours from the same edges (``neighbourhoods``).
"""

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from recray.arrays import Bools
from recray.data.batches.neighbours import Neighbourhoods, pairs_to_predict
from recray.data.events.split_data import SplitData
from recray.schema import Feature

RATES, RATED_BY = ("user", "rates", "item"), ("item", "rated_by", "user")
NODE_FEATURES = 32  # width of x


def user_item_graph(data: SplitData, *, seed: int = 0) -> HeteroData:
    """The graph of a split.

    Node types ``user`` and ``item``: ``x`` float32 [nodes, 32] and ``features``, what it was made of. Side
    features are projected at random, by the seed; nodes without any get random ones.

    Edge types ``("user", "rates", "item")`` and its reverse ``("item", "rated_by", "user")``: the training
    interactions in order of time, ``edge_index`` int64 [2, N], ``edge_attr`` float64 [N, 2]: rating, and
    time in unix seconds, which float32 could not hold.

    The first of them also has ``train_label_index``, ``validation_label_index`` and ``test_label_index``,
    int64 [2, n]: the pairs to predict in each part; held-out ones that repeat a training pair are not among
    them (``pairs_to_predict``).
    """
    graph = HeteroData()
    dataset, split = data.dataset, data.split
    schema, tables = data.side
    generator = torch.Generator().manual_seed(seed)
    sides = (
        ("user", dataset.num_users, schema.user, tables.user),
        ("item", dataset.num_items, schema.item, tables.item),
    )
    for kind, num_nodes, features, values in sides:
        graph[kind].x = _node_features(num_nodes, features, values, generator)
        graph[kind].features = ", ".join(f.name for f in features) or "random"

    def pairs(part_N: Bools) -> Tensor:
        return torch.from_numpy(pairs_to_predict(dataset, split, part_N))

    edges_2N = pairs(split.train_N)
    ratings_N, times_N = dataset.ratings_N[split.train_N], dataset.timestamps_N[split.train_N]
    attributes = torch.from_numpy(np.stack([ratings_N.astype(np.float64), times_N], axis=1))
    for kinds, index_2N in ((RATES, edges_2N), (RATED_BY, edges_2N.flip(0))):
        graph[kinds].edge_index, graph[kinds].edge_attr = index_2N, attributes
    graph[RATES].train_label_index = edges_2N
    graph[RATES].validation_label_index = pairs(split.validation_N)
    graph[RATES].test_label_index = pairs(split.test_N)
    return graph


def neighbourhoods(graph: HeteroData) -> Neighbourhoods:
    """The graph's messages by receiver, from which batches draw."""
    edges_2N = graph[RATES].edge_index.numpy()
    ratings_N, times_N = graph[RATES].edge_attr.numpy().T
    sizes = graph["user"].num_nodes, graph["item"].num_nodes
    return Neighbourhoods.of(edges_2N, ratings_N.astype(np.float32), times_N.astype(np.int64), *sizes)


def describe(graph: HeteroData) -> str:
    """One line for the notes of a run."""
    kinds = (
        f"{graph[kind].features} features of {graph[kind].num_nodes} {kind}s" for kind in ("user", "item")
    )
    return f"{graph[RATES].edge_index.shape[1]} messages each way, " + ", ".join(kinds)


def _node_features(
    num_nodes: int, features: tuple[Feature, ...], values: dict[str, Tensor], generator: torch.Generator
) -> Tensor:
    """Every label is a random vector, a node the mean of its labels', summed over features."""
    if not features:
        return torch.randn(num_nodes, NODE_FEATURES, generator=generator)
    x = torch.zeros(num_nodes, NODE_FEATURES)
    for feature in features:
        rows = values[feature.name]
        if feature.kind == "dense":
            x += rows @ torch.randn(feature.width, NODE_FEATURES, generator=generator)
            continue
        table = torch.randn(feature.size, NODE_FEATURES, generator=generator)
        x += torch.nn.functional.embedding_bag(rows, table, mode="mean", padding_idx=0)
    return x
