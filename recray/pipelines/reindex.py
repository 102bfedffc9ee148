"""A published retriever with another index, as a new version."""

from collections.abc import Callable
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
from recray.store.bundle import MEASURED
from recray.store.record import write_history


def reindex(name: str, version: str, config: IndexConfig, store: Store) -> Bundle:
    """A new version that differs in its index only.

    Raises:
        ConfigError: its model scores the catalogue without vectors.
    """
    bundle = store.open(name, version)
    bundle.verify()
    manifest = bundle.manifest
    if not isinstance(manifest.schema, FeatureSchema):
        raise ConfigError(f"{bundle.reference} is a {manifest.model!r}, which has no index of its own")
    write_served, recall = _reindexed(bundle, config)
    kept = {k: v for k, v in manifest.metrics.items() if not k.startswith("index_recall")}

    def write(folder: Path) -> None:
        write_served(folder)
        write_history(folder, read_history(bundle))
        if bundle.measured is not bundle:
            (folder / MEASURED).mkdir()
            _reindexed(bundle.measured, config)[0](folder / MEASURED)

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


def _reindexed(bundle: Bundle, config: IndexConfig) -> tuple[Callable[[Path], None], dict[str, float]]:
    """How its files are written with another index, and the recall of that."""
    files, model = read_retriever(bundle), load_model(bundle)
    if files.item_ID is None or not isinstance(model, VectorRetriever):
        kind = bundle.manifest.model
        raise ConfigError(f"{bundle.reference}: {kind!r} has no item vectors, so nothing to index")
    index, recall = measured_index(model, files, config)
    return lambda folder: write_retriever(folder, model, replace(files, index=index)), recall


def _with_index(run: dict[str, Any] | None, config: IndexConfig) -> dict[str, Any] | None:
    """The record of the run, as if it had been asked for this index."""
    return run and {**run, "settings": {**run["settings"], "index": to_dict(config)}}
