"""The join of a log over Ray Data, for one that does not fit a machine: what belongs together by the answer.

Each task reads one Parquet file and deals its rows to buckets by the id of the answer that they are of, or
claim; one task for each bucket then joins as ``data.logged.outcomes`` does. What is still in live files is
not looked at: compact first.
"""

import functools
import logging
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import ray.data

from recray.data.logged.outcomes import outcomes
from recray.event_log.partitions import partitions
from recray.event_log.reading import Log
from recray.event_log.tables import EVENTS, FEATURE, SHOWN
from recray.schema import DataError

BUCKET, TABLE = "bucket", "table"


def outcomes_with_ray(
    folder: Path, attribution_s: float, until: float, num_buckets: int = 64
) -> ray.data.Dataset:
    """The rows of ``data.logged.outcomes.outcomes``, in no order; nothing of them is in this process.

    Args:
        folder: of an application's log.
        num_buckets: as many as a bucket's rows fit the memory of a worker.
    Raises:
        DataError: nothing is compacted.
    """
    files = [(str(file.path), table) for table in ("shown", "events") for file in partitions(folder, table)]
    if not files:
        raise DataError(f"{folder}: nothing is compacted yet, which happens a minute after it was written")
    features = _features([path for path, table in files if table == "shown"])
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    found = ray.data.from_items([{"path": path, TABLE: table} for path, table in files])
    dealt = found.map_batches(
        functools.partial(_dealt, features=features, num_buckets=num_buckets),
        batch_size=1,
        batch_format="pyarrow",
    )
    join = functools.partial(_joined, features=features, attribution_s=attribution_s, until=until)
    rows = dealt.groupby(BUCKET, num_partitions=num_buckets).map_groups(join, batch_format="pyarrow")
    rows.context.enable_progress_bars = False
    return rows


def _features(files: Sequence[str]) -> tuple[str, ...]:
    """Columns of features in any of the files."""
    return tuple(
        sorted({name for file in files for name in pl.read_parquet_schema(file) if name.startswith(FEATURE)})
    )


def _schema(features: Sequence[str]) -> pl.Schema:
    return pl.Schema({**EVENTS, **SHOWN, **dict.fromkeys(features, pl.Float32)})


def _dealt(file: pa.Table, features: Sequence[str], num_buckets: int) -> pa.Table:
    """The rows of one file, each with its bucket, in the columns of both tables."""
    path, table = file["path"][0].as_py(), file[TABLE][0].as_py()
    rows = pl.read_parquet(path, hive_partitioning=False)
    empty = pl.DataFrame(schema=_schema(features))
    bucket = pl.col("request_id").fill_null("").hash(seed=0) % num_buckets
    return (
        pl.concat([empty, rows], how="diagonal")
        .with_columns(bucket.cast(pl.Int64).alias(BUCKET), pl.lit(table).alias(TABLE))
        .to_arrow()
    )


def _joined(bucket: pa.Table, features: Sequence[str], attribution_s: float, until: float) -> pa.Table:
    both = pl.DataFrame(pl.from_arrow(bucket)).cast(_schema(features)).sort("node", "seq", "rank")
    log = Log(
        both.filter(pl.col(TABLE) == "shown").select(*SHOWN, *features),
        both.filter(pl.col(TABLE) == "events").select(*EVENTS),
    )
    return outcomes(log, attribution_s, until).to_arrow()
