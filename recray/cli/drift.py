"""What moved since a version's first week: features, scores, items, users and lists of what was shown.

recray drift ml-100k-ranker
recray drift ml-100k-ranker --every 1h --notify
"""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from polars.exceptions import PolarsError

from recray.cli.jobs import run_job
from recray.cli.listing import Listing, render
from recray.config import ConfigError
from recray.eval.ages import seconds
from recray.folders import write_whole
from recray.monitor.drift_files import drift_dir
from recray.monitor.drift_report import DriftReport, FeatureDrift
from recray.pipelines.drift import DriftConfig, look, look_at_file
from recray.pipelines.drift_page import render as render_page
from recray.pipelines.schedule import run_every
from recray.redaction import hidden
from recray.schema import DataError
from recray.store import Store

log = logging.getLogger(__name__)
PAGE = "drift.html"
SHOWN = 15
"""Lines of the table, beside all that are raised."""


@dataclass(frozen=True)
class Drift:
    application: tyro.conf.Positional[str]
    """The application's bundle, as `recray versions` lists it."""
    config: Annotated[DriftConfig, tyro.conf.arg(name="")] = field(default_factory=DriftConfig)
    file: Path | None = None
    """Look at the rows of this Parquet file, with the columns of the log, in the place of the log; nothing
    is kept and nobody told."""
    notify: bool = False
    """Tell people by RECRAY_NOTIFY what was raised and what cleared."""
    every: str = ""
    """Look again and again, such as 1h, until it is stopped."""
    json: bool = False
    """Print the report as JSON instead of a table."""


def look_for_drift(job: Drift) -> None:
    store = Store()
    if job.file is not None:
        if job.every or job.notify:
            raise ConfigError("rows of a file are looked at once, and nobody is told: --file alone")
        show(look_at_file(job.application, job.config, store, job.file), as_json=job.json)
        return

    def once() -> None:
        found = look(job.application, job.config, store, notify=job.notify)
        web = drift_dir(store.root, job.application) / PAGE
        write_whole(web, render_page(found).encode())
        show(found, as_json=job.json)
        if not job.json:
            print(f"page: {web}")

    def tried() -> None:
        try:
            once()
        except (ConfigError, DataError, OSError, PolarsError) as error:
            log.error("no look at %s this time: %s", job.application, hidden(str(error)))

    if job.every:
        schedule = drift_dir(store.root, job.application) / "schedule.json"
        with suppress(KeyboardInterrupt):
            run_every(seconds(job.every), schedule, tried)
        return
    once()


def show(report: DriftReport, *, as_json: bool) -> None:
    """Prints a table of what moved, and a sentence for each alarm."""
    if as_json:
        print(json.dumps(report.to_json(), indent=1))
        return
    raised = sum(one.alarm or one.raised for one in report.features)
    title = f"{report.version}: {report.window.rows:,} shown items of {report.window.users:,} users"
    if report.reference:
        title += f", compared with its {report.against} ({report.reference.rows:,})"
    render(Listing(title, [_row(one) for one in report.features[: max(SHOWN, raised)]]), as_json=False)
    for one in report.features:
        if one.alarm:
            print(f"! {one.sentence}")
    for sentence in report.sentences:
        print(sentence)


def _row(one: FeatureDrift) -> dict[str, Any]:
    worst = one.tests[0] if one.tests else None
    return {
        "what": one.name,
        "test": worst.test if worst else "",
        "statistic": f"{worst.statistic:.4g}" if worst else one.note,
        "threshold": f"{worst.threshold:.4g}" if worst else "",
        "chance": "" if worst is None or worst.p_value is None else f"{worst.p_value:.2g}",
        "": "alarm" if one.alarm else "stands" if one.raised else "",
    }


def main(args: Sequence[str]) -> int:
    return run_job("drift", look_for_drift, Drift, __doc__, args)
