"""``/live`` and ``/ready`` of this process, answered before Serve queues a request for a place."""

from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from recray.serve.http.answers import Live, Ready
from recray.serve.http.raw import send_json


class Probed(Protocol):
    """What can say how it is."""

    def not_ready(self) -> str | None:
        """Why it should not be asked; None where it can answer."""

    def problem(self) -> str | None:
        """What it cannot follow for now."""


_here: Probed | None = None  # of the service in this process; proxies have none and hand the request on


def announce(service: Probed) -> None:
    """Tells the probes of this process whom to ask: Serve builds them by name, before there is a service."""
    global _here
    _here = service


def live() -> Live:
    return {"live": True}


def ready(service: Probed) -> tuple[int, Ready]:
    """Status and answer."""
    why_not = service.not_ready()
    return (503 if why_not else 200), {"ready": why_not is None, "problem": why_not or service.problem()}


class Probes:
    """ASGI middleware: answers the two pages under whatever prefix the application has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _here is None or scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif scope["path"].endswith("/live"):
            await send_json(send, 200, live())
        elif scope["path"].endswith("/ready"):
            await send_json(send, *ready(_here))
        else:
            await self._app(scope, receive, send)
