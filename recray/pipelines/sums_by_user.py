"""Sums over lists by their user, for each part of the traffic; piece by piece.

Shapes: U users, M sums.
"""

import json
from typing import Literal, TypeAlias

import polars as pl

Kind: TypeAlias = Literal["all", "arm", "version", "day"]
ALL: Kind = "all"
NO_EXPERIMENT = "no experiment"
SUMS = (
    "lists",
    "clicked_lists",
    "purchased_lists",
    "items",
    "known_items",
    "clicked",
    "purchased",
    "revenue",
    "new",
    "tail",
    "repeated",
)
_OF_LISTS = {
    "items": pl.len(),
    "known_items": pl.col("user_id").is_not_null().sum(),
    "clicked": pl.col("is_clicked").sum(),
    "purchased": pl.col("is_purchased").sum(),
    "revenue": pl.col("revenue").sum(),
    "new": pl.col("is_new").sum(),
    "tail": pl.col("is_tail").sum(),
    "repeated": pl.col("is_repeated").sum(),
}
NOBODIES = 4_096  # into so many units lists of nobody in particular go, by chance
PURCHASE = 3.0  # of labels, see ``GRADES``
MOST_ROWS = 500_000  # that wait to be added up


class SumsByUser:
    """
    Args:
        kinds: of parts, beside the whole.
    """

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        self._kinds: tuple[Kind, ...] = (ALL, *kinds)
        self._sums: dict[Kind, pl.DataFrame] = {}
        self._items: dict[Kind, pl.DataFrame] = {}
        self._waiting: dict[Kind, list[pl.DataFrame]] = {kind: [] for kind in self._kinds}

    def add(self, rows: pl.DataFrame) -> None:
        """
        Args:
            rows: of ``LoggedPieces.rows``, whole answers, with ``is_new``, ``is_tail`` and ``is_repeated``.
        """
        if rows.is_empty():
            return
        rows = rows.with_columns(
            is_clicked=pl.col("label") > 0, is_purchased=pl.col("label") >= PURCHASE, **_parts(rows)
        )
        for kind in self._kinds:
            of_lists = rows.group_by("request_id", "user_id", kind).agg(**_OF_LISTS)
            of_users = (
                of_lists.with_columns(**_unit())
                .group_by(kind, "unit", "is_known")
                .agg(
                    lists=pl.len(),
                    clicked_lists=(pl.col("clicked") > 0).sum(),
                    purchased_lists=(pl.col("purchased") > 0).sum(),
                    **{name: pl.col(name).sum() for name in _OF_LISTS},
                )
            )
            self._waiting[kind].append(of_users)
            seen = rows.select(kind, "item_id")
            before = [self._items[kind]] if kind in self._items else []
            self._items[kind] = pl.concat([*before, seen]).unique()
            if sum(map(len, self._waiting[kind])) > MOST_ROWS:
                self._add_up(kind)

    def _add_up(self, kind: Kind) -> None:
        parts = [*([self._sums[kind]] if kind in self._sums else []), *self._waiting[kind]]
        self._waiting[kind] = []
        if parts:
            summed = pl.concat(parts).group_by(kind, "unit", "is_known").agg(pl.col(*SUMS).sum())
            self._sums[kind] = summed.sort(kind, "is_known", "unit")

    def names(self, kind: Kind) -> list[str]:
        """Of the parts; none: not asked for, or there are none."""
        if kind in self._kinds:
            self._add_up(kind)
        return self._sums[kind][kind].unique().sort().to_list() if kind in self._sums else []

    def of(self, kind: Kind, name: str) -> pl.DataFrame:
        """SUMS of each user (``is_known``), and of lists of nobody in particular, put together by chance."""
        self._add_up(kind)
        return self._sums[kind].filter(pl.col(kind) == name)

    def items(self, kind: Kind, name: str) -> pl.Series:
        """That were shown, each once."""
        return self._items[kind].filter(pl.col(kind) == name)["item_id"]


def _parts(rows: pl.DataFrame) -> dict[str, pl.Expr]:
    said = rows["version"].unique()
    arm = pl.when(pl.col("team") != "").then("team").when(pl.col("arm") != "").then("arm")
    return {
        "all": pl.lit("all"),
        "arm": pl.when(pl.col("experiment").fill_null("") == "")
        .then(pl.lit(NO_EXPERIMENT))
        .otherwise(pl.format("{} {}", "experiment", arm.otherwise(pl.lit("both arms")))),
        "version": pl.col("version").replace_strict(
            said, pl.Series([version_words(each) for each in said], dtype=pl.String), default="no version"
        ),
        "day": pl.from_epoch(pl.col("at").floor().cast(pl.Int64)).dt.date().cast(pl.String),
    }


def version_words(said: str | None) -> str:
    """Of what a list says of its version by role: the one that names of the store point at."""
    by_role = json.loads(said or "{}")
    first = by_role.get("ranker") or by_role.get("retriever") or "no version"
    return str(first).split(" ")[0]


def _unit() -> dict[str, pl.Expr]:
    """Whose list it is."""
    is_known = pl.col("user_id").is_not_null()
    nobody = pl.col("request_id").hash() % NOBODIES
    return {"unit": pl.when(is_known).then(pl.col("user_id").hash()).otherwise(nobody), "is_known": is_known}
