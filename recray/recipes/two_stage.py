"""A published retriever on the data that it was trained on, and what a ranker makes of its candidates."""

import numpy as np
import torch
from torch import Tensor

from recray.arrays import Int64s
from recray.batch import QueryBatch
from recray.bundles.retriever import read_retriever
from recray.bundles.same_data import require_same_data
from recray.bundles.searcher import Searcher
from recray.bundles.weights import load_model
from recray.contract import Scorer
from recray.data.events.log import event_log
from recray.data.events.split_data import SplitData
from recray.features.candidates import CandidateConfig, Candidates, gather, popular_first
from recray.features.examples import ranking_query
from recray.features.ranking import compute
from recray.store import Bundle

NOTHING = np.empty(0, np.int64)


class TwoStage:
    """A published retriever, as it was measured, and the events that features look into; with a ranker, both
    stages."""

    def __init__(
        self, bundle: Bundle, data: SplitData, config: CandidateConfig, *, same_data: bool = True
    ) -> None:
        """
        Args:
            same_data: it must be what the retriever was trained on; else whoever asks sees to it that it
                knows the ids, and has not learnt what it is asked for.
        Raises:
            ConfigError: it is not.
        """
        if same_data:
            require_same_data(bundle, data.dataset, data.split)
        self.bundle, self.data, self.config = bundle, data, config
        files = read_retriever(bundle.measured)
        self.searcher = Searcher(files, load_model(bundle.measured))
        self.log = event_log(data.dataset)
        self._popular_first_I = popular_first(files.item_counts_I)

    def candidates(self, queries: QueryBatch) -> list[Candidates]:
        """Each query's candidates, found as a replica finds them."""
        return [
            gather(prepared.search, self._popular_first_I, self._removed(queries, b), self.config)
            for b, prepared in enumerate(self.searcher.prepare(queries))
        ]

    def _removed(self, queries: QueryBatch, b: int) -> Int64s:
        """Items that must not come back."""
        return queries.history.row(b).numpy() if self.data.split.seen == "remove" else NOTHING

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI of the first stage alone."""
        return self.searcher.score_items(queries)

    def ranked_by(self, ranker: Scorer, queries: QueryBatch) -> Tensor:
        """scores_BI: candidates by the ranker's score, then all other items by the retriever's."""
        scores_BI = self.score_items(queries).clone()
        floor_B = scores_BI.amax(dim=1) + 1.0
        for b, candidates in enumerate(self.candidates(queries)):
            features_KF = compute(self.log, ranking_query(queries, b, candidates), ranker.feature_names)
            scores_K = ranker.score(features_KF, candidates.item_ids_K)
            above_K = torch.from_numpy(scores_K - scores_K.min()) + floor_B[b]
            scores_BI[b, torch.from_numpy(candidates.item_ids_K)] = above_K
        return scores_BI
