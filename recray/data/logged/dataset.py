"""A data set with what was logged since: a folder of tables in the format of own data."""

from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

import polars as pl

from recray.data.events.dataset import Dataset
from recray.data.logged.interactions import AT, ITEM, TYPE, USER, VALUE
from recray.data.logged.origin import EVENTS, ITEMS, USERS
from recray.data.source import ABSOLUTE_TIMES
from recray.event_log.forgotten import Forgotten
from recray.schema import DataError


def require_clock(base: Dataset) -> None:
    """
    Raises:
        DataError: its times are none that a log's could stand beside.
    """
    times = base.manifest.options.get("times", ABSOLUTE_TIMES)
    if times != ABSOLUTE_TIMES:
        raise DataError(f"{base.name} has {times} for times: what was logged cannot be put in order with it")
    if base.given_parts_N is not None:
        raise DataError(f"{base.name} comes in given parts: what was logged belongs to none of them")


def write_dataset(
    folder: Path, base: Dataset, more: pl.DataFrame, told: pl.DataFrame, forgotten: Forgotten
) -> None:
    """The events of both, oldest first, and the side tables of the base; without users who were forgotten.

    Args:
        more: of ``interactions``.
        told: items that are other ones now, or new, as rows of the base's.
    """
    before = _events_of(base)
    columns = before.columns
    events = pl.concat([before, more.select(columns)]).sort(AT, maintain_order=True)
    events = forgotten.without(events, USER, AT)
    events.write_parquet(folder / EVENTS)
    items = pl.concat([base.items.join(told, on="raw_id", how="anti", maintain_order="left"), told])
    items.rename({"raw_id": ITEM}).write_parquet(folder / ITEMS)
    users = base.users.rename({"raw_id": USER}).filter(pl.col(USER).is_in(events[USER].unique().implode()))
    users.write_parquet(folder / USERS)


def _events_of(base: Dataset) -> pl.DataFrame:
    events = pl.DataFrame(
        {
            USER: base.users["raw_id"].gather(base.user_ids_N),
            ITEM: base.items["raw_id"].gather(base.item_ids_N),
            VALUE: base.ratings_N,
            AT: base.timestamps_N,
        }
    )
    if base.event_types_N is None:
        return events
    types = pl.Series(TYPE, base.manifest.event_types, dtype=pl.String)
    return events.with_columns(types.gather(base.event_types_N.astype("int64")))


def dataset_name(folder: Path, base: Dataset) -> str:
    """What the data set of a folder is asked for by: it bears the name of its base."""
    options = {"name": base.name, "user": USER, "item": ITEM, "rating": VALUE, "timestamp": AT}
    options |= {"time_unit": "s", "items": ITEMS, "item_id": ITEM, "item_types": _types(base, "item")}
    if base.event_types_N is not None:
        options["event_type"] = TYPE
    if len(base.users.columns) > 1:
        options |= {"users": USERS, "user_id": USER, "user_types": _types(base, "user")}
    return f"{folder / EVENTS}?{urlencode({key: value for key, value in options.items() if value})}"


def _types(base: Dataset, role: Literal["item", "user"]) -> str:
    """What each side column is: as the base says, else by how it is stored, so that nothing is found out
    otherwise than it was."""
    table = base.items if role == "item" else base.users
    said = base.manifest.options.get("side_types", {})
    kinds = {c.name: said.get(f"{role}.{c.name}") or _kind(c.dtype) for c in table if c.name != "raw_id"}
    return ",".join(f"{name}:{kind}" for name, kind in kinds.items())


def _kind(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List):
        return "list"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return "date"
    return "number" if dtype.is_numeric() else "text"
