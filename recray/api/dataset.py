"""Data of a notebook: a table or a frame, prepared once, under the name that runs and commands know it by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
from rich.table import Table

from recray.api.shown import Shown
from recray.data.events import dataset as events
from recray.data.events.prepare import load_or_prepare
from recray.data.events.split_data import DataConfig
from recray.data.sources.tables.frames import frame_table

SIDES = ("items", "users")


@dataclass(frozen=True, repr=False)
class Dataset(Shown):
    """A prepared data set, and what it is called wherever a run or a command asks for data."""

    reference: str
    prepared: events.Dataset

    def __len__(self) -> int:
        """Interactions."""
        return len(self.prepared)

    @property
    def users(self) -> pl.DataFrame:
        """``raw_id`` and side columns."""
        return self.prepared.users

    @property
    def items(self) -> pl.DataFrame:
        """``raw_id`` and side columns."""
        return self.prepared.items

    def shown(self) -> Iterator[Table]:
        d = self.prepared
        grid = Table(title=d.name)
        for name in ("users", "items", "interactions"):
            grid.add_column(name, justify="right")
        grid.add_column("quality report", overflow="fold")
        counts = (f"{count:,}" for count in (d.num_users, d.num_items, len(d)))
        grid.add_row(*counts, str(d.folder / events.QUALITY_PAGE))
        yield grid


def load(source: object, *, name: str = "", **options: object) -> Dataset:
    """Interactions of a table, prepared once.

    Args:
        source: a registered data set (`recray datasets`), the path of a file, folder or glob, an address, or
            a frame of pandas, Polars or Arrow.
        name: what bundles and cards call it; empty: a registered name, a path's own, or ``frame``.
        options: of the reader (docs/data.md): ``user="visitor"``, ``timestamp="at"``, ``anonymous="drop"``;
            ``items`` and ``users``, tables of what is known of them, are paths or frames. None: not told.

    Raises:
        ConfigError, DataError: there is no such data or option, or it cannot be read; says why.
    """
    options = {key: value for key, value in options.items() if value is not None}
    if isinstance(source, str | Path):
        told = {key: _place(value, f"{name or 'frame'}-{key}") for key, value in options.items()}
        reference = _with_options(str(source), {"name": name, **told} if name else told)
    else:
        told = {key: _from_here(value) if key in SIDES else value for key, value in options.items()}
        reference = frame_table(source, name or "frame", **told)
    reference = DataConfig(dataset=reference).dataset  # from any working directory
    return Dataset(reference, load_or_prepare(reference))


def _with_options(place: str, options: Mapping[str, object]) -> str:
    if not options:
        return place
    return f"{place}{'&' if '?' in place else '?'}{urlencode(options)}"


def _place(value: object, name: str) -> object:
    """Where a side table lies: a frame is kept as a file first."""
    kept = (
        value if isinstance(value, str | int | float | Path) else frame_table(value, name).partition("?")[0]
    )
    return _found(kept)


def _from_here(value: object) -> object:
    """Of a path its whole: a frame lies in no folder that it could be named from."""
    is_path = isinstance(value, Path) or (isinstance(value, str) and "://" not in value)
    return str(Path(str(value)).absolute()) if is_path else value


def _found(value: object) -> object:
    """A file by its whole path: in a notebook it is named from where one is, not from the events' folder."""
    if isinstance(value, str | Path) and Path(value).is_file():
        return str(Path(value).absolute())
    return value
