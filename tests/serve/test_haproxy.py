"""The environment that chooses HAProxy ingress."""

import importlib
import importlib.util
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recray.config import ConfigError
from recray.serve.http.bodies import WholeBodies
from recray.serve.http.direct import Direct
from recray.serve.http.haproxy import ENABLED, free_port, require_port, use_haproxy
from recray.serve.http.haproxy_keeper import Admission, admitting, narrowed
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
    assert int(os.environ["RAY_SERVE_HAPROXY_RETRIES"]) > 3, "errors after which HAProxy gives a replica up"
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = int(os.environ["RAY_SERVE_HAPROXY_MAXCONN"])
    assert most <= 20_000
    assert files == resource.RLIM_INFINITY or most * 2.5 < max(files, 2_501)


def test_what_haproxy_keeps_is_its_users_alone(environment: pytest.MonkeyPatch) -> None:
    use_haproxy()
    folder = Path(os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.access(os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)
    use_haproxy()
    assert Path(os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent == folder


CONFIG = """global
    stats socket /x/admin.sock mode 666 level admin expose-fd listeners
defaults
    errorfile 503 /x/500.http
frontend prometheus
    bind :9101
frontend http_frontend
    bind *:8000
{routes}    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain string "x"
listen stats
  bind *:8404
"""


def test_rays_configuration_is_narrowed_to_this_machine_and_user() -> None:
    config = narrowed(CONFIG.format(routes="    use_backend recray if is_recray\n"), Path("/own"))
    assert "bind 127.0.0.1:9101" in config
    assert "bind 127.0.0.1:8404" in config
    assert "bind *:8000" in config  # where it listens is the caller's choice
    assert "mode 600 level admin" in config
    assert "/x/500.http" not in config
    assert "errorfile 503 /own/503.http" in config
    assert "return status 404" in config


def test_without_routes_haproxy_says_that_it_is_not_ready() -> None:
    config = narrowed(CONFIG.format(routes="    # static use_backend selection\n"), Path("/own"))
    assert '{"error": "starting"' in config
    assert "return status 404" not in config


def test_haproxy_refuses_whoever_would_wait_too_long() -> None:
    servers = "".join(
        f"    server SERVE_REPLICA_{n} 127.0.0.1:3000{n} check observe layer4\n" for n in (0, 1)
    )
    config = CONFIG.format(routes="    use_backend a if is_a\n") + "backend a\n" + servers
    admitted = admitting(config, Admission(at_a_time=8, queued=4, retry_after_s=1.5))
    assert "hdr Retry-After 2 if is_a { be_conn(a) ge 24 }" in admitted
    assert admitted.index("status 429") < admitted.index("use_backend a")
    assert "status 429" not in admitting(config, Admission(8, -1, 1.0))


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
    assert around == [Direct, WholeBodies, Probes, HeaderGuard], "innermost first"


def test_a_proxy_starts_without_models() -> None:
    code = "import sys, recray.serve.http.headers; sys.exit(bool({'torch', 'polars'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_this_machine_does_not_have_is_said(host: str) -> None:
    with pytest.raises(ConfigError, match=f"no address {host!r} to listen at: give --host one"):
        require_port(free_port(), host)
