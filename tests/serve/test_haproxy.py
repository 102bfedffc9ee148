"""The environment that chooses HAProxy ingress."""

import importlib
import importlib.util
import os
import resource
import socket
import sys

import pytest

from recray.config import ConfigError
from recray.serve.http.bodies import WholeBodies
from recray.serve.http.haproxy import ENABLED, free_port, require_port, use_haproxy
from recray.serve.http.headers import HeaderGuard
from recray.serve.http.probes import Probes
from recray.serve.place.session import serving


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without any choice made yet, and restored afterwards."""
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if "RAY_" not in k.upper()})
    monkeypatch.delitem(sys.modules, "ray.serve", raising=False)
    return monkeypatch


def test_the_environment_is_filled_in_and_choices_are_kept(environment: pytest.MonkeyPatch) -> None:
    os.environ["RAY_SERVE_HAPROXY_STATS_PORT"] = "12345"
    assert use_haproxy(drain_s=2.0)
    assert os.environ[ENABLED] == os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"
    assert os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"] == "2.0"
    assert os.environ["RAY_SERVE_HAPROXY_STATS_PORT"] == "12345"
    assert os.environ["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"] == "10"
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = int(os.environ["RAY_SERVE_HAPROXY_MAXCONN"])
    assert most <= 20_000
    assert files == resource.RLIM_INFINITY or most * 2.5 < max(files, 2_501)


def test_a_user_may_turn_it_off(environment: pytest.MonkeyPatch) -> None:
    os.environ[ENABLED] = "0"
    assert not use_haproxy()
    assert "RAY_SERVE_THROUGHPUT_OPTIMIZED" not in os.environ


def test_without_the_package_the_loss_is_told(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setattr(importlib.util, "find_spec", lambda name: None)
    assert not use_haproxy()
    assert "about a third" in caplog.text


def test_too_late_is_an_error(environment: pytest.MonkeyPatch) -> None:
    environment.setitem(sys.modules, "ray.serve", sys)
    with pytest.raises(ConfigError, match=r"before ray\.serve is imported"):
        use_haproxy()


def test_the_guard_of_headers_is_set_with_either_proxy(environment: pytest.MonkeyPatch) -> None:
    os.environ[ENABLED] = "0"
    use_haproxy()
    module, function = os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"].split(":")
    around = [one.cls for one in getattr(importlib.import_module(module), function)()]
    assert around == [WholeBodies, Probes, HeaderGuard], "innermost first"


def test_free_ports_are_free() -> None:
    assert free_port() > 1024


def test_a_port_that_somebody_listens_on_is_said_before_ray_starts(environment: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} \(Address already in use\): .* with --port"):
            serving(port).__enter__()
    require_port(port)


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_cannot_be_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match=f"there is no port {port}: give --port one of 1 to 65535"):
        require_port(port)
