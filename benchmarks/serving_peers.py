"""The servers of the serving benchmark, each in a process (and a Ray session) of its own.

``python -m benchmarks.serving_peers PEER STORE PORT``, one of ``PEERS``, serves until its
standard input ends, and prints ``ready`` when it answers.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.serving_world import APPLICATION
from recray.store import Store

if TYPE_CHECKING:
    from recray.serve.rules.listed import Rules

RAY_CPUS = 8  # logical: the naive graph asks for three with Serve's defaults


def rules() -> "Rules":
    """Business rules that act on every list."""
    from recray.serve.rules.explore import ExploreConfig
    from recray.serve.rules.listed import Rules
    from recray.serve.rules.per_category import PerCategoryConfig

    return Rules(per_category=PerCategoryConfig(at_most=3), explore=ExploreConfig(policy="epsilon", seed=0))


def serve_ruled(root: Path, port: int) -> None:
    """This application under rules; what its store says of experiments it does."""
    serve_fused(root, port, rules())


def serve_bare_ruled(root: Path, port: int) -> None:
    """The bare process with the same rules."""
    serve_bare(root, port, rules())


def serve_unrecorded(root: Path, port: int) -> None:
    """This application, which takes nothing down."""
    serve_fused(root, port, record=False)


def serve_fused(root: Path, port: int, rules: "Rules | None" = None, *, record: bool = True) -> None:
    """This application: every stage in one replica behind HAProxy."""
    from recray.serve.http.haproxy import use_haproxy

    if not use_haproxy(drain_s=1.0):
        raise SystemExit("the fused setting needs HAProxy ingress: install ray[haproxy]")
    import ray

    from recray.serve.place.config import ServiceConfig
    from recray.serve.place.deployments import start, stop
    from recray.serve.rules.listed import Rules

    ray.init(num_cpus=RAY_CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    config = ServiceConfig(application=APPLICATION, store=str(root), rules=rules or Rules(), record=record)
    start(config, port=port)
    _wait()
    stop()
    ray.shutdown()


def serve_naive(root: Path, port: int) -> None:
    """The graph that a first-time user writes: three deployments with Serve's defaults."""
    import ray
    from ray import serve

    from benchmarks.naive_graph import build

    ray.init(num_cpus=RAY_CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build(str(root)))
    _wait()
    serve.shutdown()
    ray.shutdown()


def serve_bare(root: Path, port: int, rules: "Rules | None" = None) -> None:
    """No Ray: one uvicorn process, a hand-written handler, the same pipeline."""
    import threading

    import pydantic_core
    import uvicorn
    from fastapi import FastAPI, Request, Response

    from recray.ops.ann import set_num_threads
    from recray.serve.http.requests import RecommendRequest, parse
    from recray.serve.place.pipeline import Pipeline
    from recray.serve.stages.listed import StagesConfig
    from recray.serve.versions import open_served

    set_num_threads(1)
    stages = StagesConfig(rules=rules) if rules else StagesConfig()
    pipeline = Pipeline(open_served(Store(root), APPLICATION), stages)
    app = FastAPI()

    @app.post("/recommend")
    async def recommend(request: Request) -> Response:
        answer = pipeline.recommend(parse(await request.body(), RecommendRequest))
        return Response(pydantic_core.to_json(answer), media_type="application/json")

    config = uvicorn.Config(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")
    server = uvicorn.Server(config)

    def follow_stdin() -> None:
        _wait()
        server.should_exit = True

    threading.Thread(target=follow_stdin, daemon=True).start()
    server.run()


PEERS: dict[str, Callable[[Path, int], None]] = {
    "fused": serve_fused,
    "unrecorded": serve_unrecorded,
    "naive": serve_naive,
    "bare": serve_bare,
    "ruled": serve_ruled,
    "bare_ruled": serve_bare_ruled,
}


def _wait() -> None:
    """Says that the server is up, and returns when the parent has closed our input."""
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    PEERS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
