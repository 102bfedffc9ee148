"""The log as two tables: one row per shown item, one row per event; and how an answer is kept until then.

Shapes: N answers, F features.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import polars as pl
import pydantic_core
from polars.datatypes import DataTypeClass

from recray.arrays import Int64s
from recray.event_log.records import Event, Exposure

Table: TypeAlias = Literal["events", "shown"]

FEATURE = "feature:"
"""Columns of the shown items that begin so are what a ranker went by, by the names of its features."""

EVENTS = {
    "event_id": pl.String,
    "kind": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "value": pl.Float64,
    "at": pl.Float64,
    "received": pl.Float64,
    "request_id": pl.String,
    "node": pl.String,
    "seq": pl.Int64,
}

_OF_ITEMS: dict[str, pl.List] = {
    "item_id": pl.List(pl.String),
    "score": pl.List(pl.Float64),
    "source": pl.List(pl.String),
    "propensity": pl.List(pl.Float64),
    "team": pl.List(pl.String),
}
_OF_ANSWER: dict[str, pl.DataType | DataTypeClass] = {
    "request_time": pl.Int64,
    "asked": pl.Int32,
    "version": pl.String,
    "experiment": pl.String,
    "arm": pl.String,
    "fallback": pl.String,
    "skipped": pl.List(pl.String),
    "rules": pl.List(pl.String),
    "context": pl.String,
    "took_ms": pl.Float64,
    "trace_id": pl.String,
    "brought": pl.Int32,  # null: logged before it was
    "named": pl.String,  # null: nothing, or not kept
}
ITEM_VERSION = "item_version"  # where items are of several versions; it becomes the version of their rows
_BODY = pl.Struct({**_OF_ANSWER, **_OF_ITEMS, ITEM_VERSION: pl.List(pl.String)})

SHOWN = {
    "request_id": pl.String,
    "at": pl.Float64,
    "user_id": pl.String,
    "request_time": pl.Int64,
    "asked": pl.Int32,
    "rank": pl.Int32,
    **{name: kind.inner for name, kind in _OF_ITEMS.items()},
    **{name: kind for name, kind in _OF_ANSWER.items() if name not in ("request_time", "asked")},
    "node": pl.String,
    "seq": pl.Int64,
}


class Answer(NamedTuple):
    """An exposure as it travels and waits: a few values and three pieces of bytes."""

    request_id: str
    at: float
    user_id: str | None
    body: bytes  # JSON of the rest
    feature_names: str  # JSON; empty: no features
    features: bytes  # float32, row by row of the items


def encoded(exposure: Exposure) -> Answer:
    """What is left to do is done when nobody waits for it."""
    items, to_json = exposure.items, pydantic_core.to_json
    body = {
        "request_time": exposure.request_time,
        "asked": exposure.asked,
        "version": to_json(exposure.version).decode(),
        "experiment": exposure.experiment,
        "arm": exposure.arm,
        "fallback": exposure.fallback,
        "skipped": exposure.skipped,
        "rules": exposure.rules,
        "context": to_json(exposure.context).decode(),
        "took_ms": exposure.took_ms,
        "trace_id": exposure.trace_id,
        "brought": exposure.brought,
        "named": exposure.named or None,
        "item_id": [item.item_id for item in items],
        "score": [item.score for item in items],
        "source": [item.source for item in items],
        "propensity": [item.propensity for item in items],
        "team": [item.arm for item in items],
    }
    if any(item.version for item in items):
        body[ITEM_VERSION] = [to_json(item.version or exposure.version).decode() for item in items]
    has_features = exposure.features_KF is not None and bool(items)
    names = to_json(exposure.feature_names).decode() if has_features else ""
    features = np.ascontiguousarray(exposure.features_KF, np.float32).tobytes() if has_features else b""
    return Answer(
        exposure.request_id,
        exposure.at,
        exposure.user_id,
        to_json(body, inf_nan_mode="null"),
        names,
        features,
    )


def as_table(table: Table, rows: Sequence[tuple[int, *tuple[Any, ...]]], node: str) -> pl.DataFrame:
    """
    Args:
        rows: of ``seq`` and the record's fields, as a live file has them.
    """
    return events_table(rows, node) if table == "events" else shown_table(rows, node)


def events_table(rows: Sequence[tuple[int, *tuple[Any, ...]]], node: str) -> pl.DataFrame:
    """
    Args:
        rows: of ``seq`` and an event's fields.
    """
    columns = ["seq", *Event._fields]
    schema = {name: EVENTS[name] for name in columns}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.with_columns(node=pl.lit(node)).select(*EVENTS)


def shown_table(rows: Sequence[tuple[int, *tuple[Any, ...]]], node: str) -> pl.DataFrame:
    """One row per item at its rank, best first; an answer without items is one row of rank 0.

    Args:
        rows: of ``seq`` and an ``Answer``.
    """
    seqs, request_ids, ats, user_ids, bodies, names_N, features_N = (
        zip(*rows, strict=True) if rows else ((),) * 7
    )
    answers = pl.DataFrame(
        {
            "seq": pl.Series(seqs, dtype=pl.Int64),
            "request_id": pl.Series(request_ids, dtype=pl.String),
            "at": pl.Series(ats, dtype=pl.Float64),
            "user_id": pl.Series(user_ids, dtype=pl.String),
            "body": pl.Series([body.decode() for body in bodies], dtype=pl.String),
        }
    ).with_columns(pl.col("body").str.json_decode(_BODY))
    table = (
        answers.unnest("body")
        .with_columns(
            pl.coalesce(ITEM_VERSION, pl.col("version").repeat_by(pl.col("item_id").list.len())),
            rank=pl.int_ranges(1, pl.col("item_id").list.len() + 1, dtype=pl.Int32),
        )
        .explode(*_OF_ITEMS, ITEM_VERSION, "rank", empty_as_null=True)
        .with_columns(
            pl.col("rank").fill_null(0), version=pl.coalesce(ITEM_VERSION, "version"), node=pl.lit(node)
        )
        .select(*SHOWN)
    )
    sizes_N = answers["body"].struct.field("item_id").list.len().cast(pl.Int64).to_numpy()
    return _with_features(table, np.maximum(sizes_N, 1), names_N, features_N)


def _with_features(
    table: pl.DataFrame, sizes_N: Int64s, names_N: Sequence[str], features_N: Sequence[bytes]
) -> pl.DataFrame:
    """Adds a column per name; null where an answer had no such feature, or an item was not ranked."""
    names_of = {
        names: [FEATURE + name for name in pydantic_core.from_json(names)] for names in set(names_N) if names
    }
    known = sorted({column for columns in names_of.values() for column in columns})
    if not known:
        return table
    place = {column: f for f, column in enumerate(known)}
    values_NF = np.full((len(table), len(known)), np.nan, np.float32)
    last_N: Int64s = np.cumsum(sizes_N)
    first_N = last_N - sizes_N
    for names, columns in names_of.items():
        mine = [n for n, of_answer in enumerate(names_N) if of_answer == names]
        rows: Int64s = np.concatenate([np.arange(first_N[n], last_N[n]) for n in mine])
        found = np.frombuffer(b"".join(features_N[n] for n in mine), np.float32)
        columns_F = np.array([place[column] for column in columns])
        values_NF[rows[:, None], columns_F] = found.reshape(len(rows), len(columns))
    features = pl.DataFrame(values_NF, schema=dict.fromkeys(known, pl.Float32))
    return pl.concat([table, features.with_columns(pl.all().fill_nan(None))], how="horizontal")
