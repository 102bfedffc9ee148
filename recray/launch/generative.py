"""Training a generative retriever, as one call: launch it, measure it on the test part, publish it."""

import logging
from typing import NamedTuple

from recray.eval.evaluate import Evaluation
from recray.launch import launch
from recray.recipes.generative import (
    DecoderRun,
    coded,
    restore_decoder,
    train_decoder,
)
from recray.recipes.generative_publishing import publish_decoder
from recray.recipes.retrieval import evaluate_retriever
from recray.store import Bundle, Store
from recray.train.context import LaunchConfig

log = logging.getLogger(__name__)


class TrainedDecoder(NamedTuple):
    bundle: Bundle
    evaluation: Evaluation


def train_generative(run: DecoderRun, config: LaunchConfig, store: Store) -> TrainedDecoder:
    """Trains a decoder on published semantic ids, measures its best weights and publishes it.

    Raises:
        DataError, StoreError: the data set or its semantic ids are not at hand; before any worker starts.
    """
    data = coded(run, store)
    log.info("%s: %s items as %s", data.prepared.dataset.name, data.ids.num_items, data.bundle.reference)
    done = launch(train_decoder, run, config, f"decoder-{data.prepared.dataset.name}")
    model = restore_decoder(run, done.checkpoint)
    evaluation = evaluate_retriever(model, data.prepared)
    return TrainedDecoder(publish_decoder(run, model, evaluation, store), evaluation)
