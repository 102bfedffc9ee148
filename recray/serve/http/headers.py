"""What stands before Ray Serve's own handling of a request, in every proxy and replica.

Serve decodes some headers before the application sees the request, and answers 500 where one is not
text; here such a request gets its 400. Named to Serve by an environment variable, see ``haproxy``.
"""

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from recray.serve.http.bodies import WholeBodies, limits_of_environment
from recray.serve.http.direct import Direct
from recray.serve.http.probes import Probes
from recray.serve.http.raw import ID, is_plain_id, refuse
from recray.serve.http.requests import RequestError
from recray.serve.http.whole_answers import use_whole_answers

# Watching for a client that hangs up costs Serve a task per request, and recommending takes about a
# millisecond: less than it takes to notice.
_NO_DISCONNECT_WATCH = (b"x-request-disconnect-disabled", b"?1")


class HeaderGuard:
    """Refuses headers that are not UTF-8, and passes over request ids that are not plain: Serve makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if not value.isascii() and not _is_text(value):
                    message = f"header {_shown(name)} is not UTF-8"
                    await refuse(scope, send, RequestError(400, "bad_header", message))
                    return
            kept = [(name, value) for name, value in scope["headers"] if name != ID or is_plain_id(value)]
            scope["headers"] = [*kept, _NO_DISCONNECT_WATCH]
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """What Serve puts around its HTTP application, innermost first; it asks before its server starts."""
    use_whole_answers()
    return [
        Middleware(Direct),
        Middleware(WholeBodies, limits=limits_of_environment()),
        Middleware(Probes),
        Middleware(HeaderGuard),
    ]


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shown(name: bytes) -> str:
    return ascii(name.decode("latin-1")[:40])
