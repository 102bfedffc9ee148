"""A published retriever on the data that it was trained on, and what a ranker makes of its candidates."""

from collections.abc import Iterator

import torch
from torch import Tensor

from recray.batch import QueryBatch
from recray.bundles.retriever import RetrieverFiles, read_retriever
from recray.bundles.weights import load_model
from recray.config import ConfigError
from recray.contract import Scorer, VectorRetriever, reads_history
from recray.data.events.log import event_log
from recray.data.events.split_data import SplitData
from recray.features.candidates import (
    CandidateConfig,
    Candidates,
    Searchable,
    by_scores,
    gather,
    popular_first,
)
from recray.features.examples import ranking_query
from recray.features.ranking import compute
from recray.recipes.retriever import as_retriever
from recray.store import Bundle

SCORED_TOGETHER = 512  # queries that the retriever encodes or scores at a time


class TwoStage:
    """A published retriever and the events that features look into; with a ranker, both stages."""

    def __init__(self, bundle: Bundle, data: SplitData, config: CandidateConfig) -> None:
        _require_same_data(bundle, data)
        self.bundle, self.data, self.config = bundle, data, config
        self.files: RetrieverFiles = read_retriever(bundle)
        self.model = as_retriever(load_model(bundle))
        self.log = event_log(data.dataset)
        self._popular_first_I = popular_first(self.files.item_counts_I)

    def candidates(self, queries: QueryBatch) -> list[Candidates]:
        """Each query's candidates, found as a replica finds them."""
        return [
            gather(asked, self._popular_first_I, queries.history.row(b).numpy(), self.config)
            for b, asked in enumerate(self._searchable(queries))
        ]

    def _searchable(self, queries: QueryBatch) -> Iterator[Searchable | None]:
        """Each query, as vector or as scores of all items; None where there is nothing to go by."""
        for start in range(0, len(queries.user_ids_B), SCORED_TOGETHER):
            stop = min(start + SCORED_TOGETHER, len(queries.user_ids_B))
            part = self._as_trained(queries.slice(start, stop))
            needs_history_B = (part.user_ids_B < 0) | reads_history(self.model)
            nothing_B = needs_history_B & (part.history.lengths_B() == 0)
            for asked, nothing in zip(self._asked(part), nothing_B.tolist(), strict=True):
                yield None if nothing else asked

    def _asked(self, queries: QueryBatch) -> list[Searchable]:
        index, item_ID, user_UD = self.files.index, self.files.item_ID, self.files.user_UD
        if index is None or item_ID is None:
            return list(map(by_scores, self.model.score_items(queries).numpy()))
        user_ids_B = queries.user_ids_B.numpy()
        if user_UD is not None and (user_ids_B >= 0).all():
            query_BD = user_UD[user_ids_B]
        else:
            assert isinstance(self.model, VectorRetriever)
            query_BD = self.model.query_vectors(queries).numpy()
        return [
            Searchable(lambda q_BD, k: index.search(q_BD, k).item_ids_BK, q_D, item_ID) for q_D in query_BD
        ]

    def _as_trained(self, queries: QueryBatch) -> QueryBatch:
        """Users of whom the retriever has learnt nothing are unknown to it."""
        user_ids_B = self.files.trained(queries.user_ids_B.numpy())
        return queries._replace(user_ids_B=torch.from_numpy(user_ids_B))

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI of the first stage alone."""
        scores_BI: Tensor = self.model.score_items(self._as_trained(queries))
        return scores_BI

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


def _require_same_data(bundle: Bundle, data: SplitData) -> None:
    card = bundle.manifest.card
    if card is None or (card.dataset_hash, card.split) != (data.dataset.hash, data.split.name):
        trained = (
            "an unknown protocol"
            if card is None
            else f"{card.dataset} ({card.dataset_hash[:8]}), {card.split}"
        )
        raise ConfigError(
            f"{bundle.reference} was trained under {trained}, this run uses {data.dataset.name} "
            f"({data.dataset.hash[:8]}), {data.split.name}: the ranker would learn from what the "
            "retriever was trained on. Give both the same --data"
        )
