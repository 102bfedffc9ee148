"""A prepared data set as RecBole's atomic files, which ``data/sources/published/recbole.py`` reads back.

Tokens are the data set's own numbers (user 0, item 0, ...), so that scores come back without a map.
Texts lose their double quotes: RecBole would read up to the next one, line ends included.
The time of an event is its place in the user's history: RecBole keeps times as float32, in which unix
seconds of today lie 128 s apart and would fall together (https://recbole.io/docs/user_guide/data/atomic_files.html).
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recray.data.events.dataset import Dataset

_TEXTS = ("title", "text")


def write_atomic_files(dataset: Dataset, folder: Path, name: str) -> None:
    """Writes ``<name>.inter``, ``<name>.user`` and ``<name>.item`` into an existing folder."""
    events = pl.DataFrame(
        {"user": dataset.user_ids_N, "item": dataset.item_ids_N, "rating": dataset.ratings_N}
    )
    place = pl.int_range(1, pl.len() + 1).over("user")  # rows are in order of time
    _write(
        events.select(
            pl.col("user").alias("user_id:token"),
            pl.col("item").alias("item_id:token"),
            pl.col("rating").alias("rating:float"),
            place.alias("timestamp:float"),
        ),
        folder / f"{name}.inter",
    )
    for kind, table in (("user", dataset.users), ("item", dataset.items)):
        numbers = pl.int_range(pl.len()).alias(f"{kind}_id:token")
        _write(table.select(numbers, *_side_columns(table)), folder / f"{name}.{kind}")


def side_fields(table: pl.DataFrame) -> list[str]:
    """Names of the side columns that are exported."""
    return [column.meta.output_name().partition(":")[0] for column in _side_columns(table)]


def _side_columns(table: pl.DataFrame) -> Iterator[pl.Expr]:
    """Lists and texts become token_seq, decimal numbers float, all other plain columns token."""
    for name, dtype in table.drop("raw_id").schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.List) and dtype.inner == pl.String:
            yield column.list.eval(_one_word(pl.element())).list.join(" ").alias(f"{name}:token_seq")
        elif name in _TEXTS and dtype == pl.String:
            yield _unquoted(column).str.replace_all(r"\s+", " ").str.strip_chars().alias(f"{name}:token_seq")
        elif dtype.is_float():
            yield column.alias(f"{name}:float")
        elif dtype == pl.String or dtype.is_integer() or dtype == pl.Boolean:
            yield _one_word(column.cast(pl.String)).alias(f"{name}:token")


def _one_word(text: pl.Expr) -> pl.Expr:
    return _unquoted(text).str.strip_chars().str.replace_all(r"\s+", "_")


def _unquoted(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all('"', "'", literal=True)


def _write(table: pl.DataFrame, path: Path) -> None:
    table.write_csv(path, separator="\t", quote_style="never")
