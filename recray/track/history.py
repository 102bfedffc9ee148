"""The reports of a run, one JSON object a line in its folder: what its learning curves are drawn from."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from recray import storage

FILE = "metrics.jsonl"

Report = Mapping[str, float]


def append(folder: Path, report: Report) -> None:
    """Adds a line; one that was cut off before it ends first, so that only it is lost."""
    line = json.dumps(dict(report)).encode() + b"\n"
    storage.refresh(folder / FILE)
    with (folder / FILE).open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read() == b"\n" else b"\n" + line
        file.write(line)
    storage.send(folder / FILE)


def read(folder: Path) -> list[dict[str, float]]:
    """All reports in their order; none where the run kept none. A line that was cut off is left out."""
    path = folder / FILE
    storage.refresh(path)
    reports: list[dict[str, float]] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            reports.append(json.loads(line))
        except ValueError:
            continue
    return reports


def by_epoch(reports: Iterable[Report], metric: str) -> list[Report]:
    """The reports that measured ``metric``, one an epoch: the last, as a resumed run repeats some."""
    last = {report["epoch"]: report for report in reports if not math.isnan(report.get(metric, math.nan))}
    return [last[epoch] for epoch in sorted(last)]
