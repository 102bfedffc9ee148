"""Ray Serve places the stages: all in one replica, or retrieval and ranking in deployments of their own.

Fused: a request makes no hop. Spread: the ingress holds the id maps and pins a version; retrieval and
ranking scale on their own and are told which version to use, so that no answer mixes two. Both run
``stages.listed``.
"""

import logging
import os
import re
from dataclasses import replace
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle

from recray.config import ConfigError
from recray.serve.http import direct, tracing
from recray.serve.http.gateway import create_app
from recray.serve.http.haproxy import drain, take_requests
from recray.serve.http.haproxy_keeper import Admission
from recray.serve.place.config import PlacementConfig, ServiceConfig
from recray.serve.place.desk_actor import desk_of, end_desks
from recray.serve.place.fused import FusedService
from recray.serve.place.hub_actor import end_hubs, hub_of
from recray.serve.place.log_actor import end_logs, log_of
from recray.serve.place.scoring import ScoringService
from recray.serve.place.spread import SpreadService
from recray.serve.place.stage_deployments import RankingDeployment, RetrievalDeployment, log_beside_serve
from recray.store import DamagedError

log = logging.getLogger(__name__)

APPLICATION = "recray"  # its name inside Serve
EVERYWHERE = {"0.0.0.0", "::"}  # addresses at which nobody can be asked


def _serve_watches() -> bool:
    """Whether Serve must see every request of this replica: to scale by them, to log or to trace them."""
    config = serve.get_replica_context()._deployment_config
    logs = (config.logging_config or {}).get("enable_access_log", True)
    return bool(config.autoscaling_config or logs or os.environ.get(tracing.HOOK))


class Ingress:
    """The HTTP face of a service in a replica."""

    _service: FusedService | ScoringService | SpreadService

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = create_app(self._service, behind_serve=True)
        if isinstance(self._service, FusedService) and not _serve_watches():
            direct.announce(app)
        return app


class FusedIngress(Ingress):
    """HTTP and every stage in one replica; what it answers is decided by the kind of the bundle."""

    def __init__(self, config: ServiceConfig) -> None:
        log_beside_serve()
        try:
            scores_rows = config.open_served().scorer is not None
        except DamagedError:  # the service says so, and recommends when the store is mended
            scores_rows = False
        self._service = (
            ScoringService(config)
            if scores_rows
            else FusedService(config, hub_of(config), desk_of(config), log_of(config))
        )


class SpreadIngress(Ingress):
    """HTTP here, stages in deployments of their own."""

    def __init__(self, config: ServiceConfig, retrieval: DeploymentHandle, ranking: DeploymentHandle) -> None:
        log_beside_serve()
        self._service = SpreadService(config, retrieval, ranking, desk_of(config), log_of(config))


def deployment(
    kind: type[Any], name: str, replicas: int, placement: PlacementConfig, max_queued: int = -1
) -> Any:
    """A class as a Serve deployment, with what is alike for all of an application."""
    return serve.deployment(
        kind,
        name=name,
        num_replicas=replicas,
        max_ongoing_requests=placement.max_ongoing_requests,
        max_queued_requests=max_queued,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=placement.retry_after_s),
        max_surge_percent=placement.max_surge_percent,
        # A dead replica is missed within a second; a mute one has the time of the slowest answer.
        health_check_period_s=1.0,
        health_check_timeout_s=10.0,
        ray_actor_options={"num_cpus": placement.cpus_per_replica},
        # A log line per request costs a twentieth of the request; counts and times are at /metrics.
        logging_config={
            "enable_access_log": placement.request_log,
            "encoding": "JSON" if placement.request_log else "TEXT",
            "log_level": "INFO" if placement.request_log else "WARNING",
        },
    )


def build_application(config: ServiceConfig, placement: PlacementConfig) -> serve.Application:
    """The application for ``serve.run`` or a Serve config file.

    Raises:
        ConfigError: a decoder beside the application, spread: each deployment would follow it by itself.
    """
    if config.second_source and placement.placement == "spread":
        raise ConfigError(
            f"second_source={config.second_source!r} needs placement 'fused': spread deployments pin one "
            "version of the application, and the decoder beside it could differ between them"
        )
    queued = placement.max_queued_requests  # of the ingress alone: what it has let in goes all the way
    if placement.placement == "fused":
        fused = serve.ingress()(FusedIngress)
        return deployment(fused, "recommend", placement.replicas, placement, queued).bind(config)
    retrieval = deployment(RetrievalDeployment, "retrieval", placement.retrieval_replicas, placement)
    ranking = deployment(RankingDeployment, "ranking", placement.ranking_replicas, placement)
    ingress = serve.ingress()(SpreadIngress)
    spread = deployment(ingress, "recommend", placement.replicas, placement, queued)
    return spread.bind(config, retrieval.bind(config), ranking.bind(config))


def start(
    config: ServiceConfig,
    placement: PlacementConfig | None = None,
    *,
    host: str = "",
    port: int = 8000,
) -> str:
    """Starts the application in the Ray that this process is connected to; returns its URL.

    Args:
        host: address at which ingress and replicas listen, on every node. Empty: for this machine alone where
            it is the cluster, else all addresses, for nodes have to reach each other's replicas.

    For HAProxy ingress call ``haproxy.use_haproxy`` before Ray starts.

    Raises:
        ConfigError: Ray is not running, or the version is not in the store or does not load.
    """
    if not ray.is_initialized():
        raise ConfigError("Ray is not running: call ray.init() first")
    placement = placement or PlacementConfig()
    host = host or ("127.0.0.1" if sum(node["Alive"] for node in ray.nodes()) == 1 else "0.0.0.0")
    # Fails here, readably, and not in a replica.
    if config.open_served().scorer and placement.placement == "spread":
        raise ConfigError(f"{config.application} has one stage, its model: serve it with placement 'fused'")
    # Replicas see the environment that Ray started with, which may name another home than ours.
    config = replace(config, store=str(config.open_store().root))
    open_to(placement, host, port)
    application = build_application(config, placement)
    try:
        serve.run(application, name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise ConfigError(f"{config.application} does not start: {_reason(error)}") from error
    url = f"http://{ray.util.get_node_ip_address() if host in EVERYWHERE else host}:{port}"
    log.info("serving %s at %s", config.application, url)
    return url


def open_to(placement: PlacementConfig, host: str, port: int) -> None:
    """Starts Serve with an ingress that lets in as many requests as the placement says."""
    take_requests(
        Admission(
            placement.max_ongoing_requests,
            placement.max_queued_requests,
            placement.retry_after_s,
            placement.requests_per_client_s,
            placement.connections_per_client,
        )
    )
    serve.start(http_options={"host": host, "port": port})


def _reason(error: RuntimeError) -> str:
    """The line that says why a replica did not start, out of the tracebacks that Serve keeps."""
    deployments = serve.status().applications[APPLICATION].deployments.values()
    lines = [line for d in deployments for line in d.message.splitlines()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return named[-1] if named else str(error)


def stop() -> None:
    """Stops the application and Serve, when every request that is under way is answered; Ray goes on."""
    drain()
    # Serve kills its own proxy at once when it shuts down: applications that go first can still drain.
    for name in list(serve.status().applications):
        serve.delete(name)
    serve.shutdown()
    end_hubs()
    end_desks()
    end_logs()
