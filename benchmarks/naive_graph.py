"""The peer of the serving benchmark: what a first-time user of Ray Serve writes from its tutorial.

One deployment per stage, composed by handles, everything at its default. The stages themselves are
recray's own, so that only the placement differs.
"""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.serving_world import APPLICATION
from recray.features.candidates import Candidates
from recray.serve.catalogue import Query
from recray.serve.clock import StageClock
from recray.serve.pipeline import (
    ServedBundles,
    load_catalogue,
    load_log,
    load_rank_stages,
    load_retrieval,
    open_served,
)
from recray.serve.requests import RecommendRequest
from recray.store import Store

app = FastAPI()


class Ask(BaseModel):
    user_id: str
    k: int = 10
    request_time: int | None = None


def opened(root: str) -> ServedBundles:
    return open_served(Store(Path(root)), APPLICATION)


@serve.deployment
class Retriever:
    def __init__(self, root: str) -> None:
        self.retrieval = load_retrieval(opened(root), load_log(opened(root)))

    def __call__(self, query: Query) -> Candidates:
        return self.retrieval.retrieve(query, StageClock()).candidates


@serve.deployment
class Ranker:
    def __init__(self, root: str) -> None:
        self.stages = load_rank_stages(opened(root), load_log(opened(root)))

    def __call__(self, query: Query, candidates: Candidates) -> list[tuple[int, float]]:
        ranked = self.stages.rank(query, candidates, False, StageClock())
        return list(zip(ranked.item_ids_K.tolist(), ranked.scores_K.tolist(), strict=True))


@serve.deployment
@serve.ingress(app)
class Ingress:
    def __init__(self, root: str, retriever: DeploymentHandle, ranker: DeploymentHandle) -> None:
        self.retriever, self.ranker = retriever, ranker
        self.catalogue = load_catalogue(opened(root))

    @app.post("/recommend")
    async def recommend(self, ask: Ask) -> dict[str, Any]:
        query = self.catalogue.query(RecommendRequest(**ask.model_dump()))
        candidates = await self.retriever.remote(query)
        ranked = await self.ranker.remote(query, candidates)
        return {
            "items": [
                {
                    "item_id": self.catalogue.item_raw_ids[row],
                    "title": self.catalogue.titles[row],
                    "score": score,
                }
                for row, score in ranked
            ]
        }


def build(root: str) -> serve.Application:
    ingress: Any = Ingress
    retriever: Any = Retriever
    ranker: Any = Ranker
    return ingress.bind(root, retriever.bind(root), ranker.bind(root))
