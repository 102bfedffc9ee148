"""The stages of semantic ids, each as one call: train and publish the RQ-VAE."""

import logging

from recray.config import ConfigError
from recray.launch import launch
from recray.recipes.semantic_ids import RQVAERun, content_of, publish_rqvae, restore, train_rqvae
from recray.store import Bundle, Store
from recray.train.context import LaunchConfig

log = logging.getLogger(__name__)


def train_codebooks(run: RQVAERun, config: LaunchConfig, store: Store) -> Bundle:
    """Trains an RQ-VAE on the items of a data set, measures its codes and publishes it.

    Raises:
        DataError: the data set is not prepared and its raw files are not at hand; before any worker starts.
        TrainingError: a codebook collapsed.
    """
    dataset, content = content_of(run)
    log.info(
        "%s: content of %s of %s items, %d dimensions",
        *(dataset.name, f"{content.covered_I.sum():,}", f"{dataset.num_items:,}", content.schema.content_dim),
    )
    size, items = run.model.quantizer.codebook_size, int(content.covered_I.sum())
    if items < size:
        raise ConfigError(
            f"model.quantizer.codebook_size {size} for {items} items with content: lower it to at most that"
        )
    done = launch(train_rqvae, run, config, f"rqvae-{dataset.name}")
    model, history = restore(run, done.checkpoint)
    return publish_rqvae(run, model, history, store)
