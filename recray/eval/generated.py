"""Generated lists as scores, so that a generative retriever is measured like any other.

Credit goes to items, never to prefixes of their semantic ids: what was not generated scores last. Items
that share a semantic id share its score, and ties share credit by ``metrics``' rule.
"""

from typing import Literal

import torch
from torch import Tensor

from recray.batch import QueryBatch
from recray.contract import Generative, Retriever

NOT_GENERATED = -1e9  # below every log probability, above the -inf of what may not be recommended


class GeneratedScores:
    """``score_items`` of a generative retriever, over its ``k`` best items.

    Ranks beyond ``k`` are unknown: metrics of lists up to it are right, an area under the whole ranking
    (AUC) means nothing. Counts the answers that are certainly the best ones.

    Args:
        k: the longest list that is measured; beams are the model's own, at least ``k``.
        seen: whether items of the history may come out.
    """

    def __init__(self, model: Generative, num_items: int, k: int, seen: Literal["remove", "keep"]) -> None:
        self._model, self._num_items, self._k = model, num_items, min(k, num_items)
        self._removes_seen = seen == "remove"
        self._exact, self._queries = 0, 0

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI, ``NOT_GENERATED`` but for the generated items."""
        exclude = queries.history if self._removes_seen else None
        found = self._model.generate(queries, self._k, exclude=exclude)
        self._exact += int(found.exact_B.sum())
        self._queries += len(found.exact_B)
        # One more column takes what is not there.
        scores_BI = found.scores_BK.new_full((len(found.scores_BK), self._num_items + 1), NOT_GENERATED)
        ids_BK = torch.where(found.item_ids_BK < 0, self._num_items, found.item_ids_BK)
        return scores_BI.scatter_(1, ids_BK, found.scores_BK.clamp(min=NOT_GENERATED))[:, :-1]

    def exact_share(self) -> float:
        """Share of answers that no item could have scored higher than."""
        return self._exact / max(1, self._queries)


def measurable(model: Retriever, num_items: int, k: int, seen: Literal["remove", "keep"]) -> Retriever:
    """The model, or its generated lists where scoring all items would be far slower than generating."""
    return GeneratedScores(model, num_items, k, seen) if isinstance(model, Generative) else model
