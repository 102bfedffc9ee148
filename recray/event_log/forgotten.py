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

    def begin(self, user_id: str, nodes: Sequence[str]) -> frozenset[str]:
        """From now on it counts as forgotten; each of these nodes has to delete what it has.

        Returns its digest.
        """
        with self._changed() as known:
            digest = _digest(known["salt"], user_id)
            known["users"][digest] = {"at": time.time(), "nodes": list(nodes)}
        return frozenset({digest})

    def asked(self, node: str) -> frozenset[str]:
        """Digests of those whose rows a node has not deleted yet."""
        return frozenset(digest for digest, one in self._read()["users"].items() if node in one["nodes"])

    def among(self, user_ids: Iterable[str], digests: frozenset[str]) -> list[str]:
        """Those who are meant."""
        salt = self._read()["salt"]
        return [user for user in user_ids if _digest(salt, user) in digests]

    def end(self, node: str, digests: frozenset[str]) -> None:
        """A node has nothing of them any more."""
        with self._changed() as known:
            for digest in digests:
                one = known["users"][digest]
                one["nodes"] = [each for each in one["nodes"] if each != node]

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


def _digest(salt: str, user_id: str) -> str:
    return hashlib.sha256(f"{salt} {user_id}".encode()).hexdigest()
