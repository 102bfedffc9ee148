"""A request is handed on when its body is whole, so that a slow client holds no place that others need.

Serve counts a request as ongoing from its headers on: without this, as many half bodies as a replica has
places stop it. Behind HAProxy every client has HAProxy's address, so there is no limit per client: where
too many bodies are under way, the one that is under way longest makes room for the newest.
"""

import asyncio
import os
import time
from dataclasses import dataclass

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recray.config import ConfigError
from recray.serve.http.raw import header, refuse
from recray.serve.http.requests import MAX_ROWS_BODY_BYTES, RequestError

REFUSED = Counter(
    "recray_refused_bodies", "Requests refused before their body was whole.", ["error"], registry=None
)
TIMEOUT_VARIABLE = "RECRAY_BODY_TIMEOUT_S"


@dataclass(frozen=True, kw_only=True)
class BodyLimits:
    """What a body may take until it is whole."""

    timeout_s: float = 5.0
    """From the end of the headers to the end of the body."""
    most_bytes: int = MAX_ROWS_BODY_BYTES
    """Of one body."""
    unfinished: int = 1_024
    """Bodies under way at a time, in one process."""
    held_bytes: int = 64 * 1024 * 1024
    """Of all bodies under way."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise ConfigError(
                f"{TIMEOUT_VARIABLE}: the time for a body must be positive, got {self.timeout_s}"
            )


def limits_of_environment() -> BodyLimits:
    """The limits, with the seconds that ``RECRAY_BODY_TIMEOUT_S`` names.

    Raises:
        ConfigError: that is not a positive number.
    """
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        return BodyLimits(timeout_s=float(text)) if text else BodyLimits()
    except ValueError:
        raise ConfigError(
            f"{TIMEOUT_VARIABLE}={text!r} is no number of seconds: leave it out for 5"
        ) from None


class _Arriving:
    """A body under way."""

    __slots__ = ("data", "deadline", "is_displaced")

    def __init__(self, timeout_s: float) -> None:
        self.data, self.deadline, self.is_displaced = bytearray(), asyncio.timeout(timeout_s), False


class WholeBodies:
    """ASGI middleware: 408 where a body is late, 413 where it is too large, 503 where it was displaced."""

    def __init__(self, app: ASGIApp, limits: BodyLimits | None = None) -> None:
        self._app, self._limits = app, limits or BodyLimits()
        self._arriving: dict[int, _Arriving] = {}  # by identity, longest under way first
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _announces_a_body(scope):
            await self._handed_on(scope, receive, send)
            return
        try:
            body = await self._whole(scope, receive)
        except RequestError as error:
            REFUSED.labels(error.reason).inc()
            # The rest of the body must not be taken for the next request.
            await refuse(scope, send, error, {"connection": "close"})
            return
        await self._handed_on(scope, _again(body, receive), send)

    async def _handed_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["recray.arrived_ns"] = time.perf_counter_ns()
        await self._app(scope, receive, send)

    async def _whole(self, scope: Scope, receive: Receive) -> bytes:
        length, limits = header(scope, b"content-length"), self._limits
        if length.isdecimal() and (len(length) > 18 or int(length) > limits.most_bytes):
            raise too_large(limits.most_bytes)
        arriving = _Arriving(limits.timeout_s)
        self._arriving[id(arriving)] = arriving
        self._make_room()
        try:
            async with arriving.deadline:
                await self._read(arriving, receive)
        except TimeoutError:
            if arriving.is_displaced:
                message = "too many bodies are under way and this one was longest on its way: send it again"
                raise RequestError(503, "too_many_bodies", message, {"retry-after": "1"}) from None
            message = f"the body was not whole after {limits.timeout_s:g} s: send it faster"
            raise RequestError(408, "body_too_late", message) from None
        finally:
            self._arriving.pop(id(arriving), None)
            self._held_bytes -= len(arriving.data)
        return bytes(arriving.data)

    async def _read(self, arriving: _Arriving, receive: Receive) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError(400, "incomplete_body", "the connection closed before the body ended")
            chunk = message.get("body", b"")
            arriving.data += chunk
            self._held_bytes += len(chunk)
            if len(arriving.data) > self._limits.most_bytes:
                raise too_large(self._limits.most_bytes)
            self._make_room()
            more = message.get("more_body", False)

    def _make_room(self) -> None:
        """Ends the body that is under way longest, where there are too many or they are too large."""
        if len(self._arriving) > self._limits.unfinished or self._held_bytes > self._limits.held_bytes:
            if not self._arriving:
                return
            longest = self._arriving.pop(next(iter(self._arriving)))
            longest.is_displaced = True
            longest.deadline.reschedule(asyncio.get_running_loop().time())


def _announces_a_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the whole body in one message, then what comes after it."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def too_large(most_bytes: int) -> RequestError:
    """The refusal of a body that has more than so many bytes."""
    return RequestError(413, "body_too_large", f"a body may have at most {most_bytes} bytes")
