"""Whether serving and offline agree: logged lists scored again, and their features computed again.

recray replay ml-100k-ranker                 # all of the log
recray replay ml-100k-ranker --last 10000
recray replay ml-100k-ranker --hours 24 --lists 5000 --json
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from recray.cli.jobs import run_job
from recray.cli.listing import Listing, render
from recray.config import ConfigError
from recray.pipelines.skew import FeatureSkew, ReplayConfig, ReplayReport, replay
from recray.store import Store

NAMED = 4
"""Features that are named of each cause."""


@dataclass(frozen=True)
class ReplayLog:
    application: tyro.conf.Positional[str]
    """Whose log; the application's bundle."""
    last: int = 0
    """The newest so many answers; 0: all of the log."""
    hours: float = 0.0
    """Answers of the last so many."""
    json: bool = False
    """Print JSON instead of tables."""
    strict: bool = False
    """End with status 2 where a score, or a feature as served, is another one."""
    config: Annotated[ReplayConfig, tyro.conf.arg(name="")] = field(default_factory=ReplayConfig)


def run(job: ReplayLog) -> None:
    last, hours = job.last or None, job.hours or None
    report = replay(Store(), job.application, job.config, last=last, hours=hours)
    if job.json:
        print(json.dumps(report.to_json(), indent=1))
    else:
        _print(report)
    if job.strict and not report.agrees:
        why = (
            "what is served now is not what was logged" if report.scores.replayed else "nothing was compared"
        )
        raise ConfigError(f"{job.application}: {why}")


def _print(report: ReplayReport) -> None:
    scores = report.scores
    print(
        f"scores: {scores.replayed:,} of {scores.answers:,} answers scored again, {scores.equal:,} bit-equal "
        f"({scores.items_equal:,} of {scores.items:,} items)"
    )
    if scores.equal < scores.replayed:
        print(f"largest difference {scores.largest:.3g}, {scores.largest_steps:,} steps of float32")
    for one in scores.apart:
        said = f"{one.logged:.9g} logged, {one.again:.9g} now"
        print(f"  {one.item_id} of {one.request_id}, {one.version}: {said}")
    for why, answers in scores.not_replayed.items():
        print(f"not scored again: {answers:,} answers: {why}")
    print(
        f"features: {report.features} for each of {report.items:,} items in {report.lists:,} lists, "
        "computed again" + (f"; {report.not_found:,} items are not found again" if report.not_found else "")
    )
    for why, lists in report.not_again.items():
        print(f"features not computed again: {lists:,} lists: {why}")
    _table(report, "differ from what the version gives now, told what came by then", report.served)
    _table(report, "differ offline: what training sees and serving did not", report.offline)


def _table(report: ReplayReport, title: str, skews: Sequence[FeatureSkew]) -> None:
    rows = [_row(skew, report.lists) for skew in skews]
    render(Listing(f"features that {title}", rows), as_json=False)
    for line in _causes(skews):
        print(line)


def _causes(skews: Sequence[FeatureSkew]) -> list[str]:
    """Each cause once, that of most features first, with how often it is one."""
    names: dict[str, list[str]] = {}
    items: dict[str, int] = {}
    for skew in skews:
        for cause, often in skew.causes.items():
            names.setdefault(cause, []).append(skew.name)
            items[cause] = items.get(cause, 0) + often
    return [
        f"{cause}: {items[cause]:,} values of {len(of)} feature{'s' * (len(of) > 1)}, "
        + ", ".join(of[:NAMED])
        + ("" if len(of) <= NAMED else f" and {len(of) - NAMED} more")
        for cause, of in sorted(names.items(), key=lambda one: -len(one[1]))
    ]


def _row(skew: FeatureSkew, lists: int) -> dict[str, Any]:
    first = skew.examples[0]
    return {
        "feature": skew.name,
        "lists": f"{skew.lists:,} ({skew.lists / lists:.1%})",
        "median": f"{skew.median:.3g}",
        "largest": f"{skew.largest:.3g}",
        "example": f"{first.item_id}: {_number(first.logged)} logged, {_number(first.again)} again",
    }


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.6g}"


def main(args: Sequence[str]) -> int:
    return run_job("replay", run, ReplayLog, __doc__, args)
