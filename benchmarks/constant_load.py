"""Questions at a constant rate, whatever comes back, and what the server says of itself meanwhile."""

import collections
import http.client
import itertools
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

LOOK_EVERY_S = 0.25  # at /ready and /health, and with an event
BACK_AFTER = 30  # good answers in a row
SHOWN_CHARACTERS = 90


@dataclass(frozen=True)
class Asked:
    """One question: when it was sent and answered (seconds), with which status, or why without one."""

    sent: float
    done: float
    status: int | str


def call(port: int, path: str, body: Any = None, timeout_s: float = 60.0) -> tuple[int | str, bytes]:
    """Status and body, or why there is none, of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        content = None if body is None else json.dumps(body)
        headers = {"content-type": "application/json"}
        connection.request("GET" if body is None else "POST", path, content, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, b""
    finally:
        connection.close()


class Load:
    """Asks so many questions a second in threads of its own, a connection each."""

    def __init__(self, port: int, rate: float) -> None:
        self._port, self.asked = port, list[Asked]()
        self.said: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self._stop, self._pool = threading.Event(), ThreadPoolExecutor(256)
        self._threads = [
            threading.Thread(target=self._each, args=(1 / max(rate, 1e-3), self.ask)),
            threading.Thread(target=self._each, args=(LOOK_EVERY_S, self._look)),
        ]

    def ask(self, **fields: Any) -> Asked:
        sent = time.monotonic()
        status, _ = call(self._port, "/recommend", {"user_id": "1", **fields})
        asked = Asked(sent, time.monotonic(), status)
        self.asked.append(asked)
        return asked

    def _look(self) -> None:
        for path in ("/ready", "/health"):
            self.said[path][said(*call(self._port, path))] += 1
        event = {"user_id": "2", "item_id": "i1"}
        self.said["/events"][str(call(self._port, "/events", {"events": [event]})[0])] += 1

    def _each(self, seconds: float, work: Callable[[], Any]) -> None:
        began, number = time.monotonic(), 0
        while not self._stop.wait(max(0.0, began + number * seconds - time.monotonic())):
            self._pool.submit(work)
            number += 1

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._pool.shutdown()

    def is_back_since(self, moment: float) -> bool:
        last = sorted((a for a in self.asked if a.sent > moment), key=lambda a: a.sent)[-BACK_AFTER:]
        return len(last) == BACK_AFTER and all(a.status == 200 for a in last)

    def noticed(self, moment: float) -> dict[str, Any]:
        """Failures after a moment, the longest time without a good answer, and what the server said."""
        failed = [a for a in self.asked if a.status != 200]
        good = sorted(a.done for a in self.asked if a.status == 200)
        gap = max((b - a for a, b in itertools.pairwise(good) if b > moment), default=0.0)
        return {
            "asked": len(self.asked),
            "failed": len(failed),
            "silent_s": round(gap, 2),
            "statuses": dict(collections.Counter(str(a.status) for a in failed)),
            "said": {path: dict(answers) for path, answers in self.said.items()},
        }


def said(status: int | str, body: bytes) -> str:
    """The status of a page and the problem that it names, without paths."""
    try:
        answer = json.loads(body)
    except ValueError:
        return str(status)
    problem = answer.get("problem") or answer.get("message")
    state = answer.get("status", "")
    text = " ".join(str(part) for part in (status, state, problem) if part)
    return re.sub(r"/\S+", "PATH", text)[:SHOWN_CHARACTERS]
