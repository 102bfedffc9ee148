"""The log as two Delta tables, ``events`` and ``shown``, in partitions by day."""

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from recray.event_log.tables import Table


class DeltaSink:
    """Rows and how far they go are one commit of Delta (its ``txn`` action, by node): each row comes once.

    Args:
        place: a folder, or an address such as ``s3://bucket/log``; credentials come from the environment.
    """

    every_s = 60.0  # each time makes a file

    def __init__(self, place: str) -> None:
        self._place = place.rstrip("/")

    def last_row(self, table: Table, node: str) -> int:
        place = self._of(table)
        if not DeltaTable.is_deltatable(place):
            return 0
        return DeltaTable(place).transaction_version(node) or 0

    def take(self, table: Table, node: str, rows: pl.DataFrame) -> None:
        seconds = pl.col("received" if table == "events" else "at")
        day = pl.from_epoch(seconds.cast(pl.Int64)).dt.strftime("%Y-%m-%d")
        write_deltalake(
            self._of(table),
            rows.with_columns(day=day),
            mode="append",
            partition_by="day",
            schema_mode="merge",  # another ranker has other features
            commit_properties=CommitProperties(app_transactions=[Transaction(node, rows["seq"][-1])]),
        )

    def _of(self, table: Table) -> str:
        return f"{self._place}/{table}"
