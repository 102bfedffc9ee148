"""A published decoder for a catalogue that has grown, as a new version: no training."""

import numpy as np
import polars as pl

from recray.bundles.codes import read_codes, read_titles
from recray.bundles.decoder import (
    GenerativeFiles,
    load_decoder,
    read_generative,
    with_codes,
    with_further_items,
    write_generative,
)
from recray.config import ConfigError
from recray.store import Bundle, Store


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
            "codes that it knows are others there; train a decoder on it (`recray train decoder`)"
        )
    grown = GenerativeFiles(
        users=files.users,
        items=with_further_items(files.items, raw_ids, read_titles(codes)),
        item_counts_I=np.pad(files.item_counts_I, (0, ids.num_items - known)),
        codes=ids,
        log=files.log,
    )
    model = load_decoder(bundle, files.codes)
    served = with_codes(model, manifest.config, ids, len(files.users))
    return store.publish(
        name,
        lambda folder: write_generative(folder, served, grown),
        model="decoder",
        config=manifest.config,
        schema=ids.schema(len(files.users)),
        requires={"semantic_ids": codes.reference},
        parent=manifest.version,
    )
