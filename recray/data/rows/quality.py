"""What is in rows to rank and what is odd about them, from figures over all rows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recray.data.row_source import Malformed, RawRows
from recray.data.rows.table import DenseStats
from recray.data.rows.tally import IdTally, PartTally
from recray.pages.check import Check, check
from recray.schema import RowSchema


@dataclass(frozen=True, kw_only=True)
class PartQuality:
    name: str
    rows: int
    units: int
    ordered: int  # sessions whose rows differ in their labels
    positive_share: float
    labels: dict[str, int]  # rows of each label
    rates: list[float]  # share of positives along the part
    unknown: dict[str, float]  # share of rows without a known id, per sparse feature


@dataclass(frozen=True, kw_only=True)
class IdQuality:
    """A sparse feature over the training part."""

    name: str
    size: int
    used: int  # ids above 0 that occur
    top_share: float  # of all ids, held by the most frequent one above 0


@dataclass(frozen=True, kw_only=True)
class RowQuality:
    """The report, JSON-ready through ``to_json``."""

    name: str
    split: str
    sessions: bool
    parts: tuple[PartQuality, ...]
    dense: tuple[DenseStats, ...]
    ids: tuple[IdQuality, ...]
    malformed: Malformed
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_rows(
    name: str,
    raw: RawRows,
    tallies: Mapping[str, PartTally],
    ids: IdTally,
    dense: tuple[DenseStats, ...],
) -> RowQuality:
    parts = tuple(_part(part, tally) for part, tally in tallies.items())
    features = _ids(raw.schema, ids)
    return RowQuality(
        name=name,
        split=raw.split,
        sessions=raw.schema.sessions,
        parts=parts,
        dense=dense,
        ids=features,
        malformed=raw.malformed,
        checks=tuple(_checks(raw.schema, parts, features, dense, raw.malformed)),
    )


def _part(name: str, tally: PartTally) -> PartQuality:
    return PartQuality(
        name=name,
        rows=tally.rows,
        units=tally.units,
        ordered=tally.ordered,
        positive_share=tally.positives / tally.rows,
        labels={f"{label:g}": count for label, count in sorted(tally.labels.items())},
        rates=tally.rates(),
        unknown={feature: count / tally.rows for feature, count in tally.unknown.items()},
    )


def _ids(schema: RowSchema, ids: IdTally) -> tuple[IdQuality, ...]:
    return tuple(
        IdQuality(
            name=feature.name,
            size=feature.size,
            used=int(np.count_nonzero(ids.counts[feature.name][1:])),
            top_share=float(ids.counts[feature.name][1:].max(initial=0))
            / max(int(ids.counts[feature.name].sum()), 1),
        )
        for feature in schema.sparse
    )


def _checks(
    schema: RowSchema,
    parts: tuple[PartQuality, ...],
    ids: tuple[IdQuality, ...],
    dense: tuple[DenseStats, ...],
    malformed: Malformed,
) -> list[Check]:
    shares = {part.name: part.positive_share for part in parts}
    drift = max(abs(share - shares["train"]) for share in shares.values())
    shown = ", ".join(f"{share:.1%} in {name}" for name, share in shares.items())
    train, test = parts[0], parts[-1]
    cold = {n: test.unknown[n] - train.unknown[n] for n in test.unknown}
    coldest = max(cold, key=lambda n: cold[n], default="")
    empty = [d.name for d in dense if d.missing == 1 or d.low == d.high]
    unused = [feature.name for feature in ids if feature.used == 0]
    return [
        check(
            "Malformed lines",
            f"{malformed.count:,} of {malformed.lines:,} lines are no rows and were left out; "
            f"{len(malformed.samples)} are shown below",
            warning=malformed.count > 0.0001 * malformed.lines,
            note=malformed.count > 0,
            fine="every line is a row",
        ),
        check(
            "Positive labels",
            f"positive: {shown}",
            warning=drift > 0.1 or not 0 < shares["train"] < 1,
            note=drift > 0.02,
            fine=f"about as many in each part: {shown}",
        ),
        check(
            "Ids unknown in the test part",
            f"{cold.get(coldest, 0.0):.1%} more rows than in training have no known {coldest}",
            warning=cold.get(coldest, 0.0) > 0.5,
            note=cold.get(coldest, 0.0) > 0.05,
            fine="training and test know about as many ids",
        ),
        check(
            "Columns that tell nothing",
            f"{', '.join(empty + unused)}: the same value in every training row, or none",
            note=bool(empty or unused),
            fine="every column has at least two values",
        ),
        *([_order(parts)] if schema.sessions else []),
    ]


def _order(parts: tuple[PartQuality, ...]) -> Check:
    shares = {part.name: 1 - part.ordered / part.units for part in parts}
    shown = ", ".join(f"{share:.1%} of {name}" for name, share in shares.items())
    return check(
        "Sessions without an order",
        f"{shown}: all rows of these sessions have one label, so that any order is right; where that label "
        "is relevant they count as an NDCG of 1, whatever the model",
        warning=max(shares.values()) > 0.5,
        note=max(shares.values()) > 0.05,
        fine="in nearly every session some rows are more relevant than others",
    )
