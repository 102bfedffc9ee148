"""What stands before Ray Serve's own handling of a request, in every proxy and replica.

Serve decodes some headers before the application sees the request, and answers 500 where one is not
text; here such a request gets its 400. Named to Serve by an environment variable, see ``haproxy``.
"""

import json

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

# Watching for a client that hangs up costs Serve a task per request, and recommending takes about a
# millisecond: less than it takes to notice.
_NO_DISCONNECT_WATCH = (b"x-request-disconnect-disabled", b"?1")


class HeaderGuard:
    """Refuses headers that are not UTF-8."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if not value.isascii() and not _is_text(value):
                    await _refuse(name, send)
                    return
            scope["headers"] = [*scope["headers"], _NO_DISCONNECT_WATCH]
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """What Serve puts around its HTTP application."""
    return [Middleware(HeaderGuard)]


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


async def _refuse(name: bytes, send: Send) -> None:
    message = f"header {name.decode('latin-1')[:40]!a} is not UTF-8"
    body = json.dumps({"error": "bad_header", "message": message, "request_id": ""}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})
