"""A look at what an application showed of late: compared with its version's first week, judged, kept, told.

log -> version -> reference -> window -> comparison -> alarms -> report, and a notice
"""

import json
import logging
import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from recray.bundles.freshness import read_ages
from recray.bundles.reference import catalogue_of
from recray.config import ConfigError
from recray.eval.ages import HOUR_S, as_words, helps_until, seconds
from recray.event_log.reading import newest_events
from recray.folders import locked
from recray.monitor.alarms import DAY_CHANCE, AlarmState, after_telling, looked, message
from recray.monitor.drift import compare
from recray.monitor.drift_files import drift_dir, read_state, write_latest, write_state
from recray.monitor.drift_report import Checked, DriftReport, FeatureDrift
from recray.monitor.findings import findings, in_order
from recray.monitor.reference import sample_of
from recray.monitor.shown_rows import POPULARITY, Catalogue, watch
from recray.monitor.sketch import Sketch
from recray.paths import events_dir
from recray.pipelines.drift_reference import Shown, Wanted, counted, log_of, reference_for, sample_rows
from recray.redaction import hidden
from recray.schema import DataError
from recray.store import Bundle, Store
from recray.track.notices import require_people, tell_people

log = logging.getLogger(__name__)
FEW_USERS = 50
_VERSION = re.compile(r"(?P<name>.+)@(?P<number>\d+)(?: (?P<digest>[0-9a-f]+))?")


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """What is looked at, and what it is compared with."""

    hours: float = 24.0
    """Of the window, up to now."""
    against: Wanted = "auto"
    """auto: the version's first week, until then what the bundle brings, else the week before the window."""
    oldest: str = ""
    """Age of the newest known event that is an alarm, such as 30d; empty: from which on the ranker was
    measured to do harm."""

    def __post_init__(self) -> None:
        if not 0 < self.hours < 24 * 366:
            raise ConfigError(f"hours must be above 0 and at most a year, got {self.hours}")
        if self.oldest:
            seconds(self.oldest)


def look(
    application: str, config: DriftConfig, store: Store, *, now: float | None = None, notify: bool = False
) -> DriftReport:
    """Looks at the last hours, and keeps what was found; one looks at a time.

    Args:
        now: unix seconds; None: this moment.
        notify: tell people by RECRAY_NOTIFY what was raised and cleared. What goes wrong with that is logged.
    Raises:
        ConfigError, DataError, StoreError: no such application or log, or a file is damaged.
    """
    now = time.time() if now is None else now
    if notify:
        require_people()
    folder = drift_dir(store.root, application)
    with locked(folder / ".lock", "somebody else looks"):
        state = read_state(folder)
        since, events = now - config.hours * HOUR_S, events_dir(store.root) / application
        window = log_of(events, since, now)
        seen = _seen(application, config, store, window, events, state.chance(now), folder)
        change = looked(state, seen.features, now, seen.version)
        standing = {alarm.name for alarm in change.state.standing}
        report = replace(
            seen,
            at=now,
            features=tuple(replace(one, raised=one.name in standing) for one in seen.features),
            raised=change.raised,
            cleared=change.cleared,
            standing=change.state.standing,
            sentences=(*seen.sentences, _in_words(change.state)),
        )
        write_latest(folder, report)
        write_state(folder, _told(change.state, application, now) if notify else change.state)
    return report


def look_at_file(application: str, config: DriftConfig, store: Store, file: Path) -> DriftReport:
    """The same of rows in a Parquet file, with the columns of the log's shown items; nothing is kept.

    Raises:
        DataError: it cannot be read, holds no rows or lacks columns.
    """
    try:
        rows = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if not len(rows) or "at" not in rows.columns:
        raise DataError(
            f"{file} holds no rows of what was shown: {len(rows)} rows, {', '.join(rows.columns)}"
        )
    if "version" not in rows.columns:
        rows = rows.with_columns(version=pl.lit("{}"))
    rows = rows.with_columns(at=_seconds(rows["at"], file))
    since, until = float(rows["at"].min()), float(rows["at"].max())  # type: ignore[arg-type]
    window = Shown(lambda columns: iter([rows.select(columns) if columns else rows]), since, until)
    events = events_dir(store.root) / application
    return replace(_seen(application, config, store, window, events, DAY_CHANCE, None), at=until)


def _seconds(at: pl.Series, file: Path) -> pl.Series:
    """Unix seconds, of what may be dates and times."""
    if at.dtype in (pl.Date, pl.Datetime):
        at = at.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    if not at.dtype.is_numeric() or not at.is_finite().fill_null(value=False).all():
        few = at.head(3).to_list()
        raise DataError(f"{file}: `at` must be a time in each row, or unix seconds, got {few} ({at.dtype})")
    return at.cast(pl.Float64)


