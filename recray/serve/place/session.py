"""One Ray for a script that trains and serves: started with the fast ingress, stopped at the end."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from recray.serve.http.haproxy import free_port, require_port, use_haproxy
from recray.serve.place.config import PlacementConfig, ServiceConfig

log = logging.getLogger(__name__)


class Session:
    """Serves in the Ray of this script. Imports ``ray.serve`` late: it reads the environment once."""

    def __init__(self, port: int) -> None:
        self._port, self._started = port or free_port(), False

    def start(self, service: ServiceConfig, placement: PlacementConfig | None = None) -> str:
        """Serves an application; returns its URL."""
        from recray.serve.place.deployments import start

        self._started = True
        return start(service, placement, port=self._port)

    def stop(self) -> None:
        if self._started:
            from recray.serve.place.deployments import stop

            stop()


@contextmanager
def serving(port: int) -> Iterator[Session]:
    """A session on the cluster that RAY_ADDRESS names, or on a Ray of this machine that ends with it.

    Args:
        port: where applications will listen; 0: any that is free.

    Raises:
        ConfigError: nothing can listen there; said before Ray starts.
    """
    if port and "RAY_ADDRESS" not in os.environ:  # a cluster may serve there already, or be elsewhere
        require_port(port)
    use_haproxy(drain_s=1.0)
    import ray

    log.info("starting Ray, or connecting to the cluster that RAY_ADDRESS names")
    context = ray.init(logging_level=logging.WARNING)
    log.info("Ray dashboard: http://%s", context.dashboard_url)
    session = Session(port)
    try:
        yield session
    finally:
        log.info("stopping")
        session.stop()
        ray.shutdown()
