"""Rows of ``recray runs``: what was trained here, and how far it came."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recray import paths, storage
from recray.config import ConfigError, nearest
from recray.folders import remove, write_whole
from recray.track.record import RunFolder

PAGE = "run.html"
COLUMNS = ("name", "state", "best", "epochs", "took", "dollars")


def runs() -> list[dict[str, Any]]:
    """All of them, the one that was heard of last first."""
    found = [RunFolder(paths.runs_dir() / name) for name in _names()]
    return [_row(run) for run in sorted(found, key=lambda run: _heard_s(run.folder), reverse=True)]


def run(name: str) -> list[dict[str, Any]]:
    """All that is known of one, a line each: its settings, best and last report, and end.

    Raises:
        ConfigError: there is none of this name.
    """
    found = RunFolder(paths.runs_dir() / name)
    if not found.settings():
        raise ConfigError(f"no run {name!r}{nearest(name, _names())}")
    outcome, reports = found.outcome(), found.reports()
    said: dict[str, Any] = {**_row(found), "folder": str(found.folder)}
    said["page"] = str(_page(found))
    if outcome:
        said |= {"published": outcome.reference, "said": outcome.said.splitlines()}
        said |= {f"test.{name}": value for name, value in outcome.metrics.items()}
        said |= {f"card.{name}": value for name, value in (outcome.card or {}).items()}
    for which, report in (("best", found.best()), ("last", reports[-1] if reports else {})):
        said |= {f"{which}.{name}": value for name, value in report.items()}
    said |= found.settings()
    return [{"what": key, "value": value} for key, value in said.items() if value not in ("", [], None)]


def _page(found: RunFolder) -> Path:
    """What there is to look at of a run, written anew."""
    from recray.pipelines.run_page import render  # matplotlib takes a second to import

    path = found.folder / PAGE
    write_whole(path, render(found).encode())
    storage.send(path)
    return path


def clean(names: Sequence[str], older_s: float, *, really: bool) -> list[dict[str, Any]]:
    """Runs that ended, by name or by age, with what they take; ``really`` deletes them.

    Versions that were published of them stay.

    Raises:
        ConfigError: there is none of a name, or it has not ended: somebody may go on with it.
    """
    known = _names()
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"no run {unknown[0]!r}{nearest(unknown[0], known)}")
    found = [RunFolder(paths.runs_dir() / name) for name in names or known]
    if names and (open_ := [run.name for run in found if run.outcome() is None]):
        raise ConfigError(f"run {open_[0]} has not ended: the same command with --launch.run goes on with it")
    now, rows = time.time(), []
    for run in found:
        age_s = now - _heard_s(run.folder)
        if names or (run.outcome() and age_s >= older_s):
            mib = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file()) / 2**20
            rows.append({**_row(run), "heard_of": f"{_ago(age_s)} ago", "MiB": round(mib, 1)})
            if really:
                remove(run.folder)
    return rows


def _names() -> list[str]:
    names = storage.folders_in(paths.runs_dir())
    return [name for name in names if RunFolder(paths.runs_dir() / name).settings()]


def _row(found: RunFolder) -> dict[str, Any]:
    reports, outcome, metric, best = found.reports(), found.outcome(), found.metric(), found.best()
    last = reports[-1] if reports else {}
    return {
        "name": found.name,
        "state": outcome.state
        if outcome
        else f"open, heard of {_ago(time.time() - _heard_s(found.folder))} ago",
        "best": f"{metric} {best[metric]:.4f} in epoch {best['epoch']:.0f}" if metric in best else "",
        "epochs": int(last.get("epoch", 0)),
        "took": _ago(last["wall_s"]) if "wall_s" in last else "",
        "dollars": last.get("dollars", ""),
    }


def _heard_s(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.glob("*.json*")), default=0.0)


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
