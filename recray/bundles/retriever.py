"""What is inside the bundle of a retriever.

Writers and readers stand side by side, so that file and column names exist once.

Shapes: U users, I items, D vector dim.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from torch import nn

from recray.arrays import Float32s, Int64s
from recray.bundles.log import read_log
from recray.bundles.weights import load_arrays, save_model
from recray.features.log import EVENT_FILE, EventLog
from recray.mapped import write_pages
from recray.ops.ann import Index, load_index
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError

USERS, ITEMS = "users.parquet", "items.parquet"
INDEX = "index.faiss"
ITEM_VECTORS, USER_VECTORS = "item_vectors.safetensors", "user_vectors.safetensors"
COUNT_COLUMN = "train_count"


@dataclass(frozen=True, kw_only=True)
class RetrieverFiles:
    """All that answers a retrieval."""

    users: pl.DataFrame  # raw_id (str) and side columns; row = user id
    items: pl.DataFrame  # raw_id (str), title where known, side columns; row = item id
    item_counts_I: Int64s  # training interactions of each item: what "popular" means
    item_ID: Float32s | None  # None: the model has no vectors, it scores the whole catalogue
    user_UD: Float32s | None  # query vectors of known users, where they depend on the user id alone
    index: Index | None  # over item_ID
    log: EventLog | None = None  # what known users did: what they have seen, and what some models read
    user_counts_U: Int64s | None = None  # training interactions of each user; None: all count as trained

    def trained(self, user_ids: Int64s | int) -> Int64s:
        """The ids, -1 where the user has no training interaction: nothing was learnt of it."""
        if self.user_counts_U is None:
            return np.asarray(user_ids)
        return np.where(self.user_counts_U[user_ids] > 0, user_ids, -1)


def write_retriever(folder: Path, model: nn.Module, files: RetrieverFiles) -> None:
    """Fills a bundle's folder: the body of the ``write`` that ``Store.publish`` calls."""
    save_model(model, folder)
    users = files.users
    if files.user_counts_U is not None:
        users = users.with_columns(pl.Series(COUNT_COLUMN, files.user_counts_U))
    users.write_parquet(folder / USERS)
    files.items.with_columns(pl.Series(COUNT_COLUMN, files.item_counts_I)).write_parquet(folder / ITEMS)
    if files.item_ID is not None:
        write_pages(folder / ITEM_VECTORS, {"item_ID": files.item_ID})
    if files.user_UD is not None:
        write_pages(folder / USER_VECTORS, {"user_UD": files.user_UD})
    if files.index is not None:
        files.index.save(folder / INDEX)
    if files.log is not None:
        files.log.save(folder)


def read_catalogue(bundle: Bundle) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(users, items) of a retriever bundle, without its vectors and index."""
    return pl.read_parquet(bundle.path(USERS), glob=False), pl.read_parquet(bundle.path(ITEMS), glob=False)


def read_retriever(bundle: Bundle) -> RetrieverFiles:
    """Everything ``write_retriever`` wrote, but the model (``load_model``).

    Raises:
        StoreError: a file is missing or damaged, or two files disagree on the catalogue's size.
    """
    users, items = read_catalogue(bundle)
    has_vectors = ITEM_VECTORS in bundle.manifest.files
    has_counts = COUNT_COLUMN in users.columns
    files = RetrieverFiles(
        users=users.drop(COUNT_COLUMN, strict=False),
        items=items.drop(COUNT_COLUMN),
        item_counts_I=items[COUNT_COLUMN].cast(pl.Int64).to_numpy(),
        item_ID=read_item_vectors(bundle) if has_vectors else None,
        user_UD=_user_vectors(bundle),
        index=load_index(bundle.path(INDEX)) if has_vectors else None,
        log=read_log(bundle) if EVENT_FILE in bundle.manifest.files else None,
        user_counts_U=users[COUNT_COLUMN].cast(pl.Int64).to_numpy() if has_counts else None,
    )
    sizes = {ITEMS: len(items)}
    if files.item_ID is not None and files.index is not None:
        sizes |= {ITEM_VECTORS: len(files.item_ID), INDEX: files.index.num_items}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{file} {size}" for file, size in sizes.items())
        raise StoreError(f"{bundle.reference}: its files disagree on the number of items: {found}")
    if files.user_UD is not None and len(files.user_UD) != len(users):
        raise StoreError(
            f"{bundle.reference}: {len(files.user_UD)} user vectors but {len(users)} users in {USERS}"
        )
    return files


def read_item_vectors(bundle: Bundle) -> Float32s:
    """item_ID of a retriever bundle.

    Raises:
        StoreError: its model scores the catalogue without vectors.
    """
    if ITEM_VECTORS not in bundle.manifest.files:
        kind = bundle.manifest.model
        raise StoreError(
            f"{bundle.reference}: {kind!r} has no item vectors: no index, and diversity only at 0"
        )
    return load_arrays(bundle.path(ITEM_VECTORS))["item_ID"].astype(np.float32, copy=False)


def _user_vectors(bundle: Bundle) -> Float32s | None:
    if USER_VECTORS not in bundle.manifest.files:
        return None
    return load_arrays(bundle.path(USER_VECTORS))["user_UD"].astype(np.float32, copy=False)
