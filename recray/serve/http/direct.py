"""``POST /recommend`` of this process, answered without Serve's own handling of a request.

That handling costs a quarter of a millisecond, for what recommending in one process has no use for: a place
in Serve's queue (HAProxy bounds what a replica has), a watch for clients that hang up, a context for calls of
other deployments.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from recray.serve.http.raw import ID_BY_SERVE

PATH = "/recommend"

_here: ASGIApp | None = None  # the application in this process; proxies have none and hand the request on


def announce(app: ASGIApp | None) -> None:
    """Tells the middleware of this process whom to ask: Serve builds it by name, before there is one."""
    global _here
    _here = app


class Direct:
    """ASGI middleware: asks the announced application, and Serve for all other pages.

    Under a prefix Serve is asked too: it knows what belongs to the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _here and scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == PATH:
            scope[ID_BY_SERVE] = False
            await _here(scope, receive, send)
        else:
            await self._app(scope, receive, send)
