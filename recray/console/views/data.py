"""Data sets of this home and what is odd about them."""

import json
from typing import Any

import streamlit as st

from recray import storage
from recray.console import shown
from recray.paths import datasets_dir


def show() -> None:
    shown.title("Data", f"What was prepared in {datasets_dir()}, and its quality report.")
    names = [name for name in storage.folders_in(datasets_dir()) if _report(name)]
    if not names:
        shown.empty("No data set yet.", "`recray prepare ml-100k` makes one, and so does a file of your own.")
        return
    name = st.selectbox("Data set", names)
    report = _report(name)
    found = report.get("checks", ())
    counts = {level: sum(one["level"] == level for one in found) for level in shown.LEVELS}
    shown.tiles(_tiles(report, counts))
    shown.checks(found)
    page = datasets_dir() / name / "quality.html"
    if page.is_file():
        with st.expander("The whole report, with plots", icon=":material/bar_chart:"):
            st.iframe(page.read_text(), height=900)


def _tiles(report: dict[str, Any], counts: dict[str, int]) -> dict[str, str]:
    tiles = {"warnings": str(counts["warning"]), "notes": str(counts["note"])}
    if "kept" in report:
        sizes = (report["kept"], report["users"]["count"], report["items"]["count"])
        named = dict(zip(("interactions", "users", "items"), sizes, strict=True))
        tiles = {name: f"{value:,}" for name, value in named.items()} | tiles
    return tiles


def _report(name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((datasets_dir() / name / "quality.json").read_text())
    except (OSError, ValueError):
        return {}
    return found
