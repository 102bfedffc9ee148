"""Putting a version into production: what was measured of it may speak against it."""

from recray.bundles.freshness import read_ages
from recray.bundles.gate import require_gate
from recray.eval.ages import require_help
from recray.store import Bundle, Store


def promote(
    store: Store,
    name: str,
    version: int,
    to: str = "production",
    *,
    force: bool = False,
    by: str = "",
    why: str = "",
) -> None:
    """Points a name at a version that passes its gates.

    Args:
        force: whatever was measured, and also where it was rolled back before.
    Raises:
        ConfigError: at some age of what it knows it makes lists worse than they were without it, or it loses
            what the application's gate holds.
        StoreError: as ``Store.promote``.
    """
    check(store, store.open(name, version), force=force)
    store.promote(name, version, to, force=force, by=by, why=why)


def check(store: Store, bundle: Bundle, *, force: bool = False) -> None:
    """
    Raises:
        ConfigError: as ``promote``.
    """
    if not force:
        require_help(read_ages(bundle), str(bundle.reference))
        require_gate(store, bundle)
