"""One thing that a report looked at, and what it found."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning"]


@dataclass(frozen=True, kw_only=True)
class Check:
    name: str
    level: Level
    text: str


def check(name: str, text: str, *, fine: str, warning: bool = False, note: bool = False) -> Check:
    """``text`` where something is to be said, ``fine`` where all is well."""
    level: Level = "warning" if warning else "note" if note else "ok"
    return Check(name=name, level=level, text=fine if level == "ok" else text)
