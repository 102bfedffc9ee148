"""What a version's own lists were like when it was published: drift goes by it until there is a first week.

Versions of before have no such file; they serve all the same.
"""

from pathlib import Path

import numpy as np
import polars as pl

from recray.bundles.retriever import COUNT_COLUMN, ITEM_VECTORS, read_catalogue, read_item_vectors
from recray.monitor.reference import load_sketch, save_sketch
from recray.monitor.shown_rows import Catalogue, add_shown, empty_sketch, watch
from recray.monitor.sketch import Sketch, fourier_features
from recray.store.bundle import Bundle

REFERENCE = "drift.npz"


def catalogue_of(retriever: Bundle) -> Catalogue:
    """What a version's retriever learnt of items and users."""
    users, items = read_catalogue(retriever)
    learnt = users.filter(pl.col(COUNT_COLUMN) > 0) if COUNT_COLUMN in users.columns else users
    has_vectors = ITEM_VECTORS in retriever.manifest.files
    return Catalogue(
        items=items["raw_id"].cast(pl.String),
        counts_I=items[COUNT_COLUMN].cast(pl.Int64).to_numpy(),
        users=learnt["raw_id"].cast(pl.String),
        features_IR=fourier_features(read_item_vectors(retriever)) if has_vectors else None,
    )


def write_reference(folder: Path, lists: pl.DataFrame, catalogue: Catalogue) -> None:
    """
    Args:
        lists: as the log's shown items. Their hours are those of a data set's requests: they are not kept.
    """
    sketch = empty_sketch(watch(lists, catalogue), catalogue, slots=1)
    add_shown(sketch, lists, catalogue)
    sketch.shown_I = np.zeros(len(sketch.shown_I), bool)
    save_sketch(sketch, folder / REFERENCE)


def read_reference(bundle: Bundle) -> Sketch | None:
    """None: the version brings none.

    Raises:
        DataError: it is of another version of recray.
    """
    return load_sketch(bundle.path(REFERENCE)) if REFERENCE in bundle.manifest.files else None
