"""Requests that the application answers without Serve's own handling."""

from collections.abc import Iterator

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from recray.serve.http import direct
from recray.serve.http.raw import id_header, send_json
from tests.serve.asgi import Client


def answers(name: str) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_json(send, 200, {"by": name}, id_header(scope))

    return app


@pytest.fixture
def client() -> Iterator[Client]:
    yield Client(direct.Direct(answers("serve")))
    direct.announce(None)


def test_recommend_is_asked_of_the_application(client: Client) -> None:
    direct.announce(answers("application"))
    answer = client.post({})
    assert answer.json == {"by": "application"}
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/recommend"), ("POST", "/events"), ("POST", "/a/recommend")]
)
def test_all_else_is_asked_of_serve(client: Client, method: str, path: str) -> None:
    direct.announce(answers("application"))
    assert client.send(method, path, b"", []).json == {"by": "serve"}


def test_a_proxy_has_no_application(client: Client) -> None:
    assert client.post({}).json == {"by": "serve"}
