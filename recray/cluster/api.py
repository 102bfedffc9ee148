"""RunPod's REST v2, as far as a Ray cluster needs it; the key stays in the Authorization header.

The service keeps no idempotency key: whether a pod was made by a call that failed is known by asking for its
name, which is why every pod has one of its own (``pods``).
"""

import logging
import os
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple, TypeAlias, cast

import httpx

from recray.config import ConfigError, UnavailableError
from recray.redaction import hidden

Json: TypeAlias = dict[str, object]

log = logging.getLogger(__name__)
KEY, ADDRESS = "RUNPOD_API_KEY", "RUNPOD_API_URL"
SERVICE = "https://api.runpod.io"
WINDOWS = ((60.0, 60), (3600.0, 3000), (86400.0, 50000))
"""Seconds, and the calls that an account has in them."""
SHARE = 0.75  # of them that one process takes: a head, its guard and a laptop ask side by side
PATIENCE_S = 300.0  # for a service that is busy or down
TIMEOUT_S = 30.0
UNTIL = "RECRAY_UNTIL"  # of a pod's variables: when it ends by itself, in seconds since 1970
GONE = frozenset({"EXITED", "ERROR", "TERMINATED"})


class Pod(NamedTuple):
    """A machine, as the service tells of it."""

    id: str
    name: str
    status: str
    dollars_per_hour: float
    created: float
    """Seconds since 1970."""
    env: Mapping[str, str]
    address: str = ""
    """In the private network of the account or of its cluster; empty until it has one."""
    ssh: tuple[str, int] | None = None
    """Host and port of its own sshd."""
    gpu: str = ""
    cluster: str = ""
    """The Instant Cluster it belongs to: it is deleted with that."""
    rank: int = -1


class RefusedError(ConfigError):
    """The service answered that it will not; ``status`` is HTTP's."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.status = status


class UnsureError(UnavailableError):
    """Nobody said whether it was done."""


class Quota:
    """Keeps one process below what an account may ask: ``wait`` returns when a call is free."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.clock, self.sleep, self.calls = clock, sleep, deque[float]()

    def wait(self) -> None:
        while (seconds := self._blocked()) > 0:
            self.sleep(seconds)
        self.calls.append(self.clock())

    def _blocked(self) -> float:
        now = self.clock()
        while self.calls and self.calls[0] < now - WINDOWS[-1][0]:
            self.calls.popleft()
        longest = 0.0
        for seconds, most in WINDOWS:
            allowed = int(most * SHARE)
            if len(self.calls) >= allowed:
                longest = max(longest, self.calls[-allowed] + seconds - now)
        return longest


