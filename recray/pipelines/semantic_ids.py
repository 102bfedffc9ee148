"""From a published RQ-VAE to a published map: the semantic ids of every item, and of further ones."""

import json
import logging
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recray.arrays import Float32s
from recray.bundles.codes import ENCODER, MODEL, QUALITY, REPORT, write_codes, write_titles
from recray.bundles.naming import bundle_name
from recray.bundles.weights import load_model
from recray.config import from_dict
from recray.data.content.further_items import conform
from recray.data.content.vectors import load_encoder
from recray.data.events.prepare import load_or_prepare
from recray.eval.semantic_ids import CodeQuality
from recray.models.rqvae import RQVAE
from recray.pipelines.semantic_page import render
from recray.recipes.rqvae import RQVAERun, measure_codes
from recray.schema import DataError
from recray.semantic_ids import SemanticIds, disambiguate
from recray.store import Bundle, Store, StoreError, read_history, run_record
from recray.track.history import by_epoch

log = logging.getLogger(__name__)


def publish_semantic_ids(bundle: Bundle, store: Store, extra: pl.DataFrame | None = None) -> Bundle:
    """Publishes the codes of every item of an RQ-VAE's data set as ``<dataset>-semantic-ids``.

    Args:
        extra: further items (``raw_id`` and side columns) that the data set does not have; their codes
            come after those of the data set's items, which they do not change.

    Raises:
        DataError: the data set is no longer the one that the RQ-VAE was trained on, or the further items
            do not have its columns and types.
        StoreError: the bundle is damaged or no RQ-VAE.
    """
    if extra is not None and "raw_id" not in extra.columns:
        raise DataError(f"further items need a column raw_id; there are {', '.join(extra.columns)}")
    if bundle.manifest.model != "rqvae":
        raise StoreError(
            f"{bundle.reference} is a {bundle.manifest.model!r}: name a bundle of `recray train rqvae`"
        )
    bundle.verify()
    model, record = load_model(bundle), run_record(bundle)
    assert isinstance(model, RQVAE)
    run = from_dict(RQVAERun, record.settings)
    dataset = load_or_prepare(run.data.dataset, k_core=run.data.k_core)
    encoder = load_encoder(bundle.folder / ENCODER)
    if dataset.hash != record.data_hash:
        raise DataError(
            f"{bundle.reference} was trained on other data than {dataset.name} is now: "
            "train it again with `recray train rqvae`"
        )
    raw_ids, vectors_IF = dataset.items["raw_id"].to_list(), encoder.encode(dataset.items)
    if extra is not None:
        extra_NF = encoder.encode(conform(extra, dataset.items.schema, run.content.method == "file"))
        extra_ids = extra["raw_id"].cast(pl.String).to_list()
        if (unknown := np.flatnonzero(~extra_NF.any(axis=1))).size:
            log.warning(
                "nothing is known of %d further items (the first is %r): their codes say nothing",
                *(len(unknown), extra_ids[unknown[0]]),
            )
        raw_ids, vectors_IF = raw_ids + extra_ids, np.concatenate([vectors_IF, extra_NF])
    ids, quality, metrics = assign(model, vectors_IF)
    history = by_epoch(read_history(bundle), "reconstruction")

    def write(folder: Path) -> None:
        write_codes(folder, raw_ids, ids)
        if extra is not None:
            write_titles(folder, extra)
        (folder / QUALITY).write_text(json.dumps(quality.to_json(), indent=1))
        (folder / REPORT).write_text(render(dataset.name, ids, quality, history, metrics), encoding="utf-8")

    return store.publish(
        bundle_name(dataset.name, "semantic-ids"),
        write,
        model=MODEL,
        config={"sizes": list(ids.sizes), "disambiguated": True, "digest": ids.digest},
        metrics=metrics,
        requires={"rqvae": bundle.reference},
    )


def assign(model: RQVAE, vectors_IF: Float32s) -> tuple[SemanticIds, CodeQuality, dict[str, float]]:
    """Semantic ids of these items, disambiguated; quality and metrics are of the codes before that.

    Items without content count: all of them have the codes of the zero vector and collide.
    """
    content_IF = torch.from_numpy(vectors_IF)
    ids = disambiguate(model.encode(content_IF).numpy(), model.code_sizes)
    measured = measure_codes(model, content_IF)
    without_I = ~vectors_IF.any(axis=1)
    if without_I.any():
        log.info("%d of %d items have no content and share their codes", without_I.sum(), len(vectors_IF))
    return ids, measured.quality, {**measured.means(), "without_content": float(without_I.mean())}
