"""Raw files to a prepared data set, atomically (``folder.py``)."""

import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import Protocol

import polars as pl

from recray import paths
from recray.config import ConfigError
from recray.data.events.clean import InteractionArrays, Tidy, tidy_up
from recray.data.events.dataset import (
    EVENT_TYPE,
    INTERACTIONS,
    ITEMS,
    PART,
    QUALITY,
    QUALITY_PAGE,
    USERS,
    Dataset,
    Manifest,
    content_hash,
    load_dataset,
    now,
    read_manifest,
    write_manifest,
)
from recray.data.events.partitioned import ROWS, Spread, here, tidy_in_partitions
from recray.data.events.quality import measure
from recray.data.source import ABSOLUTE_TIMES, ROW_NUMBERS, InSlices, RawTables, Source
from recray.data.sources import is_registered, source_of
from recray.folders import build_once, digest, file_sha256, require_same

log = logging.getLogger(__name__)


class Reader(Protocol):
    """How rows become tidy: the raw tables without their interactions, and those."""

    def __call__(self, source: Source, minimum: int, scratch: Path, /) -> tuple[RawTables, Tidy]: ...


def prepare(source: Source, folder: Path, *, k_core: int = 0) -> Dataset:
    """Writes the data set folder and loads it; where it is already there, only loads it.

    Safe to kill at any moment and to run several times at once.

    Raises:
        ConfigError: ``k_core`` is negative.
        DataError: the raw files are missing or wrong, nothing is left after ``k_core``, or the
            folder holds something else.
    """
    _prepare(source, folder.absolute(), k_core, in_memory)
    return load_dataset(folder.absolute())


def _prepare(source: Source, folder: Path, k_core: int, reader: Reader) -> None:
    if k_core < 0:
        raise ConfigError(f"k_core must be 0 (all are kept) or more, got {k_core}")
    build_once(
        folder,
        lambda prepared: _is_prepared(prepared, source, k_core),
        lambda target, scratch: _build(source, k_core, reader, target, scratch),
    )


def load_or_prepare(name: str, *, k_core: int = 0) -> Dataset:
    """The data set of a registered name, or of a file, prepared first where it is missing.

    A file gets a folder of its own for each state that it is in, so an edited file is prepared anew.

    Raises:
        ConfigError: there is neither a data set nor a file of that name.
        DataError: the raw files are missing (the message says where to put them) or wrong.
    """
    return prepare(*_located(name, k_core), k_core=k_core)


def prepared_manifest(name: str, *, k_core: int = 0, reader: Reader | None = None) -> Manifest:
    """As ``load_or_prepare``, but only what the folder says of itself: nothing is read into memory.

    Args:
        reader: how a folder that is missing is made; None: in memory.
    """
    source, folder = _located(name, k_core)
    _prepare(source, folder, k_core, reader or in_memory)
    return read_manifest(folder)


def _located(name: str, k_core: int) -> tuple[Source, Path]:
    source = source_of(name)
    stem = source.name if is_registered(name) else f"{source.name}-{digest(source.options())}"
    return source, paths.datasets_dir() / (f"{stem}-{k_core}core" if k_core else stem)


def _is_prepared(folder: Path, source: Source, k_core: int) -> bool:
    manifest = read_manifest(folder)
    found = {**manifest.options, "source": manifest.source, "k_core": manifest.k_core}
    require_same(folder, found, {"source": source.reader, "k_core": k_core, **source.options()})
    return True


