"""What ranking features know of items besides their events: genres and release years."""

from typing import NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Float32s
from recray.schema import DataError

MAX_GENRES = 64  # the most frequent ones are kept


class Items(NamedTuple):
    """What the log knows of its items, besides their events."""

    genres_IG: Float32s  # multi-hot; G may be 0
    years_I: Float32s  # release year, NaN where unknown
    genre_names: tuple[str, ...]  # of the G columns


def item_features(items: pl.DataFrame) -> Items:
    """Genres and years from an items table: columns ``genres`` (list of text) and ``year``, if present.

    The MAX_GENRES most frequent genres are kept (ties by name), columns in alphabetical order.
    """
    years_I = np.full(len(items), np.nan, np.float32)
    if "year" in items.columns:
        years_I = items["year"].cast(pl.Float32).fill_null(np.nan).to_numpy().astype(np.float32)
    if "genres" not in items.columns:
        return Items(np.zeros((len(items), 0), np.float32), years_I, ())
    pairs = items.select("genres").with_row_index("item").explode("genres", empty_as_null=True).drop_nulls()
    ranked = pairs.group_by("genres").len().sort("len", "genres", descending=[True, False])
    names = sorted(ranked["genres"].head(MAX_GENRES).to_list())
    column = {name: g for g, name in enumerate(names)}
    genres_IG = np.zeros((len(items), len(names)), np.float32)
    kept = pairs.filter(pl.col("genres").is_in(names))
    genres_IG[kept["item"].to_numpy(), [column[name] for name in kept["genres"]]] = 1.0
    return Items(genres_IG, years_I, tuple(names))


def item_frame(items: Items) -> pl.DataFrame:
    """The table that ``item_features`` reads back."""
    names = np.array(items.genre_names, dtype=object)
    genres = [names[row > 0].tolist() for row in items.genres_IG]
    years = pl.Series(items.years_I).fill_nan(None)
    return pl.DataFrame({"genres": pl.Series(genres, dtype=pl.List(pl.String)), "year": years})


def no_item_features(num_items: int) -> Items:
    return Items(np.zeros((num_items, 0), np.float32), np.full(num_items, np.nan, np.float32), ())


def check_items(items: Items, num_items: int) -> None:
    if len(items.genres_IG) != num_items or len(items.years_I) != num_items:
        counts = (len(items.genres_IG), len(items.years_I))
        raise DataError(f"genres and years have {counts} rows for a log of {num_items} items")
