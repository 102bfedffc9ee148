"""Looks for leaks in what is at hand: files that are prepared, events under a split, rows to rank."""

import functools
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from recray.arrays import Bools, Float64s
from recray.data.events.dataset import Dataset
from recray.data.events.split_data import SplitData
from recray.data.events.splits import Split
from recray.data.row_block import LABEL, SESSION, MultiHot, RowBlock
from recray.data.rows.sources import options_of, rows_of
from recray.data.rows.table import RowTable
from recray.data.source import ABSOLUTE_TIMES, NO_CLOCK
from recray.data.sources.clicks.table import Clicks, ClickTable
from recray.monitor import event_leaks, group_leaks, row_leaks
from recray.monitor.leaks import Leak, require_none, seconds_of
from recray.recipes.ranking_data import RankerData

log = logging.getLogger(__name__)
TRAIN_ROWS, TEST_ROWS = 500_000, 200_000  # looked at
BINS = 64  # of a column of numbers
PAST = 0.8  # of the events, where no moment ends the training part
WORDS = 3  # of a text; fewer are a name


def report(leaks: Sequence[Leak], *, strict: bool = False) -> None:
    """Says each.

    Raises:
        DataError: strict, and there is one.
    """
    for leak in leaks:
        log.warning("leak, %s", leak)
    if strict:
        require_none(leaks)


@functools.singledispatch
def find_leaks(data: object) -> list[Leak]:
    """Every leak in opened data, of whichever recipe; none where nobody is asked for anything."""
    return []


@find_leaks.register
def _(data: SplitData) -> list[Leak]:
    return list(_of_events(data.dataset, data.split))


@find_leaks.register
def _(data: RankerData) -> list[Leak]:
    return find_leaks(data.stages.data)


@find_leaks.register
def _(data: RowTable) -> list[Leak]:
    return list(_of_rows(data))


def leaks_of_dataset(data: Dataset) -> list[Leak]:
    """What can be seen before there is a split."""
    return [*filter(None, _of_order(data)), *_of_side_tables(data, PAST)]


def leaks_of_files(name_or_path: str) -> list[Leak]:
    """What is seen in a table of clicks, but no longer in the rows that are made of it."""
    source = rows_of(*options_of(name_or_path))
    if not isinstance(source, ClickTable):
        return []
    with tempfile.TemporaryDirectory() as scratch:
        return list(filter(None, _of_clicks(source.open(Path(scratch)))))


def _of_clicks(clicks: Clicks) -> Iterator[Leak | None]:
    table, columns = clicks.table, clicks.columns
    for text in filter(_is_text, table.columns(columns.categories)):
        yield row_leaks.telling_words(text.name, text, clicks.labels_N > 0)
    features = (*columns.numbers, *columns.categories) if columns.time else ()
    asked = table.column(columns.time) if columns.time else pl.Series()
    for told in (_numbers, seconds_of):  # numbers beside numbers, dates beside dates
        asked_N = told(asked)
        for column in table.columns(features if asked_N is not None else ()):
            times_N = told(column)
            if times_N is not None and asked_N is not None:
                yield row_leaks.later_times(column.name, times_N, asked_N)


def _of_events(data: Dataset, split: Split) -> Iterator[Leak]:
    events, train_N, test_N = _events(data), split.train_N, split.test_N
    clock = data.manifest.options.get("times") not in NO_CLOCK
    checks = [*_of_order(data)]
    if clock:
        checks.append(event_leaks.later_training(events, train_N, test_N))
    if clock or data.given_parts_N is not None:  # elsewhere a repetition is a habit
        checks.append(event_leaks.copied_events(events, train_N, test_N, timed=clock))
    if split.seen == "keep" and split.repeats == "keep":
        asked_N = test_N if split.relevant_N is None else test_N & split.relevant_N
        checks.append(event_leaks.repeated_last(events, train_N, asked_N))
    yield from filter(None, checks)
    by_time = split.name.startswith("global-time")
    yield from _of_side_tables(data, float(train_N.mean()) if by_time else PAST)


def _of_order(data: Dataset) -> Iterator[Leak | None]:
    events = _events(data)
    if data.manifest.options.get("times") in NO_CLOCK:  # all that a user did may be of one moment
        events = events._replace(timestamps_N=np.zeros_like(events.timestamps_N))
    yield event_leaks.sorted_ties(events)


