"""Trainings of this home: how far each came, its curves, its settings."""

import polars as pl
import streamlit as st

from recray import paths, storage
from recray.console import charts, shown
from recray.track.history import by_epoch
from recray.track.record import RunFolder

LOSS = "training loss"
MAIN = ("model", "data", "optim", "loop")  # settings that are looked for first


def show() -> None:
    shown.title("Runs", f"What was trained in {paths.runs_dir()}.")
    found = [RunFolder(paths.runs_dir() / name) for name in storage.folders_in(paths.runs_dir())]
    found = [run for run in found if run.settings()]
    if not found:
        shown.empty("No run yet.", "`recray train two_tower ml-100k` makes one.")
        return
    newest = sorted(found, key=lambda run: run.folder.stat().st_mtime, reverse=True)
    shown.table([_row(run) for run in newest])
    first = next((run.name for run in newest if run.metric() in run.best()), newest[0].name)
    chosen = st.multiselect("Curves of", [run.name for run in newest], default=[first], max_selections=6)
    runs = [run for run in newest if run.name in chosen]
    for metric in dict.fromkeys(filter(None, (run.metric() for run in runs))):
        _curves([run for run in runs if run.metric() == metric], metric)
    for run in runs:
        with st.expander(f"{run.name}: end and settings", icon=":material/tune:"):
            _one(run)


def _row(run: RunFolder) -> dict[str, object]:
    outcome, best, metric, reports = run.outcome(), run.best(), run.metric(), run.reports()
    last = reports[-1] if reports else {}
    return {
        "run": run.name,
        "state": outcome.state if outcome else "open",
        "metric": metric,
        "best": best.get(metric),
        "epochs": int(last.get("epoch", 0)),
        "minutes": round(last["wall_s"] / 60, 1) if "wall_s" in last else None,
        "published": outcome.reference if outcome else "",
    }


def _curves(runs: list[RunFolder], metric: str) -> None:
    rows = [
        {"run": run.name, "epoch": report["epoch"], metric: report[metric], LOSS: report.get("train_loss")}
        for run in runs
        for report in by_epoch(run.reports(), metric)
    ]
    if not rows:
        shown.empty(f"No epoch with {metric} yet.")
        return
    frame = pl.DataFrame(rows, infer_schema_length=None)
    names, columns = [run.name for run in runs], st.columns(2)
    # Altair reads dots, brackets and colons in names as paths.
    for column, y in zip(columns, (metric, LOSS), strict=True):
        part = frame.select("epoch", "run", pl.col(y).alias("value")).drop_nulls()
        if len(part):
            column.caption(y if y == LOSS else f"validation {y}")
            column.altair_chart(charts.lines(part, "epoch:Q", "value", "run", names), key=f"curve {y}")


def _one(run: RunFolder) -> None:
    outcome = run.outcome()
    if outcome and outcome.said:
        st.error(outcome.said)
    if outcome and outcome.metrics:
        st.markdown("**On the test part**")
        shown.table([outcome.metrics])
    rows = [
        {"setting": key, "value": str(value)}
        for key, value in sorted(run.settings().items(), key=lambda one: one[0].partition(".")[0] not in MAIN)
    ]
    shown.table(rows)
