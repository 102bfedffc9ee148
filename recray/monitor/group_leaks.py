"""Leaks in numbers that rows share: of their item, their user, or whatever else has an id."""

from collections.abc import Sequence

import polars as pl

from recray.monitor.leaks import EXAMPLES, FEW, Leak

LABEL, LATER = "#label", "#later"  # no column of a table is called so
DETERMINES = 0.95  # AUC among groups of equal counts
CONSTANT, ROWS = (
    0.95,
    20_000,
)  # share of groups with one value, among so many rows: it is a number of the group


def means_over_test(rows: pl.DataFrame, group: str, names: Sequence[str]) -> dict[str, Leak]:
    """Numbers of a group (an item, a user) that its labels were counted into, those of the test too.

    By an AUC: which of two groups with as many rows, and as many clicks in training, has a click later. What
    was known before orders them no better than the true rates do: by 0.94 where these are nearly 0 or 1, else
    by 0.8. A mean or sum over all rows, smoothed or not, orders them by 1. Out of reach is one with noise on
    it: with a factor of lognormal(0.3) it orders them by 0.88 where half of the rows are clicks.

    Args:
        rows: ids of groups, numbers, ``LABEL`` (0 or 1), and ``LATER``: it is no training row.
        names: columns of numbers; those that differ within a group are left out.
    """
    of_one = rows.head(ROWS).group_by(group).agg(pl.len(), pl.col(names).n_unique())
    several = of_one.filter(pl.col("len") > 1)
    found = {}
    for name in names:
        if (several[name] == 1).sum() <= CONSTANT * len(several):
            continue
        auc, cases = _later_auc(
            rows.select(pl.col(group).alias("id"), pl.col(name).alias("value"), LABEL, LATER)
        )
        if cases < FEW or auc < DETERMINES:
            continue
        shown = rows.filter(pl.col(LATER) & (pl.col(LABEL) > 0)).head(EXAMPLES)
        found[name] = Leak(
            kind="column that counts test labels",
            number=auc,
            text=f"{name}, a number of each {group}, tells with an AUC of {auc:.3f} which of them has a "
            f"later click, at equal clicks in training: labels of the test were counted into it; "
            f"count {name} up to each row, or over training alone, or leave it out (ignore={name})",
            examples=tuple(f"{name} {value:g}" for value in shown[name]),
        )
    return found


def _later_auc(rows: pl.DataFrame) -> tuple[float, int]:
    """AUC of a group's value for a later click, among groups of equal counts; and how many clicks or none,
    whichever is fewer, it rests on."""
    later, before = pl.col(LATER), ~pl.col(LATER)
    cell, clicked = ["rows", "clicks", "rows_later"], pl.col("clicked")
    groups = (
        rows.group_by("id")
        .agg(
            pl.col("value").n_unique().alias("values"),
            pl.col("value").first(),
            before.sum().alias("rows"),
            pl.col(LABEL).filter(before).sum().alias("clicks"),
            later.sum().alias("rows_later"),
            pl.col(LABEL).filter(later).sum().gt(0).alias("clicked"),
        )
        .filter(pl.col("values") == 1, pl.col("rows") > 0, pl.col("rows_later") > 0)
    )
    cells = (
        groups.with_columns(rank=pl.col("value").rank().over(cell))
        .group_by(cell)
        .agg(
            pl.col("rank").filter(clicked).sum().alias("ranks"),
            clicked.sum().cast(pl.Int64).alias("with"),
            (~clicked).sum().cast(pl.Int64).alias("without"),
        )
        .filter(pl.col("with") > 0, pl.col("without") > 0)
    )
    won = cells["ranks"] - cells["with"] * (cells["with"] + 1) / 2
    pairs = int((cells["with"] * cells["without"]).sum())
    return float(won.sum()) / max(pairs, 1), int(min(cells["with"].sum(), cells["without"].sum()))
