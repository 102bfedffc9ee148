"""Rows of ``recray datasets``, ``recray models`` and ``recray versions``."""

from typing import Any

from recray.data.events.dataset import MANIFEST, read_manifest
from recray.data.rows.table import read_row_manifest
from recray.data.sources import SOURCES
from recray.models import CONTENT_MODELS, MODELS, ROW_MODELS
from recray.paths import datasets_dir
from recray.recipes import RECIPES
from recray.store.store import Store


def datasets() -> list[dict[str, Any]]:
    """Registered data sets; prepared ones with their counts."""
    return [
        {
            "name": e.name,
            "holds": e.holds,
            "what": e.text,
            "licence": e.licence,
            "prepared": _prepared(e.name),
        }
        for e in SOURCES.values()
    ]


def _prepared(name: str) -> str:
    folder = datasets_dir() / name
    if not (folder / MANIFEST).exists():
        return "no"
    if SOURCES[name].holds == "rows":
        return ", ".join(f"{part.rows:,} {part.name}" for part in read_row_manifest(folder).parts) + " rows"
    m = read_manifest(folder)
    return f"{m.num_users:,} users, {m.num_items:,} items, {m.num_interactions:,} interactions"


def models() -> list[dict[str, Any]]:
    """Registered models and their presets."""
    return [
        {
            "name": name,
            "what": entry.summary,
            "presets": list(RECIPES[name].presets) if name in RECIPES else [],
        }
        for name, entry in (MODELS | CONTENT_MODELS | ROW_MODELS).items()
    ]


def _shown(metrics: dict[str, Any]) -> list[str]:
    return [name for name in metrics if name.startswith(("ndcg@", "hit@", "index_recall@", "auc"))]


def versions(name: str = "") -> list[dict[str, Any]]:
    """Published versions, newest first within a name."""
    store = Store()
    rows = []
    for application in [name] if name else store.applications():
        pointing = store.names(application)
        for manifest in reversed(store.versions(application)):
            rows.append(
                {
                    "name": application,
                    "version": manifest.version,
                    "names": [n for n, v in pointing.items() if v == manifest.version],
                    "model": manifest.model,
                    "created": manifest.created_at,
                    "requires": [str(r) for r in manifest.requires.values()],
                    "digest": manifest.digest[:12],
                    "metrics": {k: manifest.metrics[k] for k in _shown(manifest.metrics)},
                }
            )
    return rows
