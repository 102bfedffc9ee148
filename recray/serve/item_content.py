"""What may be said of an item: the columns that a version's items have, by name, as JSON.

Shapes: M items.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TypeAlias

import numpy as np
import polars as pl

from recray.config import nearest
from recray.features.columns import KEYS

log = logging.getLogger(__name__)

Value: TypeAlias = str | int | float | bool | list[str] | None
Values: TypeAlias = Mapping[str, Value]
"""By column; None: not known any more."""
MOST_LABELS = 64  # in one column of lists


class ContentError(ValueError):
    """A column or a value that a version's items cannot have; says which and what they can."""


def check(values: Values, schema: Mapping[str, pl.DataType]) -> None:
    """
    Raises:
        ContentError: there is no such column, or the value is of another type.
    """
    columns = [name for name in schema if name not in KEYS]
    for name, value in values.items():
        shown = f"{name[:40]!a}"[1:-1]
        if name not in columns:
            raise ContentError(f"{shown}: the items have no such column{nearest(name[:40], columns)}")
        try:
            in_column(value, schema[name])
        except (ValueError, OverflowError) as error:
            raise ContentError(f"{shown}: {error}") from None


def in_column(value: object, dtype: pl.DataType) -> object:
    """The value as a column of that type holds it.

    Raises:
        ValueError, OverflowError: it cannot; says what can.
    """
    if value is None:
        return None
    if dtype == pl.String:
        return _text(value)
    if dtype == pl.Boolean:
        return _need(isinstance(value, bool), value, "true or false")
    if dtype.is_integer():
        return _held(_number(value, int, "a whole number"), dtype)
    if dtype.is_float():
        return _held(float(_number(value, (int, float), "a finite number")), dtype)
    if isinstance(dtype, pl.List) and dtype.inner == pl.String:
        _need(isinstance(value, list), value, f"a list of at most {MOST_LABELS} texts")
        assert isinstance(value, list)
        _need(len(value) <= MOST_LABELS, len(value), f"at most {MOST_LABELS} texts")
        return [_text(each) for each in value]
    if isinstance(dtype, (pl.Date, pl.Datetime)):
        return _moment(value, dtype)
    raise ValueError(f"a column of {dtype} cannot be told: leave it out")


def _need(holds: bool, value: object, wanted: str) -> object:
    if not holds:
        kind = {bool: "a truth value", str: "text", list: "a list", dict: "an object"}.get(type(value))
        raise ValueError(f"must be {wanted}, not {kind or f'{value!r:.40}'}")
    return value


def _text(value: object) -> str:
    _need(isinstance(value, str), value, "text")
    assert isinstance(value, str)
    value.encode()  # half a character is none; UnicodeEncodeError is a ValueError
    return value


def _number(value: object, kind: type | tuple[type, ...], wanted: str) -> float:
    _need(isinstance(value, kind) and not isinstance(value, bool), value, wanted)
    assert isinstance(value, (int, float))
    _need(math.isfinite(value), value, wanted)
    return value


def _held(value: float, dtype: pl.DataType) -> object:
    name = str(dtype).lower()  # NumPy's name of it
    if dtype.is_float():
        in_range = abs(float(value)) <= float(np.finfo(name).max)
    else:
        limits = np.iinfo(name)
        in_range = limits.min <= value <= limits.max
    return _need(in_range, value, f"within the range of {dtype}")


def _moment(value: object, dtype: pl.DataType) -> date | datetime:
    wanted = "a date or time in ISO 8601, such as 2026-01-31 or 2026-01-31T18:00:00Z"
    _need(isinstance(value, str), value, wanted)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"must be {wanted}, not {value!r:.40}") from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    if dtype == pl.Date:
        return moment.date()
    has_zone = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
    return moment.replace(tzinfo=UTC if has_zone else None)


def table_of(rows: Sequence[Mapping[str, object]], schema: pl.Schema) -> pl.DataFrame:
    """M rows of values as they are held; columns that a row lacks are missing."""
    return pl.DataFrame(
        {name: pl.Series([row.get(name) for row in rows], dtype=dtype) for name, dtype in schema.items()}
    )


class Fitting:
    """What a version's columns can hold of what was told, which may have been for an earlier version's."""

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        self._schema = schema
        self._held: dict[str, tuple[Values, dict[str, object]]] = {}  # it is asked for again at every change

    def __call__(self, item_id: str, values: Values) -> Mapping[str, object]:
        told, held = self._held.get(item_id, (None, {}))
        if told is not values:
            held = self._fitted(item_id, values)
            self._held[item_id] = values, held
        return held

    def _fitted(self, item_id: str, values: Values) -> dict[str, object]:
        held = {}
        for name, value in values.items():
            try:
                check({name: value}, self._schema)
                held[name] = in_column(value, self._schema[name])
            except ContentError as error:
                log.warning("item %s: left out: %s", ascii(item_id[:40]), error)
        return held
