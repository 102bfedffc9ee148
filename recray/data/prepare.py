"""Raw files to a prepared data set, atomically.

Everything is written into a temporary folder beside the target, which one rename then puts in place:
readers see a complete data set or none. A lock file beside the target (released by the system when
its holder dies) lets one process prepare while others wait, and lets the next one remove what a
killed one left behind.
"""

import dataclasses
import fcntl
import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from recray import paths
from recray.data.clean import Events, Tidy, tidy_up
from recray.data.dataset import (
    INTERACTIONS,
    ITEMS,
    QUALITY,
    QUALITY_PAGE,
    USERS,
    Dataset,
    Manifest,
    content_hash,
    file_sha256,
    load_dataset,
    now,
    read_manifest,
    write_manifest,
)
from recray.data.quality import measure
from recray.data.quality_page import render
from recray.data.source import RawTables, Source
from recray.data.sources import is_registered, source_of
from recray.schema import DataError

log = logging.getLogger(__name__)


def prepare(source: Source, folder: Path, *, k_core: int = 0) -> Dataset:
    """Writes the data set folder and loads it; where it is already there, only loads it.

    Safe to kill at any moment and to run several times at once.

    Raises:
        DataError: the raw files are missing or wrong, nothing is left after ``k_core``, or the
            folder holds something else.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if not _is_prepared(folder, source, k_core):
            _remove_leftovers(folder)
            work = Path(tempfile.mkdtemp(prefix=_work_prefix(folder), dir=folder.parent))
            try:
                _build(source, k_core, work)
                os.rename(work / "dataset", folder)
                _sync(folder.parent)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return load_dataset(folder)


def ensure(name: str, *, k_core: int = 0) -> Dataset:
    """The data set of a registered name, or of a file, prepared first where it is missing.

    A file gets a folder of its own for each state that it is in, so an edited file is prepared anew.

    Raises:
        ConfigError: there is neither a data set nor a file of that name.
        DataError: the raw files are missing (the message says where to put them) or wrong.
    """
    source = source_of(name)
    stem = source.name if is_registered(name) else f"{source.name}-{_digest(source)}"
    folder = paths.datasets_dir() / (f"{stem}-{k_core}core" if k_core else stem)
    return prepare(source, folder, k_core=k_core)


def _digest(source: Source) -> str:
    return hashlib.sha256(json.dumps(source.options(), sort_keys=True).encode()).hexdigest()[:8]


def _is_prepared(folder: Path, source: Source, k_core: int) -> bool:
    if not folder.exists() or not any(folder.iterdir()):
        return False
    manifest = read_manifest(folder)
    wanted = {"source": source.reader, "k_core": k_core, **source.options()}
    found: dict[str, Any] = {"source": manifest.source, "k_core": manifest.k_core}
    found |= {key: manifest.options.get(key) for key in source.options()}
    differing = [
        f"{key} is {found[key]!r}, wanted {wanted[key]!r}" for key in wanted if found[key] != wanted[key]
    ]
    if differing:
        raise DataError(
            f"{folder} holds another data set ({'; '.join(differing)}): delete it or choose another folder"
        )
    return True


def _build(source: Source, minimum: int, work: Path) -> None:
    """Writes the complete folder ``work/dataset``, manifest last."""
    scratch, target = work / "scratch", work / "dataset"
    scratch.mkdir()
    target.mkdir()
    started = time.monotonic()
    log.info("%s: reading", source.name)
    raw = source.read(scratch)
    num_read = len(raw.interactions)
    log.info("%s: %s rows read in %.1f s", source.name, f"{num_read:,}", time.monotonic() - started)
    tidy = tidy_up(raw.interactions, minimum)
    users, items = _side_table(tidy.raw_users, raw.users), _side_table(tidy.raw_items, raw.items)
    raw = dataclasses.replace(
        raw, interactions=raw.interactions.clear(), users=users.clear(), items=items.clear()
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
        options={**source.options(), "times": raw.times, "raw_files": raw.files},
        hash=content_hash(tidy.events, [users, items]),
        created_at=now(),
        files={name: file_sha256(target / name) for name in (INTERACTIONS, USERS, ITEMS)},
    )
    write_manifest(target, manifest)
    for path in target.iterdir():
        _sync(path)
    _sync(target)
    log.info("%s: prepared in %.1f s", source.name, time.monotonic() - started)


def _write_tables(target: Path, events: Events, users: pl.DataFrame, items: pl.DataFrame) -> None:
    columns = dict(zip(("user_id", "item_id", "rating", "timestamp"), events, strict=True))
    pl.DataFrame(columns).write_parquet(target / INTERACTIONS)
    users.write_parquet(target / USERS)
    items.write_parquet(target / ITEMS)


def _write_quality(
    target: Path, source: Source, raw: RawTables, tidy: Tidy, users: pl.DataFrame, items: pl.DataFrame
) -> None:
    quality = measure(
        source.name, tidy.rows, tidy.events, users, items, rating_range=raw.rating_range, times=raw.times
    )
    (target / QUALITY).write_text(json.dumps(quality.to_json(), indent=2), encoding="utf-8")
    (target / QUALITY_PAGE).write_text(render(quality, tidy.events), encoding="utf-8")


def _side_table(raw_ids: pl.Series, table: pl.DataFrame) -> pl.DataFrame:
    first = table.unique("raw_id", keep="first", maintain_order=True)
    return raw_ids.to_frame().join(first, on="raw_id", how="left", maintain_order="left")


def _work_prefix(folder: Path) -> str:
    return f".{folder.name}.preparing-"


def _remove_leftovers(folder: Path) -> None:
    for path in folder.parent.glob(glob.escape(_work_prefix(folder)) + "*"):
        log.info("removing %s, left by a preparation that was interrupted", path)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s is being prepared by another process; waiting", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