def _seen(
    application: str,
    config: DriftConfig,
    store: Store,
    window: Shown,
    events: Path,
    chance: float,
    folder: Path | None,
) -> DriftReport:
    """What differs; alarms are not known yet."""
    began_s = time.perf_counter()
    version, others = _most_shown(window)
    bundle = _bundle(store, application, version)
    catalogue = catalogue_of(_retriever(store, bundle))
    said = [f"{others:.0%} of the rows are of other versions: they are left out"] if others >= 0.01 else []
    reference = reference_for(config.against, bundle, catalogue, version, window, events, folder)
    ages = [_data_age(config, bundle, events, window.until)]
    report = DriftReport(
        application=application,
        version=f"{bundle.manifest.name}@{bundle.manifest.version}",
        at=window.until,
        window=sample_of(Sketch.empty(())),
        features=tuple(ages),
        chance=chance,
    )
    if version is None:
        hours = as_words(int(window.until - window.since))
        return replace(report, sentences=(f"nothing was shown in the last {hours}",))
    if isinstance(reference, str):
        seen = counted(window.of(version), watch(sample_rows(window.of(version)), catalogue), catalogue)
        return replace(report, window=sample_of(seen), sentences=(*said, reference))
    slots = reference.sketch.slots
    seen = counted(window.of(version), reference.sketch.watched, catalogue, slots)
    compared = compare(reference.sketch, seen, chance)
    if reference.against == "bundle":
        said.append("compared with the version's lists for its data: hours of the week are not told apart")
    elif not compared.by_hours:
        said.append("the reference has not all hours of the window: hours of the week are not told apart")
    if seen.num_users < FEW_USERS:
        said.append(f"{seen.num_users} users: only a large shift can be told from chance")
    return replace(
        report,
        window=sample_of(seen),
        against=reference.against,
        reference=sample_of(reference.sketch),
        features=in_order([*findings(compared, reference.sketch, seen), *ages]),
        figures=_figures(reference.sketch, seen, catalogue, compared.effective_items),
        sentences=tuple(said),
        took_s=time.perf_counter() - began_s,
    )


def _most_shown(window: Shown) -> tuple[str | None, float]:
    """The version of most rows, and the share of the others; None: nothing was shown."""
    counts: dict[str, int] = {}
    for rows in window.read(("version",)):
        for version, count in rows.group_by("version").len().iter_rows():
            counts[version] = counts.get(version, 0) + count
    if not counts:
        return None, 0.0
    most = max(counts, key=lambda version: counts[version])
    return most, 1 - counts[most] / sum(counts.values())


def _bundle(store: Store, application: str, version: str | None) -> Bundle:
    """Of what was shown; production where that says of no version."""
    try:
        said = dict(json.loads(version or "{}"))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"`version` must be JSON of bundles by their role, as the log has it, got {version!r}"
        ) from error
    for named in said.values():
        match = _VERSION.fullmatch(str(named))
        if match and match["name"] == application:
            return store.open(application, int(match["number"]))
    return store.open(application)


def _retriever(store: Store, bundle: Bundle) -> Bundle:
    needed = bundle.manifest.requires.get("retriever")
    return store.resolve(needed) if needed else bundle


def _data_age(config: DriftConfig, bundle: Bundle, events: Path, until: float) -> FeatureDrift:
    """How long ago the newest thing happened that is known: learnt, or told since."""
    known = [event.at for event in newest_events(events, 1)]
    if learnt := (bundle.manifest.run or {}).get("learnt_until", ""):
        known.append(datetime.fromisoformat(learnt).replace(tzinfo=UTC).timestamp())
    limit = seconds(config.oldest) if config.oldest else helps_until(read_ages(bundle))
    if not known:
        return FeatureDrift(name="data age", group="freshness", kind="figure", note="no event is known")
    age_s = max(until - max(known), 0.0)
    said = f"the newest known event is {as_words(int(age_s))} old"
    if limit is None:
        note = "no age is known from which on the version does harm; --oldest sets one"
        return FeatureDrift(
            name="data age", group="freshness", kind="figure", window=age_s, sentence=said, note=note
        )
    test = Checked(
        test="limit", statistic=age_s, threshold=float(limit), p_value=None, alarm=bool(age_s > limit)
    )
    return FeatureDrift(
        name="data age",
        group="freshness",
        kind="figure",
        tests=(test,),
        alarm=test.alarm,
        window=age_s,
        sentence=f"{said}; {as_words(limit)} is the limit",
    )


def _figures(
    reference: Sketch, seen: Sketch, catalogue: Catalogue, effective: tuple[float | None, float | None]
) -> dict[str, dict[str, float]]:
    """Coverage depends on how much was shown: the window's alone."""
    figures: dict[str, dict[str, float]] = {
        "catalogue shown": {"window": float(seen.shown_I.mean()) if len(seen.shown_I) else 0.0},
        "rows": {"reference": float(reference.rows), "window": float(seen.rows)},
    }
    pairs: dict[str, tuple[float | None, float | None]] = {
        "effective items": effective,
        POPULARITY: (reference.mean(POPULARITY), seen.mean(POPULARITY)),
    }
    all_counts = float(catalogue.counts_I.sum() + len(catalogue.counts_I))
    if None not in pairs[POPULARITY] and all_counts:
        bits = pl.Series([all_counts]).log(2)[0]
        pairs["novelty, bits"] = (bits - (pairs[POPULARITY][0] or 0), bits - (pairs[POPULARITY][1] or 0))
    for name, (before, now) in pairs.items():
        found = {"reference": before, "window": now}
        figures[name] = {which: float(value) for which, value in found.items() if value is not None}
    return figures


def _in_words(state: AlarmState) -> str:
    if not state.standing:
        return "no alarm stands"
    names = ", ".join(alarm.name for alarm in state.standing)
    return (
        f"{len(state.standing)} alarms stand: {names}" if len(state.standing) > 1 else f"it stands: {names}"
    )


def _told(state: AlarmState, application: str, now: float) -> AlarmState:
    """After people were told what they do not know, if they could be."""
    said = message(state, application, now)
    if said is None:
        return state
    if tell_people(said[0], hidden(said[1])):
        return after_telling(state, now)
    log.warning("%s: people could not be told (%s): the next look tries again", application, said[0])
    return state
