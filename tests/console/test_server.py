"""What goes wrong with a server is one sentence for a person."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from recray.console import server as console_server
from recray.console.server import Server, ServerError, versions_in_words
from tests.console.conftest import Shop
from tests.serve.uvicorn_server import serving


async def answered(send: Callable[..., Any], status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


def app(status: int, body: bytes) -> Callable[..., Any]:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await answered(send, status, body)

    return answer


def refused(status: int, body: bytes, path: str = "/traffic") -> str:
    with serving(app(status, body)) as port, pytest.raises(ServerError) as raised:
        Server(f"http://127.0.0.1:{port}").get(path)
    return str(raised.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "127.0.0.1:8000", "http://nowhere.invalid", "http://[", "ftp://x", ""]
)
def test_a_server_that_is_not_there_is_a_sentence(url: str) -> None:
    with pytest.raises(ServerError, match="is not to be reached .*`recray serve DATASET` starts one"):
        Server(url).get("/health")


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_server, "ANSWER_S", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(ServerError, match="did not answer within"),
    ):
        Server(f"http://127.0.0.1:{listener.getsockname()[1]}").get("/health")


def test_an_answer_that_goes_on_and_on_is_not_read_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part in time, never the whole: a stream of events, or a server that is overrun."""
    monkeypatch.setattr(console_server, "ANSWER_S", 0.2)

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while scope["server"]:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0.01)

    with serving(endless) as port, pytest.raises(ServerError, match="did not answer within"):
        Server(f"http://127.0.0.1:{port}").get("/health")


def test_what_else_answers_there_is_said() -> None:
    assert "is no recray server" in refused(200, b"<html>hello")
    assert refused(404, b"<html>no\n page").startswith("404: <html>no page")
    assert "is no recray server" in refused(200, b"[1, 2]")
    assert refused(500, b"") == "500: no reason given"
    assert refused(502, b'["not an object"]') == '502: ["not an object"]'
    assert len(refused(400, b"x" * 10_000)) < 400


def test_a_server_that_has_nothing_yet_still_says_how_it_is() -> None:
    with serving(app(503, b'{"status": "unavailable"}')) as port:
        server = Server(f"http://127.0.0.1:{port}/")
        assert server.get("/health") == {"status": "unavailable"}
        with pytest.raises(ServerError, match="503"):
            server.get("/versions")


def test_a_change_without_the_right_token_is_refused(shop: Shop) -> None:
    for token in ("", "another"):
        with pytest.raises(ServerError, match="401: send the header authorization"):
            Server(shop.url, token).administer("promote", version=2)
    assert shop.store.names("tiny-ranker")["production"] == 1
    Server(shop.url, shop.token).administer("promote", version=2, why="better")
    assert shop.store.names("tiny-ranker")["production"] == 2
    with pytest.raises(ServerError, match="copied whole"):
        Server(shop.url, "a\ntoken").administer("promote", version=1)
    with pytest.raises(ServerError, match="409: .*no version 9"):
        Server(shop.url, shop.token).administer("promote", version=9)


def test_the_token_goes_to_changes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    async def note(scope: Any, receive: Any, send: Any) -> None:
        seen[scope["path"]] = dict(scope["headers"]).get(b"authorization")
        await answered(send, 200, b"{}")

    with serving(note) as port:
        server = Server(f"http://127.0.0.1:{port}", "secret")
        server.get("/health")
        server.administer("stop", experiment="e")
    assert seen == {"/health": None, "/admin/stop": b"Bearer secret"}


def test_versions_are_told_by_role() -> None:
    served = {"ranker": {"name": "shop-ranker", "version": 3}, "retriever": {"name": "shop", "version": 1}}
    assert versions_in_words(served) == "ranker shop-ranker 3, retriever shop 1"
