"""Training on rows to rank as one call: launch it, measure its best weights on the test part, publish."""

import logging
from typing import NamedTuple

from recray.eval.clicks import Clicks
from recray.eval.evaluate import Evaluation
from recray.launch import launch
from recray.recipes.clicks import DLRMRun, evaluate_rows, open_rows, publish_dlrm, restore_dlrm, train_rows
from recray.store import Bundle, Store
from recray.train.context import LaunchConfig

log = logging.getLogger(__name__)


class TrainedDLRM(NamedTuple):
    bundle: Bundle
    evaluation: Clicks | Evaluation  # both have means() and summary(), with intervals


def train_dlrm(run: DLRMRun, config: LaunchConfig, store: Store) -> TrainedDLRM:
    """Trains a DLRM and publishes the weights that validation liked best.

    Raises:
        DataError: the rows are not prepared and their raw files are not at hand; before any worker starts.
    """
    table = open_rows(run.data)
    parts = "/".join(f"{table.num_rows(part):,}" for part in ("train", "validation", "test"))
    log.info("%s: %s; rows: %s", table.name, table.manifest.split, parts)
    done = launch(train_rows, run, config, f"dlrm-{table.name}")
    model = restore_dlrm(run, done.checkpoint)
    evaluation = evaluate_rows(model, table)
    return TrainedDLRM(publish_dlrm(run, model, table, evaluation.means(), store), evaluation)
