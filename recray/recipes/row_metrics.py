"""How a model of rows is measured: clicks by AUC and the likes, sessions by NDCG."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from recray.batch import RankingBatch
from recray.data.row_source import Part
from recray.data.rows.table import RowTable
from recray.eval.clicks import ClickEvaluation, ClickTally
from recray.eval.evaluate import Evaluation, sums
from recray.eval.sessions import evaluate_sessions
from recray.models.dlrm import DLRM, DLRMConfig
from recray.schema import ProtocolCard
from recray.train.context import Context
from recray.train.loop import Sums

KS = (1, 3, 5, 10)  # of the NDCG of sessions
SCORED_UNITS = 1024  # rows or sessions scored together, where no run says how many


def validation(
    table: RowTable, batches: Callable[[], Iterator[RankingBatch]], context: Context
) -> Callable[[nn.Module], Sums]:
    """This rank's share of the validation metrics; none where no validation part is held out.

    Args:
        batches: this rank's share of every batch of the validation part.
    """
    if not table.num_rows("validation"):
        return lambda _: {}

    def validate(model: nn.Module) -> Sums:
        assert isinstance(model, DLRM)
        if table.schema.sessions:
            return sums(_session_metrics(model, batches(), row_card(table, "validation")))
        tally = ClickTally()
        for batch in batches():
            tally.add(model.score(batch), _clicks(batch.labels_B, model.config))
        # AUC is no mean of the workers' AUCs: it is computed from the points of all, on every worker alike.
        return {name: (value, 1.0) for name, value in _of_all_workers(tally, context).items()}

    return validate


def _of_all_workers(tally: ClickTally, context: Context) -> dict[str, float]:
    if context.world_size == 1:
        return tally.metrics()
    own = tally.points().to(context.device)
    gathered = [torch.empty_like(own) for _ in range(context.world_size)]
    dist.all_gather(gathered, own)
    return ClickTally().metrics(gathered)


def _clicks(labels_B: Tensor, config: DLRMConfig) -> Tensor:
    return (labels_B >= config.positive_grade).to(torch.float32)


def _session_metrics(model: DLRM, batches: Iterator[RankingBatch], card: ProtocolCard) -> Evaluation:
    scores, labels, lengths = [], [], [torch.zeros(1, dtype=torch.int64)]
    for batch in batches:
        assert batch.offsets_S is not None
        scores.append(model.score(batch).cpu())
        labels.append(batch.labels_B.cpu())
        lengths.append(batch.offsets_S.diff().cpu())
    scores_N, grades_N = (torch.cat(parts).double().numpy() for parts in (scores, labels))
    return evaluate_sessions(scores_N, grades_N, torch.cat(lengths).cumsum(0).numpy(), card, KS)


def evaluate_rows(model: DLRM, table: RowTable, part: Part = "test") -> ClickEvaluation | Evaluation:
    """NDCG of each session; where rows stand alone, what is needed for click metrics with intervals."""
    model.eval()
    with torch.no_grad():
        if table.schema.sessions:
            return _session_metrics(model, _whole_part(table, part), row_card(table, part))
        scored = [(model.score(b), _clicks(b.labels_B, model.config)) for b in _whole_part(table, part)]
    logits_N, labels_N = (torch.cat(parts).double().numpy() for parts in zip(*scored, strict=True))
    card = row_card(table, part)
    return ClickEvaluation(card=card, logits_N=logits_N, labels_N=labels_N, units_N=np.arange(len(labels_N)))


def _whole_part(table: RowTable, part: Part) -> Iterator[RankingBatch]:
    for block in table.blocks(part):
        for start in range(0, block.num_units, SCORED_UNITS):
            yield block.slice(start, min(start + SCORED_UNITS, block.num_units)).to_batch()


def row_card(table: RowTable, part: Part) -> ProtocolCard:
    """The protocol of what is measured on a part."""
    threshold = table.manifest.options.get("threshold")
    return ProtocolCard(
        dataset=table.name,
        dataset_hash=table.hash,
        split=table.manifest.split,
        target=part,
        relevance="as labelled" if threshold is None else f"rating>={threshold:g}",
        k_core=0,
        candidates="sessions as recorded" if table.schema.sessions else "rows as recorded",
        seen="kept",
    )
