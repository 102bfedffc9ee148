"""How pages read what is sent to them, answer, and are described."""

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pydantic_core
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from recray.serve.http import answers
from recray.serve.http.bodies import too_large
from recray.serve.http.raw import id_header
from recray.serve.http.requests import MAX_BODY_BYTES, RequestError

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.ASCII | re.IGNORECASE)

PROBLEMS: dict[int, str] = {
    400: "not JSON, or a header is not text",
    401: "the token is another one, or none was sent",
    403: "changes over HTTP are off: the server has no token",
    404: "no such item or page",
    405: "the page has no such method; its header allow names those it has",
    408: "the body was not whole in time",
    409: "it cannot be done as things stand; the message says why, and nothing has changed",
    413: "body too large",
    415: "not application/json",
    422: "a field is wrong; the message names it",
    429: "too many such requests at a time, or no more is taken in; the message says which",
    500: "a fault of the server; its log says more under the request id",
    503: "nothing is loaded, retrieval is gone, what is told cannot be kept or too many bodies: see there",
}
OF_ANY = (400, 404, 405, 500)  # whatever is asked
OF_A_BODY = (408, 413, 415, 422, 429, 503)


class PlainRoute(APIRoute):
    """A page that reads its request itself: FastAPI has nothing to find out for it at each one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def reply(scope: Scope, answer: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer as JSON."""
    # NaN and infinity are not JSON: a missing feature or score is null.
    content = pydantic_core.to_json(answer, inf_nan_mode="null")
    return Response(content, status, {**id_header(scope), **(headers or {})}, "application/json")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the API page says of refusals."""
    return {status: {"model": answers.Problem, "description": PROBLEMS[status]} for status in statuses}


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """What the API page says of a body that FastAPI does not parse."""
    schema = kind.model_json_schema()
    content = {"application/json": {"schema": _in_place(schema, schema.pop("$defs", {}))}}
    return {"requestBody": {"required": True, "content": content}}


def _in_place(schema: object, defined: Mapping[str, object]) -> object:
    """With what it refers to in the place of the reference: in a larger document that would lead nowhere."""
    if isinstance(schema, list):
        return [_in_place(each, defined) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _in_place(defined[schema["$ref"].rpartition("/")[2]], defined)
    return {key: _in_place(value, defined) for key, value in schema.items()}


async def json_body(request: Request, most_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The body, read no further than the limit.

    Raises:
        RequestError: 415 another content type, 413 too large, 400 the client went away.
    """
    if not _JSON.fullmatch(request.headers.get("content-type", "")):
        raise RequestError(415, "wrong_content_type", "send the body as content-type: application/json")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and len(length) < 20 and int(length) > most_bytes:
        raise too_large(most_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most_bytes:
                raise too_large(most_bytes)
    except ClientDisconnect:
        raise RequestError(400, "incomplete_body", "the connection closed before the body ended") from None
    return bytes(body)
