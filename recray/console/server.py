"""The server that the console looks at: its calls, and what went wrong with them in words."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx

from recray.redaction import hidden
from recray.schema import DataError

CONNECT_S, ANSWER_S = 2.0, 10.0
LETTERS = 300  # of a message that is shown


Json: TypeAlias = dict[str, Any]


class ServerError(DataError):
    """A server that does not answer, or refuses; the text is for a person.

    Attributes:
        reason: the server's word for it; empty: it said none.
    """

    def __init__(self, said: str, reason: str = "") -> None:
        super().__init__(said)
        self.reason = reason


@dataclass(frozen=True)
class Server:
    """One recray server.

    Attributes:
        token: for changes; empty: none can be made.
    """

    url: str
    token: str = ""

    def get(self, path: str) -> Json:
        """The JSON of a page.

        Raises:
            ServerError: it is not to be reached, late, no recray server, or refuses.
        """
        return self._json(self._asked("GET", path))

    def text(self, path: str) -> str:
        """The same of a page that is plain text."""
        return self._asked("GET", path).text

    def post(self, path: str, **body: object) -> Json:
        return self._json(self._asked("POST", path, body))

    def administer(self, action: str, **change: object) -> None:
        """Changes what is live: ``promote``, ``canary`` and so on, as ``POST /admin/ACTION`` takes them."""
        self._asked("POST", f"/admin/{action}", {"by": "console", **change})

    def _asked(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        try:
            response = self._whole(method, path, body)
        except httpx.TimeoutException:
            raise ServerError(f"{self.url} did not answer within {ANSWER_S:.0f} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            why = hidden(str(error))[:LETTERS]
            raise ServerError(
                f"{self.url} is not to be reached ({why}); `recray serve DATASET` starts one"
            ) from None
        if response.is_error and response.status_code != 503:
            raise self._refused(response)
        if response.status_code == 503 and path not in ("/ready", "/health"):
            raise self._refused(response)
        return response

    def _whole(self, method: str, path: str, body: Json | None) -> httpx.Response:
        """An answer that has come to its end in time: httpx's own limit is of each part of one."""
        headers = self._signed() if path.startswith("/admin/") else {}
        timeout, until = httpx.Timeout(ANSWER_S, connect=CONNECT_S), time.monotonic() + ANSWER_S
        url, content = self.url.rstrip("/") + path, bytearray()
        with httpx.stream(method, url, headers=headers, timeout=timeout, json=body) as response:
            for part in response.iter_bytes():
                content += part
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("it goes on and on")
        kind = response.headers.get("content-type", "")
        return httpx.Response(response.status_code, headers={"content-type": kind}, content=bytes(content))

    def _signed(self) -> dict[str, str]:
        token = self.token.strip()
        if not (token.isascii() and token.isprintable()):
            raise ServerError("the token has characters that no header can hold: was it copied whole?")
        return {"authorization": f"Bearer {token}"} if token else {}

    def _refused(self, response: httpx.Response) -> ServerError:
        try:
            answer = response.json()
            said, reason = str(answer["message"]), str(answer["error"])
        except (ValueError, KeyError, TypeError):
            said, reason = re.sub(r"\s+", " ", response.text) or "no reason given", ""
        return ServerError(f"{response.status_code}: {hidden(said)[:LETTERS]}", reason)

    def _json(self, response: httpx.Response) -> Json:
        try:
            found = response.json()
        except ValueError:
            found = []
        if not isinstance(found, dict):
            raise ServerError(f"what answers at {self.url} is no recray server")
        return found


def versions_in_words(served: Mapping[str, Mapping[str, Any]]) -> str:
    """``ranker shop-ranker 3, retriever shop-sasrec 2``."""
    return ", ".join(f"{role} {one['name']} {one['version']}" for role, one in served.items())
