"""What a window of an application's log is compared with.

A version's first seven days are its reference: the same population, the same rules, every hour of a week; it
is fixed, so what creeps is seen. Until they are over, the window is compared with what the bundle brings,
the version's own lists for requests of its data, and where it brings nothing, with the week before the
window, of whichever version.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from recray.bundles.reference import read_reference
from recray.eval.ages import DAY_S
from recray.monitor.drift_report import Against
from recray.monitor.reference import load_sketch, save_sketch
from recray.monitor.shown_rows import Catalogue, add_shown, empty_sketch, stretches, watch
from recray.monitor.sketch import SLOTS, Sketch, Watched
from recray.store import Bundle

WEEK_S = 7 * DAY_S
SAMPLED = 5_000  # rows of each stretch, by which values are told apart
Wanted = Literal["auto", "first week", "bundle", "week before"]


class Shown(NamedTuple):
    """What was shown from one moment to another; read as often as it is asked for."""

    read: Callable[[Sequence[str]], Iterator[pl.DataFrame]]  # given columns; none: all
    since: float
    until: float

    def of(self, version: str | None, columns: Sequence[str] = ()) -> Iterator[pl.DataFrame]:
        """Of one version; None: of all."""
        for rows in self.read(columns):
            mine = rows if version is None else rows.filter(pl.col("version") == version)
            if len(mine):
                yield mine


class Reference(NamedTuple):
    sketch: Sketch
    against: Against


def log_of(events: Path, since: float, until: float) -> Shown:
    """
    Args:
        events: folder of an application's log.
    """
    return Shown(lambda columns: stretches(events, since, until, columns), since, until)


def reference_for(
    wanted: Wanted,
    bundle: Bundle,
    catalogue: Catalogue,
    version: str | None,
    window: Shown,
    events: Path,
    folder: Path | None,
) -> Reference | str:
    """Or why there is none.

    Args:
        folder: where first weeks are kept; None: nothing is.
    """
    why = []
    if wanted in ("auto", "first week"):
        found = _first_week(catalogue, version, window, events, folder)
        if isinstance(found, Sketch):
            return Reference(found, "first week")
        why.append(found)
    if wanted in ("auto", "bundle"):
        of_bundle = read_reference(bundle)
        if of_bundle is not None and of_bundle.rows:
            return Reference(of_bundle, "bundle")
        why.append(f"{bundle.reference} brings no statistics: it was published before there were any")
    if wanted in ("auto", "week before"):
        if not (events / "live").is_dir():
            return "; ".join([*why, "there is no log"])
        before = log_of(events, window.since - WEEK_S, window.since)
        sketch = counted(before.of(None), watch(sample_rows(before.of(None)), catalogue), catalogue)
        if sketch.rows and window.since - sketch.since >= DAY_S:
            return Reference(sketch, "week before")
        why.append("the week before the window holds less than a day")
    return "nothing to compare with: " + "; ".join(why)


def _first_week(
    catalogue: Catalogue, version: str | None, window: Shown, events: Path, folder: Path | None
) -> Sketch | str:
    """Of the version, counted once; or why it is not to be had."""
    if version is None:
        return "no version is known"
    key = hashlib.sha256(version.encode()).hexdigest()[:12]
    kept = folder / f"first-week-{key}.npz" if folder else None
    sketch = load_sketch(kept) if kept and kept.is_file() else None
    if sketch is None and not (events / "live").is_dir():
        return "there is no log"
    began = sketch.since if sketch else _began(events, version, window.until)
    if began is None or window.since < began + WEEK_S:
        past_s = 0.0 if began is None else max(window.since - began, 0.0)
        return f"the version's first week is not over: {past_s / DAY_S:.1f} of 7 days before the window"
    if sketch is not None:
        return sketch
    week = log_of(events, began, began + WEEK_S)
    sketch = counted(week.of(version), watch(sample_rows(week.of(version)), catalogue), catalogue)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_sketch(sketch, kept)
    return sketch


def _began(events: Path, version: str, until: float) -> float | None:
    """Unix seconds of the first answer of a version."""
    firsts = [
        float(rows["at"].min())  # type: ignore[arg-type]
        for rows in log_of(events, 0.0, until).of(version, ("at", "version"))
    ]
    return min(firsts, default=None)


def sample_rows(shown: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Some rows of each stretch."""
    some = [rows.gather_every(max(len(rows) // SAMPLED, 1)) for rows in shown]
    empty = {"at": pl.Float64, "user_id": pl.String, "request_id": pl.String, "item_id": pl.String}
    first = pl.DataFrame(schema={**empty, "rank": pl.Int32, "score": pl.Float64})
    return pl.concat([first, *some], how="diagonal_relaxed")


def counted(
    shown: Iterable[pl.DataFrame], watched: Sequence[Watched], catalogue: Catalogue, slots: int = SLOTS
) -> Sketch:
    """Counts of all that was shown."""
    sketch = empty_sketch(watched, catalogue, slots=slots)
    for rows in shown:
        add_shown(sketch, rows, catalogue)
    return sketch
