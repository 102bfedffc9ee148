"""The ranking stage as a network: a DLRM over the same examples that trees are grown from."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from recray import checkpoint
from recray.data.row_batches import MemoryRows
from recray.data.row_block import RowBlock
from recray.eval.sessions import session_ndcg
from recray.features.examples import Floats, load_examples
from recray.features.ranking import FEATURE_NAMES
from recray.models.dlrm import DLRM
from recray.models.dlrm_ranker import ITEM, DLRMRanker, ranker_schema
from recray.ops.embedding_bags import Placement
from recray.recipes.ranking import HOLDOUT, TRAIN, RankerTask
from recray.train.context import Context
from recray.train.loop import Sums, fit


def train_network(task: RankerTask, context: Context) -> None:
    """Trains on the training queries and validates, by NDCG@10, on those of the users held out."""
    run, train = task.run, _rows(task, TRAIN)
    model = _new_model(task, Placement(context.rank, context.world_size, context.device))
    model.set_dense_stats(*map(torch.from_numpy, _dense_stats(train.dense_NF)))
    held_out = _share(_rows(task, HOLDOUT), context)
    batch, grades_N = held_out.to_batch().to(context.device), held_out.labels_N.astype(np.float64)

    def validate(model: Any) -> Sums:
        assert held_out.offsets_S is not None
        scores_N = model.score(batch).double().cpu().numpy()
        ndcg_S = session_ndcg(scores_N, grades_N, held_out.offsets_S, (10,))["ndcg@10"]
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
    model = _new_model(task, Placement())
    checkpoint.load_model(folder, model)
    typical_F = _dense_stats(_rows(task, TRAIN).dense_NF).mean
    return DLRMRanker(model, task.run.dlrm, ranker_schema(FEATURE_NAMES, task.num_items), typical_F)


class _DenseStats(NamedTuple):
    """Of each feature, missing values left out; 0 where it is always missing."""

    low: Floats
    high: Floats
    mean: Floats
    std: Floats


def _dense_stats(dense_NF: Floats) -> _DenseStats:
    known_F = np.maximum((~np.isnan(dense_NF)).sum(axis=0), 1)
    mean_F = np.nansum(dense_NF, axis=0, dtype=np.float64) / known_F
    std_F = np.sqrt(np.nansum((dense_NF - mean_F) ** 2, axis=0) / known_F)
    low_F, high_F = (f.reduce(dense_NF, axis=0) for f in (np.fmin, np.fmax))  # these pass NaN by
    return _DenseStats(*(np.nan_to_num(v).astype(np.float32) for v in (low_F, high_F, mean_F, std_F)))


def _new_model(task: RankerTask, placement: Placement) -> DLRM:
    schema = ranker_schema(FEATURE_NAMES, task.num_items)
    return DLRM(task.run.dlrm, schema, placement, seed=task.run.seed)


def _rows(task: RankerTask, file: str) -> RowBlock:
    """All examples of a file, a query's rows a session."""
    examples = load_examples(task.folder / file)
    starts = np.flatnonzero(np.diff(examples.query_ids_N, prepend=-1))
    ids = {ITEM: (examples.item_ids_N + 1).astype(np.int32)}
    offsets_S = np.append(starts, len(examples.labels_N)).astype(np.int64)
    schema = ranker_schema(FEATURE_NAMES, task.num_items)
    return RowBlock(schema, examples.features_NF, ids, examples.labels_N, offsets_S)


def _share(rows: RowBlock, context: Context) -> RowBlock:
    """This worker's sessions."""
    bounds = (rows.num_units * r // context.world_size for r in (context.rank, context.rank + 1))
    return rows.slice(*bounds)
