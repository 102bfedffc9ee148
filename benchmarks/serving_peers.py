"""The three servers of the serving benchmark, each in a process (and a Ray session) of its own.

``python -m benchmarks.serving_peers fused|naive|bare STORE PORT`` serves until its standard input ends,
and prints ``ready`` when it answers.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks.serving_world import APPLICATION
from recray.store import Store

RAY_CPUS = 8  # logical: the naive graph asks for three with Serve's defaults


def serve_fused(root: Path, port: int) -> None:
    """This application: every stage in one replica behind HAProxy."""
    from recray.serve.haproxy import use_haproxy

    if not use_haproxy(drain_s=1.0):
        raise SystemExit("the fused setting needs HAProxy ingress: install ray[haproxy]")
    import ray

    from recray.serve.deployments import start, stop
    from recray.serve.service import ServiceConfig

    ray.init(num_cpus=RAY_CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    start(ServiceConfig(application=APPLICATION, store=str(root)), port=port)
    _wait()
    stop()
    ray.shutdown()


def serve_naive(root: Path, port: int) -> None:
    """The graph that a first-time user writes: three deployments with Serve's defaults."""
    import ray
    from fastapi import FastAPI
    from pydantic import BaseModel
    from ray import serve

    from recray.features.candidates import Candidates
    from recray.serve.catalogue import Query
    from recray.serve.clock import StageClock
    from recray.serve.pipeline import load_catalogue, load_log, load_rank_stages, load_retrieval, open_served
    from recray.serve.requests import RecommendRequest

    app = FastAPI()

    class Ask(BaseModel):
        user_id: str
        k: int = 10
        request_time: int | None = None

    @serve.deployment
    class Retriever:
        def __init__(self) -> None:
            bundles = open_served(Store(root), APPLICATION)
            self.retrieval = load_retrieval(bundles, load_log(bundles))

        def __call__(self, query: Query) -> Candidates:
            return self.retrieval.retrieve(query, StageClock()).candidates

    @serve.deployment
    class Ranker:
        def __init__(self) -> None:
            bundles = open_served(Store(root), APPLICATION)
            self.stages = load_rank_stages(bundles, load_log(bundles))

        def __call__(self, query: Query, candidates: Candidates) -> list[tuple[int, float]]:
            ranked = self.stages.rank(query, candidates, False, StageClock())
            return list(zip(ranked.item_ids_K.tolist(), ranked.scores_K.tolist(), strict=True))

    @serve.deployment
    @serve.ingress(app)
    class Ingress:
        def __init__(self, retriever: Any, ranker: Any) -> None:
            self.retriever, self.ranker = retriever, ranker
            self.catalogue = load_catalogue(open_served(Store(root), APPLICATION))

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

    ray.init(num_cpus=RAY_CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Ingress.bind(Retriever.bind(), Ranker.bind()))
    _wait()
    serve.shutdown()
    ray.shutdown()


def serve_bare(root: Path, port: int) -> None:
    """No Ray: one uvicorn process, a hand-written handler, the same pipeline."""
    import threading

    import pydantic_core
    import uvicorn
    from fastapi import FastAPI, Request, Response

    from recray.ops.ann import set_num_threads
    from recray.serve.pipeline import Pipeline, open_served
    from recray.serve.requests import parse

    set_num_threads(1)
    pipeline = Pipeline(open_served(Store(root), APPLICATION))
    app = FastAPI()

    @app.post("/recommend")
    async def recommend(request: Request) -> Response:
        answer = pipeline.recommend(parse(await request.body()))
        return Response(pydantic_core.to_json(answer), media_type="application/json")

    config = uvicorn.Config(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")
    server = uvicorn.Server(config)

    def follow_stdin() -> None:
        _wait()
        server.should_exit = True

    threading.Thread(target=follow_stdin, daemon=True).start()
    server.run()


PEERS = {"fused": serve_fused, "naive": serve_naive, "bare": serve_bare}


def _wait() -> None:
    """Says that the server is up, and returns when the parent has closed our input."""
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    PEERS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
