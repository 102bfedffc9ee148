"""How well item content tells items apart: numbers, checks, plots, and neighbours for a person to read."""

import html
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from recray.arrays import Bools, Float32s, Int64s
from recray.pages.check import Check, check
from recray.pages.page import figures, page, table
from recray.pages.palette import BLUE

_SAMPLE = 2_000  # items whose nearest neighbour is looked for: all pairs of a large catalogue take minutes
_EXAMPLES = 12
_BINS = np.linspace(-0.2, 1, 49)
NEAR = (0.9, 0.99)  # cosine


@dataclass(frozen=True, kw_only=True)
class ContentQuality:
    """The report, JSON-ready through ``to_json``."""

    name: str
    method: str
    items: int
    covered: int
    dim: int
    duplicates: int  # covered items whose vector is that of an earlier item: no codes can tell them apart
    sampled: int
    near: dict[str, float]  # share of the sampled items with another one at that cosine or closer
    nearest: dict[str, list[float]]  # histogram of the cosine to the nearest other item
    effective_dim: float
    spectrum: list[float]  # share of the variance by dimension, principal axes, falling
    examples: list[tuple[str, str, float]]  # item, its nearest other item, their cosine

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_content(
    name: str, method: str, items: pl.DataFrame, vectors_IF: Float32s, covered_I: Bools
) -> ContentQuality:
    """Neighbours are looked for among all covered items, from a sample of them drawn with a fixed seed.

    ``effective_dim`` is the participation ratio of the variances, (sum v)^2 / sum v^2.
    """
    rows = np.flatnonzero(covered_I)
    vectors_NF = vectors_IF[rows]
    sample = np.random.default_rng(0).permutation(len(rows))[:_SAMPLE]
    cosines, neighbours = _nearest(vectors_NF, sample)
    centred_NF = vectors_NF - vectors_NF.mean(axis=0)
    variances = np.linalg.eigvalsh(centred_NF.T @ centred_NF / len(rows))[::-1].clip(min=0).astype(float)
    total = float(variances.sum()) or 1.0
    counts, _ = np.histogram(cosines.clip(_BINS[0], _BINS[-1]), bins=_BINS)
    shown = [
        (_label(items, int(rows[i])), _label(items, int(rows[j])), float(c))
        for i, j, c in zip(sample[:_EXAMPLES], neighbours, cosines, strict=False)
    ]
    return ContentQuality(
        name=name,
        method=method,
        items=len(covered_I),
        covered=len(rows),
        dim=vectors_NF.shape[1],
        duplicates=_duplicates(vectors_NF),
        sampled=len(sample),
        near={f"{limit:g}": float((cosines >= limit).mean()) for limit in NEAR},
        nearest={"starts": _BINS[:-1].round(4).tolist(), "counts": counts.astype(float).tolist()},
        effective_dim=float(variances.sum() ** 2 / ((variances**2).sum() or 1.0)),
        spectrum=(variances / total).tolist(),
        examples=shown if len(rows) > 1 else [],
    )


def _nearest(vectors_NF: Float32s, sample: Int64s) -> tuple[Float32s, Int64s]:
    """Cosine to, and row of, each sampled row's nearest other row; cosine 0 where there is no other."""
    unit_NF = vectors_NF / np.linalg.norm(vectors_NF, axis=1, keepdims=True)
    cosines, neighbours = np.zeros(len(sample), np.float32), np.zeros(len(sample), np.int64)
    if len(vectors_NF) < 2:
        return cosines, neighbours
    for start in range(0, len(sample), 256):
        part = sample[start : start + 256]
        scores = unit_NF[part] @ unit_NF.T
        scores[np.arange(len(part)), part] = -np.inf
        neighbours[start : start + 256] = scores.argmax(axis=1)
        cosines[start : start + 256] = scores.max(axis=1)
    return cosines, neighbours


def _duplicates(vectors_NF: Float32s) -> int:
    # Rounded: a sum in another order of additions is the same content.
    rows = {row.tobytes() for row in np.round(vectors_NF, 6) + 0.0}
    return len(vectors_NF) - len(rows)


def _label(items: pl.DataFrame, row: int) -> str:
    values = items.row(row, named=True)
    text = str(values.get("title") or values.get("text") or "")
    return f"{values['raw_id']} {text[:70]}".strip()


def render_content(quality: ContentQuality) -> str:
    """The page: counts, checks, plots, examples."""
    tiles = {
        "items": f"{quality.items:,}",
        "with content": f"{quality.covered / quality.items:.1%}",
        "dimensions": f"{quality.dim:,}",
        "effective dimensions": f"{quality.effective_dim:.0f}",
        "duplicates": f"{quality.duplicates:,}",
    }
    examples = [(a, b, f"{cosine:.2f}") for a, b, cosine in quality.examples]
    sections = figures(
        {
            "Cosine to the nearest other item": lambda axes: _draw_nearest(axes, quality),
            "Share of the variance that the first dimensions hold": lambda axes: _draw_spectrum(
                axes, quality
            ),
        }
    ) + _examples_table(examples)
    lead = (
        f"Vectors by {html.escape(quality.method)}. Nearest items are looked for from "
        f"{quality.sampled:,} items among all; the same numbers are in quality.json."
    )
    return page(quality.name, lead, tiles, _checks(quality), sections, about="item content")


def _examples_table(rows: list[tuple[str, str, str]]) -> str:
    return table("Items and their nearest by content", ("item", "nearest", "cosine"), rows) if rows else ""


def _checks(quality: ContentQuality) -> list[Check]:
    missing, close = quality.items - quality.covered, quality.near[f"{NEAR[1]:g}"]
    return [
        check(
            "Items without content",
            f"{missing:,} of {quality.items:,} items have no content: their vectors are zero and they share "
            "one semantic id",
            warning=missing > 0.1 * quality.items,
            note=missing > 0,
            fine="every item has content",
        ),
        check(
            "Duplicates",
            f"{quality.duplicates:,} items have exactly the content of an earlier one: that many collide "
            "whatever the codes",
            warning=quality.duplicates > 0.05 * quality.covered,
            note=quality.duplicates > 0,
            fine="no two items have the same content",
        ),
        check(
            "Near duplicates",
            f"{close:.1%} of the items have another one at a cosine of {NEAR[1]} or closer: few codes are "
            "likely to give them the same semantic id",
            warning=close > 0.2,
            note=close > 0.01,
            fine=f"hardly any item has another one at a cosine of {NEAR[1]} or closer",
        ),
    ]


def _draw_nearest(axes: Axes, quality: ContentQuality) -> None:
    axes.stairs(quality.nearest["counts"], _BINS, color=BLUE, fill=True)
    axes.set(xlabel="cosine", ylabel=f"of {quality.sampled:,} items", xlim=(_BINS[0], 1))


def _draw_spectrum(axes: Axes, quality: ContentQuality) -> None:
    held = 100 * np.cumsum(quality.spectrum)
    axes.plot(np.arange(1, len(held) + 1), held, color=BLUE)
    axes.fill_between(np.arange(1, len(held) + 1), held, color=BLUE, alpha=0.12)
    axes.set(xlabel="dimensions", ylabel="% of the variance", xlim=(1, max(len(held), 2)), ylim=(0, 102))
