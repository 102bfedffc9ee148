"""Rows of ``recray codes``: the semantic ids of an item, or the items of a semantic id."""

from typing import Any

from recray.bundles.codes import lookup
from recray.store.store import Store


def codes(name: str, what: str, version: str = "latest") -> list[dict[str, Any]]:
    """Items of a published map by raw id, by codes, or by the first of their codes.

    Args:
        name: bundle name, such as ``amazon-beauty-semantic-ids``.
        what: a raw id, or codes joined by ``-``.
    """
    bundle = Store().open(name, version)
    return [
        {"item": raw_id, "codes": "-".join(map(str, row)), "map": str(bundle.reference)}
        for raw_id, row in lookup(bundle, what)
    ]
