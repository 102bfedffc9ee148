"""The models and batches of the generative benchmark: sizes of a published orientation, lengths of Beauty."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from recray import models
from recray.batch import Jagged, QueryBatch, SequenceBatch
from recray.bundles.decoder import GenerativeFiles, write_generative
from recray.config import to_dict
from recray.models.decoder import Decoder, DecoderConfig
from recray.schema import SemanticSchema
from recray.semantic_ids import SemanticIds, disambiguate
from recray.store import Store

NUM_ITEMS, NUM_USERS, HISTORY, BEAMS = 12_101, 22_363, 20, 10
APPLICATION = "bench-decoder"
# Users of amazon-beauty (5-core) with 3, 4, ... 19 and at least 20 training events, leave-one-out.
LENGTHS = np.arange(3, 21)
USERS_OF_LENGTH = [
    7162,
    4221,
    2680,
    1811,
    1366,
    881,
    695,
    558,
    439,
    361,
    262,
    207,
    213,
    141,
    118,
    112,
    117,
    1019,
]

SHAPES = DecoderConfig(
    dim=384,
    num_heads=6,
    encoder_layers=4,
    decoder_layers=4,
    feedforward_dim=1024,
    max_items=HISTORY,
    encoder="bidirectional",
    softmax="codebook",
    beams=BEAMS,
)
"""The orientation's: T5 style, one target for each pass over a history of 20 items."""


def semantic_ids() -> SemanticIds:
    """Three levels of 256 codes, as uneven as an RQ-VAE's, and the one that tells collisions apart."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(256, 2.0), size=3)
    codes_IL = np.column_stack([rng.choice(256, NUM_ITEMS, p=w) for w in weights])
    return disambiguate(codes_IL, (256, 256, 256))


def decoder(config: DecoderConfig) -> Decoder:
    """Seeded weights that know the codes."""
    ids = semantic_ids()
    torch.manual_seed(0)
    schema = SemanticSchema(
        num_users=NUM_USERS, num_items=NUM_ITEMS, code_sizes=ids.sizes, codes_digest=ids.digest
    )
    model = models.build("decoder", config, schema)
    assert isinstance(model, Decoder)
    model.set_semantic_ids(ids)
    return model.eval()


def queries(count: int, seed: int = 0) -> QueryBatch:
    """Users with a history of 20 items each."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(NUM_ITEMS, HISTORY, replace=False).tolist() for _ in range(count)]
    users = torch.from_numpy(rng.integers(0, NUM_USERS, count))
    times = torch.zeros(count * HISTORY, dtype=torch.int64)
    return QueryBatch(users, Jagged.from_rows(rows), times, times[:count])


def sequences(count: int, every_position: bool, seed: int = 0, length: int = 0) -> SequenceBatch:
    """Rows in order of their length, as training makes them.

    Args:
        every_position: each item but the first is a target; else one per row: an item of a user, after
            what came before it.
        length: history of every row; 0: drawn from Beauty's.
    """
    rng = np.random.default_rng(seed)
    share = np.array(USERS_OF_LENGTH) / sum(USERS_OF_LENGTH)
    if every_position:
        lengths = rng.choice(LENGTHS + 1, count, p=share)  # a window holds up to 20 items and one target more
    else:  # users of n events have n - 1 targets, after 1 ... n - 1 of them
        by_target = share * (LENGTHS - 1)
        lengths = 2 + (
            rng.random(count) * (rng.choice(LENGTHS, count, p=by_target / by_target.sum()) - 1)
        ).astype(int)
    lengths = np.sort(np.full(count, length + 1) if length else lengths)
    rows = [rng.integers(0, NUM_ITEMS, n).tolist() for n in lengths]
    first = torch.ones(count, dtype=torch.int64) if every_position else torch.from_numpy(lengths - 1)
    users = torch.from_numpy(rng.integers(0, NUM_USERS, count))
    items = Jagged.from_rows(rows)
    return SequenceBatch(users, items, torch.arange(len(items.values_N)), first)


def publish(root: Path, config: DecoderConfig) -> None:
    """A decoder bundle in production."""
    ids, model, store = semantic_ids(), decoder(config), Store(root)
    files = GenerativeFiles(
        users=pl.DataFrame({"raw_id": [str(n) for n in range(NUM_USERS)]}),
        items=pl.DataFrame({"raw_id": [f"i{n}" for n in range(NUM_ITEMS)]}),
        item_counts_I=np.ones(NUM_ITEMS, np.int64),
        codes=ids,
    )
    schema = SemanticSchema(
        num_users=NUM_USERS, num_items=NUM_ITEMS, code_sizes=ids.sizes, codes_digest=ids.digest
    )
    store.publish(
        APPLICATION,
        lambda folder: write_generative(folder, model, files),
        model="decoder",
        config=to_dict(config),
        schema=schema,
    )
    store.promote(APPLICATION, 1)
