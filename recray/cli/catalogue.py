"""Rows of ``recray datasets``, ``recray models``, ``recray versions`` and of one version."""

from typing import Any

from recray.data.events.dataset import MANIFEST, read_manifest
from recray.data.rows.table import read_row_manifest
from recray.data.sources import SOURCES
from recray.paths import datasets_dir
from recray.recipes import RECIPES
from recray.schema import ProtocolCard
from recray.store.manifest import BundleManifest
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
    """What can be trained, and the presets of each."""
    return [
        {"name": name, "what": recipe.summary, "presets": list(recipe.presets)}
        for name, recipe in RECIPES.items()
    ]


def _shown(metrics: dict[str, Any]) -> list[str]:
    return [name for name in metrics if name.startswith(("ndcg@", "hit@", "index_recall@", "auc"))]


VERSION_COLUMNS = ("bundle", "served_learnt", "metrics")  # that fit into 80 places


def versions(name: str = "") -> list[dict[str, Any]]:
    """Published versions, newest first within a name; with what each was measured under."""
    store = Store()
    rows = []
    for application in [name] if name else store.applications():
        pointing = store.names(application)
        for manifest in reversed(store.versions(application)):
            names = [n for n, v in pointing.items() if v == manifest.version]
            rows.append(
                {
                    "protocol": _protocol(manifest.card),
                    "bundle": [
                        application,
                        f"version {manifest.version} of {manifest.created_at[:10]}",
                        *names,
                    ],
                    "name": application,
                    "version": manifest.version,
                    "names": names,
                    "model": manifest.model,
                    "created": manifest.created_at,
                    "served_learnt": _served_learnt(manifest),
                    "measured_learnt": manifest.card.learnt if manifest.card else "",
                    "requires": [str(r) for r in manifest.requires.values()],
                    "digest": manifest.digest[:12],
                    "metrics": {k: manifest.metrics[k] for k in _shown(manifest.metrics)},
                    "card": manifest.card.to_json() if manifest.card else None,
                }
            )
    return rows


def _protocol(card: ProtocolCard | None) -> str:
    """All that figures must have in common to be comparable."""
    if card is None:
        return "measured under no protocol"
    core = f", {card.k_core}-core" if card.k_core else ""
    return (
        f"{card.dataset} ({card.dataset_hash[:12]}){core}, {card.split}, {card.target}, {card.asked}; "
        f"to find: {card.relevance}; candidates: {card.candidates}, seen items {card.seen}; known at "
        f"test: {card.known}; repeats {card.repeats}, {card.duplicates}; ties: {card.ties}"
    )


def _served_learnt(manifest: BundleManifest) -> str:
    """First and last day of the events that what is served has learnt from, as far as they are known."""
    days = manifest.card.learnt if manifest.card else ""
    until = str((manifest.run or {}).get("learnt_until", ""))[:10]  # later than measured, if fitted again
    if not until:
        return days
    return f"{days.split(' to ')[0]} to {until}" if days else f"until {until}"  # nothing was measured


_SAID = ("settings", "learnt_until")  # by other names


def version(name: str, which: str) -> list[dict[str, Any]]:
    """All that one version says of itself, a line each: what it is, how it was measured, what made it."""
    manifest = Store().open(name, which).manifest
    said: dict[str, Any] = {
        "version": f"{manifest.name} {manifest.version}",
        "model": manifest.model,
        "created": manifest.created_at,
        "digest": manifest.digest,
        "requires": [str(reference) for reference in manifest.requires.values()],
        "parent": manifest.parent or "",
    }
    if manifest.card:
        said |= {f"card.{key}": value for key, value in manifest.card.to_json().items() if key != "learnt"}
        said["measured_learnt"] = manifest.card.learnt
    said["served_learnt"] = _served_learnt(manifest)
    said |= {f"metrics.{key}": value for key, value in manifest.metrics.items()}
    if manifest.run:
        run = {key: value for key, value in manifest.run.items() if key not in _SAID}
        said |= _flat(run, "run.") | _flat(manifest.run["settings"], "")
    return [{"what": key, "value": value} for key, value in said.items() if value not in ("", [], None)]


def _flat(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Nested values by dotted path: as the command line takes settings."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
