"""One version of the application, loaded: its bundles, their stages, and the answer they give together.

The parts can be loaded one by one, so that a replica of the spread placement holds only its own.
"""

import logging
import time
from dataclasses import dataclass

from recray.arrays import Float32s, Int64s, UInt8s
from recray.bundles.decoder import read_generative
from recray.bundles.log import read_log
from recray.bundles.ranker import read_candidate_config, read_ranker
from recray.bundles.retriever import read_catalogue, read_item_vectors, read_retriever
from recray.bundles.searcher import Searcher
from recray.bundles.weights import load_model
from recray.config import ConfigError
from recray.features.candidates import COLD, GENERATIVE, RETRIEVER, CandidateConfig, Candidates
from recray.features.log import EVENT_FILE, EventLog
from recray.serve import answers
from recray.serve.catalogue import Catalogue, Query
from recray.serve.clock import StageClock
from recray.serve.generative import is_generative, load_code_vectors, load_generative, load_source
from recray.serve.generator import GeneratorConfig
from recray.serve.requests import RecommendRequest
from recray.serve.stages import Ranking, Reranking, Retrieval, RetrievalStage, Retrieved
from recray.store import Bundle, Reference, Store

log = logging.getLogger(__name__)

TOP_REASONS = 3


@dataclass(frozen=True)
class ServedBundles:
    """The bundles behind one version: a ranker fixes its retriever by digest; or a retriever alone.

    ``generative`` is a decoder that proposes candidates beside the retriever's, chosen by whoever serves.
    """

    retriever: Bundle
    ranker: Bundle | None
    generative: Bundle | None = None

    @property
    def reference(self) -> Reference:
        """The version that a name of the store points at."""
        return (self.ranker or self.retriever).reference

    def versions(self) -> dict[str, answers.Version]:
        bundles = {"retriever": self.retriever, "ranker": self.ranker, "generative": self.generative}
        return {role: answers.version(b.reference) for role, b in bundles.items() if b}

    def verify(self) -> None:
        """Reads every file; raises ``StoreError`` where one was damaged."""
        for bundle in (self.retriever, self.ranker, self.generative):
            if bundle:
                bundle.verify()


def open_served(
    store: Store, application: str, version: int | str = "production", also: str = ""
) -> ServedBundles:
    """The bundles of an application's version, and the production version of a decoder beside it.

    Raises:
        StoreError: there is no such version, or the retriever that it was made for is not in the store.
    """
    bundle = store.open(application, version)
    needed = bundle.manifest.requires.get("retriever")
    generative = store.open(also) if also else None
    if not needed:
        return ServedBundles(bundle, None, generative)
    return ServedBundles(store.resolve(needed), bundle, generative)


def load_catalogue(bundles: ServedBundles) -> Catalogue:
    if is_generative(bundles.retriever):
        files = read_generative(bundles.retriever)
        return Catalogue(files.users, files.items)
    return Catalogue(*read_catalogue(bundles.retriever))


def load_log(bundles: ServedBundles) -> EventLog | None:
    """What known users did: of the ranker, or of a retriever or decoder that answers alone."""
    holder = bundles.ranker or bundles.retriever
    return read_log(holder) if EVENT_FILE in holder.manifest.files else None


def load_retrieval(
    bundles: ServedBundles, event_log: EventLog | None, generator: GeneratorConfig | None = None
) -> RetrievalStage:
    """
    Raises:
        ConfigError: a decoder beside the retriever was trained on another catalogue, or is of no use.
    """
    generator = generator or GeneratorConfig()
    if is_generative(bundles.retriever):
        if bundles.generative:
            raise ConfigError(f"{bundles.retriever.reference} is a decoder: it needs no other one beside it")
        return load_generative(bundles.retriever, event_log, generator)
    config = read_candidate_config(bundles.ranker) if bundles.ranker else CandidateConfig()
    files, also = read_retriever(bundles.retriever), None
    if bundles.generative:
        also = load_source(bundles.generative, files.users, files.items, event_log, generator)
    searcher = Searcher(files, load_model(bundles.retriever))
    return Retrieval(searcher, files.item_counts_I, event_log, config, also)


@dataclass(frozen=True)
class Explanation:
    """Why the items of an answer stand where they stand."""

    feature_names: tuple[str, ...]
    features_KF: Float32s
    contributions_KF: Float32s
    candidates: Candidates


@dataclass(frozen=True)
class Ranked:
    """The K items to show, best first."""

    item_ids_K: Int64s
    scores_K: Float32s
    sources_K: UInt8s
    explanation: Explanation | None


class RankStages:
    """Features, rank and re-rank. Without a ranker the order of retrieval stands."""

    def __init__(self, ranking: Ranking | None, reranking: Reranking) -> None:
        self._ranking, self._reranking = ranking, reranking

    def rank(self, query: Query, candidates: Candidates, explain: bool, clock: StageClock) -> Ranked:
        """Orders candidates; books ``features``, ``rank`` and, where asked, ``explain`` on the clock."""
        scores_K, features_KF = candidates.scores_K, None
        if self._ranking and len(candidates.item_ids_K):
            features_KF = self._ranking.features(query, candidates)
            clock.lap("features")
            scores_K = self._ranking.score(features_KF, candidates.item_ids_K)
        best = self._reranking.order(candidates, scores_K, query.k)
        clock.lap("rank")
        explanation = None
        if explain and self._ranking and features_KF is not None:
            contributions_KF = self._ranking.explain(features_KF[best], candidates.item_ids_K[best])
            names = self._ranking.feature_names
            explanation = Explanation(names, features_KF[best], contributions_KF, candidates)
            clock.lap("explain")
        return Ranked(candidates.item_ids_K[best], scores_K[best], candidates.sources_K[best], explanation)


