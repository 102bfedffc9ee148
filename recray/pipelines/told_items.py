"""Items as an application was told of them while it served: rows for the data set that it began with."""

from collections.abc import Iterable

import polars as pl

from recray.event_log.records import Fact
from recray.serve.events.recorded import of_items
from recray.serve.events.told import Content
from recray.serve.item_content import Fitting, Value, table_of

ID = "raw_id"


def items_told(items: pl.DataFrame, facts: Iterable[Fact]) -> pl.DataFrame:
    """The rows of items that were told of, new ones and known ones, as they are now; columns that were not
    named stay as they were. What the columns cannot hold is left out, and said in the log.

    Args:
        items: of a data set: ``raw_id`` and side columns.
        facts: of the log of an application; whether an item can be had is none of a data set's.
    """
    told: dict[str, dict[str, Value]] = {}
    for one in of_items(list(facts)):
        if isinstance(one, Content):
            told.setdefault(one.item_id, {}).update(one.values)
    fits = Fitting(items.schema)
    known = {row[ID]: row for row in items.filter(pl.col(ID).is_in(list(told))).iter_rows(named=True)}
    rows = [
        {**known.get(item_id, {}), **fits(item_id, values), ID: item_id} for item_id, values in told.items()
    ]
    return table_of(rows, items.schema)
