"""What an application's lists earned: click and purchase rates, revenue, and coverage of the catalogue.

recray business ml-100k-ranker
recray business ml-100k-ranker --hours 24
recray business ml-100k-ranker --by day --json
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from recray.cli.jobs import run_job
from recray.cli.listing import Listing, render
from recray.eval.bootstrap import Interval
from recray.pipelines.business import METRICS, BusinessConfig, BusinessReport, Part, business
from recray.store import Store

TOGETHER = 3
"""Parts side by side."""


@dataclass(frozen=True)
class Business:
    application: tyro.conf.Positional[str]
    """Whose log; the application's bundle."""
    hours: float = 0.0
    """Lists of the last so many; 0: all of the log."""
    by: Literal["arm", "day"] = "arm"
    """day: the days too."""
    json: bool = False
    """Print JSON instead of tables."""
    config: Annotated[BusinessConfig, tyro.conf.arg(name="")] = field(default_factory=BusinessConfig)


def show(job: Business) -> None:
    hours = job.hours or None
    report = business(Store(), job.application, job.config, hours=hours, by_day=job.by == "day")
    if job.json:
        print(json.dumps(report.to_json(), indent=1))
        return
    _print(report)


def _print(report: BusinessReport) -> None:
    for title, parts in (("by arm", report.arms), ("by version", report.versions), ("by day", report.days)):
        for start in range(0, len(parts), TOGETHER):
            _print_side_by_side(f"{report.application}, {title}", parts[start : start + TOGETHER])
    whole = report.whole
    left_out = "".join(f"; {users} users left out: {why}" for why, users in report.left_out.items())
    print(
        f"{whole.lists:,} lists of {whole.users:,} users and {whole.anonymous_lists:,} of nobody; "
        f"outcomes within {report.attribution}; {report.open_lists:,} lists still open, "
        f"{report.empty_lists:,} empty{left_out}; 95 % intervals over users"
    )
    if math.isnan(whole.revenue):
        print("no purchase says a price: send it as `value` of the event")
    few = {part.name: part.few for part in (whole, *report.arms, *report.versions, *report.days)}
    for name, why in few.items():
        if why:
            print(f"{name}: {why}")


def _print_side_by_side(title: str, parts: Sequence[Part]) -> None:
    """A line for each figure, a column for each part: intervals are long, and names of figures too."""
    told = [_figures(part) for part in parts]
    rows = [
        {"figure": name} | {part.name: figures[name] for part, figures in zip(parts, told, strict=True)}
        for name in told[0]
    ]
    render(Listing(title, rows), as_json=False)


def _figures(part: Part) -> dict[str, str]:
    told = {"lists": f"{part.lists:,}", "users": f"{part.users:,}"}
    told |= {metric.text: _words(part.metrics[metric.name]) for metric in METRICS}
    return told | {"items of the catalogue that stood in a list": f"{part.coverage:.1%}"}


def _words(found: Interval) -> str:
    if math.isnan(found.mean):
        return "?"
    return f"{found.mean:.3g} [{found.low:.3g}, {found.high:.3g}]"


def main(args: Sequence[str]) -> int:
    return run_job("business", show, Business, __doc__, args)
