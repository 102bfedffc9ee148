"""Further items, which a data set does not have: read, and given the types of its own."""

import logging
from collections.abc import Callable
from pathlib import Path

import polars as pl

from recray.features.columns import TEXTS
from recray.schema import DataError

log = logging.getLogger(__name__)


def conform(extra: pl.DataFrame, schema: pl.Schema, by_raw_id: bool) -> pl.DataFrame:
    """Further items with the columns and types of the data set's items; other columns say nothing."""
    raw_id = extra["raw_id"].cast(pl.String)
    if by_raw_id:
        return raw_id.to_frame()
    wanted: dict[str, pl.DataType] = {name: dtype for name, dtype in schema.items() if name != "raw_id"}
    if missing := [name for name in wanted if name not in extra.columns]:
        log.warning("the further items lack columns that the data set has: %s", ", ".join(missing))
    if wanted.keys() & {*TEXTS}:  # all are words, whichever of them the data set has
        wanted = {**dict.fromkeys(TEXTS, pl.String()), **wanted}
    found = [_cast(extra[name], dtype) for name, dtype in wanted.items() if name in extra.columns]
    if not found:
        raise DataError(
            f"the further items say nothing about themselves (columns: {', '.join(extra.columns)}): bring "
            f"at least one of {', '.join(wanted)}"
        )
    return pl.DataFrame([raw_id, *found])


def _cast(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Values of a data set's column, in its type; text of a list column is split at "|"."""
    if values.dtype.is_float():
        values = values.fill_nan(None)
    given = values
    if isinstance(dtype, pl.List) and values.dtype == pl.String:
        given = values.str.split("|")
    try:
        cast = given.cast(dtype, strict=False)
        lost = given.is_not_null() & cast.is_null()
        if dtype.is_integer() and given.dtype.is_float():
            lost = lost | (given != cast.cast(given.dtype)).fill_null(False)
    except pl.exceptions.PolarsError:
        cast, lost = given, given.is_not_null()
    if lost.any():
        raise DataError(
            f"column {values.name!r} of the further items has {values.filter(lost)[0]!r} where the data set "
            f"has {dtype}: correct it, leave it empty, or leave the column out"
        )
    return cast


def read_items(path: Path) -> pl.DataFrame:
    """Further items from a table with a column ``raw_id``; .csv and .tsv give text, so ``007`` stays that.

    Raises:
        DataError: no such file, an unknown ending, or no table.
    """
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": lambda file: pl.read_parquet(file, glob=False),
        ".csv": lambda file: pl.read_csv(file, glob=False, infer_schema=False),
        ".tsv": lambda file: pl.read_csv(
            file, glob=False, infer_schema=False, separator="\t", quote_char=None
        ),
    }
    if path.suffix not in readers:
        raise DataError(f"{path}: items come as {', '.join(readers)}")
    try:
        table = readers[path.suffix](path)
        return table.with_columns(pl.col("raw_id").cast(pl.String)) if "raw_id" in table.columns else table
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: no readable table of items: {error}") from error