def _of_side_tables(data: Dataset, past: float) -> Iterator[Leak]:
    """Users and items, by what was known of them after a share of the events."""
    if data.manifest.options.get("times") != ABSOLUTE_TIMES:
        return
    past_N = _first(len(data), past)
    for what, table, ids_N in (("user", data.users, data.user_ids_N), ("item", data.items, data.item_ids_N)):
        yield from event_leaks.dated_afterwards(what, table, ids_N, data.timestamps_N)
        counts = (np.bincount(ids_N[mask_N], minlength=len(table)) for mask_N in (past_N, ~past_N))
        yield from event_leaks.counts_ahead(what, table, *counts)


def _first(rows: int, share: float) -> Bools:
    first_N: Bools = np.arange(rows) < rows * share
    return first_N


def _events(data: Dataset) -> event_leaks.Events:
    raw_ids = (table["raw_id"].to_list() for table in (data.users, data.items))
    return event_leaks.Events(data.user_ids_N, data.item_ids_N, data.timestamps_N, *raw_ids)


def _of_rows(table: RowTable) -> Iterator[Leak]:
    train, test = _some(table, "train", TRAIN_ROWS), _some(table, "test", TEST_ROWS)
    facts = table.manifest.options
    raw_values = table.encoding.raw_values() if table.encoding else {}
    checks = [row_leaks.copied_rows(_frame(train), _frame(test), raw_values)]
    if "tests_before_training_ends" in facts:
        time, share = facts["columns"]["time"], facts["tests_before_training_ends"]
        checks.append(row_leaks.split_by_chance(time, share))
    for name, bins in [(n, BINS) for n in table.schema.dense] + [(f.name, 0) for f in table.schema.sparse]:
        columns = [_column(block, name, raw_values.get(name, ())) for block in (train, test)]
        if columns[0] is not None and columns[1] is not None:
            checks.append(row_leaks.telling_column(columns[0], columns[1], bins=bins or None))
    yield from filter(None, checks)
    yield from _of_groups(table, train, test)


def _of_groups(table: RowTable, train: RowBlock, test: RowBlock) -> Iterator[Leak]:
    """Numbers of items, users or whatever else has ids, by what training and all the rest say of them."""
    validation = [_some(table, "validation", TEST_ROWS)] if table.num_rows("validation") else []
    blocks = [train, *validation, test]
    rows = pl.concat(
        _frame(block).with_columns(
            pl.Series(group_leaks.LABEL, block.labels_N > 0).cast(pl.Int64),
            pl.lit(block is not train).alias(group_leaks.LATER),
        )
        for block in blocks
    )
    numbers = list(table.schema.dense)
    for feature in table.schema.sparse:
        if not isinstance(train.ids[feature.name], MultiHot):
            for name, leak in group_leaks.means_over_test(rows, feature.name, numbers).items():
                numbers.remove(name)  # said once
                yield leak


def _some(table: RowTable, part: str, rows: int) -> RowBlock:
    """The first rows of a part, whole shards."""
    held: list[RowBlock] = []
    for block in table.blocks(part):
        held.append(block)
        if sum(map(len, held)) >= rows:
            break
    return RowBlock.concat(held)


def _frame(block: RowBlock) -> pl.DataFrame:
    """Features alone."""
    table = block.to_table()
    frame = pl.from_arrow(table.drop([name for name in (LABEL, SESSION) if name in table.column_names]))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _column(block: RowBlock, name: str, raw_values: Sequence[str]) -> row_leaks.Column | None:
    """None of several ids: which of them tells is not one column's question."""
    clicks_N = (block.labels_N > 0).astype(np.float64)
    if name in block.schema.dense:
        values_N = block.dense_NF[:, block.schema.dense.index(name)].astype(np.float64)
        return row_leaks.Column(name, values_N, clicks_N)
    ids = block.ids[name]
    if isinstance(ids, MultiHot):
        return None
    return row_leaks.Column(name, ids.astype(np.float64), clicks_N, raw_values)


def _is_text(column: pl.Series) -> bool:
    if column.dtype != pl.String:
        return False
    words = column.head(1000).drop_nulls().str.count_matches(r"\w+").mean()
    return isinstance(words, float) and words >= WORDS


def _numbers(column: pl.Series) -> Float64s | None:
    """Float64, NaN where missing: 32 bits do not tell seconds apart; None of a column of something else."""
    texts = column.str.strip_chars() if column.dtype == pl.String else column
    if not (texts.dtype.is_numeric() or texts.dtype == pl.String):
        return None
    numbers: Float64s = texts.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    return None if np.isnan(numbers).all() else numbers
