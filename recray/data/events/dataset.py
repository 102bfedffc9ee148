"""The prepared data set: an immutable folder on disk, aligned arrays in memory.

Owns the folder's format and reads it. ``prepare.py`` writes it; splits and batches are masks and
slices over the arrays and live in files of their own.
"""

import datetime
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recray.arrays import Float32s, Int8s, Int64s
from recray.config import ConfigError, from_dict, to_dict
from recray.folders import file_sha256
from recray.mapped import LARGE_BYTES, Arrays, mapped
from recray.schema import DataError

FORMAT = 1
INTERACTIONS, USERS, ITEMS = "interactions.parquet", "users.parquet", "items.parquet"
EVENT_TYPE, PART = "event_type", "part"  # columns of the interactions, where the source has them
_KINDS = {
    "user_id": np.int64,
    "item_id": np.int64,
    "rating": np.float32,
    "timestamp": np.int64,
    EVENT_TYPE: np.int8,
    PART: np.int8,
}
MANIFEST, QUALITY, QUALITY_PAGE = "manifest.json", "quality.json", "quality.html"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the folder holds. Written last: a folder without it is not a data set."""

    name: str
    source: str  # the reader that made it, e.g. "movielens"
    num_users: int
    num_items: int
    num_interactions: int
    k_core: int
    options: dict[str, Any]  # the reader's options, its raw files and what it says about time
    hash: str  # sha256 over the content, independent of file format and of when it was prepared
    created_at: str  # ISO 8601, UTC
    files: dict[str, str] = field(default_factory=dict)  # file name -> sha256 of its bytes
    event_types: tuple[str, ...] = ()  # what users did, where the source tells; sorted
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Interactions in order of time, ties in the order of the raw file; all arrays share it."""

    folder: Path
    manifest: Manifest
    user_ids_N: Int64s
    item_ids_N: Int64s
    ratings_N: Float32s  # 1.0 where the source has no ratings
    timestamps_N: Int64s  # unix seconds
    users: pl.DataFrame  # row i is user i: raw_id (str) and side columns
    items: pl.DataFrame  # row i is item i: raw_id (str), title, year, genres, text where known
    event_types_N: Int8s | None = None  # places in manifest.event_types; None where the source has none
    given_parts_N: Int8s | None = None  # 0, 1, 2: given as training, validation, test; None: not given

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def num_users(self) -> int:
        return self.manifest.num_users

    @property
    def num_items(self) -> int:
        return self.manifest.num_items

    @property
    def hash(self) -> str:
        return self.manifest.hash

    def __len__(self) -> int:
        return len(self.user_ids_N)


def load_dataset(folder: Path) -> Dataset:
    """Reads a prepared folder and checks it against its manifest.

    Raises:
        DataError: the folder is not a prepared data set, is of another format, or its files are
            not the ones that were written.
    """
    manifest = read_manifest(folder)
    for name, digest in manifest.files.items():
        _require_intact(folder / name, digest)
    columns = _columns(folder, manifest)
    users, items = pl.read_parquet(folder / USERS, glob=False), pl.read_parquet(folder / ITEMS, glob=False)
    rows = (len(columns["user_id"]), len(users), len(items))
    stated = (manifest.num_interactions, manifest.num_users, manifest.num_items)
    if rows != stated:
        raise DataError(f"{folder}: rows of interactions, users, items are {rows}, manifest says {stated}")
    return Dataset(
        folder=folder,
        manifest=manifest,
        user_ids_N=columns["user_id"],
        item_ids_N=columns["item_id"],
        ratings_N=columns["rating"],
        timestamps_N=columns["timestamp"],
        users=users,
        items=items,
        event_types_N=columns.get(EVENT_TYPE),
        given_parts_N=columns.get(PART),
    )


def _columns(folder: Path, manifest: Manifest) -> Arrays:
    """Of the interactions, by name; of large data the processes of a machine look into the same pages."""

    def read() -> Arrays:
        events = pl.read_parquet(folder / INTERACTIONS, glob=False)
        return {
            name: events[name].to_numpy().astype(_KINDS[name]) for name in _KINDS if name in events.columns
        }

    if (folder / INTERACTIONS).stat().st_size < LARGE_BYTES or INTERACTIONS not in manifest.files:
        return read()
    return mapped(f"events-{manifest.files[INTERACTIONS][:32]}", read)


def places_of(raw_ids: pl.Series, known: pl.Series) -> Int64s:
    """places_N of raw ids among those that are known, which are rows or ids; -1: unknown."""
    table = pl.DataFrame({"raw": known, "place": np.arange(len(known))})
    asked = pl.DataFrame({"raw": raw_ids}).join(table, on="raw", how="left", maintain_order="left")
    places_N: Int64s = asked["place"].fill_null(-1).to_numpy().astype(np.int64)
    return places_N


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, without reading the tables.

    Raises:
        DataError: there is none, it is not JSON, or it is of a format that this version cannot read.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder} is not a prepared data set: it has no {MANIFEST}; prepare it first"
        ) from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): delete the folder and prepare it again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else None
        raise DataError(
            f"{path} has format {found}, this version reads {FORMAT}: delete the folder and prepare it again"
        )
    try:
        return from_dict(Manifest, values)
    except ConfigError as error:
        raise DataError(f"{path} is damaged ({error}): delete the folder and prepare it again") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    text = json.dumps(to_dict(manifest), indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def content_hash(arrays: Iterable[npt.NDArray[Any]], tables: Iterable[pl.DataFrame]) -> str:
    """sha256 over little-endian columns and the side tables as JSON lines: what the data *is*.

    File bytes would not do: they change with the Parquet writer's version.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    for table in tables:
        digest.update(json.dumps(table.columns).encode())
        digest.update(table.write_ndjson().encode())
    return digest.hexdigest()


def _require_intact(path: Path, digest: str) -> None:
    if not path.is_file():
        raise DataError(f"{path} is missing: delete {path.parent} and prepare it again")
    found = file_sha256(path)
    if found != digest:
        raise DataError(
            f"{path} was changed after it was prepared (sha256 {found[:12]}…, manifest says {digest[:12]}…): "
            f"delete {path.parent} and prepare it again"
        )
