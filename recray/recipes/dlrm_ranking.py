"""The ranking stage as a network: a DLRM over the same examples that trees are grown from."""

from pathlib import Path
from typing import Any

import numpy as np

from recray import checkpoint
from recray.data.batches.rows import MemoryRows
from recray.data.row_block import RowBlock
from recray.data.rows.tally import PartTally
from recray.eval.sessions import session_ndcg
from recray.features.examples import load_examples
from recray.features.ranking import chosen
from recray.models.dlrm import DLRM
from recray.models.dlrm_ranker import ITEM, DLRMRanker, ranker_schema
from recray.ops.embedding_bags import Placement
from recray.recipes.clicks import set_dense_stats
from recray.recipes.ranking import HOLDOUT, TRAIN, RankerTask
from recray.schema import RowSchema
from recray.train.context import Context
from recray.train.loop import Sums, fit


def train_network(task: RankerTask, context: Context) -> None:
    """Trains on the training queries and validates, by NDCG@10, on those of the users held out."""
    run, train = task.run, _rows(task, TRAIN)
    model = _new_model(task, train.schema, Placement(context.rank, context.world_size, context.device))
    tally = PartTally(len(train.schema.dense))
    tally.add(train)
    set_dense_stats(model, tally.dense_stats(train.schema))
    held_out = _rows(task, HOLDOUT)
    all_at_once = MemoryRows(held_out, held_out.num_units, shuffle=False)
    batch = all_at_once.batch(0, 0, context.rank, context.world_size)
    assert batch.offsets_S is not None
    grades_N, offsets_S, batch = (
        batch.labels_B.double().numpy(),
        batch.offsets_S.numpy(),
        batch.to(context.device),
    )

    def validate(model: Any) -> Sums:
        scores_N = model.score(batch).double().cpu().numpy()
        ndcg_S = session_ndcg(scores_N, grades_N, offsets_S, (10,))["ndcg@10"]
        return {"ndcg@10": (float(np.nansum(ndcg_S)), float((~np.isnan(ndcg_S)).sum()))}

    fit(
        model,
        MemoryRows(train, run.loop.batch_size, run.seed),
        validate,
        config=run.loop,
        optim=run.optim,
        context=context,
        seed=run.seed,
    )


def restore(task: RankerTask, folder: Path) -> DLRMRanker:
    """The ranker with the best weights of a run's checkpoint."""
    schema = ranker_schema(chosen(task.run.features), task.num_items)
    model = _new_model(task, schema, Placement())
    checkpoint.load_model(folder, model)
    return DLRMRanker(model, task.run.dlrm, schema)


def _new_model(task: RankerTask, schema: RowSchema, placement: Placement) -> DLRM:
    return DLRM(task.run.dlrm, schema, placement, seed=task.run.seed)


def _rows(task: RankerTask, file: str) -> RowBlock:
    """All examples of a file, a query's rows a session."""
    examples = load_examples(task.folder / file)
    starts = np.flatnonzero(np.diff(examples.query_ids_N, prepend=-1))
    ids = {ITEM: (examples.item_ids_N + 1).astype(np.int32)}
    offsets_S = np.append(starts, len(examples.labels_N)).astype(np.int64)
    schema = ranker_schema(examples.feature_names, task.num_items)
    return RowBlock(schema, examples.features_NF, ids, examples.labels_N, offsets_S)
