"""A tiny world whose answer is known: even users like even items, odd users like odd items."""

import numpy as np
import torch

from recray.batch import GraphBatch, Jagged, PairBatch, Pool, QueryBatch, SequenceBatch
from recray.data.batches.neighbours import GraphBatches, Neighbourhoods
from recray.data.batches.pairs import PairBatches
from recray.data.events.dataset import Dataset
from recray.schema import FeatureSchema, SemanticSchema
from recray.semantic_ids import disambiguate
from tests.data.made import dataset_of

NUM_USERS, NUM_ITEMS = 20, 10
SCHEMA = FeatureSchema(num_users=NUM_USERS, num_items=NUM_ITEMS)


def planted_pairs(size: int, seed: int) -> PairBatch:
    generator = torch.Generator().manual_seed(seed)
    users_B = torch.randint(NUM_USERS, (size,), generator=generator)
    items_B = 2 * torch.randint(NUM_ITEMS // 2, (size,), generator=generator) + users_B % 2
    negatives_BK = (
        2 * torch.randint(NUM_ITEMS // 2, (size, 4), generator=generator) + 1 - users_B[:, None] % 2
    )
    return PairBatch(users_B, items_B, torch.full((size,), -2.3), negative_ids_BK=negatives_BK)


def planted_history() -> tuple[torch.Tensor, torch.Tensor]:
    """Every user with every item of its parity, as (user_ids_N, item_ids_N)."""
    pairs = [(u, i) for u in range(NUM_USERS) for i in range(NUM_ITEMS) if u % 2 == i % 2]
    users_N, items_N = torch.tensor(pairs).T
    return users_N, items_N


def planted_queries(user_ids: list[int], history_length: int = 2) -> QueryBatch:
    """Each user, having seen the first items of its parity; an id of -1 is an unknown, even user."""
    rows = [[2 * n + abs(u) % 2 if u >= 0 else 2 * n for n in range(history_length)] for u in user_ids]
    history = Jagged.from_rows(rows)
    times_N = torch.arange(history_length).repeat(len(user_ids))
    return QueryBatch(torch.tensor(user_ids), history, times_N, torch.full((len(user_ids),), 1_000))


SEMANTIC_IDS = disambiguate(np.array([[i % 2, i // 4] for i in range(NUM_ITEMS)]), (2, 3))
SEMANTIC_SCHEMA = SemanticSchema(
    num_users=NUM_USERS,
    num_items=NUM_ITEMS,
    code_sizes=SEMANTIC_IDS.sizes,
    codes_digest=SEMANTIC_IDS.digest,
)


def planted_sequences(size: int, seed: int) -> SequenceBatch:
    """Users walking through the items of their parity, one to four steps."""
    generator = np.random.default_rng(seed)
    users_B = generator.integers(NUM_USERS, size=size)
    lengths_B = np.sort(generator.integers(2, 6, size=size))
    rows = [
        [2 * int(i) + int(u) % 2 for i in generator.integers(NUM_ITEMS // 2, size=length)]
        for u, length in zip(users_B, lengths_B, strict=True)
    ]
    items = Jagged.from_rows(rows)
    times_N = 60 * torch.arange(len(items.values_N))
    return SequenceBatch(torch.from_numpy(users_B), items, times_N, torch.ones(size, dtype=torch.int64))


def _planted_edges() -> Dataset:
    users_N, items_N = (ids_N.tolist() for ids_N in planted_history())
    return dataset_of([(u, i, 60 * n) for n, (u, i) in enumerate(zip(users_N, items_N, strict=True))])


def planted_graph(num_items: int = NUM_ITEMS) -> Neighbourhoods:
    """Every user with every item of its parity; items beyond NUM_ITEMS have nobody."""
    edges = _planted_edges()
    edges_2N = np.stack([edges.user_ids_N, edges.item_ids_N])
    return Neighbourhoods.of(edges_2N, edges.ratings_N, edges.timestamps_N, NUM_USERS, num_items)


def planted_surroundings(size: int, seed: int) -> GraphBatch:
    """Pairs of that graph, and what surrounds them in it."""
    edges = _planted_edges()
    pairs = PairBatches(edges, np.ones(len(edges), dtype=bool), size, seed)
    return GraphBatches(pairs, planted_graph(), fanouts=(4,), causal=False).batch(0, 0)


class PlantedBatches:
    """A ``BatchSource``: position in, batch out."""

    def __init__(self, steps: int = 10, batch_size: int = 64) -> None:
        self.steps, self.batch_size = steps, batch_size

    def num_steps(self) -> int:
        return self.steps

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> PairBatch:
        whole = planted_pairs(self.batch_size, seed=1_000 * epoch + step)
        start = len(whole.user_ids_B) * rank // world_size
        stop = len(whole.user_ids_B) * (rank + 1) // world_size
        if world_size == 1:
            return whole
        return PairBatch(
            whole.user_ids_B[start:stop],
            whole.item_ids_B[start:stop],
            whole.item_logq_B[start:stop],
            total=whole.size,
            pool=Pool(whole.item_ids_B, whole.item_logq_B, start),
        )
