"""What a ranker's version says of its own freshness: how it does at which age, and what its features were.

Versions of before have neither file; nothing is then known.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recray.arrays import Float32s
from recray.eval.ages import AtAge
from recray.store.bundle import Bundle

AGES, RANGES = "ages.json", "ranges.json"


class Range(NamedTuple):
    """The values of one feature in the examples that were learnt from."""

    low: float | None  # None: it was missing everywhere
    high: float | None
    missing: float  # share of the rows


def ranges_of(names: Sequence[str], features_NF: Float32s) -> dict[str, Range]:
    """Of every column, without its missing values."""
    found = {}
    for name, values_N in zip(names, features_NF.T, strict=True):
        known_N = values_N[~np.isnan(values_N)]
        missing = 1.0 - len(known_N) / max(len(values_N), 1)
        found[name] = Range(None, None, missing)
        if len(known_N):
            found[name] = Range(float(known_N.min()), float(known_N.max()), missing)
    return found


def write_ages(folder: Path, ages: Sequence[AtAge]) -> None:
    (folder / AGES).write_text(json.dumps([at._asdict() for at in ages], indent=1))


def write_ranges(folder: Path, ranges: dict[str, Range]) -> None:
    (folder / RANGES).write_text(json.dumps({name: list(one) for name, one in ranges.items()}, indent=1))


def read_ages(bundle: Bundle) -> tuple[AtAge, ...]:
    """Youngest first."""
    if AGES not in bundle.manifest.files:
        return ()
    return tuple(AtAge(**at) for at in json.loads(bundle.path(AGES).read_text()))


def read_ranges(bundle: Bundle) -> dict[str, Range]:
    if RANGES not in bundle.manifest.files:
        return {}
    return {name: Range(*one) for name, one in json.loads(bundle.path(RANGES).read_text()).items()}
