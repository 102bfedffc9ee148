"""What is inside the bundle of a semantic-id map, and of the RQ-VAE that made it.

Writers and readers stand side by side, so that file and column names exist once.
Shapes: I items, L levels.
"""

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from recray.schema import DataError
from recray.semantic_ids import SemanticIds
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError

CODES, LEVELS = "codes.parquet", "codes.json"
REPORT, QUALITY = "report.html", "quality.json"
TITLES = "titles.parquet"  # of further items, where they have any
ENCODER = "encoder"
MODEL = "semantic_ids"  # what the manifest of a map calls its model


def write_codes(folder: Path, raw_ids: Sequence[str], ids: SemanticIds) -> None:
    """Fills a bundle's folder with the map; row i is item i.

    Raises:
        DataError: not one raw id per item, one is empty, or one stands twice.
    """
    if len(raw_ids) != ids.num_items:
        raise DataError(f"{len(raw_ids):,} raw ids for the codes of {ids.num_items:,} items")
    table = pl.DataFrame({"raw_id": pl.Series(raw_ids, dtype=pl.String), **_columns(ids)})
    if (empty := table["raw_id"].fill_null("").str.strip_chars() == "").any():
        raise DataError(f"row {empty.arg_true()[0] + 1} of {len(table)} items has no raw id: give it one")
    if (repeated := table["raw_id"].is_duplicated()).any():
        raise DataError(f"raw id {table['raw_id'].filter(repeated)[0]!r} stands for several items")
    table.write_parquet(folder / CODES)
    header = {"sizes": ids.sizes, "disambiguated": ids.disambiguated, "digest": ids.digest}
    (folder / LEVELS).write_text(json.dumps(header, indent=1))


def read_codes(bundle: Bundle) -> tuple[list[str], SemanticIds]:
    """(raw id of each item, codes of each item) of a published map.

    Raises:
        StoreError: the bundle holds no map, or its codes are not those that were published.
    """
    if CODES not in bundle.manifest.files:
        raise StoreError(
            f"{bundle.reference} is a {bundle.manifest.model!r}, no map of semantic ids: "
            "publish one with `recray semantic-ids`"
        )
    header = json.loads(bundle.path(LEVELS).read_text())
    table = pl.read_parquet(bundle.path(CODES), glob=False)
    names = [f"code_{level}" for level in range(1, len(header["sizes"]) + 1)]
    codes_IL = np.column_stack([table[name].to_numpy() for name in names]).astype(np.int64)
    ids = SemanticIds(codes_IL=codes_IL, sizes=tuple(header["sizes"]), disambiguated=header["disambiguated"])
    if ids.digest != header["digest"]:
        raise StoreError(
            f"{bundle.reference}: its codes have digest {ids.digest[:12]}, not {header['digest'][:12]}"
        )
    return table["raw_id"].to_list(), ids


def lookup(bundle: Bundle, what: str) -> list[tuple[str, tuple[int, ...]]]:
    """(raw id, codes) of the item with this raw id; else of every item whose codes begin with ``3-14-15``.

    Raises:
        StoreError: as ``read_codes``.
        DataError: neither an item nor the beginning of an item's codes.
    """
    raw_ids, ids = read_codes(bundle)
    codes = [tuple(row) for row in ids.codes_IL.tolist()]
    if what in raw_ids:
        item = raw_ids.index(what)
        return [(what, codes[item])]
    if not re.fullmatch(r"\d+(-\d+)*", what):
        raise DataError(f"no item {what!r} in {bundle.reference}{_similar(what, raw_ids)}")
    prefix = tuple(map(int, what.split("-")))
    found = [pair for pair in zip(raw_ids, codes, strict=True) if pair[1][: len(prefix)] == prefix]
    if not found:
        raise DataError(f"no item has codes {what} in {bundle.reference}, which has levels of {ids.sizes}")
    return found


def _similar(what: str, raw_ids: Sequence[str]) -> str:
    close = difflib.get_close_matches(what, raw_ids, n=1)
    return f", did you mean {close[0]!r}?" if close else f"; its first item is {raw_ids[0]!r}"


def write_titles(folder: Path, items: pl.DataFrame) -> None:
    """Notes what further items are called: a data set that does not have them cannot say."""
    if "title" in items.columns:
        items.select(pl.col("raw_id", "title").cast(pl.String)).write_parquet(folder / TITLES)


def read_titles(bundle: Bundle) -> pl.DataFrame:
    """raw_id and title of a map's further items."""
    if TITLES in bundle.manifest.files:
        return pl.read_parquet(bundle.path(TITLES), glob=False)
    return pl.DataFrame(schema={"raw_id": pl.String, "title": pl.String})


def _columns(ids: SemanticIds) -> dict[str, pl.Series]:
    return {
        f"code_{level}": pl.Series(column_I.astype(np.int32))
        for level, column_I in enumerate(ids.codes_IL.T, start=1)
    }
