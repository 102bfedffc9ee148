"""Leaks in rows to rank, and in the tables that they are made of.

Shapes: N rows.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Bools, Float64s
from recray.monitor.leaks import EXAMPLES, FEW, Leak

DETERMINES = 0.95  # AUC of one column alone
COPIED, SIGMAS = 0.01, 5.0  # test rows in training beyond what chance explains: share, and its deviations
MOST_COPIES = 5  # of a table, that are told from chance
NEAR = 0.95  # share of the values of a column of times that lie in the span of the rows' own


class Column(NamedTuple):
    """A column of rows to rank, and their labels."""

    name: str
    values_N: Float64s  # ids, or numbers (NaN where missing)
    labels_N: Float64s  # 0 or 1
    raw_values: Sequence[str] = ()  # what each id stands for, from 0 on, where that is known

    def said(self, value: float) -> str:
        return self.raw_values[int(value)] if self.raw_values else f"{value:g}"


def telling_column(train: Column, test: Column, *, bins: int | None = None) -> Leak | None:
    """A column that nearly determines the label: by its AUC alone on rows that its rates were not taken from.

    Args:
        bins: of numbers, which are cut into so many quantiles; None: values are ids.
    """
    if not (_both(train.labels_N) and _both(test.labels_N)):
        return None
    if bins:
        present_N = train.values_N[~np.isnan(train.values_N)]
        shares = np.linspace(0, 1, bins + 1)[1:-1]
        edges = np.unique(np.quantile(present_N, shares)) if len(present_N) else present_N
        groups, asked = (
            np.where(np.isnan(c.values_N), 0, np.searchsorted(edges, c.values_N) + 1) for c in (train, test)
        )
    else:
        groups, asked = train.values_N.astype(np.int64), test.values_N.astype(np.int64)
    size = int(max(groups.max(), asked.max())) + 1
    counts, clicks = np.bincount(groups, minlength=size), np.bincount(groups, train.labels_N, size)
    rates = (clicks + train.labels_N.mean()) / (counts + 1)
    found = _auc(rates[asked], test.labels_N)
    if found < DETERMINES or min(test.labels_N.sum(), (1 - test.labels_N).sum()) < FEW:
        return None
    telling = np.argsort(-np.abs(rates - train.labels_N.mean()) * counts, kind="stable")[:EXAMPLES]
    shown = ((np.flatnonzero(groups == g)[0], g) for g in telling if counts[g])
    return Leak(
        kind="column that tells the label",
        number=found,
        text=f"{train.name} alone has an AUC of {found:.3f}: {_way_out(train.name, bins)}",
        examples=tuple(
            f"{train.name} {train.said(train.values_N[n])}: {clicks[g] / counts[g]:.1%} of {counts[g]:,} "
            "are clicks"
            for n, g in shown
        ),
    )


def _way_out(name: str, bins: int | None) -> str:
    if bins:
        return (
            "it is the label told otherwise, or was written after it; leave it out "
            f"(ignore={name}) unless it is known when the model is asked"
        )
    return (
        "rows with the same value nearly all have the same label. Where that was written after the label, "
        f"leave it out (ignore={name}); where it is known when the model is asked, such as a user who always "
        "answers alike, measure on values that training does not have"
    )


def copied_rows(
    train: pl.DataFrame, test: pl.DataFrame, raw_values: Mapping[str, Sequence[str]] | None = None
) -> Leak | None:
    """Test rows that training holds too, more than there would be by chance.

    By chance are as many as training rows have a twin in training: rows of few values are often equal. Not so
    where numbers of equal rows are those of a table that was copied (``is_copied``).

    Args:
        raw_values: what the ids of a column stand for, from 0 on, where that is known.
    """
    twins, hashes = train.hash_rows(0), test.hash_rows(0)
    copied = hashes.is_in(twins.implode())
    doubled = is_copied(pl.concat([twins, hashes]))
    natural, share = int(twins.is_duplicated().sum()) / len(twins), int(copied.sum()) / len(test)
    spread = (natural * (1 - natural) / len(test)) ** 0.5
    least = COPIED if doubled else natural + max(COPIED, SIGMAS * spread)
    if copied.sum() < FEW or share < least:
        return None
    shown = test.with_row_index("row").filter(copied).head(EXAMPLES)
    for name, values in (raw_values or {}).items():
        shown = shown.with_columns(pl.Series(name, [values[one] for one in shown[name]], pl.String))
    chance = "as if the table were appended to itself" if doubled else f"{natural:.1%} would by chance"
    return Leak(
        kind="test rows in training",
        number=share,
        text=f"{share:.1%} of the test rows ({copied.sum():,}) stand in training with the same values in "
        f"every column, {chance}: take the copies out before the data is split",
        examples=tuple(
            f"test row {row[0] + 1}: {', '.join(map(str, row[1:6]))}" for row in shown.iter_rows()
        ),
    )


def is_copied(rows: pl.Series) -> bool:
    """Whether rows are equal because they were copied, and not by chance.

    Of rows drawn by chance, whatever the odds of each, f(k) different ones come k times, and k! f(k) is
    log-convex in k, as moments are: k f(k)^2 <= (k + 1) f(k - 1) f(k + 1), but for deviations. Copies of rows
    that were equal often enough before are out of reach.
    """
    times = rows.value_counts(name="times")["times"].to_numpy()
    counts = np.bincount(times, minlength=MOST_COPIES + 2)
    highest = counts + SIGMAS * np.sqrt(counts + 1.0)
    k = np.arange(2, MOST_COPIES + 1)
    by_chance = np.sqrt((k + 1) / k * highest[k - 1] * highest[k + 1])
    return bool(((counts[k] >= FEW) & (counts[k] - SIGMAS * np.sqrt(counts[k]) > by_chance)).any())


def split_by_chance(time: str, share: float) -> Leak | None:
    """Rows with times that were split by chance: training knows what came after the test.

    Args:
        share: of the test rows, those before the last training row.
    """
    if share < NEAR:
        return None
    return Leak(
        kind="split against time",
        number=share,
        text=f"{share:.1%} of the test rows lie before the last training row: what is to be predicted is "
        f"told by what came after; split by {time} (split=time)",
        examples=(f"column {time}",),
    )


def later_times(name: str, seconds_N: Float64s, asked_N: Float64s) -> Leak | None:
    """A feature that is a time after that of its row: when the target happened, not when it was asked for.

    Args:
        seconds_N: the feature, NaN where missing.
        asked_N: the rows' own times, in the same unit.
    """
    span = asked_N.max() - asked_N.min()
    present_N = ~np.isnan(seconds_N)
    if present_N.sum() < FEW or not span:
        return None
    near = np.abs(seconds_N[present_N] - asked_N[present_N]) <= span
    after_N = present_N & (np.nan_to_num(seconds_N, nan=-np.inf) > asked_N)
    share = after_N.sum() / present_N.sum()
    if near.mean() < NEAR or after_N.sum() < FEW or share < 1 - NEAR:
        return None
    return Leak(
        kind="time from after the request",
        number=float(share),
        text=f"{name} is a time, and lies after the time of its row in {share:.1%} of them: when a model is "
        f"asked, it has not happened yet; leave it out (ignore={name})",
        examples=tuple(
            f"row {n + 1}: {name} {seconds_N[n]:.0f}, asked at {asked_N[n]:.0f}"
            for n in np.flatnonzero(after_N)[:EXAMPLES]
        ),
    )


def telling_words(name: str, texts: pl.Series, labels_N: Bools) -> Leak | None:
    """A word whose presence nearly determines the label: the text was written with the label at hand."""
    clicks, others = int(labels_N.sum()), int((~labels_N).sum())
    if min(clicks, others) < FEW:
        return None
    words = pl.DataFrame(
        {"row": np.arange(len(texts)), "label": labels_N, "word": texts.cast(pl.String).str.to_lowercase()}
    ).with_columns(pl.col("word").str.extract_all(r"[\w.]+"))
    counted = (
        words.explode("word").drop_nulls().unique(["row", "word"]).group_by("word").agg(
            pl.col("label").sum().alias("clicks"), pl.len().alias("rows"), pl.col("row").min()
        )
    )  # fmt: skip
    lift = pl.col("clicks") / clicks - (pl.col("rows") - pl.col("clicks")) / others
    counted = counted.with_columns(auc=0.5 + lift.abs() / 2).sort("auc", "word", descending=[True, False])
    if counted.is_empty() or counted["auc"][0] < DETERMINES:
        return None
    word, row = counted["word"][0], int(counted["row"][0])
    return Leak(
        kind="text that tells the label",
        number=float(counted["auc"][0]),
        text=f"whether {name} has the word {word!r} tells the label with an AUC of {counted['auc'][0]:.3f}: "
        "the text was written when the label was known; take such words out, or leave the column out",
        examples=(f"row {row + 1}: {texts[row]!s:.80}",),
    )


def _both(labels_N: Float64s) -> bool:
    return 0 < float(labels_N.mean()) < 1


def _auc(scores_N: Float64s, labels_N: Float64s) -> float:
    from scipy.stats import rankdata  # half a second, which most starts do not need

    clicks = labels_N.sum()
    ranks_N = rankdata(scores_N)
    return float((ranks_N @ labels_N - clicks * (clicks + 1) / 2) / (clicks * (len(labels_N) - clicks)))
