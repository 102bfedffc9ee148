"""Tells whether anything was told since that an answer must not miss."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from recray.serve.events.told import Event, Gone, Told

NOTHING = b""


class OfUser(NamedTuple):
    """Of all events of one user."""

    digest: bytes
    newest: int  # unix seconds


NEVER = OfUser(NOTHING, 0)


class Marks:
    """A digest of what was told of each user, and one of what was told of items: alike in all replicas that
    were told alike. One thread tells, others ask."""

    def __init__(self) -> None:
        self._users: dict[str, OfUser] = {}
        self._items = NOTHING

    def tell(self, told: Sequence[Told]) -> None:
        for one in told:
            if isinstance(one, Gone):
                self._users.pop(one.user_id, None)
            elif not isinstance(one, Event):
                self._items = _after(self._items, one)
            elif one.user_id is not None:
                digest, newest = self._users.get(one.user_id, NEVER)
                self._users[one.user_id] = OfUser(_after(digest, one), max(newest, int(one.at)))

    def of(self, user_id: str | None) -> OfUser:
        """The user's digest and that of items in one."""
        known = NEVER if user_id is None else self._users.get(user_id, NEVER)
        return OfUser(self._items + b"|" + known.digest, known.newest)


def _after(before: bytes, one: Told) -> bytes:
    return blake2b(before + repr(one).encode("utf-8", "surrogatepass"), digest_size=12).digest()
