"""A file of JSON: one object a line, or a list of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import polars as pl

from recray.data.sources.tables.stored import NO_TYPES, flat, write_groups
from recray.schema import DataError


@dataclass(frozen=True)
class JsonLines:
    """One object a line; a list of objects in a ``.json`` file is read too."""

    label: str
    path: Path

    @property
    def _is_list(self) -> bool:
        with self.path.open("rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")

    @property
    def names(self) -> list[str]:
        return self._frame.columns

    @cached_property
    def _frame(self) -> pl.DataFrame:
        return flat(self._parsed().lazy()).collect()

    def _parsed(self) -> pl.DataFrame:
        try:
            if self._is_list:
                return pl.read_json(self.path.read_bytes(), infer_schema_length=None)
            return pl.read_ndjson(self.path, infer_schema_length=None, low_memory=True)
        except (pl.exceptions.PolarsError, OSError, ValueError):
            return _from_objects(self._objects())

    def _objects(self) -> Iterable[dict[str, object]]:
        """Slowly, and with the line of what is wrong."""
        if self._is_list:
            raise DataError(f"{self.label} is no JSON list of objects: write one object per line")
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        value = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
                    except ValueError as error:
                        raise DataError(
                            f"{self.label}, line {number} is not JSON ({error}): write one object per line"
                        ) from error
                    if not isinstance(value, dict):
                        raise DataError(f"{self.label}, line {number}: {value!r} is no object with names")
                    yield value

    def read(self, columns: Sequence[str], types: Mapping[str, type[pl.DataType]] = NO_TYPES) -> pl.DataFrame:
        return self._frame.select(columns)

    def store(self, target: Path, *, group_rows: int) -> None:
        write_groups(self._frame.lazy(), target, group_rows)

    def where(self, row: int) -> str:
        if self._is_list:
            return f"{self.label}, row {row + 1}"
        with self.path.open("rb") as file:
            lines = (number for number, line in enumerate(file, start=1) if line.strip())
            return f"{self.label}, line {next(islice(lines, row, None))}"


def _from_objects(objects: Iterable[dict[str, object]]) -> pl.DataFrame:
    """Values of several types in a column become text."""
    rows = list(objects)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pl.DataFrame(
        {
            name: None if all(v is None for v in values) else _column(values)
            for name, values in columns.items()
        }
    )


def _column(values: list[object]) -> pl.Series:
    try:
        return pl.Series(values)
    except (TypeError, pl.exceptions.PolarsError):
        return pl.Series([None if v is None else str(v) for v in values], dtype=pl.String)