def load_rank_stages(
    bundles: ServedBundles, event_log: EventLog | None, diversity: float = 0.0
) -> RankStages:
    ranking = None
    if bundles.ranker and event_log:
        ranking = Ranking(event_log, read_ranker(bundles.ranker))
    item_ID = None
    if diversity:
        read = load_code_vectors if is_generative(bundles.retriever) else read_item_vectors
        item_ID = read(bundles.retriever)
    return RankStages(ranking, Reranking(item_ID, diversity))


def answer(
    bundles: ServedBundles,
    catalogue: Catalogue,
    query: Query,
    retrieved: Retrieved,
    ranked: Ranked,
) -> answers.Recommendations:
    """The answer in raw ids, but for its request id and timings."""
    by_vector = "history" if retrieved.fallback == "history" else bundles.retriever.manifest.model
    rows = zip(ranked.item_ids_K.tolist(), ranked.scores_K.tolist(), ranked.sources_K.tolist(), strict=True)
    items: list[answers.Item] = [
        {
            "item_id": catalogue.item_raw_ids[row],
            "title": catalogue.titles[row],
            "score": score,
            "source": _source(source, by_vector),
        }
        for row, score, source in rows
    ]
    result: answers.Recommendations = {
        "items": items,
        "fallback": retrieved.fallback,
        "version": bundles.versions(),
        "request_id": "",
        "request_time": query.time,
        "timings_ms": {},
    }
    if ranked.explanation:
        _explain(result, ranked.explanation, catalogue)
    return result


def _source(mask: int, by_vector: str) -> str:
    """The one source that is shown of those in a mask."""
    if mask & RETRIEVER:
        return by_vector
    if mask & COLD:
        return "cold"
    return "decoder" if mask & GENERATIVE else "popular"


def _explain(result: answers.Recommendations, explanation: Explanation, catalogue: Catalogue) -> None:
    """Adds features and reasons to the items, and what a replay needs."""
    names = explanation.feature_names
    rows = zip(explanation.features_KF.tolist(), explanation.contributions_KF.tolist(), strict=True)
    for item, (values, contributions) in zip(result["items"], rows, strict=True):
        item["features"] = dict(zip(names, values, strict=True))
        strongest = sorted(range(len(values)), key=lambda f: -abs(contributions[f]))[:TOP_REASONS]
        item["why"] = [
            {"feature": names[f], "value": values[f], "contribution": contributions[f]} for f in strongest
        ]
    candidates = explanation.candidates
    result["candidates"] = {
        "item_ids": [catalogue.item_raw_ids[row] for row in candidates.item_ids_K.tolist()],
        "retrieval_scores": candidates.scores_K.tolist(),
        "sources": candidates.sources_K.tolist(),
    }


class Pipeline:
    """A whole version in one process: the fused placement."""

    def __init__(
        self, bundles: ServedBundles, diversity: float = 0.0, generator: GeneratorConfig | None = None
    ) -> None:
        """Loads every stage, after reading all files against their digests.

        Raises:
            ConfigError, DataError: a bundle is damaged or does not fit this code; says which and why.
        """
        started = time.perf_counter()
        bundles.verify()
        event_log = load_log(bundles)
        self.bundles = bundles
        self.catalogue = load_catalogue(bundles)
        self._retrieval = load_retrieval(bundles, event_log, generator)
        self._rank_stages = load_rank_stages(bundles, event_log, diversity)
        # A version that cannot answer is refused here, and the first real request finds warm caches.
        self.recommend(
            RecommendRequest(user_id=self.catalogue.some_user(), history=_some_history(self), explain=True)
        )
        log.info("loaded %s in %.1f s", bundles.reference, time.perf_counter() - started)

    def recommend(self, request: RecommendRequest) -> answers.Recommendations:
        """
        Raises:
            RequestError: the request names items that this version does not know.
        """
        clock = StageClock()
        query = self.catalogue.query(request)
        clock.lap("lookup")
        retrieved = self._retrieval.retrieve(query, clock)
        ranked = self._rank_stages.rank(query, retrieved.candidates, request.explain, clock)
        result = answer(self.bundles, self.catalogue, query, retrieved, ranked)
        clock.lap("answer")
        result["timings_ms"] = clock.stop()
        return result

    def similar(self, item_id: str, k: int) -> answers.SimilarItems:
        """
        Raises:
            RequestError: 404, no such item.
        """
        return similar_answer(
            self.bundles,
            self.catalogue,
            item_id,
            self._retrieval.similar(self.catalogue.item_row(item_id), k),
        )


def _some_history(pipeline: Pipeline) -> list[str | int] | None:
    """An item that a decoder can continue from; other retrievers know their users without."""
    generates = pipeline.bundles.generative or is_generative(pipeline.bundles.retriever)
    return list(pipeline.catalogue.item_raw_ids[:1]) if generates else None


def similar_answer(
    bundles: ServedBundles, catalogue: Catalogue, item_id: str, near: Candidates
) -> answers.SimilarItems:
    """The answer in raw ids, but for its request id."""
    items: list[answers.SimilarItem] = [
        {"item_id": catalogue.item_raw_ids[row], "title": catalogue.titles[row], "score": score}
        for row, score in zip(near.item_ids_K.tolist(), near.scores_K.tolist(), strict=True)
    ]
    return {"item_id": item_id, "items": items, "version": bundles.versions(), "request_id": ""}
