"""A published retriever with another index, as a new version."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from recray.bundles.index import measured_index
from recray.bundles.retriever import read_retriever, write_retriever
from recray.bundles.weights import load_model
from recray.config import ConfigError, to_dict
from recray.contract import VectorRetriever
from recray.ops.ann import IndexConfig
from recray.schema import FeatureSchema
from recray.store import Bundle, Store, read_history
from recray.store.record import write_history


def reindex(name: str, version: str, config: IndexConfig, store: Store) -> Bundle:
    """A new version that differs in its index only.

    Raises:
        ConfigError: its model scores the catalogue without vectors.
    """
    bundle = store.open(name, version)
    bundle.verify()
    if not isinstance(bundle.manifest.schema, FeatureSchema):
        raise ConfigError(f"{bundle.reference} is a {bundle.manifest.model!r}, which has no index of its own")
    manifest, files, model = bundle.manifest, read_retriever(bundle), load_model(bundle)
    if files.item_ID is None or not isinstance(model, VectorRetriever):
        raise ConfigError(f"{bundle.reference}: {manifest.model!r} has no item vectors, so nothing to index")
    index, recall = measured_index(model, files, config)
    changed = replace(files, index=index)
    kept = {k: v for k, v in manifest.metrics.items() if not k.startswith("index_recall")}

    def write(folder: Path) -> None:
        write_retriever(folder, model, changed)
        write_history(folder, read_history(bundle))

    return store.publish(
        name,
        write,
        model=manifest.model,
        config=manifest.config,
        schema=manifest.schema,
        card=manifest.card,
        metrics={**kept, **recall},
        requires=manifest.requires,
        parent=manifest.version,
        run=_with_index(manifest.run, config),
    )


def _with_index(run: dict[str, Any] | None, config: IndexConfig) -> dict[str, Any] | None:
    """The record of the run, as if it had been asked for this index."""
    return run and {**run, "settings": {**run["settings"], "index": to_dict(config)}}
