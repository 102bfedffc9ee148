"""Movable names of versions."""

from collections.abc import Sequence

from recray.config import nearest
from recray.store.journal import Entry, Move
from recray.store.manifest import StoreError

NAMES = ("production", "candidate", "shadow")
PRODUCTION = NAMES[0]


def check_name(name: str, also: tuple[str, ...] = ()) -> None:
    """Raises ``StoreError`` naming the nearest name where there is no such one."""
    if name not in (valid := (*NAMES, *also)):
        raise StoreError(f"no version name {name!r}{nearest(name, valid)}")


def stacks(entries: Sequence[Entry]) -> dict[str, list[Move]]:
    """The promotions that each name has stood on and can roll back to; the last one is current.

    Raises:
        IndexError: a rollback follows no promotion.
    """
    found: dict[str, list[Move]] = {}
    for move in entries:
        if isinstance(move, Move):
            stack = found.setdefault(move.name, [])
            if move.action == "rollback":
                stack.pop()
            else:
                stack.append(move)
    return found
