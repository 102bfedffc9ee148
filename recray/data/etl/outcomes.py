"""The join of a log over Ray Data, for one that does not fit a machine: what belongs together by the answer.

Each task reads one Parquet file and deals its rows to buckets: events by their id, so that each is kept once
(``reading.once``), then by the answer that they claim; one task for each bucket then joins as
``data.logged.outcomes`` does. What is still in live files, which is little, is dealt here.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import ray.data

from recray.data.logged.outcomes import outcomes
from recray.event_log.partitions import TABLES, read_rows
from recray.event_log.reading import Log, Parts, once, parts
from recray.event_log.tables import EVENTS, FEATURE, SHOWN, Table
from recray.schema import DataError

BUCKET, TABLE = "bucket", "table"


def outcomes_with_ray(
    folder: Path, attribution_s: float, until: float, num_buckets: int = 64
) -> ray.data.Dataset:
    """The rows of ``data.logged.outcomes.outcomes``, in no order; of them only those that are in live files
    are in this process.

    Args:
        folder: of an application's log.
        num_buckets: as many as a bucket's rows fit the memory of a worker.
    Raises:
        DataError: there is no log, or nothing in it.
    """
    found = {table: parts(folder, table) for table in TABLES}  # in the order of ``read``
    if all(not each.files and each.live.is_empty() for each in found.values()):
        raise DataError(f"{folder}: nothing was shown or told yet")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    schema = _schema(_features(found["shown"]))
    events = _dealt(found["events"], "events", schema, "event_id", num_buckets)
    shown = _dealt(found["shown"], "shown", schema, "request_id", num_buckets)
    keep_once = functools.partial(_kept_once, schema=schema, num_buckets=num_buckets)
    events = _by_bucket(events, num_buckets, keep_once)
    join = functools.partial(_joined, schema=schema, attribution_s=attribution_s, until=until)
    return _by_bucket(shown.union(events), num_buckets, join)


def _by_bucket(
    rows: ray.data.Dataset, num_buckets: int, work: Callable[[pa.Table], pa.Table]
) -> ray.data.Dataset:
    done = rows.groupby(BUCKET, num_partitions=num_buckets).map_groups(work, batch_format="pyarrow")
    done.context.enable_progress_bars = False
    return done


def _features(shown: Parts) -> tuple[str, ...]:
    """Columns of features in any of the files, or live."""
    names = [
        *shown.live.columns,
        *(name for file in shown.files for name in pl.read_parquet_schema(file.path)),
    ]
    return tuple(sorted({name for name in names if name.startswith(FEATURE)}))


def _schema(features: Sequence[str]) -> pl.Schema:
    return pl.Schema({**EVENTS, **SHOWN, **dict.fromkeys(features, pl.Float32)})


def _dealt(found: Parts, table: Table, schema: pl.Schema, by: str, num_buckets: int) -> ray.data.Dataset:
    """The rows of a table, each with its bucket, in the columns of both tables."""
    deal = functools.partial(_with_bucket, table=table, schema=schema, by=by, num_buckets=num_buckets)
    live = ray.data.from_arrow(deal(found.live))
    if not found.files:
        return live
    files = ray.data.from_items([{"path": str(file.path)} for file in found.files])
    return files.map_batches(
        lambda file: deal(read_rows(Path(file["path"][0].as_py()))), batch_size=1, batch_format="pyarrow"
    ).union(live)


def _with_bucket(rows: pl.DataFrame, table: Table, schema: pl.Schema, by: str, num_buckets: int) -> pa.Table:
    bucket = pl.col(by).fill_null("").hash(seed=0) % num_buckets
    return (
        pl.concat([pl.DataFrame(schema=schema), rows], how="diagonal")
        .with_columns(bucket.cast(pl.Int64).alias(BUCKET), pl.lit(table).alias(TABLE))
        .to_arrow()
    )


def _kept_once(bucket: pa.Table, schema: pl.Schema, num_buckets: int) -> pa.Table:
    """Events, dealt anew by the answer that they claim."""
    events = once(pl.DataFrame(pl.from_arrow(bucket)).cast(schema).select(*EVENTS))
    return _with_bucket(events, "events", schema, "request_id", num_buckets)


def _joined(bucket: pa.Table, schema: pl.Schema, attribution_s: float, until: float) -> pa.Table:
    both = pl.DataFrame(pl.from_arrow(bucket)).cast(schema).sort("node", "seq", "rank")
    features = [name for name in schema if name.startswith(FEATURE)]
    log = Log(
        both.filter(pl.col(TABLE) == "shown").select(*SHOWN, *features),
        both.filter(pl.col(TABLE) == "events").select(*EVENTS),
    )
    return outcomes(log, attribution_s, until).to_arrow()
