"""One Ray for a script that trains and serves: started with the fast ingress, stopped at the end."""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from recray.serve.http.haproxy import free_port, require_port, use_haproxy
from recray.serve.place.config import PlacementConfig, ServiceConfig
from recray.serve.place.supervisor import Supervisor, is_supervised, left_alone

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
VITAL = ("gcs_server", "raylet")  # of the processes that Ray started for this one
DIED = 70  # exit status


class Session:
    """Serves in the Ray of this script. Imports ``ray.serve`` late: it reads the environment once."""

    def __init__(self, port: int, host: str = "") -> None:
        self._host, self._port, self._started = host, port or free_port(), False

    def start(self, service: ServiceConfig, placement: PlacementConfig | None = None) -> str:
        """Serves an application; returns its URL."""
        from recray.serve.place.deployments import start

        self._started = True
        return start(service, placement, host=self._host, port=self._port)

    def wait(self) -> None:
        """Returns when this process is told to end (SIGINT, SIGTERM), or its supervisor is gone.

        Where Ray has died the process ends at once: Ray's own way out would wait for the dead.
        """
        with suppress(KeyboardInterrupt):
            while not left_alone():
                for part in _dead_parts():
                    log.error("Ray's %s has died: this server ends", part)
                    os._exit(DIED)
                time.sleep(LOOK_EVERY_S)

    def stop(self) -> None:
        if self._started:
            from recray.serve.place.deployments import stop

            stop()


def _dead_parts() -> list[str]:
    """Vital processes of a Ray that this process started, as far as they have ended."""
    from ray._private.worker import _global_node

    dead = _global_node.dead_processes() if _global_node is not None else []
    return [kind for kind, _ in dead if kind in VITAL]


def wants_supervisor() -> bool:
    """Whether a server of this process would be alone: without a supervisor, on a Ray of its own."""
    return "RAY_ADDRESS" not in os.environ and not is_supervised()


def supervise(program: Sequence[str], port: int, host: str = "") -> int:
    """Runs a program as the server, under a supervisor; returns the exit status.

    Args:
        program: what Python is given: a path or ``-m`` and a module, and arguments, which take ``--port``.
        port: where it will listen; 0: any that is free.
        host: at which address; empty: this machine's own.

    Raises:
        ConfigError: nothing can listen there, or the server died too often.
    """
    port = port or free_port()
    require_port(port, host)
    use_haproxy(drain_s=1.0)  # here, so that all servers of this supervisor share a folder
    return Supervisor([sys.executable, *program, "--port", str(port)], port).run()


@contextmanager
def serving(port: int, host: str = "") -> Iterator[Session]:
    """A session on the cluster that RAY_ADDRESS names, or on a Ray of this machine that ends with it.

    Args:
        port: where applications will listen; 0: any that is free.
        host: at which address; empty: this machine's own, or on several nodes all.

    Raises:
        ConfigError: nothing can listen there; said before Ray starts.
    """
    own = "RAY_ADDRESS" not in os.environ
    if port and own:  # a cluster may serve there already, or be elsewhere
        require_port(port, host)
    use_haproxy(drain_s=1.0)
    if own:  # Ray listens on all interfaces, unless its only node is 127.0.0.1: what it does on a Mac
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    log.info("starting Ray, or connecting to the cluster that RAY_ADDRESS names")
    context = ray.init(logging_level=logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a way out that leaves nothing, as Ctrl-C
    log.info("Ray dashboard: http://%s", context.dashboard_url)
    session = Session(port, host)
    try:
        yield session
    finally:
        log.info("stopping")
        session.stop()
        ray.shutdown()
