"""One version of the application, loaded: its list of stages, and the answer that they give together."""

import logging
import time
from collections.abc import Sequence

import numpy as np

from recray.arrays import Int64s
from recray.config import ConfigError
from recray.features.candidates import COLD, GENERATIVE, RETRIEVER, Candidates
from recray.features.look_ups import LookUps
from recray.serve.clock import StageClock
from recray.serve.events.live import LiveVersion
from recray.serve.http import answers
from recray.serve.http.made import Made, WentBy
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.catalogue import Catalogue
from recray.serve.stages.listed import (
    StagesConfig,
    open_order,
    open_reasons,
    open_retrieval,
    open_stand_in,
    run,
)
from recray.serve.stages.shorten import Shorten
from recray.serve.stages.stand_in import FirstStage
from recray.serve.state import PINNED, Explanation, RequestState
from recray.serve.versions import OpenedVersion, ServedBundles

log = logging.getLogger(__name__)

TOP_REASONS = 3
AS_PUBLISHED = StagesConfig()


def answer(
    bundles: ServedBundles, catalogue: Catalogue, state: RequestState, unknown: answers.Unknown
) -> answers.Recommendations:
    """The answer in raw ids, but for its request id; ends the clock."""
    by_vector = "history" if state.fallback == "history" else bundles.retriever.manifest.model
    shown = (state.item_ids_S, state.scores_K[state.order_S], state.candidates.sources_K[state.order_S])
    rows = zip(*(values_S.tolist() for values_S in shown), strict=True)
    items: list[answers.Item] = [
        {
            "item_id": catalogue.item_raw_ids[row],
            "title": catalogue.titles[row],
            "score": score,
            "source": source_of(source, by_vector),
        }
        for row, score, source in rows
    ]
    result: answers.Recommendations = {
        "items": items,
        "fallback": state.fallback,
        "version": bundles.versions(),
        "request_id": "",
        "request_time": state.query.time,
        "age_s": state.age_s,
        "skipped": [{"stage": one.stage, "reason": one.reason} for one in state.skipped],
        "unknown": unknown,
        "timings_ms": {},
    }
    _add_details(items, state.item_ids_S, catalogue)
    if state.propensities_S is not None:
        for item, chance in zip(items, state.propensities_S.tolist(), strict=True):
            item["propensity"] = chance
    if state.explanation:
        _explain(result, state, state.explanation, catalogue)
    state.clock.lap("answer")
    result["timings_ms"] = state.clock.stop()
    return result


def made_of(
    bundles: ServedBundles, catalogue: Catalogue, state: RequestState, unknown: answers.Unknown
) -> Made:
    """The answer, and how it came about."""
    features_SF = state.features_SF
    went_by = None if features_SF is None else WentBy(state.feature_names, features_SF)
    return Made(answer(bundles, catalogue, state, unknown), state.heard, state.rules, went_by)


def _add_details(
    items: Sequence[answers.Item] | Sequence[answers.SimilarItem], item_ids_S: Int64s, catalogue: Catalogue
) -> None:
    if catalogue.shows_details:
        for item, row in zip(items, item_ids_S.tolist(), strict=True):
            item["details"] = catalogue.details(row)


def source_of(mask: int, by_vector: str) -> str:
    """The one source that is shown of those in a mask."""
    if mask & PINNED:
        return "pinned"
    if mask & RETRIEVER:
        return by_vector
    if mask & COLD:
        return "cold"
    return "decoder" if mask & GENERATIVE else "popular"


def _explain(
    result: answers.Recommendations, state: RequestState, explanation: Explanation, catalogue: Catalogue
) -> None:
    """Adds features and reasons to the items, and what a replay needs."""
    names, candidates = explanation.feature_names, state.candidates
    ranked = [result["items"][place] for place in np.flatnonzero(state.order_S < state.num_ranked)]
    rows = zip(explanation.features_SF.tolist(), explanation.contributions_SF.tolist(), strict=True)
    for item, (values, contributions) in zip(ranked, rows, strict=True):
        item["features"] = dict(zip(names, values, strict=True))
        strongest = sorted(range(len(values)), key=lambda f: -abs(contributions[f]))[:TOP_REASONS]
        item["why"] = [
            {"feature": names[f], "value": values[f], "contribution": contributions[f]} for f in strongest
        ]
    result["candidates"] = {
        "item_ids": [catalogue.item_raw_ids[row] for row in candidates.item_ids_K.tolist()],
        "retrieval_scores": candidates.scores_K.tolist(),
        "sources": candidates.sources_K.tolist(),
    }