class RunPod:
    """Args:
    key: of the account; None: of the environment.
    transport, clock, sleep: what a test puts in the place of the network and the time.

    Raises:
        ConfigError: there is no key.
    """

    def __init__(
        self,
        key: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        key = key or os.environ.get(KEY, "")
        if not key:
            raise ConfigError(f"{KEY} is not set: export a key of the account (console.runpod.io, API keys)")
        where = os.environ.get(ADDRESS) or SERVICE
        logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line a call, for ever
        self.clock, self.sleep, self.quota = clock, sleep, Quota(clock, sleep)
        self._http = httpx.Client(
            base_url=where,
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT_S,
            transport=transport,
        )

    def pods(self, *, members: bool = True) -> list[Pod]:
        """All pods of the account, those of Instant Clusters among them."""
        asked = {"includeClusterPods": "true"} if members else {}
        said = self.ask("GET", "/v2/pods", params=asked)
        return [pod for each in rows(said, "pods") if (pod := readable(each))]

    def create_pod(self, body: Mapping[str, object]) -> Pod:
        """
        Raises:
            UnsureError: the call failed on the way: the pod may be there.
        """
        return pod_of(self.ask("POST", "/v2/pods", body))

    def delete_pod(self, pod_id: str) -> None:
        """Also where it is gone already."""
        self._delete(f"/v2/pods/{pod_id}")

    def gpus(self) -> list[Json]:
        """The catalogue, with what is to be had now."""
        said = self.ask("GET", "/v2/catalog/gpus", params={"include": "AVAILABILITY", "product": "POD"})
        return rows(said, "gpus")

    def volumes(self) -> list[Json]:
        return rows(self.ask("GET", "/v2/network-volumes"), "networkVolumes")

    def clusters(self) -> list[Json]:
        return rows(self.ask("GET", "/v2/clusters"), "clusters")

    def create_cluster(self, body: Mapping[str, object]) -> Json:
        return self.ask("POST", "/v2/clusters", body)

    def delete_cluster(self, cluster_id: str) -> None:
        self._delete(f"/v2/clusters/{cluster_id}")

    def members(self, cluster_id: str) -> list[Pod]:
        return [pod_of(each) for each in rows(self.ask("GET", f"/v2/clusters/{cluster_id}/pods"), "pods")]

    def _delete(self, path: str) -> None:
        try:
            self.ask("DELETE", path)
        except RefusedError as error:
            if error.status != 404:
                raise

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> Json:
        """One call; a busy or broken service is asked again, unless that could make something twice.

        Raises:
            RefusedError: the service will not, and says why.
            UnsureError: a POST failed on the way.
            UnavailableError: the service is busy or down for ``PATIENCE_S``.
        """
        until, failures = self.clock() + PATIENCE_S, 0
        while True:
            self.quota.wait()
            said, pause = "no answer", 0.0
            try:
                answer = self._http.request(method, path, json=body, params=params)
                if answer.is_success:
                    if (found := _object(answer)) is not None:
                        return found
                    said = "an answer that is none of its own"
                else:
                    said = _words(answer)
                if answer.status_code == 429:
                    pause = _seconds(answer.headers.get("Retry-After", ""))
                elif 300 <= answer.status_code < 500 and _object(answer) is not None:
                    raise RefusedError(f"RunPod, {method} {path}: {said}", answer.status_code)
            except httpx.ConnectError as error:  # it was not reached: nothing was done
                said, pause = str(error), 1.0
            except httpx.HTTPError as error:
                said = type(error).__name__
            if method == "POST" and not pause:
                raise UnsureError(f"RunPod, {method} {path}: {hidden(said)}")
            failures += 1
            pause = max(pause, min(30.0, 2.0**failures) * random.uniform(0.5, 1.0))
            if self.clock() + pause > until:
                raise UnavailableError(f"RunPod, {method} {path}: {hidden(said)}; asked {failures} times")
            self.sleep(pause)


def readable(said: Mapping[str, object]) -> Pod | None:
    """A pod of a list; None: somebody else's, of a kind that is not known here."""
    try:
        return pod_of(said)
    except (KeyError, TypeError, ValueError) as error:
        if "RECRAY_CLUSTER" in str(said.get("env")):
            raise UnavailableError(f"pod {said.get('id')} cannot be read: {error!r}") from error
        log.warning("pod %s cannot be read: %r", said.get("id"), error)
        return None


def pod_of(said: Mapping[str, object]) -> Pod:
    network = cast(Json, said.get("globalNetworking") or {})
    cluster = cast(Json, said.get("cluster") or {})
    direct = cast(Json, cast(Json, said.get("ssh") or {}).get("direct") or {})
    rank = cluster.get("rank")
    return Pod(
        id=str(said["id"]),
        name=str(said["name"]),
        status=str(said["status"]),
        dollars_per_hour=float(cast(float, said.get("cost") or 0.0)),
        created=datetime.fromisoformat(str(said["createdAt"])).timestamp(),
        env={key: str(value) for key, value in cast(Json, said.get("env") or {}).items()},
        address=str(cluster.get("ip") or network.get("ip") or ""),
        ssh=(str(direct["host"]), int(cast(int, direct["port"]))) if direct else None,
        gpu=str(cast(Json, said.get("gpu") or {}).get("id") or ""),
        cluster=str(cluster.get("id") or ""),
        rank=int(cast(int, rank)) if rank is not None else -1,
    )


def rows(said: Json, name: str) -> list[Json]:
    """
    Raises:
        UnavailableError: it is not there: nothing may be concluded from its absence.
    """
    if not isinstance(found := said.get(name), list):
        raise UnavailableError(f"RunPod answered without {name}: {hidden(str(said))[:200]}")
    return found


def _object(answer: httpx.Response) -> Json | None:
    """The object that an answer holds; None: a proxy's page, or half of one."""
    if not answer.content:
        return {}
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _words(answer: httpx.Response) -> str:
    """What an answer says is wrong, on one line."""
    try:
        said = answer.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return f"HTTP {answer.status_code}, not of the service itself"
    if answer.status_code == 401:
        return f"{KEY} is not one of the account's keys, or no longer [HTTP 401]"
    wrong = "; ".join(str(each) for each in cast(list[object], said.get("errors") or []))
    text = f"{said.get('detail') or said.get('title') or ''}{f' ({wrong})' if wrong else ''}"
    return hidden(f"{text.strip()} [HTTP {answer.status_code}]")


def _seconds(text: str) -> float:
    return max(1.0, float(text)) if text.replace(".", "", 1).isdecimal() else 5.0
