"""What moved between what was learnt from and what is asked now."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from recray.console import charts, shown
from recray.console.server import ServerError
from recray.monitor.drift_files import drift_dir, read_latest
from recray.store import Store

DRAWN = 6  # histograms, of what moved most


def show() -> None:
    shown.title("Drift", "What moved, by more than chance moves a window of this size.")
    with shown.said():
        report = _latest()
        if report is None:
            shown.empty(
                "Nobody has looked yet.", "`recray drift APPLICATION --every 1h` looks again and again."
            )
            return
        _head(report)
        _features(report["features"])


def _latest() -> Mapping[str, Any] | None:
    """That of the server; where it has none to give, of this home, where looks are kept."""
    try:
        return shown.server().get("/drift")
    except ServerError as error:
        store = Store()
        found = {name: read_latest(drift_dir(store.root, name)) for name in store.applications()}
        kept = {name: report for name, report in found.items() if report}
        if not kept:
            if error.reason == "not_looked_yet":
                return None
            raise
    st.caption("The server has no look to show: these are the looks of this home.")
    application = st.selectbox("Application", list(kept))
    return kept[application].to_json()


def _head(report: Mapping[str, Any]) -> None:
    raised = [one for one in report["features"] if one["raised"]]
    window = report["window"]
    tiles = {
        "alarms": str(len(report["standing"])) if report["against"] else "–",
        "features compared": f"{sum(bool(one['tests']) for one in report['features']):,}",
        "answers": f"{window['answers']:,}",
        "users": f"{window['users']:,}",
        "looked": _when(report["at"]),
    }
    shown.tiles(tiles)
    for sentence in report["sentences"]:
        st.caption(shown.plain(sentence))
    if report["against"] and not raised:
        st.success("Nothing moved by more than chance does.", icon=":material/check:")
    for alarm in report["standing"]:
        said = shown.plain(alarm["sentence"])
        st.warning(f"{said} (since {_when(alarm['since'])})", icon=":material/trending_up:")


def _features(features: list[Mapping[str, Any]]) -> None:
    tested = [one for one in features if one["tests"]]
    if not tested:
        return
    rows = [
        {
            "what": one["name"],
            "group": one["group"],
            "alarm": one["raised"],
            "of its threshold": one["tests"][0]["statistic"] / one["tests"][0]["threshold"]
            if one["tests"][0]["threshold"]
            else None,
            "test": one["tests"][0]["test"],
            "p": one["tests"][0]["p_value"],
            "reference": one["reference"],
            "window": one["window"],
            "missing": one["missing_window"],
        }
        for one in tested
    ]
    form: dict[str, Any] = {
        "of its threshold": st.column_config.ProgressColumn(format="%.2f", min_value=0, max_value=2),
        "p": st.column_config.NumberColumn(format="%.3g"),
        "reference": st.column_config.NumberColumn(format="%.4g"),
        "window": st.column_config.NumberColumn(format="%.4g"),
        "missing": st.column_config.NumberColumn(format="percent"),
    }
    shown.table(rows, **form)
    columns = st.columns(2)
    for place, one in enumerate([one for one in tested if one["histogram"]][:DRAWN]):
        bars = one["histogram"]
        with columns[place % 2]:
            st.markdown(f"**{shown.plain(one['name'])}**")
            st.caption(shown.plain(one["sentence"] or one["note"] or "as before"))
            chart = charts.side_by_side(bars["labels"], bars["reference"], bars["window"])
            st.altair_chart(chart, key=f"drift {one['name']}")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %H:%M UTC")