def _build(source: Source, minimum: int, reader: Reader, target: Path, scratch: Path) -> None:
    """Writes the complete folder, manifest last."""
    started = time.monotonic()
    log.info("%s: reading", source.name)
    raw, tidy = reader(source, minimum, scratch)
    for note in raw.notes:
        log.info("%s: %s", source.name, note)
    if tidy.rows.exact_duplicates:
        log.info(
            "%s: %s of %s rows are copies of earlier ones (same user, item and all else%s) and were left out",
            *(source.name, f"{tidy.rows.exact_duplicates:,}", f"{tidy.rows.read:,}"),
            ", time too" if _tells_copies(raw) else "; there are no times to tell them apart",
        )
    users = _side_table(tidy.raw_users, raw.users)
    items = _side_table(
        _with_unseen(tidy.raw_items, raw.items) if raw.catalogue else tidy.raw_items, raw.items
    )
    log.info("%s: %s interactions kept; writing", source.name, f"{len(tidy.events.user_ids_N):,}")
    _write_tables(target, tidy.events, users, items)
    _write_quality(target, source, raw, tidy, users, items)
    manifest = Manifest(
        name=source.name,
        source=source.reader,
        num_users=len(users),
        num_items=len(items),
        num_interactions=len(tidy.events.user_ids_N),
        k_core=minimum,
        options={
            **source.options(),
            "times": raw.times,
            "raw_files": raw.files,
            **({"side_types": raw.side_types} if raw.side_types else {}),
        },
        event_types=tidy.event_types,
        hash=content_hash([column for column in tidy.events if column is not None], [users, items]),
        created_at=now(),
        files={name: file_sha256(target / name) for name in (INTERACTIONS, USERS, ITEMS)},
    )
    write_manifest(target, manifest)
    log.info("%s: prepared in %.1f s", source.name, time.monotonic() - started)


def in_memory(source: Source, minimum: int, scratch: Path) -> tuple[RawTables, Tidy]:
    """All rows at once."""
    raw = source.read(scratch)
    log.info("%s: %s rows read", source.name, f"{len(raw.interactions):,}")
    tidy = tidy_up(raw.interactions, minimum, ticks_per_s=raw.ticks_per_s, has_clock=_tells_copies(raw))
    return dataclasses.replace(raw, interactions=raw.interactions.clear()), tidy


def _tells_copies(raw: RawTables) -> bool:
    """A position in a sequence is no time, but tells a repeat from a copy; the number of a row does not."""
    return raw.times != ROW_NUMBERS


def in_partitions(spread: Spread = here) -> Reader:
    """Some rows at a time: for a source that need not be read as a whole, with the same outcome.

    Raises:
        ConfigError: when it reads a source that must.
    """

    def read(source: Source, minimum: int, scratch: Path) -> tuple[RawTables, Tidy]:
        if not isinstance(source, InSlices):
            raise ConfigError(
                f"{source.name} is read as a whole: only tables of Parquet files are read in partitions; "
                "leave the reader at memory"
            )
        slices = source.slices(scratch, ROWS)
        found = tidy_in_partitions(slices, minimum, scratch, spread, num_partitions=len(slices))
        raw = source.beside(found.tidy.raw_users, found.tidy.raw_items, scratch)
        times = ABSOLUTE_TIMES if found.ticks_per_s else ROW_NUMBERS
        return dataclasses.replace(raw, times=times, notes=(*found.notes, *raw.notes)), found.tidy

    return read


def _write_tables(target: Path, events: InteractionArrays, users: pl.DataFrame, items: pl.DataFrame) -> None:
    names = ("user_id", "item_id", "rating", "timestamp", EVENT_TYPE, PART)
    columns = {name: column for name, column in zip(names, events, strict=True) if column is not None}
    try:
        pl.DataFrame(columns).write_parquet(target / INTERACTIONS)
        users.write_parquet(target / USERS)
        items.write_parquet(target / ITEMS)
    except pl.exceptions.ComputeError as error:  # which is how Polars tells of a full disk
        raise OSError(str(error)) from error


def _write_quality(
    target: Path, source: Source, raw: RawTables, tidy: Tidy, users: pl.DataFrame, items: pl.DataFrame
) -> None:
    from recray.data.events.quality_page import render  # matplotlib is slow to import, workers do without

    quality = measure(
        source.name,
        tidy.rows,
        tidy.events,
        users,
        items,
        rating_range=raw.rating_range,
        times=raw.times,
        notes=raw.notes,
    )
    (target / QUALITY).write_text(json.dumps(quality.to_json(), indent=2), encoding="utf-8")
    (target / QUALITY_PAGE).write_text(render(quality, tidy.events), encoding="utf-8")


def _with_unseen(raw_items: pl.Series, items: pl.DataFrame) -> pl.Series:
    """The items of the events, then those that only the catalogue has, in order of their ids."""
    unseen = items["raw_id"].unique().sort()
    return raw_items.append(unseen.filter(~unseen.is_in(raw_items.implode())))


def _side_table(raw_ids: pl.Series, table: pl.DataFrame) -> pl.DataFrame:
    first = table.unique("raw_id", keep="first", maintain_order=True)
    return raw_ids.to_frame().join(first, on="raw_id", how="left", maintain_order="left")
