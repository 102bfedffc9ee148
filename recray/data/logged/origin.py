"""Where data came from that was made of a log: a file beside it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recray.config import from_dict, to_dict
from recray.data.logged.log_report import LogReport

EVENTS, ITEMS, USERS, ROWS = "events.parquet", "items.parquet", "users.parquet", "rows.parquet"
ORIGIN = "feedback.json"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A data set and what an application logged, put together."""

    application: str
    base: str  # data set that the log was added to
    base_name: str
    base_hash: str
    since: float | None  # events that came from then on, unix seconds; None: all
    until: float  # and before
    attribution_s: float
    interactions: int  # taken from the log
    lists: int  # with an outcome, ready to be learnt from by a ranker
    left_out: int  # users
    report: LogReport
    report_digest: str
    items_told: int = 0  # new ones, and those that are other ones now
    settings: dict[str, Any] = field(default_factory=dict)
    examined: tuple[float, ...] = ()  # how likely each rank is looked at, relative to the first
    not_examined: str = ""  # why that could not be told

    def lineage(self) -> dict[str, Any]:
        """What a version made of it carries."""
        values = to_dict(self)
        ranges = values.pop("report")["ranges"]
        return {**values, "ranges": ranges}


def write_origin(folder: Path, origin: Origin) -> None:
    (folder / ORIGIN).write_text(json.dumps(to_dict(origin), indent=1))


def read_origin(folder: Path) -> Origin:
    return from_dict(Origin, json.loads((folder / ORIGIN).read_text()))


def origin_of(dataset: str) -> Origin | None:
    """Of a data set by its path; None: it was not made of a log."""
    folder = Path(dataset.partition("?")[0]).parent
    return read_origin(folder) if (folder / ORIGIN).is_file() else None
