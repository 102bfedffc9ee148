"""Which users asked to be forgotten: as salted digests, so that nothing here says who they were."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from recray.folders import locked, write_whole

FILE = "forgotten.json"


class Forgotten:
    """Of one application's log."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    def begin(self, user_id: str) -> None:
        """From now on it counts as forgotten; whoever opens the log goes on with it until ``end``."""
        self._put(user_id, is_done=False)

    def end(self, user_id: str) -> None:
        self._put(user_id, is_done=True)

    def unfinished(self, user_ids: Iterable[str]) -> list[str]:
        """Those whose deletion began and did not end."""
        known = self._read()
        pending = {digest for digest, one in known["users"].items() if not one["is_done"]}
        return [user for user in user_ids if _digest(known["salt"], user) in pending] if pending else []

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

    def _put(self, user_id: str, *, is_done: bool) -> None:
        with locked(self._file.with_name(f".{FILE}.lock")):
            known = self._read()
            known["users"][_digest(known["salt"], user_id)] = {"at": time.time(), "is_done": is_done}
            write_whole(self._file, json.dumps(known).encode())

    def _read(self) -> dict[str, Any]:
        if not self._file.exists():
            return {"salt": secrets.token_hex(16), "users": {}}
        known: dict[str, Any] = json.loads(self._file.read_bytes())
        return known


def _digest(salt: str, user_id: str) -> str:
    return hashlib.sha256(f"{salt} {user_id}".encode()).hexdigest()
