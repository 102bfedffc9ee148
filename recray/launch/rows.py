"""Training on rows to rank as one call: launch it, measure its best weights on the test part, publish."""

import logging
from typing import NamedTuple

from recray.data.rows.table import RowTable
from recray.eval.clicks import Clicks
from recray.eval.evaluate import Evaluation
from recray.launch import launch
from recray.recipes.clicks import DLRMRun, evaluate_rows, open_rows, publish_dlrm, restore_dlrm, train_rows
from recray.schema import DataError
from recray.store import Bundle, Store
from recray.train.context import LaunchConfig

log = logging.getLogger(__name__)


def _require_two_labels(table: RowTable) -> None:
    """Raises DataError where a part has no click, or nothing but clicks."""
    for info in table.manifest.parts:
        alike = "not relevant" if info.positives == 0 else "clicks" if info.positives == info.rows else ""
        if alike and not (table.schema.sessions and info.positives):
            raise DataError(
                f"{table.name}: all {info.rows:,} rows of the {info.name} part are {alike}: nothing can be "
                "learnt from them or measured on them; choose another split, or bring more rows"
            )


class TrainedDLRM(NamedTuple):
    bundle: Bundle
    evaluation: Clicks | Evaluation  # both have means() and summary(), with intervals


def train_dlrm(run: DLRMRun, config: LaunchConfig, store: Store) -> TrainedDLRM:
    """Trains a DLRM and publishes the weights that validation liked best.

    Raises:
        DataError: the rows are not prepared and their raw files are not at hand, or a part of them has
            nothing to tell apart; before any worker starts.
    """
    table = open_rows(run.data)
    _require_two_labels(table)
    parts = "/".join(f"{table.num_rows(part):,}" for part in ("train", "validation", "test"))
    log.info("%s: %s; rows: %s", table.name, table.manifest.split, parts)
    done = launch(train_rows, run, config, f"dlrm-{table.name}")
    model = restore_dlrm(run, done.checkpoint)
    evaluation = evaluate_rows(model, table)
    return TrainedDLRM(publish_dlrm(run, model, table, evaluation.means(), store), evaluation)
