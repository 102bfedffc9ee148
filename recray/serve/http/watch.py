"""Around the application: requests in flight, how long they waited for a place, and faults of ours."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recray.serve.http.metrics import GatewayMetrics
from recray.serve.http.raw import ID_BY_SERVE, id_header, request_id_of, send_json
from recray.serve.http.requests import RequestError

log = logging.getLogger(__name__)


class Watch:
    """ASGI middleware: counts, and answers a 500 as JSON with a request id where the application fails.

    Args:
        behind_serve: Serve adds the request id to answers, if nobody said otherwise before.
    """

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics, *, behind_serve: bool) -> None:
        self._app, self._metrics, self._behind_serve = app, metrics, behind_serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault(ID_BY_SERVE, self._behind_serve)
        is_answered, request_id = False, request_id_of(scope)
        if scope["method"] == "HEAD":  # whoever serves leaves the body out
            scope = {**scope, "method": "GET"}

        async def watched(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        if arrived_ns := scope.get("recray.arrived_ns"):
            self._metrics.waited((time.perf_counter_ns() - arrived_ns) / 1e9)
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, watched)
        except Exception:
            if is_answered:
                raise
            route = route_of(scope)
            log.exception("request %s (%s %s) failed", request_id, scope["method"], route)
            self._metrics.answered(route, 500)
            message = f"a fault of this server; its log says more under {request_id}"
            problem = RequestError(500, "internal_error", message).to_json(request_id)
            await send_json(send, 500, problem, id_header(scope))
        finally:
            self._metrics.in_flight.dec()


PAGES = ("recommend", "score", "events", "health", "live", "ready", "versions", "metrics", "drift")


def route_of(scope: Scope) -> str:
    """A label of few values: what a client typed into the path must not become one."""
    root: str = scope.get("root_path", "")
    path = scope["path"].removeprefix(root)
    if path.startswith("/items/"):
        return "items" if scope["method"] == "PUT" else "similar"
    return path[1:] if path[1:] in PAGES else "other"
