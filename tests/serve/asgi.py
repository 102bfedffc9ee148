"""A client of an application in this process."""

import asyncio
import json
import threading
from dataclasses import dataclass
from typing import Any

JSON_TYPE = [(b"content-type", b"application/json")]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Speaks ASGI with nothing in between, so that malformed bytes arrive as they are."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def get(self, path: str, query: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> Answer:
        return self.send("GET", path, b"", headers or [], query)

    def post(
        self, body: Any, headers: list[tuple[bytes, bytes]] | None = None, path: str = "/recommend"
    ) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", path, content, JSON_TYPE if headers is None else headers)

    def send(
        self, method: str, path: str, body: bytes, headers: list[tuple[bytes, bytes]], query: bytes = b""
    ) -> Answer:
        return asyncio.run(self._send(method, path, body, headers, query))

    async def _send(
        self, method: str, path: str, body: bytes, headers: list[tuple[bytes, bytes]], query: bytes
    ) -> Answer:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": query,
            "root_path": "",
            "scheme": "http",
            "headers": headers,
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
        }
        chunks = [body[i : i + 65536] for i in range(0, len(body), 65536)] or [b""]
        incoming = [
            {"type": "http.request", "body": chunk, "more_body": n + 1 < len(chunks)}
            for n, chunk in enumerate(chunks)
        ]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return incoming.pop(0) if incoming else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        headers_out = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], headers_out, b"".join(m.get("body", b"") for m in sent[1:]))


class LoopClient(Client):
    """In one event loop that goes on between the requests, as a server's does."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def send(
        self, method: str, path: str, body: bytes, headers: list[tuple[bytes, bytes]], query: bytes = b""
    ) -> Answer:
        sending = self._send(method, path, body, headers, query)
        return asyncio.run_coroutine_threadsafe(sending, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
