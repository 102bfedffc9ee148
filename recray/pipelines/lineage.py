"""From a list that somebody was shown back to what it came from: version, data, rows of the log, code."""

import json
import re
from typing import Any, NamedTuple

import polars as pl

from recray import paths
from recray.event_log.reading import read
from recray.schema import DataError
from recray.store import Bundle, Store, run_record

_VERSION = re.compile(r"(?P<name>.+)@(?P<number>\d+)(?: (?P<digest>[0-9a-f]+))?")


class Origins(NamedTuple):
    """Of one of the versions behind a list."""

    role: str
    version: str
    data: str
    data_hash: str
    feedback: dict[str, Any]  # the log that the data was made of: ``Origin.lineage``; empty: none
    code: str
    recipe: str
    seed: int
    settings: dict[str, Any]  # of its run: with the code, all that repeats it


def trace(store: Store, application: str, request_id: str) -> list[Origins]:
    """
    Raises:
        DataError: the log has no such answer, or it says of no version.
        StoreError: the version is not in the store.
    """
    shown = read(paths.events_dir() / application).shown.filter(pl.col("request_id") == request_id)
    if shown.is_empty():
        raise DataError(
            f"{application}: no answer {request_id!r} in its log; it may be older than what is kept"
        )
    said = [json.loads(each or "{}").items() for each in shown["version"].unique(maintain_order=True)]
    versions = list(dict.fromkeys(version for each in said for version in each))  # interleaved: of two
    if not versions:
        raise DataError(f"{application}: answer {request_id!r} was given by no version: it fell back")
    return [_origins(store, role, version) for role, version in versions]


def said_bundle(store: Store, version: str) -> Bundle:
    """What a list says that it is of: ``name@number digest``.

    Raises:
        DataError: it names no version, or the store holds another one under that number.
        StoreError: the store has none.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise DataError(f"{version!r} names no version: name@number is expected")
    bundle = store.open(match["name"], int(match["number"]))
    if not bundle.manifest.digest.startswith(match["digest"] or ""):
        raise DataError(f"{version}: the store holds another one under that number ({bundle.reference})")
    return bundle


def _origins(store: Store, role: str, version: str) -> Origins:
    bundle = said_bundle(store, version)
    record = run_record(bundle)
    return Origins(
        role,
        str(bundle.reference),
        record.data,
        record.data_hash,
        record.feedback,
        record.code,
        record.recipe,
        record.seed,
        record.settings,
    )
