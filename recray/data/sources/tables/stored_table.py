"""A table of any size on disk: its columns one by one, its rows a few at a time, and where each stands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import polars as pl

from recray.data.sources.tables.checks import first_row
from recray.data.sources.tables.joined import require_one_kind
from recray.data.sources.tables.table_files import TableFile
from recray.schema import DataError

GROUP_ROWS = 8192


@dataclass(frozen=True)
class StoredTable:
    """Files of the same columns, one after the other."""

    files: Sequence[TableFile]
    scans: Sequence[pl.LazyFrame]
    starts: Sequence[int]  # the first row of each file; the last is the number of all rows

    def __len__(self) -> int:
        return self.starts[-1]

    @property
    def label(self) -> str:
        return self.files[0].label

    @property
    def names(self) -> list[str]:
        return list(self.files[0].names)

    def first(self, files: int) -> "StoredTable":
        return StoredTable(self.files[:files], self.scans[:files], self.starts[: files + 1])

    def column(self, name: str) -> pl.Series:
        return pl.concat([scan.select(name) for scan in self.scans]).collect().to_series()

    def columns(self, names: Sequence[str]) -> Iterator[pl.Series]:
        return map(self.column, names)

    def groups(self) -> list[slice]:
        """All rows in runs of at most ``GROUP_ROWS``, which ``rows`` reads without their neighbours."""
        return [slice(row, min(row + GROUP_ROWS, len(self))) for row in range(0, len(self), GROUP_ROWS)]

    def rows(self, group: slice, names: Sequence[str]) -> pl.DataFrame:
        pieces = []
        for scan, (start, stop) in zip(self.scans, pairwise(self.starts), strict=True):
            low, high = max(start, group.start), min(stop, group.stop)
            if low < high:
                pieces.append(scan.select(names).slice(low - start, high - low).collect())
        return pl.concat(pieces)

    def where(self, row: int) -> str:
        """File and line (or row)."""
        number = next(n for n, stop in enumerate(self.starts[1:]) if row < stop)
        return self.files[number].where(row - self.starts[number])

    def refuse(self, bad: pl.Series, column: pl.Series, why: str) -> None:
        """
        Raises:
            DataError: there is a bad value; names the first of them and where it stands.
        """
        if bad.any():
            row = first_row(bad)
            raise DataError(f"{self.where(row)}: {column.name} is {column[row]!r}, {why}")


def store(files: Sequence[TableFile], scratch: Path) -> StoredTable:
    """
    Raises:
        DataError: a file is damaged or has no rows, or they differ in their columns.
    """
    names = list(files[0].names)
    scans, sizes = [], []
    for number, file in enumerate(files):
        for name in names:
            if name not in file.names:
                raise DataError(f"{file.label}: no column {name!r}, which {files[0].label} has")
        target = scratch / f"stored-{number:05d}.parquet"
        file.store(target, group_rows=GROUP_ROWS)
        scan = pl.scan_parquet(target, glob=False)
        sizes.append(int(scan.select(pl.len()).collect().item()))
        if not sizes[-1]:
            raise DataError(f"{file.label} has no rows below the names of its columns: is it complete?")
        scans.append(scan.select(names))
    return StoredTable(files, _of_one_type(files, scans), [0, *accumulate(sizes)])


def _of_one_type(files: Sequence[TableFile], scans: Sequence[pl.LazyFrame]) -> list[pl.LazyFrame]:
    """Numbers of several widths become one; a column that is text in one file is text in all."""
    schemas, labels = [scan.collect_schema() for scan in scans], [file.label for file in files]
    for name in schemas[0]:
        require_one_kind(name, [schema[name] for schema in schemas], labels)
    texts = [name for name in schemas[0] if any(schema[name] == pl.String for schema in schemas)]
    alike = [scan.with_columns(pl.col(texts).cast(pl.String)) for scan in scans]
    try:
        schema = pl.concat(alike, how="vertical_relaxed").collect_schema()
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{files[0].label} and the files beside it differ in the types of their columns "
            f"({str(error).splitlines()[0]}): write each as one type"
        ) from None
    return [scan.cast(schema) for scan in alike]
