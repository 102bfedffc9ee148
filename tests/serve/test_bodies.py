"""Bodies that never end, over real sockets: they hold no place of others, and do not stay."""

import asyncio
import http.client
import json
import socket
from typing import Any

import pytest

from recray.config import ConfigError
from recray.serve.http.bodies import BodyLimits, WholeBodies, limits_of_environment
from recray.serve.http.requests import MAX_ROWS_BODY_BYTES
from tests.serve.uvicorn_server import HALF, ask, half_bodies, serving, what_came


class FewPlaces:
    """What stands behind: like a replica of Serve, it has few places and holds one per request."""

    def __init__(self, places: int = 4) -> None:
        self._places, self.bodies = asyncio.Semaphore(places), []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self._places:
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            self.bodies.append(body)
            content = json.dumps({"bytes": len(body)}).encode()
            headers = [(b"content-length", str(len(content)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})


def test_half_bodies_hold_no_place_and_are_late_after_their_time() -> None:
    with serving(WholeBodies(FewPlaces(), BodyLimits(timeout_s=1.0))) as port:
        held = half_bodies(port, 50)
        assert ask(port, "/health")[0] == 200
        assert ask(port, "/recommend", {"k": 3}) == (200, {"bytes": 8})
        came = what_came(held[0])
        head, _, body = came.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408")
        assert b"connection: close" in head
        assert json.loads(body)["error"] == "body_too_late"
        for one in held:
            one.close()


def test_without_it_as_many_half_bodies_as_places_stop_everything() -> None:
    with serving(FewPlaces()) as port:
        held = half_bodies(port, 4)
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
        asking.request("GET", "/health")
        with pytest.raises(TimeoutError):
            asking.getresponse()
        asking.close()
        for one in held:
            one.close()


def test_the_one_that_is_under_way_longest_makes_room() -> None:
    with serving(WholeBodies(FewPlaces(), BodyLimits(timeout_s=60.0, unfinished=10))) as port:
        held = half_bodies(port, 10)
        assert ask(port, "/recommend", {})[0] == 200
        came = what_came(held[0])
        assert came.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in came
        held[5].sendall(b" " * 18 + b"}")
        assert held[5].recv(65536).startswith(b"HTTP/1.1 200"), "the others may go on"
        for one in held:
            one.close()


def test_large_bodies_make_room_too() -> None:
    with serving(WholeBodies(FewPlaces(), BodyLimits(timeout_s=60.0, held_bytes=100_000))) as port:
        held = half_bodies(port, 1)
        assert ask(port, "/recommend", "x" * 90_000)[0] == 200
        ask(port, "/recommend", "x" * 150_000)
        assert what_came(held[0]).startswith(b"HTTP/1.1 503")
        held[0].close()


def test_a_body_arrives_whole_whatever_its_pieces() -> None:
    app = FewPlaces()
    with serving(WholeBodies(app, BodyLimits())) as port:
        (one,) = half_bodies(port, 1)
        for piece in (b'"k": 1234567', b"89, ", b"  }"):
            one.sendall(piece)
        one.sendall(
            HALF.replace(b"content-length: 20", b"transfer-encoding: chunked")[:-1] + b"2\r\n{}\r\n0\r\n\r\n"
        )
        one.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert what_came(one).count(b"HTTP/1.1 200") == 3, "the connection is kept for the next ones"
    assert app.bodies == [b'{"k": 123456789,   }', b"{}", b""]


def test_a_body_announced_too_large_is_refused_at_once() -> None:
    with serving(WholeBodies(FewPlaces(), BodyLimits())) as port:
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(HALF.replace(b"20", str(MAX_ROWS_BODY_BYTES + 1).encode()))
        assert what_came(one).startswith(b"HTTP/1.1 413")
        one.close()


def test_the_time_is_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits_of_environment() == BodyLimits()
    monkeypatch.setenv("RECRAY_BODY_TIMEOUT_S", "2.5")
    assert limits_of_environment().timeout_s == 2.5
    for wrong in ("soon", "-1"):
        monkeypatch.setenv("RECRAY_BODY_TIMEOUT_S", wrong)
        with pytest.raises(ConfigError, match="RECRAY_BODY_TIMEOUT_S"):
            limits_of_environment()
