"""From a trained decoder to a published version, and to a version for a catalogue that has grown."""

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recray import models
from recray.bundles.codes import read_codes, read_titles
from recray.bundles.decoder import GenerativeFiles, load_decoder, read_generative, write_generative
from recray.config import ConfigError, to_dict
from recray.data.events.examples import item_counts
from recray.eval.evaluate import Evaluation
from recray.models.decoder import Decoder
from recray.recipes.generative import DecoderRun, coded, schema_of
from recray.recipes.ranking import event_log
from recray.recipes.retrieval import bundle_name
from recray.semantic_ids import SemanticIds
from recray.store import Bundle, Store


def publish_decoder(run: DecoderRun, model: Decoder, evaluation: Evaluation, store: Store) -> Bundle:
    """Publishes a trained decoder as ``<dataset>-decoder``, for all items of its map: also those that the
    data set does not have."""
    data = coded(run, store)
    dataset = data.prepared.dataset
    raw_ids, ids = read_codes(data.bundle)
    counts_I = item_counts(dataset, data.prepared.split.train_N)
    files = GenerativeFiles(
        users=dataset.users,
        items=_extended(dataset.items, raw_ids, read_titles(data.bundle)),
        item_counts_I=np.pad(counts_I, (0, ids.num_items - len(counts_I))),
        codes=ids,
        log=event_log(dataset),
    )
    served = _with_codes(model, run.model, ids, dataset.num_users)
    return store.publish(
        bundle_name(dataset, "decoder"),
        lambda folder: write_generative(folder, served, files),
        model="decoder",
        config=to_dict(run.model),
        schema=schema_of(ids, dataset.num_users),
        card=evaluation.card,
        metrics=evaluation.means(),
        requires={"semantic_ids": data.bundle.reference},
    )


def extend(name: str, version: str, map_version: str, store: Store) -> Bundle:
    """A new version of a published decoder for a newer map that has further items: the same weights.

    New items are found by their content codes. It has no metrics: those of its parent were measured on
    a smaller catalogue.

    Raises:
        StoreError: there is no such decoder or map.
        ConfigError: the map changed the codes of an item that the decoder knows, or has more codes.
    """
    bundle = store.open(name, version)
    bundle.verify()
    manifest, files = bundle.manifest, read_generative(bundle)
    codes = store.open(manifest.requires["semantic_ids"].name, map_version)
    raw_ids, ids = read_codes(codes)
    known = files.codes.num_items
    same_items = raw_ids[:known] == files.items["raw_id"].cast(pl.String).to_list()
    if (
        not same_items
        or ids.sizes != files.codes.sizes
        or (ids.codes_IL[:known] != files.codes.codes_IL).any()
    ):
        raise ConfigError(
            f"{codes.reference} is no extension of the map that {bundle.reference} was trained on: items or "
            "codes that it knows are others there; train a decoder on it (jobs/train_decoder.py)"
        )
    grown = GenerativeFiles(
        users=files.users,
        items=_extended(files.items, raw_ids, read_titles(codes)),
        item_counts_I=np.pad(files.item_counts_I, (0, ids.num_items - known)),
        codes=ids,
        log=files.log,
    )
    model = load_decoder(bundle, files.codes)
    served = _with_codes(model, manifest.config, ids, len(files.users))
    return store.publish(
        name,
        lambda folder: write_generative(folder, served, grown),
        model="decoder",
        config=manifest.config,
        schema=schema_of(ids, len(files.users)),
        requires={"semantic_ids": codes.reference},
        parent=manifest.version,
    )


def _with_codes(model: Decoder, config: Any, ids: SemanticIds, num_users: int) -> Decoder:
    """The same weights over all items of a map."""
    served = models.build("decoder", config, schema_of(ids, num_users))
    assert isinstance(served, Decoder)
    state: dict[str, Tensor] = {**model.state_dict(), "codes_IL": torch.from_numpy(ids.codes_IL)}
    served.load_state_dict(state)
    return served.eval()


def _extended(items: pl.DataFrame, raw_ids: list[str], titles: pl.DataFrame) -> pl.DataFrame:
    """The items table with a row for every further raw id, of which at most the title is known."""
    further = pl.DataFrame({"raw_id": pl.Series(raw_ids[len(items) :], dtype=pl.String)})
    if "title" in items.columns:
        further = further.join(titles, on="raw_id", how="left", maintain_order="left")
    return pl.concat([items.with_columns(pl.col("raw_id").cast(pl.String)), further], how="diagonal")
