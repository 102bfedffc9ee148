"""What tables of all formats become: flat columns, and Parquet in groups of rows."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import polars as pl

NO_TYPES: Mapping[str, type[pl.DataType]] = MappingProxyType({})


def write_groups(rows: pl.LazyFrame, target: Path, group_rows: int) -> None:
    rows.sink_parquet(target, row_group_size=group_rows, compression="lz4", statistics=False)


def flat(table: pl.LazyFrame) -> pl.LazyFrame:
    """The fields of objects as columns of their own, such as ``price.amount``; objects in those stay."""
    schema = table.collect_schema()
    if not any(isinstance(dtype, pl.Struct) for dtype in schema.values()):
        return table
    columns = []
    for name, dtype in schema.items():
        inner = [field.name for field in dtype.fields] if isinstance(dtype, pl.Struct) else []
        free = [field for field in inner if f"{name}.{field}" not in schema]
        columns += [pl.col(name).struct.field(field).alias(f"{name}.{field}") for field in free]
        columns += [] if free else [pl.col(name)]
    return table.select(columns)
