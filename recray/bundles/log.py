"""The event log inside a bundle: of a ranker, and of what answers without one.

Sorting a large one takes minutes, and many times its file in memory. It is done once on a machine: what comes
of it lies in ``mapped/`` of the home, and all replicas there look into the same pages.
"""

import logging
import os
import time
from pathlib import Path

import polars as pl

from recray import paths
from recray.bundles.weights import load_arrays, save_arrays
from recray.features.items import item_features
from recray.features.log import EVENT_FILE, ITEM_FILE, EventLog
from recray.folders import fsync, locked, room_in
from recray.schema import DataError
from recray.store.bundle import Bundle

LARGE_BYTES = 8 * 2**20  # about a million events
UNUSED_S = 7 * 86_400  # after which what was sorted is removed, by whoever sorts next
LAYOUT = 1  # of the arrays

log = logging.getLogger(__name__)


def read_log(bundle: Bundle) -> EventLog:
    """The point-in-time event log of a bundle.

    Raises:
        StoreError: it has none.
    """
    for file in (EVENT_FILE, ITEM_FILE):
        bundle.path(file)
    if bundle.manifest.files[EVENT_FILE].size_bytes < LARGE_BYTES:
        return EventLog.load(bundle.folder)
    events, items = (bundle.manifest.files[file].sha256[:16] for file in (EVENT_FILE, ITEM_FILE))
    arrays = paths.mapped_dir() / f"log-{LAYOUT}-{events}-{items}.safetensors"
    try:
        _sort_once(bundle.folder, arrays)
    except (OSError, DataError) as error:  # a home that is read-only or full
        log.warning("%s: sorted in memory, as nothing can be kept (%s)", bundle.reference, error)
        return EventLog.load(bundle.folder)
    return EventLog.of_arrays(
        load_arrays(arrays), item_features(pl.read_parquet(bundle.folder / ITEM_FILE, glob=False))
    )


def _sort_once(folder: Path, arrays: Path) -> None:
    if not arrays.exists():
        arrays.parent.mkdir(parents=True, exist_ok=True)
        with locked(arrays.with_suffix(".lock"), f"{folder.name}: its events are being sorted"):
            if not arrays.exists():
                _remove_unused(arrays.parent)
                beside = arrays.with_suffix(".new")
                with room_in(arrays.parent):
                    save_arrays(beside, EventLog.load(folder).arrays())
                fsync(beside)
                beside.replace(arrays)
    os.utime(arrays)


def _remove_unused(folder: Path) -> None:
    for file in folder.iterdir():
        if time.time() - file.stat().st_mtime > UNUSED_S:
            file.unlink(missing_ok=True)
