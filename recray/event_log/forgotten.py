"""Which users asked to be forgotten: as salted digests, so that nothing here says who they were."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from recray.folders import locked, write_whole

FILE = "forgotten.json"


class Forgotten:
    """Of one application's log."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    def begin(self, user_id: str, nodes: Sequence[str]) -> None:
        """From now on it counts as forgotten; each of these nodes deletes what it has. Asked again, what
        was told the first time still stands."""
        with self._changed() as known:
            digest = _digest(known["salt"], user_id)
            earlier = known["users"].get(digest)
            told = _told(earlier) if earlier else []
            known["users"][digest] = {"at": time.time(), "nodes": list(nodes), "told": told}

    def digest(self, user_id: str) -> frozenset[str]:
        """Of one who began."""
        return frozenset({_digest(self._read()["salt"], user_id)})

    def tell(self, asked: frozenset[str], ids: Iterable[str], nodes: Sequence[str]) -> None:
        """These are of their answers and of what was done with them: the nodes have to delete what names
        them, also those that ended."""
        with self._changed() as known:
            for one in (known["users"][digest] for digest in asked):
                new = {_digest(known["salt"], each) for each in ids} - set(_told(one))
                if new and nodes:
                    one["told"] = [*_told(one), *sorted(new)]
                    one["nodes"] = sorted({*one["nodes"], *nodes})

    def asked(self, node: str) -> frozenset[str]:
        """Digests of those whose rows a node has not deleted yet."""
        return frozenset(digest for digest, one in self._read()["users"].items() if node in one["nodes"])

    def told(self, asked: frozenset[str]) -> frozenset[str]:
        """Digests of the ids that nodes have told of them."""
        users = self._read()["users"]
        return frozenset(each for digest in asked for each in _told(users[digest]))

    def among(self, ids: Iterable[str], digests: frozenset[str], said: str = "") -> list[str]:
        """Those that are meant, and were told with this before them."""
        salt = self._read()["salt"]
        return [one for one in ids if _digest(salt, said + one) in digests]

    def end(self, node: str, asked: frozenset[str], told: frozenset[str]) -> None:
        """A node has nothing of them any more; where more was told since, it goes on."""
        with self._changed() as known:
            for one in (known["users"][digest] for digest in asked):
                if told.issuperset(_told(one)):
                    one["nodes"] = [each for each in one["nodes"] if each != node]
                if not one["nodes"]:
                    one["told"] = []

    def without(self, table: pl.DataFrame, user: str, at: str) -> pl.DataFrame:
        """What is left of other data when their events until then are left out.

        Args:
            user, at: columns: raw ids, and unix seconds.
        """
        known = self._read()
        if not known["users"]:
            return table
        users = table[user].drop_nulls().unique()  # once: its order is another one each time
        asked = [known["users"].get(_digest(known["salt"], str(one)), {}).get("at") for one in users]
        until = pl.DataFrame({user: users, "_forgotten": pl.Series(asked, dtype=pl.Float64)})
        kept = table.join(until, on=user, how="left", maintain_order="left").filter(
            pl.col("_forgotten").is_null() | (pl.col(at) > pl.col("_forgotten"))
        )
        return kept.drop("_forgotten")

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        with locked(self._file.with_name(f".{FILE}.lock")):
            known = self._read()
            yield known
            write_whole(self._file, json.dumps(known).encode())

    def _read(self) -> dict[str, Any]:
        if not self._file.exists():
            return {"salt": secrets.token_hex(16), "users": {}}
        known: dict[str, Any] = json.loads(self._file.read_bytes())
        return known


def _told(user: dict[str, Any]) -> list[str]:
    return list(user.get("told", ()))  # an older file has none


def _digest(salt: str, user_id: str) -> str:
    return hashlib.sha256(f"{salt} {user_id}".encode()).hexdigest()
