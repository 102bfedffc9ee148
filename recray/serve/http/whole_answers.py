"""An answer leaves its process in one piece: head and body together.

uvicorn writes the head, then the body. A process killed between the two leaves a client with half an answer,
which nobody else can give again; killed before the one piece, HAProxy asks another replica. And whoever waits
for the answer is woken once, not twice.
"""

import asyncio

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def use_whole_answers() -> None:
    """Has servers of this process that choose no protocol of their own write whole answers."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{WholeAnswers.__name__}"


class Joined:
    """A transport that joins two writes of one step of the event loop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._loop, self._held = transport, asyncio.get_running_loop(), b""

    def write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
            self._transport.write(data)
        else:
            self._held = data
            self._loop.call_soon(self._flush)  # a head whose body takes its time does not wait for it

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


class WholeAnswers(HttpToolsProtocol):
    """uvicorn's HTTP over a ``Joined`` transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Joined(transport))  # type: ignore[arg-type]