class Pipeline:
    """A whole version in one process: the fused placement."""

    def __init__(
        self,
        bundles: ServedBundles,
        config: StagesConfig = AS_PUBLISHED,
        shown: Sequence[str] = (),
        budget_ms: int = 0,
        version: OpenedVersion | None = None,
        live: LiveVersion | None = None,
    ) -> None:
        """Loads every stage.

        Args:
            shown, budget_ms: see ``Catalogue``.
            version: of these bundles, whose files were read against their digests; None: as published.
            live: what it was told since.
        Raises:
            ConfigError, DataError: a bundle is damaged or does not fit this code; says which and why.
        """
        started = time.perf_counter()
        if version is None:
            bundles.verify()
            version = OpenedVersion(bundles)
        self.bundles, self.catalogue = bundles, Catalogue(version, shown, budget_ms)
        self._log = version.event_log
        self._retrieval = open_retrieval(config, version)
        first = FirstStage(self._retrieval, open_stand_in(config, version))
        self._order, self._shorten = (first, *open_order(config, version)), Shorten()
        self._reasons = open_reasons(version)
        self._try(version)
        self.catalogue.live = live
        log.info("loaded %s in %.1f s", bundles.reference, time.perf_counter() - started)

    def _try(self, version: OpenedVersion) -> None:
        """A version that cannot answer is refused here, and the first real request finds warm caches."""
        user, history = self.catalogue.some_user(), _some_history(self, version)
        self.catalogue.lenient = False
        known = self.recommend(
            RecommendRequest(user_id=user, history=history, explain=not version.new_raw_ids)
        )
        stranger = self.recommend(RecommendRequest())
        self.catalogue.lenient = True
        shown = [*known["items"], *stranger["items"]]
        if not shown and not version.barred.now.mask_I.all():
            raise ConfigError(f"{self.bundles.reference} recommends nothing, to users and to strangers")

    @property
    def known_until(self) -> int | None:
        """Unix seconds at which what is known ends; None where nothing is known of events."""
        return self._log.newest if self._log else None

    @property
    def known(self) -> LookUps | None:
        """What users did, as far as this version knows; None: it keeps no log."""
        return self._log

    def recommend(self, request: RecommendRequest) -> answers.Recommendations:
        """
        Raises:
            RequestError: as ``Catalogue.query``.
        """
        return self.made(request).answer

    def made(self, request: RecommendRequest) -> Made:
        """
        Raises:
            RequestError: as ``Catalogue.query``.
        """
        state, unknown = self.ranked(request)
        return self.answered(self.with_reasons(state), unknown)

    def ranked(self, request: RecommendRequest) -> tuple[RequestState, answers.Unknown]:
        """The items to show, and the ids of the request that are not known.

        Raises:
            RequestError: as ``Catalogue.query``.
        """
        clock = StageClock()
        query, unknown = self.catalogue.query(request)
        clock.lap("lookup")
        return self._shorten(run(self._order, RequestState(query, clock))), unknown

    def ordered(self, request: RecommendRequest) -> RequestState:
        """All that could be shown, best first, before it is shortened to what is asked for.

        Raises:
            RequestError: as ``Catalogue.query``.
        """
        query, _ = self.catalogue.query(request)
        return run(self._order, RequestState(query, StageClock()))

    def with_reasons(self, state: RequestState) -> RequestState:
        """Explained, where the request asks for it; safe beside other requests, in another thread."""
        return run(self._reasons, state)

    def answered(self, state: RequestState, unknown: answers.Unknown) -> Made:
        return made_of(self.bundles, self.catalogue, state, unknown)

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


def _some_history(pipeline: Pipeline, version: OpenedVersion) -> list[str | int] | None:
    """An item that a decoder can continue from; other retrievers know their users without."""
    generates = pipeline.bundles.second_source or version.is_generative
    return list(pipeline.catalogue.item_raw_ids[:1]) if generates else None


def similar_answer(
    bundles: ServedBundles, catalogue: Catalogue, item_id: str, near: Candidates
) -> answers.SimilarItems:
    """The answer in raw ids, but for its request id."""
    items: list[answers.SimilarItem] = [
        {"item_id": catalogue.item_raw_ids[row], "title": catalogue.titles[row], "score": score}
        for row, score in zip(near.item_ids_K.tolist(), near.scores_K.tolist(), strict=True)
    ]
    _add_details(items, near.item_ids_K, catalogue)
    return {"item_id": item_id, "items": items, "version": bundles.versions(), "request_id": ""}
