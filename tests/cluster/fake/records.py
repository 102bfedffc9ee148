"""What the fake of RunPod is made of: calls, faults, pods."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol


class Machines(Protocol):
    """What makes pods real."""

    def start(self, pod_id: str, env: Mapping[str, str], rank: int) -> None: ...
    def address(self, pod_id: str) -> str: ...
    def door(self, pod_id: str) -> tuple[str, int] | None: ...
    def kill(self, pod_id: str) -> None: ...


class Answer(NamedTuple):
    status: int
    body: Mapping[str, object] | None = None
    headers: Mapping[str, str] = {}


class Call(NamedTuple):
    at: float
    method: str
    path: str
    status: int
    body: str
    headers: str
    """All but Authorization."""


Kind = Literal["429", "500", "503", "timeout", "reset", "done_then_500", "done_then_timeout", "late"]


@dataclass
class Fault:
    """Goes wrong ``times`` times, on every path that begins so."""

    method: str
    path: str
    kind: Kind
    times: int = 1
    seconds: float = 5.0
    """Of Retry-After, or until a late pod is listed."""


class FakeError(Exception):
    def __init__(self, status: int, detail: str, errors: list[str] | None = None) -> None:
        self.answer = Answer(
            status,
            {"title": "Error", "status": status, "detail": detail, **({"errors": errors} if errors else {})},
        )


@dataclass
class Pod:
    id: str
    body: dict[str, Any]
    created: float
    rate: float
    key: str
    cluster: str = ""
    rank: int | None = None
    fails: str = ""
    hidden_until: float = 0.0
    gone: float = 0.0
