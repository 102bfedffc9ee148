"""From what an application logged to data: a data set that goes on from another, and lists for a ranker."""

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from recray import paths
from recray.config import ConfigError, to_dict
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare
from recray.data.logged.dataset import dataset_name, require_clock, write_dataset
from recray.data.logged.interactions import interactions
from recray.data.logged.log_report import LogReport, log_report
from recray.data.logged.origin import ORIGIN, Origin, origin_of, read_origin, write_origin
from recray.data.logged.outcomes import known_until, outcomes
from recray.data.logged.rows import ranked_rows, write_rows
from recray.data.logged.screening import Screening, screened
from recray.eval.ages import seconds
from recray.event_log.claims import marked
from recray.event_log.forgotten import FILE, Forgotten
from recray.event_log.reading import Log, read, read_facts
from recray.folders import build_once, digest, file_sha256
from recray.pipelines.examined import examined_ranks
from recray.pipelines.told_items import items_told
from recray.schema import DataError

log = logging.getLogger(__name__)
HANDED_OVER_S = 5.0  # after which every answer is in the log: its events may come before it


@dataclass(frozen=True, kw_only=True)
class FeedbackConfig:
    """What counts as an outcome, and whose."""

    attribution: str = "1h"
    """After an answer, within which an outcome counts for it: 10min, 1h, 2d."""
    screening: Screening = field(default_factory=Screening)

    def __post_init__(self) -> None:
        seconds(self.attribution)


class Joined(NamedTuple):
    """A log, joined."""

    rows: pl.DataFrame  # of ``outcomes``
    events: pl.DataFrame  # of ``marked``
    left_out: pl.DataFrame  # of ``screened``

    def since(self, moment: float | None) -> "Joined":
        """What came, and what closed, from then on: claims and users are still judged by all of the log."""
        if moment is None:
            return self
        rows = self.rows.filter(pl.col("closes") > moment)
        return Joined(rows, self.events.filter(pl.col("received") >= moment), self.left_out)

    def without(self, first: float, last: float) -> "Joined":
        """Neither what was shown from the one moment to before the other, nor what claims it."""
        shown_then = pl.col("shown_at").is_between(first, last, closed="left").fill_null(value=False)
        return Joined(
            self.rows.filter(~pl.col("at").is_between(first, last, closed="left")),
            self.events.filter(~shown_then),
            self.left_out,
        )

    def report(self) -> LogReport:
        return log_report(*self)


class Feedback(NamedTuple):
    """What was made: the folder, the name of its data set, and where it came from."""

    folder: Path
    dataset: str
    origin: Origin


def joined(logged: Log, config: FeedbackConfig, until: float) -> Joined:
    """All that was known of a log at a moment."""
    attribution_s = seconds(config.attribution)
    rows = outcomes(logged, attribution_s, until)
    known = known_until(logged, until)
    return Joined(rows, marked(known, attribution_s), screened(known, rows, config.screening))


def build_feedback(
    application: str,
    base: str,
    config: FeedbackConfig,
    *,
    since: float | None = None,
    until: float | None = None,
    set_aside: tuple[float, float] | None = None,
) -> Feedback:
    """Puts a data set and what was logged since it was made together; made once for each state of both.

    Args:
        application: whose log.
        base: a data set; where it was made here before, it goes on from the moment at which that ended.
        since, until: unix seconds; None: all, and a moment ago.
        set_aside: what was shown from the one moment to before the other is not looked at, whenever
            something came of it.
    Raises:
        DataError: there is no log, nothing in it can be learnt from, or the base has no clock.
    """
    folder = paths.events_dir() / application
    until = time.time() - HANDED_OVER_S if until is None else until
    before = origin_of(base)
    since = before.until if before and since is None else since
    found = joined(read(folder, until=until), config, until)
    if set_aside is not None:
        found = found.without(*set_aside)
    new = found.since(since)
    data = load_or_prepare(base)
    require_clock(data)
    origin = _with_examined(_origin(application, base, data, config, new, since, until), found.rows)
    rows = ranked_rows(found.rows, found.left_out, since, until)
    more = interactions(new.events, new.left_out)
    if more.is_empty():
        raise DataError(f"{application}: nobody did anything that can be learnt from")
    told = items_told(data.items, [fact for fact in read_facts(folder) if fact.at < until])
    forgotten = Forgotten(folder)
    earlier = Path(base.partition("?")[0]).parent if before else None
    forgotten_file = folder / FILE
    state = to_dict(replace(origin, until=0.0)) | {
        "told": told.write_json(),
        "forgotten": file_sha256(forgotten_file) if forgotten_file.exists() else "",
    }
    target = paths.feedback_dir() / application / digest(state)

    def build(target: Path, _: Path) -> None:
        write_dataset(target, data, more, told, forgotten)
        lists = write_rows(target, rows, earlier, forgotten)
        write_origin(target, replace(origin, interactions=len(more), lists=lists, items_told=len(told)))

    build_once(target, lambda made: (made / ORIGIN).is_file(), build)
    return Feedback(target, dataset_name(target, data), read_origin(target))


def _with_examined(origin: Origin, rows: pl.DataFrame) -> Origin:
    """By all of the log: what people look at does not depend on which lists are new."""
    try:
        return replace(origin, examined=examined_ranks(rows))
    except ConfigError as error:
        return replace(origin, not_examined=str(error))


def _origin(
    application: str,
    base: str,
    data: Dataset,
    config: FeedbackConfig,
    found: Joined,
    since: float | None,
    until: float,
) -> Origin:
    report = found.report()
    return Origin(
        application=application,
        base=base,
        base_name=data.name,
        base_hash=data.hash,
        since=since,
        until=until,
        attribution_s=seconds(config.attribution),
        interactions=0,
        lists=0,
        left_out=len(found.left_out),
        report=report,
        report_digest=report.digest,
        settings=to_dict(config),
    )
