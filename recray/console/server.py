"""The server that the console looks at: its calls, and what went wrong with them in words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from recray.redaction import hidden
from recray.schema import DataError

CONNECT_S, ANSWER_S = 2.0, 10.0
LETTERS = 300  # of a message that is shown


class ServerError(DataError):
    """A server that does not answer, or refuses; the text is for a person."""


@dataclass(frozen=True)
class Server:
    """One recray server.

    Attributes:
        token: for changes; empty: none can be made.
    """

    url: str
    token: str = ""

    def get(self, path: str, **query: object) -> Any:
        """The JSON of a page.

        Raises:
            ServerError: it is not to be reached, late, no recray server, or refuses.
        """
        return self._json(self._asked("GET", path, params=query))

    def text(self, path: str) -> str:
        """The same of a page that is plain text."""
        return self._asked("GET", path).text

    def post(self, path: str, **body: object) -> Any:
        return self._json(self._asked("POST", path, json=body))

    def administer(self, action: str, **change: object) -> None:
        """Changes what is live: ``promote``, ``canary`` and so on, as ``POST /admin/ACTION`` takes them."""
        self._asked("POST", f"/admin/{action}", json={"by": "console", **change})

    def _asked(self, method: str, path: str, **content: Any) -> httpx.Response:
        headers = self._signed() if path.startswith("/admin/") else {}
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        try:
            response = httpx.request(
                method, self.url.rstrip("/") + path, headers=headers, timeout=timeout, **content
            )
        except httpx.TimeoutException:
            raise ServerError(f"{self.url} did not answer within {ANSWER_S:.0f} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            why = hidden(str(error))[:LETTERS]
            raise ServerError(f"{self.url} is not to be reached ({why}); `recray serve` starts one") from None
        if response.is_error and response.status_code != 503:
            raise ServerError(self._refused(response))
        if response.status_code == 503 and path not in ("/ready", "/health"):
            raise ServerError(self._refused(response))
        return response

    def _signed(self) -> dict[str, str]:
        token = self.token.strip()
        if not (token.isascii() and token.isprintable()):
            raise ServerError("the token has characters that no header can hold: was it copied whole?")
        return {"authorization": f"Bearer {token}"} if token else {}

    def _refused(self, response: httpx.Response) -> str:
        try:
            said = response.json()["message"]
        except (ValueError, KeyError, TypeError):
            said = re.sub(r"\s+", " ", response.text)[:LETTERS] or "no reason given"
        return f"{response.status_code}: {hidden(str(said))[:LETTERS]}"

    def _json(self, response: httpx.Response) -> Any:
        try:
            found = response.json()
        except ValueError:
            found = []
        if found is not None and not isinstance(found, dict):
            raise ServerError(f"what answers at {self.url} is no recray server")
        return found


def versions_in_words(served: Mapping[str, Mapping[str, Any]]) -> str:
    """``ranker shop-ranker 3, retriever shop-sasrec 2``."""
    return ", ".join(f"{role} {one['name']} {one['version']}" for role, one in served.items())
