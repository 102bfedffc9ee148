"""The log as Redis Streams, ``recray:APPLICATION:events`` and ``recray:APPLICATION:shown``: an entry per row,
its one field ``row`` is JSON."""

import polars as pl
import pydantic_core
import redis

from recray.event_log.tables import Table

ANSWER_WITHIN_S = 10.0
MOST_KEPT = 1_000_000  # entries of a stream, about; older ones go


class RedisSink:
    """Rows and how far they go are one transaction of Redis: what it keeps, it keeps once.

    Args:
        url: such as ``redis://localhost:6379/0``.
    """

    every_s = 1.0

    def __init__(self, url: str, application: str, most: int = MOST_KEPT) -> None:
        self._redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=ANSWER_WITHIN_S, socket_connect_timeout=ANSWER_WITHIN_S
        )
        self._key, self._most = f"recray:{application}", most

    def last_row(self, table: Table, node: str) -> int:
        return int(str(self._redis.hget(f"{self._key}:sent", f"{table}@{node}") or 0))

    def take(self, table: Table, node: str, rows: pl.DataFrame) -> None:
        with self._redis.pipeline(transaction=True) as step:
            for row in rows.iter_rows(named=True):
                text = pydantic_core.to_json(row, inf_nan_mode="null")
                step.xadd(f"{self._key}:{table}", {"row": text}, maxlen=self._most, approximate=True)
            step.hset(f"{self._key}:sent", f"{table}@{node}", str(rows["seq"][-1]))
            step.execute()
