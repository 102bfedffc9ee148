"""The steps of ``clean`` on rows that need not fit memory: each on a partition, with the same outcome.

Rows are dealt to partitions by a hash of the user, so copies of a row and all that a user did lie in one;
numbered, they are dealt again by time, and each stretch of time is put in order. Every step reads files
that the one before wrote and writes its own, so a step that is lost with its machine is done again.

A partition's file has the columns of ``RawTables.interactions`` and ``row``, the place in the raw files.
"""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Int64s
from recray.data.events.clean import find_duplicates, index_ids
from recray.data.source import Slice

ROW, PLACE = "row", "place"
RARE = "rare.arrow"
SAMPLE = 1_000
TOLD = ("rating", "timestamp", "event_type", "part")  # what tells a repeat from a copy, where there is such
Role = Literal["user", "item"]


class Dealt(NamedTuple):
    """What a slice said of its rows."""

    rows: int
    ticks_per_s: int  # 0: there are no times, rows are numbered
    ends: tuple[int, int] | None  # ticks of its first and last row, where it has any
    out_of_order: int
    event_types: tuple[str, ...]
    text: frozenset[Role]  # whose ids are no numbers
    notes: tuple[str, ...]


class Alike(NamedTuple):
    """What all rows have in common once the slices are known."""

    text: frozenset[Role]
    ticks_per_s: int


class Contents(NamedTuple):
    """Of a partition, what all must know."""

    users: pl.Series  # distinct, of no other partition
    items: pl.Series  # distinct
    ticks: Int64s  # some ``SAMPLE`` of its times, in order


def deal_by_user(numbered: tuple[int, Slice], *, folder: Path, num_partitions: int) -> Dealt:
    """Reads one slice and deals its rows to the partitions of their users, as a file in each."""
    number, found = numbered
    events = found.read()
    rows = events.rows.with_row_index(ROW, found.first_row).with_columns(pl.col(ROW).cast(pl.Int64))
    if not events.ticks_per_s:  # numbered within the slice
        rows = rows.with_columns(pl.col("timestamp") + found.first_row)
    place = pl.col("user").cast(pl.String).hash(seed=0) % num_partitions
    _write_by(rows.with_columns(place.cast(pl.Int32).alias(PLACE)), folder, number)
    ticks = rows["timestamp"]
    types = rows["event_type"].unique() if "event_type" in rows.columns else ()
    return Dealt(
        len(rows),
        events.ticks_per_s,
        (int(ticks[0]), int(ticks[-1])) if len(ticks) else None,
        int((ticks.diff() < 0).sum()),
        tuple(types),
        frozenset(role for role in ("user", "item") if rows[role].dtype == pl.String),
        events.notes,
    )


def _write_by(rows: pl.DataFrame, folder: Path, number: int) -> None:
    """The rows of each place as ``<place>/<number>.arrow``."""
    for (place,), of_place in rows.partition_by(PLACE, include_key=False, as_dict=True).items():
        write(of_place, folder / f"{place}" / f"{number:06d}.arrow")


def write(rows: pl.DataFrame, path: Path) -> None:
    """Whole or not at all: a step may be done twice at once, also by a machine that was thought lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    rows.write_ipc(staged, compression="lz4")
    staged.replace(path)


def keep_once(pieces: Path, *, ticks_per_s: Mapping[int, int], alike: Alike, folder: Path) -> tuple[int, int]:
    """A partition's rows without copies of earlier ones, in the order of the raw files.

    Args:
        ticks_per_s: of each slice, by its number.

    Returns:
        how many were copies, and how many more than one row of a user and item there are, copies included.
    """
    rows = pl.concat(
        _like(pl.read_ipc(path), ticks_per_s[int(path.stem)], alike)
        for path in sorted(pieces.glob("*.arrow"))
    )
    told = [name for name in TOLD if name in rows.columns and (name != "timestamp" or alike.ticks_per_s)]
    users, items = index_ids(rows["user"]), index_ids(rows["item"])
    found = find_duplicates(users.codes_N, items.codes_N, {name: rows[name].to_numpy() for name in told})
    kept = rows.filter(found.keep_N)
    write(kept, folder / f"{pieces.name}.arrow")
    return found.num_exact, found.num_repeated_pairs


def _like(rows: pl.DataFrame, ticks_per_s: int, alike: Alike) -> pl.DataFrame:
    share = alike.ticks_per_s // ticks_per_s if ticks_per_s else 1
    as_text = [pl.col(role).cast(pl.String) for role in alike.text]
    return rows.with_columns(*as_text, pl.col("timestamp") * share)


def count_items(partition: Path) -> pl.DataFrame:
    """How often each item occurs: ``item``, ``len``."""
    return pl.read_ipc(partition).group_by("item").len()


def drop_rare(partition: Path, *, folder: Path, minimum: int) -> int:
    """One step towards the k-core: without rare items, then without users that have too little left.

    Args:
        folder: has ``RARE``, the items; what is left is written there.

    Returns:
        how many rows are left.
    """
    rows = pl.read_ipc(partition).join(pl.read_ipc(folder / RARE), on="item", how="anti")
    rows = rows.filter(pl.len().over("user") >= minimum)
    write(rows, folder / partition.name)
    return len(rows)


def contents(partition: Path) -> Contents:
    rows = pl.read_ipc(partition, columns=["user", "item", "timestamp"])
    ticks = np.sort(rows["timestamp"].to_numpy())[:: max(1, len(rows) // SAMPLE)].copy()
    # In order, since what ``unique`` gives keeps as much memory as all rows had.
    return Contents(rows["user"].unique().sort(), rows["item"].unique().sort(), ticks)


def deal_by_time(
    numbered: tuple[int, Path], *, users: Path, items: Path, edges: Sequence[int], folder: Path
) -> dict[int, int]:
    """Numbers users and items and deals a partition's rows to the stretches of their times.

    Args:
        users: a folder with the partition's users, as ``raw`` and ``id``, in a file of the partition's name.
        items: a file of all items.
        edges: where stretches but the first begin, in ticks.

    Returns:
        rows by stretch.
    """
    number, partition = numbered
    rows = pl.read_ipc(partition)
    for role, path in (("user", users / partition.name), ("item", items)):
        known = pl.read_ipc(path).rename({"raw": role, "id": f"{role}_id"})
        rows = rows.join(known, on=role, how="left", maintain_order="left").drop(role)
    stretch = np.searchsorted(np.asarray(edges, np.int64), rows["timestamp"].to_numpy(), side="right")
    rows = rows.with_columns(pl.Series(PLACE, stretch.astype(np.int32)))
    _write_by(rows, folder, number)
    return dict(rows.group_by(PLACE).len().iter_rows())


def put_in_order(stretch: Path, *, ticks_per_s: int, types: Sequence[str], folder: Path) -> None:
    """The rows of one stretch of time in the columns of ``clean.InteractionArrays``; equal times keep the
    order of the raw files."""
    rows = pl.concat(map(pl.read_ipc, sorted(stretch.glob("*.arrow")))).sort("timestamp", ROW)
    columns = [pl.col("user_id").cast(pl.Int32), pl.col("item_id").cast(pl.Int32), pl.col("rating")]
    columns.append(pl.col("timestamp") // ticks_per_s)
    if "event_type" in rows.columns:
        columns.append(pl.col("event_type").cast(pl.Enum(types)).to_physical().cast(pl.Int8))
    write(
        rows.select(*columns, *(["part"] if "part" in rows.columns else [])), folder / f"{stretch.name}.arrow"
    )
