"""A decoder over the catalogue of ``world``, published for real: random weights, beams for all items."""

import numpy as np
import polars as pl
import torch

from recray import models
from recray.batch import Jagged, QueryBatch
from recray.bundles.decoder import GenerativeFiles, write_generative
from recray.config import to_dict
from recray.models.decoder import Decoder, DecoderConfig
from recray.schema import SemanticSchema
from recray.semantic_ids import SemanticIds, disambiguate
from recray.store import Bundle, Store
from tests.serve.world import NOW, NUM_ITEMS, NUM_USERS, World

DECODER = "tiny-decoder"
CONFIG = DecoderConfig(
    dim=16, num_heads=2, encoder_layers=1, decoder_layers=1, feedforward_dim=32, beams=2 * NUM_ITEMS
)


def semantic_ids(seed: int = 0, num_items: int = NUM_ITEMS) -> SemanticIds:
    codes_IL = np.random.default_rng(seed).integers(0, 8, (num_items, 3))
    return disambiguate(codes_IL, (8, 8, 8))


def decoder(ids: SemanticIds, seed: int = 0, config: DecoderConfig = CONFIG) -> Decoder:
    torch.manual_seed(seed)
    schema = SemanticSchema(
        num_users=NUM_USERS, num_items=ids.num_items, code_sizes=ids.sizes, codes_digest=ids.digest
    )
    model = models.build("decoder", config, schema)
    assert isinstance(model, Decoder)
    model.set_semantic_ids(ids)
    return model.eval()


def publish_decoder(
    store: Store,
    world: World,
    seed: int = 0,
    *,
    name: str = DECODER,
    items: pl.DataFrame | None = None,
    map_of_weights: SemanticIds | None = None,
    config: DecoderConfig = CONFIG,
) -> Bundle:
    """Publishes a decoder.

    Args:
        items: another catalogue, cold where it is longer.
        map_of_weights: another one than the map that is written beside the weights.
    """
    items = world.items if items is None else items
    ids = semantic_ids(num_items=len(items))
    model = decoder(map_of_weights or ids, seed, config)
    counts_I = np.pad(world.counts_I, (0, max(0, len(items) - NUM_ITEMS)))[: len(items)]
    files = GenerativeFiles(users=world.users, items=items, item_counts_I=counts_I, codes=ids)
    schema = SemanticSchema(
        num_users=NUM_USERS,
        num_items=ids.num_items,
        code_sizes=ids.sizes,
        codes_digest=(map_of_weights or ids).digest,
    )
    return store.publish(
        name,
        lambda folder: write_generative(folder, model, files),
        model="decoder",
        config=to_dict(config),
        schema=schema,
    )


def exact_scores(user: int, history: list[int], seed: int = 0) -> np.ndarray:
    """scores_I: the log probability of each item after a history; nothing is cut or excluded."""
    ids = semantic_ids()
    model = decoder(ids, seed)
    times_N = torch.full((len(history),), NOW)
    row = Jagged.from_rows([history])
    query = QueryBatch(torch.tensor([user]), row, times_N, torch.tensor([NOW]))
    scores_I: np.ndarray = model.score_items(query)[0].numpy()
    return scores_I
