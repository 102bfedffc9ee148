"""Answers below FastAPI: of what stands before the application, in plain ASGI messages."""

import re
import uuid
from collections.abc import Mapping
from typing import Any

import pydantic_core
from starlette.types import Scope, Send

from recray.serve.http.requests import RequestError

_REQUEST_ID = re.compile(r"[\w.-]{1,100}", re.ASCII)


def header(scope: Scope, name: bytes) -> str:
    """The first header of a name (lower case), read as latin-1; empty where there is none."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def request_id_of(scope: Scope) -> str:
    """The client's ``x-request-id`` where it is a plain one, else a new one; one for each request."""
    if "recray.request_id" not in scope:
        given = header(scope, b"x-request-id")
        scope["recray.request_id"] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    request_id: str = scope["recray.request_id"]
    return request_id


async def refuse(
    scope: Scope, send: Send, error: RequestError, headers: Mapping[str, str] | None = None
) -> None:
    """Answers a request that goes no further."""
    request_id = request_id_of(scope)
    given = {"x-request-id": request_id, **error.headers, **(headers or {})}
    await send_json(send, error.status, error.to_json(request_id), given)


async def send_json(
    send: Send, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    """Sends a whole answer."""
    body = pydantic_core.to_json(content)
    given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
