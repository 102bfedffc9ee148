"""What is inside the bundle of a generative retriever: weights, catalogue, and the map they agree on.

Shapes: I items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from recray import models
from recray.arrays import Int64s
from recray.bundles.codes import read_codes, write_codes
from recray.bundles.log import read_log
from recray.bundles.retriever import COUNT_COLUMN, ITEMS, USERS
from recray.bundles.weights import load_model, save_model
from recray.config import Config
from recray.features.log import EVENT_FILE, EventLog
from recray.models.decoder import Decoder
from recray.schema import SemanticSchema
from recray.semantic_ids import SemanticIds
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError


@dataclass(frozen=True, kw_only=True)
class GenerativeFiles:
    """All that answers, besides the model."""

    users: pl.DataFrame  # raw_id (str) and side columns; row = user id
    items: pl.DataFrame  # raw_id (str), title where known, side columns; row = item id
    item_counts_I: Int64s  # training interactions of each item; 0: a cold one
    codes: SemanticIds
    log: EventLog | None = None  # what known users did: their histories, where a request brings none


def write_generative(folder: Path, model: Decoder, files: GenerativeFiles) -> None:
    """Fills a bundle's folder: the body of the ``write`` that ``Store.publish`` calls."""
    save_model(model, folder)
    files.users.write_parquet(folder / USERS)
    files.items.with_columns(pl.Series(COUNT_COLUMN, files.item_counts_I)).write_parquet(folder / ITEMS)
    if files.log is not None:
        files.log.save(folder)
    write_codes(folder, files.items["raw_id"].cast(pl.String).to_list(), files.codes)


def read_generative(bundle: Bundle) -> GenerativeFiles:
    """Everything ``write_generative`` wrote, but the model.

    Raises:
        StoreError: no bundle of a decoder, or its catalogue, its map and its schema disagree.
    """
    schema = _schema(bundle)
    users, items = (
        pl.read_parquet(bundle.path(USERS), glob=False),
        pl.read_parquet(bundle.path(ITEMS), glob=False),
    )
    raw_ids, codes = read_codes(bundle)
    if codes.digest != schema.codes_digest:
        raise StoreError(
            f"{bundle.reference}: its weights are for the semantic ids {schema.codes_digest[:12]}, the map "
            f"beside them is {codes.digest[:12]}; roll back, or publish again with `recray train decoder`"
        )
    if raw_ids != items["raw_id"].cast(pl.String).to_list():
        raise StoreError(f"{bundle.reference}: its map and its catalogue hold different items; publish again")
    return GenerativeFiles(
        users=users,
        items=items.drop(COUNT_COLUMN),
        item_counts_I=items[COUNT_COLUMN].cast(pl.Int64).to_numpy(),
        codes=codes,
        log=read_log(bundle) if EVENT_FILE in bundle.manifest.files else None,
    )


def load_decoder(bundle: Bundle, codes: SemanticIds) -> Decoder:
    """The decoder of a bundle, in evaluation mode on the CPU.

    Raises:
        StoreError: the codes inside its weights are not those of the map beside them.
    """
    _schema(bundle)
    model = load_model(bundle)
    assert isinstance(model, Decoder)
    if not torch.equal(model.get_buffer("codes_IL"), torch.from_numpy(codes.codes_IL)):
        raise StoreError(
            f"{bundle.reference}: its weights hold other semantic ids than the map {codes.digest[:12]}; "
            "publish it again with `recray train decoder`"
        )
    return model


def _schema(bundle: Bundle) -> SemanticSchema:
    schema = bundle.manifest.schema
    if bundle.manifest.model != "decoder" or not isinstance(schema, SemanticSchema):
        raise StoreError(
            f"{bundle.reference} is a {bundle.manifest.model!r}, no decoder: publish one with "
            "`recray train decoder`"
        )
    return schema


def with_codes(
    model: Decoder, config: Mapping[str, object] | Config, ids: SemanticIds, num_users: int
) -> Decoder:
    """The same weights over all items of a map."""
    served = models.build("decoder", config, ids.schema(num_users))
    assert isinstance(served, Decoder)
    state: dict[str, Tensor] = {**model.state_dict(), "codes_IL": torch.from_numpy(ids.codes_IL)}
    served.load_state_dict(state)
    return served.eval()


def with_further_items(items: pl.DataFrame, raw_ids: list[str], titles: pl.DataFrame) -> pl.DataFrame:
    """The items table with a row for every further raw id, of which at most the title is known."""
    further = pl.DataFrame({"raw_id": pl.Series(raw_ids[len(items) :], dtype=pl.String)})
    if "title" in items.columns:
        further = further.join(titles, on="raw_id", how="left", maintain_order="left")
    return pl.concat([items.with_columns(pl.col("raw_id").cast(pl.String)), further], how="diagonal")
