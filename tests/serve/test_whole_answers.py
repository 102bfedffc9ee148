"""Head and body of an answer leave in one write, and nothing waits for a body that takes its time."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from recray.serve.http.raw import send_json
from recray.serve.http.whole_answers import use_whole_answers
from tests.serve.uvicorn_server import serving, what_came

ASK = b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n"
body_may_come = threading.Event()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/whole":
        await send_json(send, 200, {"answer": "x" * 1_000})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    if scope["path"] == "/slow":
        await asyncio.to_thread(body_may_come.wait)
    for part in (b"one", b"two", b"three"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])  # restored afterwards
    use_whole_answers()
    with serving(app) as found:
        yield found


def test_whoever_hears_of_an_answer_has_all_of_it(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(200):
            connection.sendall(ASK % b"whole")
            assert connection.recv(65536).endswith(b'x"}')


def test_the_head_of_a_slow_answer_does_not_wait_for_its_body(port: int) -> None:
    body_may_come.clear()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(ASK % b"slow")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
        body_may_come.set()
        assert what_came(connection).endswith(b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n")


def test_an_answer_in_parts_is_whole_when_the_connection_closes(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(ASK % b"parts")
        assert what_came(connection).endswith(b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n")
