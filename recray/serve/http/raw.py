"""Answers below FastAPI: of what stands before the application, in plain ASGI messages."""

import re
import uuid
from collections.abc import Mapping
from typing import Any

import pydantic_core
from starlette.types import Scope, Send

from recray.serve.http.requests import RequestError

ID = b"x-request-id"
ID_BY_SERVE = "recray.id_by_serve"  # key of a scope
_PLAIN_ID = re.compile(rb"[\w.-]{1,100}")


def is_plain_id(given: bytes) -> bool:
    """Whether a client's request id may stand in answers and logs."""
    return _PLAIN_ID.fullmatch(given) is not None


def header(scope: Scope, name: bytes) -> str:
    """The first header of a name (lower case), read as latin-1; empty where there is none."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def answer_id_of(scope: Scope) -> str:
    """Made here, for this one answer: a client may send the same ``x-request-id`` with each request."""
    answer_id: str = scope.setdefault("recray.answer_id", uuid.uuid4().hex)
    return answer_id


def request_id_of(scope: Scope) -> str:
    """By which a request is traced: the client's ``x-request-id`` where it is a plain one, else that of the
    answer."""
    if "recray.request_id" not in scope:
        given = header(scope, ID)
        is_plain = is_plain_id(given.encode("latin-1"))
        scope["recray.request_id"] = given if is_plain else answer_id_of(scope)
    request_id: str = scope["recray.request_id"]
    return request_id


def id_header(scope: Scope) -> dict[str, str]:
    """``x-request-id`` of an answer, but where Ray Serve stands between and adds it."""
    return {} if scope.get(ID_BY_SERVE) else {ID.decode(): request_id_of(scope)}


async def refuse(
    scope: Scope, send: Send, error: RequestError, headers: Mapping[str, str] | None = None
) -> None:
    """Answers a request that goes no further."""
    given = {**id_header(scope), **error.headers, **(headers or {})}
    await send_json(send, error.status, error.to_json(request_id_of(scope)), given)


async def send_json(
    send: Send, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    """Sends a whole answer."""
    body = pydantic_core.to_json(content)
    given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
