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
from recray.serve.clock import StageClock
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.catalogue import Catalogue
from recray.serve.query import Query
from recray.serve.stages.listed import StagesConfig, open_ranking, open_retrieval, run
from recray.serve.state import RequestState
from recray.serve.versions import OpenedVersion, open_served
from recray.store import Store

app = FastAPI()


class Ask(BaseModel):
    user_id: str
    k: int = 10
    request_time: int | None = None


def opened(root: str) -> OpenedVersion:
    return OpenedVersion(open_served(Store(Path(root)), APPLICATION))


@serve.deployment
class Retriever:
    def __init__(self, root: str) -> None:
        self.retrieval = open_retrieval(StagesConfig(), opened(root))

    def __call__(self, query: Query) -> RequestState:
        return self.retrieval(RequestState(query, StageClock()))


@serve.deployment
class Ranker:
    def __init__(self, root: str) -> None:
        self.stages = open_ranking(StagesConfig(), opened(root))

    def __call__(self, state: RequestState) -> list[tuple[int, float]]:
        state = run(self.stages, state)
        return list(zip(state.item_ids_S.tolist(), state.scores_K[state.order_S].tolist(), strict=True))


@serve.deployment
@serve.ingress(app)
class Ingress:
    def __init__(self, root: str, retriever: DeploymentHandle, ranker: DeploymentHandle) -> None:
        self.retriever, self.ranker = retriever, ranker
        self.catalogue = Catalogue(opened(root))

    @app.post("/recommend")
    async def recommend(self, ask: Ask) -> dict[str, Any]:
        query = self.catalogue.query(RecommendRequest(**ask.model_dump())).query
        ranked = await self.ranker.remote(await self.retriever.remote(query))
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
