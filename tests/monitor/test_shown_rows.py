"""Rows of what was shown, as a log has them or as somebody else's file does."""

import numpy as np
import polars as pl
import pytest

from recray.monitor.shown_rows import Catalogue, rows_of

CATALOGUE = Catalogue(
    items=pl.Series(["1", "2"]), counts_I=np.array([3, 0]), users=pl.Series(["7", "8"], dtype=pl.String)
)


@pytest.mark.parametrize(
    ("users", "items"),
    [
        (pl.Series(["7", None, "9"]), pl.Series(["1", "2", "3"])),
        (pl.Series([7, None, 9]), pl.Series([1, 2, 3], dtype=pl.UInt32)),
        (pl.Series([7.0, float("nan"), 9.0]), pl.Series([1.0, 2.0, 3.0])),
    ],
)
def test_ids_are_those_of_the_catalogue_however_a_file_has_them(users: pl.Series, items: pl.Series) -> None:
    """A column of numbers with a gap is one of floats in pandas: `7.0` is nobody."""
    told = {"user_id": users, "item_id": items, "rank": [1, 2, 3], "score": [0.0] * 3, "at": [1.0] * 3}
    (rows,) = rows_of(pl.DataFrame({**told, "request_id": [5, 5, 6]}), CATALOGUE)
    assert rows.columns["user"].to_list() == ["known", "nobody", "unknown"]
    assert rows.columns["item"].to_list() == ["known", "known", "unknown"]
    assert rows.columns["item popularity"].to_list() == [2.0, 0.0, 0.0]
    assert (rows.users.to_list(), rows.answers.to_list()) == (["7", "5", "9"], ["5", "5", "6"])
